//! Many connections at once to an instance that goes, and packets from everywhere.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Home, Node, PATIENCE, until};

/// Descriptors: two here, two in the node, two in the instance's thread, for which common limits leave room.
const CONNECTIONS: usize = 4_000;

/// An instance on one thread: answers each byte, on as many connections as come.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let mut byte = [0];
            if stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {
                held.push(stream);
            }
        }
    });
    address
}

fn busy(node: &Node) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", node.pid())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let field = |n: usize| {
        fields
            .split(' ')
            .nth(n - 3)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    // In ticks of 10 ms.
    Duration::from_millis((field(14) + field(15)) * 10)
}

#[test]
fn an_instance_with_thousands_of_connections_is_removed() {
    let home = Home::new(
        "[listener.db]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nservice = \"db\"\n\
         tcp = { drain = \"3s\" }\n[log.access]\npath = \"/dev/null\"\n",
    );
    let node = home.start();
    let instance = echo();
    let body = json!({ "address": "127.0.0.1", "port": instance.port(), "persistent": true });
    node.register("db", "a", &body);
    node.until_instances("db", 1);
    let before = node.memory();
    let mut clients: Vec<TcpStream> = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = TcpStream::connect(node.listener("db")).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        clients.push(client);
    }
    let each = (node.memory() - before) / CONNECTIONS as u64;
    println!("{CONNECTIONS} connections, {each} bytes each");
    assert!(each < 2_500, "{each} bytes each");
    let answer = node.call("DELETE", "/v1/services/db/instances/a", &Value::Null);
    assert_eq!(answer.status, 204);
    let (used, began) = (busy(&node), Instant::now());
    let drained = "pointsman_route_closed_total{listener=\"db\",route=\"db\",why=\"drained\"}";
    until("the end of all", || {
        std::thread::sleep(Duration::from_millis(50));
        (node.metric(drained) == CONNECTIONS as f64).then_some(())
    });
    let (used, took) = (busy(&node) - used, began.elapsed());
    println!("drained within {took:?}, of which {used:?} at work");
    assert!(took >= Duration::from_secs(2), "{took:?}");
    assert!(used < took / 2, "busy for {used:?} of {took:?}");
    for client in &mut clients {
        assert!(!matches!(client.read(&mut [0]), Ok(1)));
    }
    // And it goes on.
    node.register("db", "b", &body);
    node.until_instances("db", 1);
    let mut client = TcpStream::connect(node.listener("db")).unwrap();
    client.write_all(b"y").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

#[test]
fn packets_from_tens_of_thousands_of_sources_take_bounded_memory() {
    let instance = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let home = Home::new(&format!(
        "[listener.dns]\nbind = \"127.0.0.1:0\"\nprotocol = \"udp\"\nservice = \"dns\"\n\
         udp = {{ max_sessions = 2000, max_per_source = 10 }}\n[log.access]\npath = \"/dev/null\"\n\
         [[service.dns.instance]]\naddress = \"{}\"\n",
        instance.local_addr().unwrap()
    ));
    let node = home.start();
    // Answers one client, with the port that its session has, and nobody else.
    let real = UdpSocket::bind("127.99.99.99:0").unwrap();
    real.connect(node.listener("dns")).unwrap();
    real.set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 99];
        while let Ok((n, from)) = instance.recv_from(&mut buffer) {
            if &buffer[..n] == b"real" {
                let _ = instance.send_to(&from.port().to_be_bytes(), from);
            }
        }
    });
    let ask = || {
        until("an answer", || {
            real.send(b"real").ok()?;
            let mut port = [0; 2];
            real.recv(&mut port).ok().map(|_| port)
        })
    };
    let session = ask();
    (0..3).for_each(|_| assert_eq!(ask(), session));
    let before = node.memory();
    let flood = |sources: std::ops::Range<u32>| {
        for source in sources {
            let from = Ipv4Addr::from_bits(0x7f01_0000 + source);
            let socket = UdpSocket::bind((from, 0)).unwrap();
            let _ = socket.send_to(b"forged", node.listener("dns"));
        }
    };
    flood(0..5_000);
    let after_some = node.memory();
    flood(5_000..60_000);
    let after_all = node.memory();
    println!(
        "{} KiB before, {} after 5,000 sources, {} after 60,000",
        before >> 10,
        after_some >> 10,
        after_all >> 10
    );
    assert!(after_all < after_some + (2 << 20));
    let of = |name| {
        node.metric(&format!(
            "pointsman_listener_{name}_total{{listener=\"dns\"}}"
        ))
    };
    // Those that made room are counted until their tasks have had their turn.
    until("no more sessions than there may be", || {
        (of("accepted") - of("closed") <= 2_000.0).then_some(())
    });
    // Who really talks has kept the session.
    assert_eq!(ask(), session);
}
