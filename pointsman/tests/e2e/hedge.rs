//! Requests that take long are sent to a second instance.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http_types::Response;
use rustix::net::sockopt::set_socket_linger;

use crate::harness::{Connection, Home, Node, Origin, Reply, read_request, request, until};
use crate::shared::serving;

/// An instance that is quick as long as it is told to, and then silent; and how many left it unanswered.
struct Moody {
    origin: Origin,
    silent: Arc<AtomicBool>,
    left: Arc<AtomicUsize>,
}

impl Moody {
    fn new(name: &'static str) -> Self {
        let (silent, left) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (is_silent, leaving) = (silent.clone(), left.clone());
        let origin = Origin::raw(move |mut connection, heard| {
            while let Some(asked) = read_request(&mut connection) {
                heard.lock().unwrap().push(asked);
                if is_silent.load(SeqCst) {
                    if connection.is_closed() {
                        leaving.fetch_add(1, SeqCst);
                    }
                    return;
                }
                // As long as a quick answer takes, so that the quantile is above what is a machine's hiccup.
                std::thread::sleep(Duration::from_millis(20));
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}",
                    name.len()
                );
                if connection.try_send(answer).is_err() {
                    return;
                }
            }
        });
        Self {
            origin,
            silent,
            left,
        }
    }
}

fn start(origins: &[&Origin], hedge: &str) -> Node {
    let instances: String = origins
        .iter()
        .map(|origin| {
            format!(
                "[[service.shop.instance]]\naddress = \"127.0.0.1:{}\"\n",
                origin.port()
            )
        })
        .collect();
    let config = format!(
        "[node]\nworkers = 1\n{}[service.shop]\npolicy = \"round_robin\"\nresponse_timeout = \"30s\"\n{hedge}\n{instances}",
        crate::SHOP
    );
    let node = Home::new(&config).start();
    node.until_eligible("/", origins.len());
    node
}

fn hedges(node: &Node, which: &str) -> f64 {
    node.metric(&format!(
        "pointsman_service_{which}_total{{service=\"shop\"}}"
    ))
}

/// Asks until there is enough to know how long answers take.
fn warm(node: &Node) {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Connection::open(node.web());
                (0..20).for_each(|_| assert_eq!(client.get("/").status, 200));
            });
        }
    });
}

#[test]
fn a_request_that_takes_long_is_answered_by_another_instance() {
    let (moody, well) = (Moody::new("moody"), Moody::new("well"));
    let node = start(
        &[&moody.origin, &well.origin],
        "hedge = { budget = \"20%\" }",
    );
    warm(&node);
    let before = hedges(&node, "hedges");
    moody.silent.store(true, SeqCst);
    let mut client = Connection::open(node.web());
    let began = Instant::now();
    for _ in 0..8 {
        assert_eq!(client.get("/").text(), "well");
    }
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "nobody waited for the silent one"
    );
    assert!(hedges(&node, "hedges") > before);
    assert!(hedges(&node, "hedges_won") >= 1.0);
    // Those that were given up are gone, there and here.
    until("the silent one was left", || {
        (moody.left.load(SeqCst) >= 1).then_some(())
    });
    let in_flight = |id: &str| {
        node.metric(&format!(
            "pointsman_instance_in_flight{{service=\"shop\",instance=\"{id}\"}}"
        ))
    };
    for origin in [&moody.origin, &well.origin] {
        let id = format!("127.0.0.1:{}", origin.port());
        until("nothing in flight", || {
            (in_flight(&id) == 0.0).then_some(())
        });
    }
    let line = node.logged().until_line("\"attempts\":2");
    assert!(line.contains("\"status\":200"), "{line}");
}

