//! What is tried again, and when.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::harness::{Answer, Home, Node, Origin, Reply, free_address, get, request};

fn start(origins: &[u16], settings: &str) -> Node {
    let instances: String = origins
        .iter()
        .map(|port| format!("[[service.shop.instance]]\naddress = \"127.0.0.1:{port}\"\n"))
        .collect();
    let config = format!(
        "{}[listener.web.deadline]\nheader = \"X-Left\"\n[service.shop]\npolicy = \"round_robin\"\n{settings}\n\
         [service.shop.ejection]\nerrors = 0\nfailures = 0\n{instances}",
        crate::SHOP
    );
    let node = Home::new(&config).start();
    node.until_eligible("/", origins.len());
    node
}

fn ask(node: &Node, fields: &str) -> Answer {
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n");
    request(node.web(), head)
}

/// Has no time for so many requests, and then for all.
fn busy(times: usize, status: u16, fields: &'static str) -> Origin {
    let asked = AtomicUsize::new(0);
    Origin::answering(move |_| match asked.fetch_add(1, SeqCst) < times {
        true => Reply {
            status,
            fields: fields.into(),
            body: b"busy".into(),
        },
        false => Reply::text("well"),
    })
}

#[test]
fn answers_are_tried_again_on_if_they_are_named() {
    let origin = busy(2, 503, "");
    let node = start(&[origin.port()], "retry_on = [\"502-503\"]");
    let answer = ask(&node, "");
    assert_eq!((answer.status, answer.text()), (200, "well"));
    assert_eq!(origin.heard().len(), 3);
    assert_eq!(
        node.metric("pointsman_service_retries_total{service=\"shop\"}"),
        2.0
    );
    let line = node.logged().until_line("\"target\"");
    assert!(line.contains("\"attempts\":3"), "{line}");
    // What was not named is passed on.
    let origin = busy(1, 500, "");
    let node = start(&[origin.port()], "retry_on = [\"502-503\"]");
    assert_eq!(ask(&node, "").status, 500);
    // And so is it unless something is said.
    let origin = busy(1, 503, "");
    let node = start(&[origin.port()], "");
    assert_eq!(ask(&node, "").status, 503);
}

#[test]
fn the_last_answer_is_passed_on_and_what_may_not_be_repeated_is_not() {
    let origin = busy(100, 503, "X-Mark: own\r\n");
    let node = start(&[origin.port()], "retry_on = [\"503\"]\nretries = 1");
    let answer = ask(&node, "");
    assert_eq!(
        (answer.status, answer.header("x-mark"), answer.text()),
        (503, Some("own"), "busy")
    );
    assert_eq!(origin.heard().len(), 2);
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    assert_eq!(request(node.web(), post).status, 503);
    assert_eq!(origin.heard().len(), 3);
}

#[test]
fn retry_after_is_waited_for_unless_that_takes_too_long() {
    let origin = busy(1, 429, "Retry-After: 1\r\n");
    let node = start(
        &[origin.port()],
        "retry_on = [\"429\"]\nretry_max_after = \"2s\"",
    );
    let began = Instant::now();
    assert_eq!(ask(&node, "").text(), "well");
    assert!(began.elapsed() >= Duration::from_secs(1));
    for (after, left) in [
        ("5", ""),
        ("Fri, 31 Dec 1999 23:59:59 GMT", ""),
        ("1", "X-Left: 900\r\n"),
    ] {
        let fields: &'static str = format!("Retry-After: {after}\r\n").leak();
        let origin = busy(1, 429, fields);
        let node = start(
            &[origin.port()],
            "retry_on = [\"429\"]\nretry_max_after = \"2s\"",
        );
        let answer = ask(&node, left);
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (429, Some(after))
        );
    }
}

#[test]
fn instances_that_are_silent_are_passed_over_if_that_is_wanted() {
    let silent = Origin::raw(|mut connection, _| while connection.line().is_ok() {});
    let well = Origin::named("well");
    let settings = "retry_on = [\"timeout\"]\nresponse_timeout = \"100ms\"";
    let node = start(&[silent.port(), well.port()], settings);
    (0..6).for_each(|_| assert_eq!(ask(&node, "").text(), "well"));
    let attempts = node.metric("pointsman_service_retries_total{service=\"shop\"}");
    assert!(attempts >= 1.0, "{attempts}");
}

#[test]
fn nothing_is_tried_again_where_nothing_is_named() {
    let gone = free_address().port();
    let well = Origin::named("well");
    let node = start(&[gone, well.port()], "retry_on = []");
    let statuses: Vec<u16> = (0..8).map(|_| get(node.web(), "/").status).collect();
    assert!(
        statuses.contains(&502) && statuses.contains(&200),
        "{statuses:?}"
    );
    let node = start(&[gone, well.port()], "retry_on = [\"connect\"]");
    (0..8).for_each(|_| assert_eq!(get(node.web(), "/").status, 200));
}
