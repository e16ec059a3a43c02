//! Wires are cut, on one side, in one direction, for a while or for good.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::json;

use crate::harness::{Home, Node, PATIENCE, until};
use crate::network::Place::{A, B, Client};
use crate::network::{Network, Place, with_network};

/// How long machines may be silent, so that tests need not wait for long.
const SILENCE: &str = "2s";

/// The port of every instance.
const PORT: u16 = 7_000;

/// A node with listeners of both kinds, to `services` of the instances given.
fn node(network: &Network, instances: &[Place], check: bool) -> Node {
    let bind = format!("{}:0", Place::Node.address());
    let config = format!(
        "[node]\nworkers = 1\ndurability = \"memory\"\n\
         [listener.tcp]\nbind = \"{bind}\"\nprotocol = \"tcp\"\nservice = \"s\"\npeer_timeout = \"{SILENCE}\"\n\
         [listener.udp]\nbind = \"{bind}\"\nprotocol = \"udp\"\nservice = \"s\"\n\
         [service.s]\npolicy = \"round_robin\"\nconnect_timeout = \"300ms\"\npeer_timeout = \"{SILENCE}\"\n"
    );
    let node = Home::new(&config).start();
    for &place in instances {
        echo(network, place);
        let mut body = json!({ "address": place.address(), "port": PORT, "persistent": true });
        if check {
            body["check"] = json!({ "tcp": true, "interval": "200ms", "timeout": "300ms", "fall": 2, "rise": 1 });
        }
        node.register("s", place_id(place), &body);
    }
    node.until_instances("tcp", instances.len());
    node
}

fn place_id(place: Place) -> &'static str {
    match place {
        A => "a",
        _ => "b",
    }
}

/// An instance that sends everything back, its name first. Sent `"flood"`, it sends for as long as that is taken.
fn echo(network: &Network, place: Place) {
    let bind = || {
        let address = format!("{}:{PORT}", place.address());
        (
            TcpListener::bind(&address).unwrap(),
            UdpSocket::bind(&address).unwrap(),
        )
    };
    let (listener, socket) = network.at(place, bind);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream, place));
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 99];
        loop {
            if let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(place_id(place).as_bytes(), from);
            }
        }
    });
}

fn answer(mut stream: TcpStream, place: Place) {
    let mut buffer = [0; 999];
    let name = place_id(place).as_bytes()[0];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        if &buffer[..n] == b"flood" {
            while stream.write_all(&[name; 65_536]).is_ok() {}
        }
        buffer[0] = name;
        if stream.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
}

