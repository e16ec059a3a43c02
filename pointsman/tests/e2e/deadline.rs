//! Requests that may take only so long.

use std::sync::mpsc;
use std::time::Duration;

use crate::harness::{Answer, Home, Node, Origin, Reply, request};

fn start(origin: &Origin, deadline: &str, more: &str) -> Node {
    let config = format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\nservice = \"shop\"\n[listener.web.deadline]\n{deadline}\n{more}\n\
         [[service.shop.instance]]\naddress = \"127.0.0.1:{}\"\n",
        origin.port()
    );
    let node = Home::new(&config).start();
    node.until_eligible("/", 1);
    node
}

fn ask(node: &Node, path: &str, fields: &str) -> Answer {
    let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n");
    request(node.web(), head)
}

/// Answers with the time that it was told it has; nothing at `/slow`.
fn telling() -> Origin {
    Origin::answering(|heard| {
        if heard.path() == "/slow" {
            std::thread::sleep(Duration::from_secs(3));
        }
        Reply::text(heard.header("x-time-left").unwrap_or("nothing"))
    })
}

#[test]
fn instances_are_told_how_much_time_is_left() {
    let origin = telling();
    let node = start(&origin, "header = \"X-Time-Left\"", "");
    assert_eq!(ask(&node, "/", "").text(), "nothing");
    for (said, most) in [("5000", 5_000), ("60000", 60_000)] {
        let answer = ask(&node, "/", &format!("X-Time-Left: {said}\r\n"));
        let left: u64 = answer.text().parse().unwrap();
        assert!(left <= most && left + 2_000 > most, "{left} of {most}");
    }
    for garbage in ["soon", "-5", "1.5", "99999999999999"] {
        let answer = ask(&node, "/", &format!("x-time-left: {garbage}\r\n"));
        assert_eq!(answer.text(), "nothing", "{garbage}");
    }
    // It stands once in what the instance gets, and the body behind it is whole.
    let post = "POST /b HTTP/1.1\r\nHost: a\r\nX-Time-Left: 5000\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    assert_eq!(request(node.web(), post).status, 200);
    let heard = origin.heard().pop().unwrap();
    assert_eq!(heard.head.to_lowercase().matches("x-time-left").count(), 1);
    assert_eq!(heard.body, b"hello");
}

#[test]
fn our_own_bound_holds_whatever_the_client_says() {
    let origin = telling();
    let route = "[[listener.web.route]]\npath = \"/slow\"\nservice = \"shop\"\ntimeout = \"100ms\"";
    let deadline = "header = \"X-Time-Left\"\ntimeout = \"1s\"";
    let node = start(&origin, deadline, route);
    let left: u64 = ask(&node, "/", "X-Time-Left: 90000\r\n")
        .text()
        .parse()
        .unwrap();
    assert!(left <= 1_000, "{left}");
    let late = ask(&node, "/slow", "");
    assert_eq!(
        (late.status, late.text()),
        (504, "504: the deadline passed\n")
    );
    let line = node.logged().until_line("/slow");
    assert!(line.contains("\"ended\":\"deadline_passed\""), "{line}");
}

#[test]
fn what_nobody_waits_for_is_not_sent() {
    let origin = telling();
    let node = start(&origin, "header = \"X-Time-Left\"", "");
    assert_eq!(ask(&node, "/", "X-Time-Left: 0\r\n").status, 504);
    assert_eq!(origin.heard().len(), 0);
}

#[test]
fn a_client_that_is_not_heeded_tells_nobody_anything() {
    let origin = telling();
    let node = start(&origin, "header = \"X-Time-Left\"\naccept = \"none\"", "");
    assert_eq!(ask(&node, "/", "X-Time-Left: 0\r\n").text(), "nothing");
}

