//! Many connections at once to an instance that goes, and packets from everywhere.

use std::collections::HashMap;
use std::io::{IoSliceMut, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::harness::{Home, Node, PATIENCE, until};

/// Of the instance that is removed.
const CONNECTIONS: usize = 10_000;

/// Descriptors that a process needs besides: a node keeps 1,024 from clients.
const SPARE: u64 = 1_300;

/// An instance on one thread: answers each byte, on as many connections as come, which it holds.
fn echo() -> (SocketAddr, Arc<Mutex<Vec<TcpStream>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let held = Arc::new(Mutex::new(Vec::new()));
    let open = held.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut byte = [0];
            if stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {
                open.lock().unwrap().push(stream);
            }
        }
    });
    (address, held)
}

/// So many things that need `each` descriptors in one process, or as many as it may have.
fn at_the_most(wanted: usize, each: u64) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    );
    let possible = limit.maximum.map_or(usize::MAX, |maximum| {
        (maximum.saturating_sub(SPARE) / each) as usize
    });
    if possible < wanted {
        println!("{possible} instead of {wanted}: a process may not open more files");
    }
    wanted.min(possible)
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
    let (instance, held) = echo();
    let body = json!({ "address": "127.0.0.1", "port": instance.port(), "persistent": true });
    node.register("db", "a", &body);
    node.until_instances("db", 1);
    // Two descriptors each, here as well as in the node: the client's and the instance's ends.
    let count = at_the_most(CONNECTIONS, 2);
    let (before, idle) = (node.memory(), busy(&node));
    let mut clients: Vec<TcpStream> = Vec::new();
    for _ in 0..count {
        let mut client = TcpStream::connect(node.listener("db")).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        clients.push(client);
    }
    let (most, opening) = (node.memory(), busy(&node) - idle);
    let each = (most - before) / count as u64;
    println!("{count} connections, {each} bytes each, {opening:?} to open them");
    assert!(each < 2_500, "{each} bytes each");
    let answer = node.call("DELETE", "/v1/services/db/instances/a", &Value::Null);
    assert_eq!(answer.status, 204);
    let (used, began) = (busy(&node), Instant::now());
    let drained = "pointsman_route_closed_total{listener=\"db\",route=\"db\",why=\"drained\"}";
    until("the end of all", || {
        std::thread::sleep(Duration::from_millis(50));
        (node.metric(drained) == count as f64).then_some(())
    });
    let (used, took) = (busy(&node) - used, began.elapsed());
    println!("drained within {took:?}, of which {used:?} at work");
    assert!(took >= Duration::from_secs(2), "{took:?}");
    assert!(used < took / 2, "busy for {used:?} of {took:?}");
    // Waiting costs nothing, and closing less than opening did.
    assert!(used < opening, "{used:?}, and {opening:?} to open them");
    let after = node.memory();
    assert!(after < most + (4 << 20), "{after} bytes, {most} before");
    for client in &mut clients {
        assert!(!matches!(client.read(&mut [0]), Ok(1)));
    }
    // Descriptors that other tests need.
    held.lock().unwrap().clear();
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

/// One socket that sends from many addresses: all of 127.0.0.0/8 is ours.
struct Sources {
    socket: UdpSocket,
    state: UdpSocketState,
    to: SocketAddr,
}

impl Sources {
    fn towards(to: SocketAddr) -> Self {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let state = UdpSocketState::new((&socket).into()).unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4 << 20).unwrap();
        Self { socket, state, to }
    }

    fn send(&self, from: Ipv4Addr, contents: &[u8]) {
        let transmit = Transmit {
            destination: self.to,
            ecn: None,
            contents,
            segment_size: None,
            src_ip: Some(from.into()),
        };
        // What the kernel has no room for is lost, as on any wire.
        let _ = self.state.try_send((&self.socket).into(), &transmit);
    }

    /// The answers there are: to whom, and what.
    fn received(&self) -> Vec<(IpAddr, [u8; 2])> {
        let mut answers = Vec::new();
        let mut memory = [[0; 2_048]; 32];
        let mut metas = [RecvMeta::default(); 32];
        loop {
            let mut slices: Vec<_> = memory.iter_mut().map(|m| IoSliceMut::new(m)).collect();
            let received = self
                .state
                .recv((&self.socket).into(), &mut slices, &mut metas);
            let Ok(count) = received else { return answers };
            for (meta, bytes) in metas[..count].iter().zip(&memory) {
                let each = bytes[..meta.len].chunks(meta.stride.max(1));
                let to = meta.dst_ip.unwrap();
                answers.extend(each.map(|b| (to, [b[0], b[1]])));
            }
        }
    }
}

