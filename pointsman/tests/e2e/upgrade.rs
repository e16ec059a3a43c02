//! Connections that speak something else after a while.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::{Connection, Home, Node, Origin, Reply, until};

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

/// Speaks WebSocket as far as that matters here: sends frames back unmasked, hears Close frames and answers them.
fn websocket() -> (Origin, Arc<Mutex<Vec<Vec<u8>>>>) {
    let closed: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let heard = closed.clone();
    let origin = Origin::raw(move |mut connection, _| {
        while connection.line().is_ok_and(|line| !line.is_empty()) {}
        let accepted =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let _ = connection.try_send(accepted);
        while let Ok(head) = connection.take(2) {
            let length = usize::from(head[1] & 0x7f);
            let Ok(masked) = connection.take(4 + length) else {
                return;
            };
            let payload = masked[4..].iter().zip(masked[..4].iter().cycle());
            let payload: Vec<u8> = payload.map(|(byte, mask)| byte ^ mask).collect();
            let _ = connection.try_send([&[head[0], length as u8], &payload[..]].concat());
            if head[0] == 0x88 {
                heard.lock().unwrap().push(payload);
                return;
            }
        }
    });
    (origin, closed)
}

/// A frame as clients send them, with a mask of nothing but ones and twos.
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 1, 2];
    let bytes = payload
        .iter()
        .zip(mask.iter().cycle())
        .map(|(byte, mask)| byte ^ mask);
    let head = [0x80 | opcode, 0x80 | payload.len() as u8];
    head.into_iter().chain(mask).chain(bytes).collect()
}

fn shake_hands(node: &Node) -> Connection {
    let mut client = Connection::open(node.web());
    client.send(HANDSHAKE);
    assert_eq!(client.answer().status, 101);
    client
}

fn say(client: &mut Connection, text: &str) {
    client.send(masked(1, text.as_bytes()));
    let back = client.take(2 + text.len()).unwrap();
    assert_eq!(&back[2..], text.as_bytes());
}

/// The client is told to connect again, says goodbye as the RFC wants it, and the connection ends.
fn hear_goodbye(client: &mut Connection) {
    assert_eq!(client.take(4).unwrap(), [0x88, 2, 0x03, 0xf4]);
    client.send(masked(8, &[0x03, 0xf4]));
    assert!(client.is_closed());
}

const DRAINED: &str = "[listener.web]\nbind = \"127.0.0.1:0\"\nservice = \"shop\"\n\
    [listener.web.timeouts]\ntunnel_drain = \"0s\"\n";

#[test]
fn a_websocket_whose_instance_drains_is_told_to_connect_again_and_the_instance_hears_of_it() {
    let (origin, closed) = websocket();
    let node = Home::new(DRAINED).start();
    node.register("shop", "a", &crate::lasting(&origin));
    node.until_eligible("/", 1);
    let mut client = shake_hands(&node);
    say(&mut client, "hello");
    let drain = serde_json::json!({ "drain": true });
    node.call("PATCH", "/v1/services/shop/instances/a", &drain);
    hear_goodbye(&mut client);
    until("the instance's goodbye", || {
        (*closed.lock().unwrap() == [[0x03, 0xf4]]).then_some(())
    });
    let line = node.logged().until_line("\"status\":101");
    assert!(line.contains("\"ended\":\"drained\""), "{line}");
}

#[test]
fn a_node_that_stops_says_goodbye_to_websockets() {
    let (origin, closed) = websocket();
    let node = Home::new(crate::SHOP).start();
    node.register("shop", "a", &crate::lasting(&origin));
    node.until_eligible("/", 1);
    let mut client = shake_hands(&node);
    say(&mut client, "hello");
    // In the middle of a frame nothing is put in.
    let frame = masked(1, b"late");
    client.send(&frame[..3]);
    std::thread::sleep(Duration::from_millis(50));
    node.signal(rustix::process::Signal::TERM);
    std::thread::sleep(Duration::from_millis(200));
    client.stream.set_nonblocking(true).unwrap();
    let nothing = client.stream.peek(&mut [0; 1]).expect_err("no goodbye yet");
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    client.stream.set_nonblocking(false).unwrap();
    client.send(&frame[3..]);
    hear_goodbye(&mut client);
    until("the instance's goodbye", || {
        (closed.lock().unwrap().len() == 1).then_some(())
    });
}

#[test]
fn a_tunnel_ends_when_its_life_is_over() {
    let (origin, _) = websocket();
    let node =
        Home::new(&DRAINED.replace("tunnel_drain = \"0s\"", "tunnel_lifetime = \"1s\"")).start();
    node.register("shop", "a", &crate::lasting(&origin));
    node.until_eligible("/", 1);
    let mut client = shake_hands(&node);
    say(&mut client, "hello");
    hear_goodbye(&mut client);
}

#[test]
fn websockets_go_over_to_a_new_instance_and_are_told_so() {
    let [(first, _), (second, _)] = [websocket(), websocket()];
    let respread = "[service.shop.respread]\nrate = \"50%\"\nrest = \"50ms\"\n";
    let node = Home::new(&format!("{DRAINED}{respread}")).start();
    node.register("shop", "first", &crate::lasting(&first));
    node.until_eligible("/", 1);
    let mut clients: Vec<_> = (0..8).map(|_| shake_hands(&node)).collect();
    let open = |id: &str| {
        node.metric(&format!(
            "pointsman_instance_connections{{service=\"shop\",instance=\"{id}\"}}"
        ))
    };
    until("all are counted", || (open("first") == 8.0).then_some(()));
    node.register("shop", "second", &crate::lasting(&second));
    // Who speaks, and is answered, can be moved as well as who is silent.
    until("half have gone over", || {
        for client in &mut clients {
            client.send(masked(1, b"x"));
            let head = client.take(2).unwrap();
            if head[0] == 0x88 {
                assert_eq!(client.take(2).unwrap(), [0x03, 0xf4]);
                *client = shake_hands(&node);
            } else {
                client.take(1).unwrap();
            }
        }
        std::thread::sleep(Duration::from_millis(250));
        ((open("first"), open("second")) == (4.0, 4.0)).then_some(())
    });
}
