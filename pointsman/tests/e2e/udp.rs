//! UDP listeners, with real sockets on both sides.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::harness::{Home, Node, PATIENCE, free_address, until};

/// An instance that sends every packet back, `times` times, with its name in front.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    heard: Arc<AtomicUsize>,
}

impl Echo {
    pub(crate) fn new(name: &'static str, times: usize) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let heard = Arc::new(AtomicUsize::new(0));
        let count = heard.clone();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                count.fetch_add(1, SeqCst);
                let answer = [name.as_bytes(), &buffer[..n]].concat();
                for _ in 0..times {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { address, heard }
    }
}

pub(crate) fn start(keys: &str, instances: &[SocketAddr]) -> Node {
    let instances: String = instances
        .iter()
        .map(|address| format!("[[service.dns.instance]]\naddress = \"{address}\"\n"))
        .collect();
    Home::new(&format!(
        "[listener.dns]\nbind = \"127.0.0.1:0\"\nprotocol = \"udp\"\nservice = \"dns\"\n{keys}\n\
         [service.dns]\npolicy = \"round_robin\"\n{instances}"
    ))
    .start()
}

pub(crate) fn client(node: &Node) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(node.listener("dns")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

pub(crate) fn ask(socket: &UdpSocket, question: &[u8]) -> Vec<u8> {
    socket.send(question).unwrap();
    hear(socket)
}

fn hear(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let n = socket.recv(&mut buffer).unwrap();
    buffer[..n].to_vec()
}

fn sessions(node: &Node) -> f64 {
    let of = |name| {
        node.metric(&format!(
            "pointsman_listener_{name}_total{{listener=\"dns\"}}"
        ))
    };
    of("accepted") - of("closed")
}

fn closed(node: &Node, why: &str) -> f64 {
    node.metric(&format!(
        "pointsman_route_closed_total{{listener=\"dns\",route=\"dns\",why=\"{why}\"}}"
    ))
}

#[test]
fn a_client_stays_with_its_instance_and_gets_its_answers() {
    let (a, b) = (Echo::new("a", 1), Echo::new("b", 1));
    let node = start("", &[a.address, b.address]);
    let clients: Vec<_> = (0..20).map(|_| client(&node)).collect();
    let names: Vec<_> = clients.iter().map(|c| ask(c, b"?")[0]).collect();
    // In turn, at each worker.
    let first = names.iter().filter(|n| **n == b'a').count();
    assert!((7..=13).contains(&first), "{first} of 20");
    for round in 0..5_u8 {
        for (client, name) in clients.iter().zip(&names) {
            assert_eq!(ask(client, &[round]), [*name, round]);
        }
    }
    // Empty packets and the longest there are, too; and those that have to be fragmented.
    for len in [0, 1, 1_472, 1_473, 9_000, 60_000] {
        let question = vec![7; len];
        let answer = ask(&clients[0], &question);
        assert!(answer[0] == names[0] && answer[1..] == question, "{len}");
    }
    assert!((sessions(&node) - 20.0).abs() < 0.5);
}

#[test]
fn a_source_keeps_its_instance_from_whatever_port_where_sessions_go_by_its_hash() {
    let instances = [Echo::new("a", 1), Echo::new("b", 1), Echo::new("c", 1)];
    let addresses: String = { instances.iter() }
        .map(|echo| format!("[[service.dns.instance]]\naddress = \"{}\"\n", echo.address))
        .collect();
    let node = Home::new(&format!(
        "[listener.dns]\nbind = \"127.0.0.1:0\"\nprotocol = \"udp\"\nservice = \"dns\"\n\
         [service.dns]\npolicy = \"maglev\"\nhash_on = \"source_ip\"\n{addresses}"
    ))
    .start();
    let mut chosen = BTreeSet::new();
    for source in 1..=30 {
        let told = || {
            let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, source), 0)).unwrap();
            socket.connect(node.listener("dns")).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            ask(&socket, b"?")
        };
        let first = told();
        for _ in 0..5 {
            assert_eq!(told(), first, "127.0.0.{source}");
        }
        chosen.insert(first);
    }
    assert_eq!(chosen.len(), 3, "thirty sources are spread over all");
}

#[test]
fn many_packets_at_once_come_back_in_their_order() {
    let echo = Echo::new("", 1);
    let node = start("", &[echo.address]);
    let client = client(&node);
    for burst in 0..20_u8 {
        (0..30_u8).for_each(|n| assert_eq!(client.send(&[burst, n]).unwrap(), 2));
        for n in 0..30 {
            assert_eq!(hear(&client), [burst, n]);
        }
    }
    assert_eq!(echo.heard.load(SeqCst), 600);
}

