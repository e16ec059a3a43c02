//! Ending.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Connection, Home, Origin, Reply, get, until};
use crate::{tcp, udp};

#[test]
fn a_request_in_flight_finishes_while_new_connections_are_refused() {
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let slow = Origin::answering(move |_| {
        let _ = gate.lock().unwrap().recv();
        Reply::text("done")
    });
    let node = Home::new(crate::SHOP).start();
    node.register("shop", "slow", &crate::lasting(&slow));
    node.until_eligible("/", 1);
    let mut busy = Connection::open(node.web());
    let mut idle = Connection::open(node.web());
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let in_flight = "pointsman_instance_in_flight{service=\"shop\",instance=\"slow\"}";
    until("a request in flight", || {
        (node.metric(in_flight) == 1.0).then_some(())
    });
    node.signal(Signal::TERM);
    let web = node.web();
    until("no new connections", || {
        TcpStream::connect(web).is_err().then_some(())
    });
    assert!(idle.is_closed(), "an idle connection stays open");
    // Whoever asks whether to send more must hear that, and who leaves be able to say so, while traffic drains.
    assert_eq!(get(node.api, "/readyz").status, 503);
    let gone = node.call("DELETE", "/v1/services/shop/instances/slow", &Value::Null);
    assert_eq!(gone.status, 204);
    release.send(()).expect("a request");
    let answer = busy.answer();
    assert_eq!((answer.status, answer.text()), (200, "done"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(busy.is_closed());
    let ended = node.finish();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    assert!(ended.said.contains("pointsman: stopped"), "{}", ended.said);
    assert!(ended.logged.contains("\"status\":200"), "{}", ended.logged);
}

#[test]
fn what_takes_longer_than_the_drain_timeout_is_cut_off_and_told() {
    let silent = Origin::raw(|mut connection, _| while connection.line().is_ok() {});
    let config = format!("[node]\ndrain_timeout = \"100ms\"\n{}", crate::SHOP);
    let node = Home::new(&config).start();
    node.register("shop", "silent", &crate::lasting(&silent));
    node.until_eligible("/", 1);
    let mut busy = Connection::open(node.web());
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let in_flight = "pointsman_instance_in_flight{service=\"shop\",instance=\"silent\"}";
    until("a request in flight", || {
        (node.metric(in_flight) == 1.0).then_some(())
    });
    let ended = node.stop();
    assert_eq!(ended.status.code(), Some(0));
    assert!(
        ended.said.contains("1 connections were still open"),
        "{}",
        ended.said
    );
    assert!(busy.try_answer().is_err());
    let line = only_line(&ended.logged);
    assert_eq!(
        (&line["status"], &line["ended"]),
        (&0.into(), &"drained".into())
    );
    assert_eq!(
        (&line["instance"], &line["attempts"]),
        (&"silent".into(), &1.into())
    );
    assert_eq!(line["tries"][0]["ended"], "drained");
}

/// The access log, if it is one line of JSON.
fn only_line(logged: &str) -> Value {
    let lines: Vec<_> = logged.lines().collect();
    let [line] = lines[..] else {
        panic!("not one line: {logged}");
    };
    serde_json::from_str(line).expect("JSON")
}

#[test]
fn an_answer_that_is_cut_off_with_the_process_does_not_look_whole_and_is_logged() {
    let endless = Origin::raw(|mut connection, _| {
        while connection.line().is_ok_and(|line| !line.is_empty()) {}
        let _ = connection.try_send("HTTP/1.1 200 OK\r\n\r\nfirst");
        let _ = connection.line();
    });
    let config = format!("[node]\ndrain_timeout = \"100ms\"\n{}", crate::SHOP);
    let node = Home::new(&config).start();
    node.register("shop", "endless", &crate::lasting(&endless));
    node.until_eligible("/", 1);
    let mut client = Connection::open(node.web());
    // To HTTP/1.0, the end of the connection is the end of the answer.
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.try_head().expect("a head").status, 200);
    assert_eq!(client.take(5).expect("the beginning"), b"first");
    let ended = node.stop();
    let mut rest = Vec::new();
    assert!(client.stream.read_to_end(&mut rest).is_err(), "{rest:?}");
    let line = only_line(&ended.logged);
    assert_eq!(
        (&line["status"], &line["ended"]),
        (&200.into(), &"drained".into())
    );
}

#[test]
fn connections_and_sessions_that_are_cut_off_have_their_line_in_the_log() {
    let (to, cut) = std::sync::mpsc::channel();
    let to = std::sync::Mutex::new(to);
    let echo = tcp::Instance::new(move |mut stream, _| {
        let mut message = [0; 4];
        let echoed = stream
            .read_exact(&mut message)
            .and_then(|()| stream.write_all(&message));
        let ended = echoed.and_then(|()| stream.read(&mut message));
        let _ = to.lock().unwrap().send(ended.is_err());
    });
    let config = format!(
        "[node]\ndrain_timeout = \"100ms\"\n\
         [listener.db]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nservice = \"db\"\n\
         [[service.db.instance]]\nid = \"echo\"\naddress = \"{}\"\n",
        echo.address
    );
    let node = Home::new(&config).start();
    let mut client = tcp::connect(&node);
    tcp::ping(&mut client, b"ping");
    let ended = node.stop();
    let line = only_line(&ended.logged);
    assert_eq!(
        (&line["protocol"], &line["ended"]),
        (&"tcp".into(), &"drained".into())
    );
    assert_eq!((&line["received"], &line["sent"]), (&4.into(), &4.into()));
    assert_eq!(line["instance"], "echo");
    assert!(tcp::end(&mut client).is_err(), "what was cut looks whole");
    assert!(
        cut.recv().unwrap(),
        "what was cut looks whole to the instance"
    );

    let echo = udp::Echo::new("", 1);
    let node = udp::start("", &[echo.address]);
    assert_eq!(udp::ask(&udp::client(&node), b"ping"), b"ping");
    let line = only_line(&node.stop().logged);
    assert_eq!(
        (&line["protocol"], &line["ended"]),
        (&"udp".into(), &"drained".into())
    );
    assert_eq!((&line["received"], &line["sent"]), (&4.into(), &4.into()));
}

#[test]
fn an_interrupt_ends_it_as_well_and_so_do_watchers_and_long_polls() {
    let node = Home::new(crate::SHOP).start();
    let mut watch = Connection::open(node.api);
    watch.send("GET /v1/services/a/watch HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(watch.try_head().expect("a stream").status, 200);
    let mut poll = Connection::open(node.api);
    poll.send("GET /v1/services/b?after=0&wait=5m HTTP/1.1\r\nHost: localhost\r\n\r\n");
    // A request that is still in the kernel when the node ends gets no answer.
    until("both wait", || {
        (node.metric("pointsman_registry_watched_services") == 2.0).then_some(())
    });
    node.signal(Signal::INT);
    let ended = node.finish();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    assert_eq!(poll.answer().status, 200);
}
