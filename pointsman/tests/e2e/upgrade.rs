//! Connections that speak something else after a while.

use crate::harness::{Connection, Home, Origin, Reply, until};

/// Takes an upgrade and then says everything backwards, line by line.
fn backwards() -> Origin {
    Origin::raw(|mut connection, heard| {
        let mut head = String::new();
        loop {
            match connection.line() {
                Ok(line) if line.is_empty() => break,
                Ok(line) => head += &(line + "\r\n"),
                Err(_) => return,
            }
        }
        let body = Vec::new();
        heard
            .lock()
            .unwrap()
            .push(crate::harness::Heard { head, body });
        let _ = connection.try_send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: x\r\n\r\nhello\n",
        );
        while let Ok(line) = connection.line() {
            let line: String = line.chars().rev().collect();
            if connection.try_send(line + "\n").is_err() {
                return;
            }
        }
        let _ = connection.try_send("bye\n");
    })
}

const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n\r\n";

#[test]
fn an_upgraded_connection_carries_bytes_both_ways_until_both_sides_end() {
    let origin = backwards();
    let node = Home::new(crate::SHOP).start();
    node.register("shop", "a", &crate::lasting(&origin));
    node.until_eligible("/", 1);
    let mut client = Connection::open(node.web());
    // What is sent ahead belongs to the new protocol.
    client.send(format!("{HANDSHAKE}abc\n"));
    let answer = client.answer();
    assert_eq!(
        (answer.status, answer.header("upgrade")),
        (101, Some("websocket"))
    );
    assert_eq!(answer.header("sec-websocket-accept"), Some("x"));
    assert_eq!(client.line().as_deref(), Ok("hello"));
    assert_eq!(client.line().as_deref(), Ok("cba"));
    for number in 0..100 {
        client.send(format!("{number}-\n"));
        let expected: String = format!("{number}-").chars().rev().collect();
        assert_eq!(client.line(), Ok(expected));
    }
    let heard = origin.heard();
    assert_eq!(heard[0].header("upgrade"), Some("websocket"));
    assert_eq!(heard[0].header("sec-websocket-key"), Some("k"));
    // A reload and a drain of the instance leave it alone.
    node.call(
        "PATCH",
        "/v1/services/shop/instances/a",
        &serde_json::json!({ "drain": true }),
    );
    node.until_eligible("/", 0);
    client.send("still\n");
    assert_eq!(client.line().as_deref(), Ok("llits"));
    client.end_sending();
    assert_eq!(client.line().as_deref(), Ok("bye"));
    assert!(client.is_closed());
    let open = "pointsman_instance_in_flight{service=\"shop\",instance=\"a\"}";
    until("nothing in flight", || {
        (node.metric(open) == 0.0).then_some(())
    });
}

#[test]
fn an_instance_may_decline_and_the_connection_goes_on_as_it_was() {
    let origin = Origin::answering(|_| Reply::text("no"));
    let node = Home::new(crate::SHOP).start();
    node.register("shop", "a", &crate::lasting(&origin));
    node.until_eligible("/", 1);
    let mut client = Connection::open(node.web());
    client.send(HANDSHAKE);
    assert_eq!(client.answer().text(), "no");
    assert_eq!(client.get("/").text(), "no");
}