/// The client with this number.
fn source(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x7f10_0000 + number as u32)
}

/// An instance that tells everybody from which address it was asked.
fn teller() -> SocketAddr {
    let instance = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&instance, 4 << 20).unwrap();
    let address = instance.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 99];
        while let Ok((_, from)) = instance.recv_from(&mut buffer) {
            let _ = instance.send_to(&from.port().to_be_bytes(), from);
        }
    });
    address
}

#[test]
fn as_many_udp_sessions_as_there_may_be_live_at_once_in_bounded_memory() {
    // Three quarters of the node's descriptors are for sessions.
    let count = at_the_most(100_000, 2) * 3 / 2;
    let count = count.min(100_000);
    let home = Home::new(&format!(
        "[listener.dns]\nbind = \"127.0.0.1:0\"\nprotocol = \"udp\"\nservice = \"dns\"\n\
         [log.access]\npath = \"/dev/null\"\n\
         [service.dns]\nconnect_from = [\"127.0.0.2\", \"127.0.0.3\", \"127.0.0.4\", \"127.0.0.5\", \"127.0.0.6\"]\n\
         [[service.dns.instance]]\naddress = \"{}\"\n",
        teller()
    ));
    let node = home.start();
    let before = node.memory();
    let clients = Sources::towards(node.listener("dns"));
    // Asks until everybody has an answer; packets are lost as on any wire.
    let round = || {
        let mut answers = HashMap::new();
        until("an answer for everybody", || {
            let missing = (0..count).filter(|&n| !answers.contains_key(&IpAddr::V4(source(n))));
            let missing: Vec<_> = missing.take(256).collect();
            missing.iter().for_each(|&n| clients.send(source(n), b"?"));
            // Each gets the time that an answer takes, and no more.
            std::thread::sleep(Duration::from_millis(1));
            answers.extend(clients.received());
            (answers.len() == count).then_some(())
        });
        answers
    };
    let first = round();
    let each = (node.memory() - before) / count as u64;
    println!("{count} sessions, {each} bytes each");
    assert!(each < 1_500, "{each} bytes each");
    let second = round();
    assert!(first == second, "everybody has kept the session");
    let of = |name| {
        node.metric(&format!(
            "pointsman_listener_{name}_total{{listener=\"dns\"}}"
        ))
    };
    assert_eq!((of("accepted"), of("closed")), (count as f64, 0.0));
}

#[test]
fn a_million_forged_sources_take_bounded_memory_and_nobodys_place() {
    let home = Home::new(&format!(
        "[listener.dns]\nbind = \"127.0.0.1:0\"\nprotocol = \"udp\"\nservice = \"dns\"\n\
         udp = {{ max_sessions = 5000 }}\n\
         [log.access]\npath = \"/dev/null\"\n[[service.dns.instance]]\naddress = \"{}\"\n",
        teller()
    ));
    let node = home.start();
    let client = UdpSocket::bind("127.99.99.99:0").unwrap();
    client.connect(node.listener("dns")).unwrap();
    client
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let ask = |client: &UdpSocket| {
        until("an answer", || {
            client.send(b"?").ok()?;
            let mut port = [0; 2];
            client.recv(&mut port).ok().map(|_| port)
        })
    };
    let session = ask(&client);
    assert_eq!(ask(&client), session);
    let flood = Sources::towards(node.listener("dns"));
    let mut memory = Vec::new();
    for part in 0..10 {
        for number in part * 100_000..(part + 1) * 100_000 {
            flood.send(source(number), b"forged");
            // The answers are not for it; left unread, they would only fill its buffer.
            if number % 20_000 == 0 {
                assert_eq!(ask(&client), session, "who really talks keeps the session");
            }
        }
        // Somebody new gets in all the same.
        let new = UdpSocket::bind("127.99.99.98:0").unwrap();
        new.connect(node.listener("dns")).unwrap();
        new.set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        ask(&new);
        memory.push(node.memory() >> 10);
    }
    println!("KiB after each 100,000: {memory:?}");
    // Eight bytes of each are there for as long as timers look ahead (17 s): the session that it was for is forgotten, and
    // its deadline is not. Sessions themselves would be 800 MB.
    assert!(memory[9] < memory[1] + (10 << 10), "{memory:?}");
    let accepted = node.metric("pointsman_listener_accepted_total{listener=\"dns\"}");
    println!("{accepted} of a million were seen");
    until("no more sessions than there may be", || {
        let closed = node.metric("pointsman_listener_closed_total{listener=\"dns\"}");
        let accepted = node.metric("pointsman_listener_accepted_total{listener=\"dns\"}");
        (accepted - closed <= 5_000.0).then_some(())
    });
}
