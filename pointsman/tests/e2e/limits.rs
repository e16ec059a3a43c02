//! A service that takes only so many requests at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::{Answer, Connection, Home, Node, Origin, Reply, until};

/// An instance whose requests wait until they are let go.
struct Busy {
    origin: Origin,
    open: Arc<AtomicBool>,
    most: Arc<AtomicUsize>,
}

impl Busy {
    fn new() -> Self {
        let open = Arc::new(AtomicBool::new(false));
        let (present, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let (wait, high) = (open.clone(), most.clone());
        let origin = Origin::answering(move |heard| {
            high.fetch_max(present.fetch_add(1, SeqCst) + 1, SeqCst);
            until("it is let go", || wait.load(SeqCst).then_some(()));
            present.fetch_sub(1, SeqCst);
            Reply::text(heard.path())
        });
        Self { origin, open, most }
    }
}

fn start(busy: &Busy, limits: &str) -> Node {
    Home::new(&format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\nservice = \"shop\"\n\
         [[listener.web.route]]\npath = \"/pay\"\nservice = \"shop\"\npriority = \"high\"\n\
         [[listener.web.route]]\npath = \"/report\"\nservice = \"shop\"\npriority = \"low\"\n\
         [service.shop.limits]\n{limits}\n\
         [[service.shop.instance]]\naddress = \"127.0.0.1:{}\"\n",
        busy.origin.port()
    ))
    .start()
}

fn ask(node: &Node, path: &'static str) -> JoinHandle<Answer> {
    let web = node.web();
    std::thread::spawn(move || Connection::open(web).get(path))
}

fn admitted(node: &Node) -> f64 {
    node.metric("pointsman_service_admitted{service=\"shop\"}")
}

fn until_limited(node: &Node) {
    until("the limit holds", || {
        (node.metric("pointsman_service_limit{service=\"shop\"}") > 0.0).then_some(())
    });
}

#[test]
fn no_more_than_the_limit_go_out_and_the_others_follow() {
    let busy = Busy::new();
    let node = start(&busy, "max_requests = 3\nwait = \"1m\"");
    until_limited(&node);
    let asked: Vec<_> = (0..12).map(|_| ask(&node, "/")).collect();
    until("three are under way", || {
        (admitted(&node) == 3.0).then_some(())
    });
    std::thread::sleep(Duration::from_millis(50));
    busy.open.store(true, SeqCst);
    for answer in asked {
        assert_eq!(answer.join().unwrap().text(), "/");
    }
    assert_eq!(busy.most.load(SeqCst), 3);
    until("all is given back", || {
        (admitted(&node) == 0.0).then_some(())
    });
}

#[test]
fn who_has_no_room_in_time_is_told_when_to_come_again() {
    let busy = Busy::new();
    let node = start(&busy, "max_requests = 1\nwait = \"30ms\"");
    until_limited(&node);
    let first = ask(&node, "/");
    until("it is under way", || (admitted(&node) == 1.0).then_some(()));
    let refused = ask(&node, "/").join().unwrap();
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1"))
    );
    assert!(refused.text().contains("no room"), "{}", refused.text());
    busy.open.store(true, SeqCst);
    assert_eq!(first.join().unwrap().status, 200);
    assert_eq!(ask(&node, "/").join().unwrap().status, 200);
    let shed = "pointsman_service_shed_total{service=\"shop\",priority=\"normal\"}";
    assert_eq!(node.metric(shed), 1.0);
}

#[test]
fn those_that_matter_more_take_the_places_of_those_that_matter_less() {
    let busy = Busy::new();
    // A queue for two on each worker; more of the low ones than all of them have.
    let node = start(&busy, "max_requests = 1\nmax_waiting = 2\nwait = \"1m\"");
    until_limited(&node);
    let first = ask(&node, "/");
    until("it is under way", || (admitted(&node) == 1.0).then_some(()));
    let reports: Vec<_> = (0..16).map(|_| ask(&node, "/report")).collect();
    let shed = |priority: &str| {
        node.metric(&format!(
            "pointsman_service_shed_total{{service=\"shop\",priority=\"{priority}\"}}"
        ))
    };
    until("the queues are full", || (shed("low") >= 8.0).then_some(()));
    let paid = ask(&node, "/pay");
    until("a report made room, or there was some", || {
        busy.open.store(true, SeqCst);
        paid.is_finished().then_some(())
    });
    assert_eq!(paid.join().unwrap().status, 200);
    assert_eq!((first.join().unwrap().status, shed("high")), (200, 0.0));
    let statuses = reports
        .into_iter()
        .map(|report| report.join().unwrap().status);
    assert!(
        statuses
            .into_iter()
            .all(|status| [200, 503].contains(&status))
    );
}

#[test]
fn an_adaptive_limit_keeps_the_queue_out_of_the_instances() {
    // Two at a time, each for longer than a busy machine makes anybody wait; whoever comes beyond waits in its own queue.
    let room = Arc::new(std::sync::Mutex::new(2_usize));
    let origin = Origin::answering(move |_| {
        let enter = || {
            let mut room = room.lock().unwrap();
            (*room > 0).then(|| *room -= 1)
        };
        while enter().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_millis(20));
        *room.lock().unwrap() += 1;
        Reply::text("done")
    });
    let busy = Busy {
        origin,
        open: Arc::default(),
        most: Arc::default(),
    };
    let node = start(&busy, "adaptive = true\nmin_requests = 2");
    until_limited(&node);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..40)
        .map(|_| {
            let (web, stop) = (node.web(), stop.clone());
            std::thread::spawn(move || {
                let mut client = Connection::open(web);
                while !stop.load(SeqCst) {
                    let status = client.get("/").status;
                    assert!([200, 503].contains(&status), "{status}");
                }
            })
        })
        .collect();
    let limit = || node.metric("pointsman_service_limit{service=\"shop\"}");
    until("the limit came down from 20", || {
        (limit() <= 10.0).then_some(())
    });
    stop.store(true, SeqCst);
    clients
        .into_iter()
        .for_each(|client| client.join().unwrap());
}
