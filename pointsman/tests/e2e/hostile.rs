//! Clients that mean no good.

use crate::harness::{Connection, Home, Node, Origin, get, until};

fn start(origin: &Origin, settings: &str) -> Node {
    let node = Home::new(&format!("{}\n{settings}", crate::SHOP)).start();
    node.register("shop", "a", &crate::lasting(origin));
    node.until_eligible("/", 1);
    node
}

#[test]
fn heads_that_are_too_large_or_have_too_many_fields_are_refused_by_number() {
    let origin = Origin::named("a");
    let node = start(&origin, "");
    let long = "x".repeat(20_000);
    let many = "A: b\r\n".repeat(101);
    for (what, head, status) in [
        (
            "a long field",
            format!("GET / HTTP/1.1\r\nHost: a\r\nA: {long}\r\n\r\n"),
            431,
        ),
        (
            "many fields",
            format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
            431,
        ),
        (
            "a long target",
            format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
            414,
        ),
        (
            "a long method",
            format!("{long} / HTTP/1.1\r\nHost: a\r\n\r\n"),
            414,
        ),
        (
            "another version",
            "GET / HTTP/3.0\r\nHost: a\r\n\r\n".into(),
            505,
        ),
    ] {
        let answer = crate::harness::request(node.web(), head);
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert_eq!(answer.header("connection"), Some("close"), "{what}");
    }
    let fits = "A: b\r\n".repeat(90);
    let answer = crate::harness::request(
        node.web(),
        format!("GET / HTTP/1.1\r\nHost: a\r\n{fits}\r\n"),
    );
    assert_eq!(answer.status, 200);
    assert_eq!(origin.heard().len(), 1);
}

#[test]
fn requests_sent_ahead_are_answered_in_their_order() {
    let origin = Origin::answering(|r| crate::harness::Reply::text(r.path()));
    let node = start(&origin, "");
    let mut connection = Connection::open(node.web());
    let requests: String = (0..50)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    connection.send(requests);
    for n in 0..50 {
        assert_eq!(connection.answer().text(), format!("/{n}"));
    }
}

#[test]
fn a_head_that_never_ends_is_cut_off_in_time() {
    let origin = Origin::named("a");
    let node = start(
        &origin,
        "[listener.web.timeouts]\nrequest_head = \"1s\"\nidle = \"1s\"\n",
    );
    let mut slow = Connection::open(node.web());
    let mut idle = Connection::open(node.web());
    slow.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
    // A byte now and then does not help.
    let mut dripping = slow.stream.try_clone().expect("a socket");
    let drip = std::thread::spawn(move || {
        while std::io::Write::write_all(&mut dripping, b"x").is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    });
    assert_eq!(slow.answer().status, 408);
    assert!(idle.is_closed());
    drip.join().expect("it ended");
    let timed_out = "pointsman_listener_timed_out_total{listener=\"web\"}";
    until("it counted", || {
        (node.metric(timed_out) >= 1.0).then_some(())
    });
}

#[test]
fn random_bytes_hurt_nobody() {
    let origin = Origin::named("a");
    let node = start(&origin, "");
    // A simple generator: the same bytes at every run.
    let mut state = 42_u64;
    let mut draw = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..200 {
        let bytes: Vec<u8> = (0..draw() % 2_000).map(|_| draw() as u8).collect();
        for address in [node.web(), node.api] {
            let mut connection = Connection::open(address);
            let _ = connection.try_send(&bytes);
            let _ = connection.try_send(b"\r\n\r\n");
            let _ = connection.stream.shutdown(std::net::Shutdown::Write);
            let answered = connection.try_answer().map(|a| a.status);
            assert!(answered.is_err() || answered.is_ok_and(|s| s >= 400));
        }
    }
    assert_eq!(get(node.web(), "/").text(), "a");
    assert_eq!(get(node.api, "/healthz").status, 200);
}