#[test]
fn trusted_peers_alone_are_heeded_where_that_is_wanted() {
    let origin = telling();
    let deadline = "header = \"X-Time-Left\"\naccept = \"trusted\"";
    let node = start(&origin, deadline, "");
    assert_eq!(ask(&node, "/", "X-Time-Left: 0\r\n").text(), "nothing");
    let config = format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\nservice = \"shop\"\ntrusted_peers = [\"127.0.0.1\"]\n\
         [listener.web.deadline]\n{deadline}\n[[service.shop.instance]]\naddress = \"127.0.0.1:{}\"\n",
        origin.port()
    );
    let node = Home::new(&config).start();
    node.until_eligible("/", 1);
    assert_eq!(ask(&node, "/", "X-Time-Left: 0\r\n").status, 504);
}

#[test]
fn an_answer_that_is_not_whole_in_time_is_broken_off() {
    let (let_go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::raw(move |mut connection, _| {
        while connection.line().is_ok_and(|line| !line.is_empty()) {}
        let _ = connection.try_send("HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\nbeginning");
        let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(20));
    });
    let node = start(&origin, "timeout = \"200ms\"", "");
    let mut client = crate::harness::Connection::open(node.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let why = client.try_answer().unwrap_err();
    assert!(why.contains("closed") || why.contains("reset"), "{why}");
    drop(let_go);
}

#[test]
fn who_waits_for_room_waits_no_longer_than_its_deadline() {
    let origin = telling();
    let limits = "[service.shop.limits]\nmax_requests = 1\nwait = \"1h\"";
    let node = start(&origin, "header = \"X-Time-Left\"", limits);
    crate::harness::until("the limit holds", || {
        (node.metric("pointsman_service_limit{service=\"shop\"}") > 0.0).then_some(())
    });
    let web = node.web();
    let first = std::thread::spawn(move || crate::harness::get(web, "/slow"));
    crate::harness::until("it is under way", || {
        (node.metric("pointsman_service_admitted{service=\"shop\"}") == 1.0).then_some(())
    });
    let late = ask(&node, "/", "X-Time-Left: 100\r\n");
    assert_eq!(
        (late.status, late.text()),
        (504, "504: the deadline passed\n")
    );
    assert_eq!(first.join().unwrap().status, 200);
    assert_eq!(ask(&node, "/", "").status, 200);
}

#[test]
fn a_second_attempt_is_told_what_is_left_then() {
    let origin = Origin::answering(|heard| {
        let left: u64 = heard.header("x-time-left").unwrap().parse().unwrap();
        match left > 4_200 {
            true => Reply {
                status: 503,
                fields: "Retry-After: 1\r\n".into(),
                body: Vec::new(),
            },
            false => Reply::text(&left.to_string()),
        }
    });
    let settings = "[service.shop]\nretry_on = [\"503\"]\nretry_max_after = \"2s\"";
    let node = start(&origin, "header = \"X-Time-Left\"", settings);
    let post = "PUT / HTTP/1.1\r\nHost: a\r\nX-Time-Left: 5000\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    let answer = request(node.web(), post);
    let left: u64 = answer.text().parse().expect("what was left");
    assert!((1_000..=4_000).contains(&left), "{left}");
    // The body stands where it stood.
    let heard = origin.heard();
    assert_eq!(heard.len(), 2);
    assert!(
        heard.iter().all(|heard| heard.body == b"hello"),
        "{heard:?}"
    );
}

#[test]
fn instances_that_speak_http2_are_told_too() {
    let origin = crate::shared::serving(
        |_| (),
        |request: http_types::Request<h2::RecvStream>,
         mut respond: h2::server::SendResponse<bytes::Bytes>| async move {
            let left = request.headers()["x-time-left"].clone();
            let response = http_types::Response::builder().header("x-was-left", left);
            let _ = respond.send_response(response.body(()).unwrap(), true);
        },
    );
    let settings = "[service.shop]\nprotocol = \"h2\"";
    let deadline = "header = \"X-Time-Left\"\ntimeout = \"5s\"";
    let node = start(&origin, deadline, settings);
    let answer = ask(&node, "/", "");
    let left: u64 = answer.header("x-was-left").unwrap().parse().unwrap();
    assert!((1..=5_000).contains(&left), "{left}");
}