fn connect(network: &Network, node: &Node) -> TcpStream {
    let address: SocketAddr = node.listener("tcp");
    let stream = network.at(Client, || TcpStream::connect_timeout(&address, PATIENCE));
    let stream = stream.expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Asks, and returns who answers.
fn ask(stream: &mut TcpStream) -> std::io::Result<u8> {
    let mut byte = [0];
    stream.write_all(b"?")?;
    stream.read_exact(&mut byte)?;
    Ok(byte[0])
}

fn closed(node: &Node, why: &str) -> f64 {
    let labels = format!("{{listener=\"tcp\",route=\"tcp\",why=\"{why}\"}}");
    node.metric(&format!("pointsman_route_closed_total{labels}"))
}

fn until_closed(node: &Node, why: &str, count: f64) {
    until(why, || (closed(node, why) >= count).then_some(()));
}

/// How often the node's machine has sent something again.
fn sent_again() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = text.lines().filter(|l| l.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let place = names.split(' ').position(|n| n == "RetransSegs").unwrap();
    values.split(' ').nth(place).unwrap().parse().unwrap()
}

fn until_sent_again(times: u64) {
    let before = sent_again();
    until("retransmissions", || {
        (sent_again() >= before + times).then_some(())
    });
}

/// The client hears of it by a reset, not by an end in order.
fn assert_reset(stream: &mut TcpStream) {
    let fault = stream
        .read(&mut [0; 9])
        .expect_err("a cut must not look whole");
    assert_eq!(fault.kind(), ErrorKind::ConnectionReset, "{fault}");
}

#[test]
fn an_instance_that_is_cut_off_ends_what_is_under_way_and_what_rests() {
    with_network("an instance cut off", |network| {
        let node = node(network, &[A], false);
        let (mut busy, mut resting) = (connect(network, &node), connect(network, &node));
        assert_eq!(ask(&mut busy).unwrap(), b'a');
        assert_eq!(ask(&mut resting).unwrap(), b'a');
        network.cut(A);
        busy.write_all(b"into the void").unwrap();
        until_closed(&node, "instance_lost", 2.0);
        assert_reset(&mut busy);
        assert_reset(&mut resting);
        node.logged().until_line("\"ended\":\"instance_lost\"");
        network.mend(A);
        let again = until("a connection", || ask(&mut connect(network, &node)).ok());
        assert_eq!(again, b'a');
    });
}

#[test]
fn a_client_that_is_cut_off_leaves_its_instance() {
    with_network("a client cut off", |network| {
        let node = node(network, &[A], false);
        let (mut flooded, mut resting) = (connect(network, &node), connect(network, &node));
        assert_eq!(ask(&mut flooded).unwrap(), b'a');
        assert_eq!(ask(&mut resting).unwrap(), b'a');
        flooded.write_all(b"flood").unwrap();
        flooded.read_exact(&mut [0; 999]).unwrap();
        network.cut(Client);
        until_closed(&node, "client_lost", 2.0);
        let open = "pointsman_instance_in_flight{service=\"s\",instance=\"a\"}";
        until("nobody at the instance", || {
            (node.metric(open) == 0.0).then_some(())
        });
    });
}

#[test]
fn a_wire_that_works_in_one_direction_only_is_cut_too() {
    with_network("a wire cut in one direction", |network| {
        for (number, place, from, to) in [(1, A, A, Place::Node), (2, B, Place::Node, B)] {
            let node = node(network, &[place], false);
            let mut stream = connect(network, &node);
            ask(&mut stream).unwrap();
            network.swallow(from, to);
            stream.write_all(b"?").unwrap();
            until_closed(&node, "instance_lost", 1.0);
            assert_reset(&mut stream);
            println!("direction {number}: found");
        }
    });
}

#[test]
fn a_cut_that_is_mended_in_time_ends_nothing() {
    with_network("a cut that is mended", |network| {
        let node = node(network, &[A], false);
        let mut stream = connect(network, &node);
        assert_eq!(ask(&mut stream).unwrap(), b'a');
        for place in [A, Client] {
            network.cut(place);
            stream.write_all(b"?").unwrap();
            if place == A {
                until_sent_again(1);
            }
            network.mend(place);
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            assert_eq!(&byte, b"a");
        }
        assert_eq!(
            closed(&node, "instance_lost") + closed(&node, "client_lost"),
            0.0
        );
    });
}

/// TCP_USER_TIMEOUT would end it, and so would whoever takes silence for death.
#[test]
fn a_client_that_does_not_read_is_not_taken_for_one_that_is_gone() {
    with_network("a client that does not read", |network| {
        let node = node(network, &[A, B], false);
        let connect_to = |name: u8| {
            until("a connection to it", || {
                let mut stream = connect(network, &node);
                (ask(&mut stream).ok()? == name).then_some(stream)
            })
        };
        let mut stalled = connect_to(b'b');
        stalled.write_all(b"flood").unwrap();
        // Three times as long as it takes to find one that is gone.
        for round in 1..=3 {
            let mut gone = connect_to(b'a');
            network.cut(A);
            gone.write_all(b"?").unwrap();
            until_closed(&node, "instance_lost", f64::from(round));
            network.mend(A);
        }
        assert_eq!(closed(&node, "client_lost"), 0.0);
        // All that waited is there, and more comes.
        let mut buffer = vec![0; 1 << 20];
        for _ in 0..8 {
            stalled.read_exact(&mut buffer).unwrap();
        }
        assert!(buffer.iter().all(|&byte| byte == b'b'));
    });
}

#[test]
fn connections_that_come_during_a_cut_go_to_another_instance() {
    with_network("connects during a cut", |network| {
        let node = node(network, &[A, B], true);
        network.cut(A);
        for _ in 0..10 {
            assert_eq!(ask(&mut connect(network, &node)).unwrap(), b'b');
        }
        node.until_health("s", "a", "critical");
        assert_eq!(node.health("s", "b").as_deref(), Some("passing"));
        network.mend(A);
        node.until_health("s", "a", "passing");
        until("the first instance again", || {
            (ask(&mut connect(network, &node)).ok()? == b'a').then_some(())
        });
    });
}

#[test]
fn packets_go_elsewhere_when_checks_find_an_instance_cut_off() {
    with_network("packets during a cut", |network| {
        let node = node(network, &[A, B], true);
        let address = node.listener("udp");
        let client = || {
            let socket = UdpSocket::bind((Client.address().as_str(), 0)).unwrap();
            socket.connect(address).unwrap();
            let patience = Duration::from_millis(200);
            socket.set_read_timeout(Some(patience)).unwrap();
            socket
        };
        let ask = |socket: &UdpSocket| {
            let mut name = [0];
            socket.send(b"?").ok()?;
            socket.recv(&mut name).ok().map(|_| name[0])
        };
        // One session at each.
        let sockets: Vec<_> = (0..8).map(|_| network.at(Client, client)).collect();
        let at_a: Vec<_> = sockets
            .iter()
            .filter(|socket| until("an answer", || ask(socket)) == b'a')
            .collect();
        assert!((1..8).contains(&at_a.len()), "{} of 8", at_a.len());
        network.cut(A);
        for socket in &at_a {
            until("an answer of the other", || {
                (ask(socket)? == b'b').then_some(())
            });
        }
        // They stay there: going back and forth would split what belongs together.
        network.mend(A);
        node.until_health("s", "a", "passing");
        for socket in &sockets {
            assert_eq!(until("an answer", || ask(socket)), b'b');
        }
    });
}
