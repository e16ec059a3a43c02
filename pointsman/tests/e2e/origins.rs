//! Instances that misbehave, and what clients get to see of it.

use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};

use crate::harness::{
    Connection, Heard, Home, Node, Origin, Reply, free_address, get, request, until,
};

/// A node with one instance of `shop`.
fn before(port: u16, settings: &str) -> Node {
    let config = format!("{}\n[service.shop]\n{settings}\n", crate::SHOP);
    let node = Home::new(&config).start();
    node.register(
        "shop",
        "a",
        &json!({ "address": "127.0.0.1", "port": port, "persistent": true }),
    );
    node.until_eligible("/", 1);
    node
}

/// Reads a request's head and answers with these bytes.
fn saying(bytes: &'static [u8]) -> Origin {
    Origin::raw(move |mut connection, _: &Mutex<Vec<Heard>>| {
        while connection.line().is_ok_and(|line| !line.is_empty()) {}
        let _ = connection.try_send(bytes);
        let _ = connection.stream.shutdown(Shutdown::Write);
        while connection.line().is_ok() {}
    })
}

#[test]
fn an_origin_that_answers_garbage_gives_502() {
    for garbage in [
        &b"garbage\r\n\r\n"[..],
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA b: c\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"",
    ] {
        let origin = saying(garbage);
        let node = before(origin.port(), "");
        let mut connection = Connection::open(node.web());
        connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        match connection.try_answer() {
            Ok(answer) => assert_eq!(answer.status, 502, "{}", garbage.escape_ascii()),
            // Its head was good and has been passed on: then the connection breaks, and nobody takes it for whole.
            Err(why) => assert!(garbage.starts_with(b"HTTP/1.1 200 OK\r\nTransfer"), "{why}"),
        }
    }
}

#[test]
fn an_answer_that_is_cut_short_is_never_taken_for_whole() {
    for short in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\nhello"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
    ] {
        let origin = saying(short);
        let node = before(origin.port(), "");
        let mut connection = Connection::open(node.web());
        connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        match connection.try_answer() {
            Ok(answer) => assert_eq!(answer.status, 502, "{}", short.escape_ascii()),
            Err(why) => assert!(why.contains("closed") || why.contains("reset"), "{why}"),
        }
        let line = node.logged().until_line("\"target\"");
        assert!(
            !line.contains("\"ended\":\"ok\"") || line.contains("\"status\":502"),
            "{line}"
        );
    }
}

#[test]
fn an_origin_that_never_answers_gives_504_and_keeps_nobody_longer() {
    let silent = saying(b"");
    drop(silent);
    let silent = Origin::raw(|mut connection, _| while connection.line().is_ok() {});
    let node = before(silent.port(), "response_timeout = \"200ms\"\nretries = 1");
    assert_eq!(get(node.web(), "/").status, 504);
    let failures = "pointsman_instance_failures_total{service=\"shop\",instance=\"a\"}";
    assert!(node.metric(failures) >= 1.0);
}

#[test]
fn a_client_that_breaks_off_takes_its_request_back_from_the_instance() {
    let (told, heard) = mpsc::channel();
    let origin = Origin::raw(move |mut connection, _| {
        while connection.line().is_ok_and(|line| !line.is_empty()) {}
        let _ = told.send("asked");
        let _ = connection.is_closed().then(|| told.send("left"));
    });
    let node = before(origin.port(), "response_timeout = \"1h\"");
    for _ in 0..3 {
        let mut client = Connection::open(node.web());
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let next = || heard.recv_timeout(Duration::from_secs(20));
        assert_eq!(next(), Ok("asked"));
        set_socket_linger(&client.stream, Some(Duration::ZERO)).expect("the option");
        drop(client);
        assert_eq!(next(), Ok("left"));
    }
}

#[test]
fn an_origin_that_refuses_gives_502_and_one_that_takes_no_connection_504_or_502() {
    let node = before(free_address().port(), "");
    let answer = get(node.web(), "/");
    assert_eq!(answer.status, 502, "{}", answer.text());
}

#[test]
fn addresses_that_mean_nothing_give_503() {
    let node = Home::new(crate::SHOP).start();
    let body = json!({ "address": "no-such-host.invalid", "port": 1, "persistent": true });
    node.register("shop", "a", &body);
    let answer = get(node.web(), "/");
    assert_eq!(answer.status, 503, "{}", answer.text());
    // One that can be reached is not held up by one that cannot.
    let origin = Origin::named("b");
    node.register("shop", "b", &crate::lasting(&origin));
    node.until_eligible("/", 1);
    for _ in 0..10 {
        assert_eq!(get(node.web(), "/").text(), "b");
    }
}

#[test]
fn host_names_are_looked_up() {
    let node = Home::new(crate::SHOP).start();
    // On this machine's IPv4 loopback only: the name may mean another address as well.
    let origin = Origin::named("a");
    let body = json!({ "address": "localhost", "port": origin.port(), "persistent": true });
    node.register("shop", "a", &body);
    until("an answer", || {
        (get(node.web(), "/").status == 200).then_some(())
    });
}