#[test]
fn a_session_with_all_its_answers_ends_at_once() {
    let echo = Echo::new("", 2);
    let node = start("[listener.dns.udp]\nresponses = 2", &[echo.address]);
    let asking = client(&node);
    for _ in 0..10 {
        assert_eq!(ask(&asking, b"name?"), b"name?");
        assert_eq!(hear(&asking), b"name?");
    }
    until("the end of the sessions", || {
        (sessions(&node) < 0.5).then_some(())
    });
    assert!(closed(&node, "ok") > 0.0);
    let line = node.logged().until_line("\"protocol\":\"udp\"");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["ended"], "ok");
    assert_eq!(
        line["received"].as_u64().unwrap() * 2,
        line["sent"].as_u64().unwrap()
    );
}

#[test]
fn a_silent_session_ends() {
    let echo = Echo::new("", 1);
    let node = start("[listener.dns.udp]\nidle = \"200ms\"", &[echo.address]);
    let asking = client(&node);
    ask(&asking, b"?");
    until("its end", || (closed(&node, "idle") == 1.0).then_some(()));
    // And begins again when its client does.
    assert_eq!(ask(&asking, b"again"), b"again");
}

#[test]
fn an_instance_without_the_port_is_passed_over() {
    let nobody = free_address();
    let echo = Echo::new("", 1);
    let node = start("", &[nobody, echo.address]);
    for _ in 0..10 {
        let asking = client(&node);
        asking
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        until("an answer", || {
            asking.send(b"?").unwrap();
            asking.recv(&mut [0; 9]).ok()
        });
    }
    let failures = node.metric(&format!(
        "pointsman_instance_failures_total{{service=\"dns\",instance=\"{nobody}\"}}"
    ));
    // Passed over for ten seconds after the first.
    assert!((1.0..4.0).contains(&failures), "{failures}");
}

#[test]
fn sessions_are_bounded_in_all_and_for_each_source() {
    let echo = Echo::new("", 1);
    let node = start(
        "[listener.dns.udp]\nmax_sessions = 64\nmax_per_source = 16",
        &[echo.address],
    );
    let bind = |source: u8| {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, source), 0)).unwrap();
        socket.connect(node.listener("dns")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let real = bind(200);
    for _ in 0..3 {
        ask(&real, b"I get my answers");
    }
    for source in 1..=40 {
        for _ in 0..30 {
            let asking = bind(source);
            assert_eq!(ask(&asking, b"?"), b"?");
        }
    }
    until("the records of those that went", || {
        (sessions(&node) < 65.0).then_some(())
    });
    assert!(closed(&node, "evicted") > 1_000.0);
    assert_eq!(ask(&real, b"still"), b"still");
}

#[test]
fn a_listener_on_every_address_answers_from_the_one_that_was_asked() {
    let echo = Echo::new("", 1);
    let node = Home::new(&format!(
        "[listener.dns]\nbind = \"0.0.0.0:0\"\nprotocol = \"udp\"\nservice = \"dns\"\n\
         [[service.dns.instance]]\naddress = \"{}\"\n",
        echo.address
    ))
    .start();
    let port = node.listener("dns").port();
    for asked in [[127, 0, 0, 1], [127, 0, 0, 77]] {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // Connected: answers from elsewhere do not reach it.
        socket.connect((Ipv4Addr::from(asked), port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(ask(&socket, b"who?"), b"who?");
    }
}

#[test]
fn a_listener_can_change_from_tcp_to_udp_on_its_port() {
    let echo = Echo::new("", 1);
    let instance = format!("[[service.dns.instance]]\naddress = \"{}\"\n", echo.address);
    let listener = |protocol: &str, port: u16| {
        format!(
            "[listener.dns]\nbind = \"127.0.0.1:{port}\"\nprotocol = \"{protocol}\"\nservice = \"dns\"\n{instance}"
        )
    };
    let node = Home::new(&listener("tcp", 0)).start();
    let port = node.listener("dns").port();
    let said = node.reload(&listener("udp", port));
    assert!(said.contains("is in effect"), "{said}");
    let socket = client(&node);
    assert_eq!(ask(&socket, b"?"), b"?");
    until("the former listener's end", || {
        std::net::TcpStream::connect(node.listener("dns")).err()
    });
}
