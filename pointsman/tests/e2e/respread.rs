//! Long connections follow a change of the instances.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use super::tcp::{Instance, connect, ping};
use crate::harness::{Home, Node, until};

fn start(service: &str, instance: &Instance) -> Node {
    Home::new(&format!(
        "[listener.db]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nservice = \"db\"\n[service.db]\n{service}\n\
         [service.db.respread]\nrate = \"20%\"\nrest = \"50ms\"\n\
         [[service.db.instance]]\nid = \"first\"\naddress = \"{}\"\n",
        instance.address
    ))
    .start()
}

fn register(node: &Node, instance: &Instance) {
    let body = json!({ "address": "127.0.0.1", "port": instance.address.port(), "lease": { "ttl": "1m" } });
    node.register("db", "second", &body);
}

fn open(node: &Node, id: &str) -> f64 {
    node.metric(&format!(
        "pointsman_instance_connections{{service=\"db\",instance=\"{id}\"}}"
    ))
}

fn moved(node: &Node) -> f64 {
    node.metric("pointsman_instance_connections_moved_total{service=\"db\",instance=\"first\"}")
}

fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let read = stream.read(&mut [0; 16]);
    stream.set_nonblocking(false).unwrap();
    matches!(read, Ok(0))
}

#[test]
fn a_new_instance_gets_its_share_of_the_connections_that_are_open_and_no_answer_is_lost() {
    let [first, second] = [Instance::echo(), Instance::echo()];
    let node = start("", &first);
    let mut resting: Vec<_> = (0..20).map(|_| connect(&node)).collect();
    resting.iter_mut().for_each(|stream| ping(stream, b"hello"));
    register(&node, &second);
    until("half of them have gone over", || {
        for stream in &mut resting {
            if is_closed(stream) {
                *stream = connect(&node);
            }
            ping(stream, b"again");
        }
        // Long enough at rest to be moved.
        std::thread::sleep(std::time::Duration::from_millis(400));
        (open(&node, "second") >= 9.0).then_some(())
    });
    assert!(moved(&node) <= 11.0, "{} were moved", moved(&node));
    until("all are counted", || {
        (open(&node, "first") + open(&node, "second") == 20.0).then_some(())
    });
    assert!(node.metric("pointsman_service_least_moves_total{service=\"db\"}") >= 10.0);
    let why = "pointsman_route_closed_total{listener=\"db\",route=\"db\",why=\"moved\"}";
    assert_eq!(node.metric(why), moved(&node));
}

#[test]
fn connections_that_wait_for_an_answer_are_left_alone() {
    // Every second connection is never answered.
    let first = Instance::new(|mut stream, number| {
        let mut buffer = [0; 64];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            if number % 2 == 0 {
                stream.write_all(&buffer[..n]).unwrap();
            }
        }
    });
    let second = Instance::echo();
    let node = start("", &first);
    let mut asking: Vec<_> = (0..12).map(|_| connect(&node)).collect();
    for stream in &mut asking {
        stream.write_all(b"?").unwrap();
    }
    register(&node, &second);
    // Their clients do not come back: all that were answered may go, little by little.
    until("the answered ones were closed", || {
        (moved(&node) >= 3.0).then_some(())
    });
    let mut answered = [0; 1];
    for stream in &mut asking {
        stream.set_nonblocking(true).unwrap();
        match stream.read(&mut answered) {
            Ok(1) => {}
            other => {
                let kind = other.expect_err("whoever waits is not closed").kind();
                assert_eq!(kind, std::io::ErrorKind::WouldBlock);
            }
        }
    }
}

#[test]
fn a_transaction_is_not_broken() {
    const BUSY: &[u8] = b"Z\0\0\0\x05T";
    const READY: &[u8] = b"Z\0\0\0\x05I";
    // The first six are in a transaction, the others are not.
    let first = Instance::new(|mut stream, number| {
        let mut buffer = [0; 64];
        while let Ok(1..) = stream.read(&mut buffer) {
            let answer = if number < 6 { BUSY } else { READY };
            stream.write_all(answer).unwrap();
        }
    });
    let second = Instance::echo();
    // All that the check wants to hear: who are you?
    let checked = Instance::new(|mut stream, _| {
        stream.write_all(b"R\0\0\0\x08\0\0\0\x0a").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let port = checked.address.port();
    let check = format!("check = {{ protocol = \"postgresql\", port = {port} }}");
    let node = start(&check, &first);
    let mut asking: Vec<_> = (0..12).map(|_| connect(&node)).collect();
    // Workers do not connect in the order in which they accept.
    let in_transaction: Vec<bool> = asking
        .iter_mut()
        .map(|stream| {
            stream.write_all(b"?").unwrap();
            let mut answer = [0; READY.len()];
            stream.read_exact(&mut answer).unwrap();
            answer == *BUSY
        })
        .collect();
    register(&node, &second);
    until("some were closed", || (moved(&node) >= 2.0).then_some(()));
    let closed: Vec<bool> = asking.iter_mut().map(is_closed).collect();
    assert!(closed.contains(&true));
    for (closed, in_transaction) in closed.into_iter().zip(in_transaction) {
        assert!(!(closed && in_transaction));
    }
}