#[test]
fn an_origin_that_answers_before_the_body_has_ended_is_heard() {
    let early = Origin::raw(|mut connection, _| {
        while connection.line().is_ok_and(|line| !line.is_empty()) {}
        let _ = connection.try_send(
            "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n",
        );
        let _ = connection.stream.shutdown(Shutdown::Write);
        while connection.take(1).is_ok() {}
    });
    let node = before(early.port(), "");
    let mut client = Connection::open(node.web());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\nbeginning");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text()), (413, "no\n"));
}

#[test]
fn bodies_arrive_as_they_were_sent_however_they_were_cut() {
    let echo = Origin::answering(|request| Reply {
        body: request.body.clone(),
        ..Reply::text("")
    });
    let node = before(echo.port(), "");
    let body: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let mut client = Connection::open(node.web());
    for size in [1, 7, 4096, 70_000] {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for chunk in body.chunks(size).take(2_000) {
            client.send(format!("{:x}\r\n", chunk.len()));
            client.send(chunk);
            client.send("\r\n");
        }
        client.send("0\r\n\r\n");
        let sent = body.len().min(size * 2_000);
        assert!(client.answer().body == body[..sent], "chunks of {size}");
    }
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    client.send(&body);
    assert!(client.answer().body == body);
}

#[test]
fn a_request_whose_body_the_client_cuts_short_is_never_whole_at_the_origin() {
    let origin = Origin::answering(|_| Reply::text("whole"));
    let node = before(origin.port(), "");
    for head in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ] {
        let mut client = Connection::open(node.web());
        client.send(head);
        drop(client);
    }
    let mut connection = Connection::open(node.web());
    assert_eq!(connection.get("/").text(), "whole");
    let in_flight = "pointsman_instance_in_flight{service=\"shop\",instance=\"a\"}";
    until("nothing in flight", || {
        (node.metric(in_flight) == 0.0).then_some(())
    });
    let heard = origin.heard();
    assert!(
        heard.iter().all(|r| r.head.starts_with("GET ")),
        "{heard:?}"
    );
}

#[test]
fn what_may_be_repeated_is_tried_elsewhere_and_what_may_not_is_not() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let closing = Origin::raw(|mut connection, _| {
        while connection.line().is_ok_and(|line| !line.is_empty()) {}
        SEEN.fetch_add(1, Relaxed);
    });
    let good = Origin::named("good");
    let config = format!(
        "{}\n[service.shop]\npolicy = \"round_robin\"\n[service.shop.ejection]\nfailures = 0\n",
        crate::SHOP
    );
    let node = Home::new(&config).start();
    node.register("shop", "closing", &crate::lasting(&closing));
    node.register("shop", "good", &crate::lasting(&good));
    node.until_eligible("/", 2);
    for _ in 0..20 {
        assert_eq!(get(node.web(), "/").text(), "good");
    }
    assert!(SEEN.load(Relaxed) > 0);
    let retries = node.metric("pointsman_service_retries_total{service=\"shop\"}");
    assert_eq!(retries as usize, SEEN.load(Relaxed));
    let before = (SEEN.load(Relaxed), good.heard().len());
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    let statuses: Vec<u16> = (0..20).map(|_| request(node.web(), post).status).collect();
    let failed = statuses.iter().filter(|&&s| s == 502).count();
    assert_eq!(failed, SEEN.load(Relaxed) - before.0, "{statuses:?}");
    assert_eq!(20 - failed, good.heard().len() - before.1, "{statuses:?}");
    assert!(failed > 0 && failed < 20, "{statuses:?}");
}

#[test]
fn a_client_learns_nothing_of_where_instances_are_or_what_the_system_says_of_them() {
    let gone = free_address();
    let node = before(gone.port(), "");
    let refused = get(node.web(), "/");
    assert_eq!(refused.status, 502);
    assert_eq!(refused.text(), "502: no connection to the instance\n");
    let line = node.logged().until_line("connect_failed");
    assert!(line.contains("Connection refused"), "{line}");
    // What TLS says of a certificate has names in it.
    let plain = Origin::raw(|mut connection, _: &Mutex<Vec<Heard>>| {
        let _ = connection.try_send(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        while connection.line().is_ok() {}
    });
    let node = before(plain.port(), "tls = {}");
    let refused = get(node.web(), "/");
    assert_eq!(refused.text(), "502: no connection to the instance\n");
    // Whoever keeps the node sees where it was, and what was said.
    let line = node.logged().until_line("connect_failed");
    let line: Value = serde_json::from_str(&line).expect("JSON");
    let attempt = &line["tries"][0];
    assert_eq!(attempt["address"], format!("127.0.0.1:{}", plain.port()));
    let why = attempt["why"].as_str().expect("a text");
    assert!(why.contains("corrupt message"), "{why}");
}