#[test]
fn no_more_than_the_budget_are_sent_twice_and_nothing_that_may_not_be() {
    let (moody, well) = (Moody::new("moody"), Moody::new("well"));
    let node = start(
        &[&moody.origin, &well.origin],
        "retries = 0\nhedge = { quantile = \"50%\", budget = \"1%\" }",
    );
    warm(&node);
    // Half of them took longer than half of them do; few were sent twice.
    let sent = hedges(&node, "hedges");
    assert!(sent <= 3.0, "{sent}");
    let node = start(
        &[&moody.origin, &well.origin],
        "hedge = { quantile = \"50%\", budget = \"100%\" }",
    );
    warm(&node);
    let before = hedges(&node, "hedges");
    let asked = || moody.origin.heard().len() + well.origin.heard().len();
    let heard = asked();
    for _ in 0..20 {
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
        assert_eq!(request(node.web(), post).status, 200);
    }
    assert_eq!((asked() - heard, hedges(&node, "hedges")), (20, before));
}

#[test]
fn whoever_leaves_takes_both_requests_along() {
    let (one, other) = (Moody::new("one"), Moody::new("other"));
    let node = start(
        &[&one.origin, &other.origin],
        "hedge = { budget = \"100%\" }",
    );
    warm(&node);
    one.silent.store(true, SeqCst);
    other.silent.store(true, SeqCst);
    let before = hedges(&node, "hedges");
    let mut client = Connection::open(node.web());
    client.send("GET /both HTTP/1.1\r\nHost: a\r\n\r\n");
    until("both were asked", || {
        (hedges(&node, "hedges") > before).then_some(())
    });
    until("the second has it", || {
        let asked = |origin: &Origin| origin.heard().iter().any(|h| h.path() == "/both");
        (asked(&one.origin) && asked(&other.origin)).then_some(())
    });
    // A reset: one that merely ends its side may still wait for the answer.
    set_socket_linger(&client.stream, Some(Duration::ZERO)).expect("the option");
    drop(client);
    until("both were left", || {
        (one.left.load(SeqCst) == 1 && other.left.load(SeqCst) == 1).then_some(())
    });
}

#[test]
fn an_answer_of_the_first_is_taken_as_it_always_was() {
    let body = "x".repeat(300_000);
    let large = body.clone();
    let origin = Origin::answering(move |_| Reply::text(&large));
    let spare = Origin::named("spare");
    let node = start(
        &[&origin, &spare],
        "hedge = { budget = \"100%\", min_delay = \"10s\" }",
    );
    for _ in 0..300 {
        let mut client = Connection::open(node.web());
        for _ in 0..2 {
            let answer = client.get("/");
            assert!(answer.text() == "spare" || answer.text() == body);
        }
    }
    assert_eq!(hedges(&node, "hedges"), 0.0);
    assert!(hedges(&node, "requests") >= 600.0);
}

#[test]
fn a_stream_that_is_given_up_is_cancelled_and_its_connection_stays() {
    let silent = Arc::new(AtomicBool::new(false));
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let (is_silent, heard) = (silent.clone(), reasons.clone());
    let moody = serving(
        |_| (),
        move |_, mut respond: SendResponse<Bytes>| {
            let (silent, heard) = (is_silent.load(SeqCst), heard.clone());
            async move {
                if silent {
                    let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                    heard.lock().unwrap().push(reason.ok());
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                let _ = respond.send_response(Response::new(()), true);
            }
        },
    );
    let well = serving(
        |_| (),
        |_, mut respond: SendResponse<Bytes>| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let response = Response::builder().header("x-by", "well");
            let _ = respond.send_response(response.body(()).unwrap(), true);
        },
    );
    let settings = "policy = \"round_robin\"\nhedge = { budget = \"100%\" }\n[node]\nworkers = 1";
    let node = crate::shared::before(&[&moody, &well], settings);
    warm(&node);
    silent.store(true, SeqCst);
    let mut client = Connection::open(node.web());
    for _ in 0..6 {
        let answer = client.get("/");
        assert_eq!((answer.status, answer.header("x-by")), (200, Some("well")));
    }
    until("streams were cancelled", || {
        let reasons = reasons.lock().unwrap();
        (!reasons.is_empty()).then(|| assert_eq!(reasons[0], Some(Reason::CANCEL)))
    });
    silent.store(false, SeqCst);
    (0..6).for_each(|_| assert_eq!(client.get("/").status, 200));
}
