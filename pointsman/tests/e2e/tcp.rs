//! TCP listeners, with real sockets on both sides.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType};
use serde_json::json;

use crate::harness::{Home, Node, PATIENCE, free_address, until};

/// An instance: plays `script` on each connection, with the connection's number.
pub(crate) struct Instance {
    pub(crate) address: SocketAddr,
    pub(crate) accepted: Arc<AtomicUsize>,
}

impl Instance {
    pub(crate) fn new(script: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (count, script) = (accepted.clone(), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let number = count.fetch_add(1, SeqCst);
                let script = script.clone();
                std::thread::spawn(move || script(stream, number));
            }
        });
        Self { address, accepted }
    }

    /// Sends back what it gets, and ends when the client has.
    pub(crate) fn echo() -> Self {
        Self::new(|mut stream, _| {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..n]).is_err() {
                    return;
                }
            }
        })
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }
}

pub(crate) fn start(keys: &str, instances: &[SocketAddr]) -> Node {
    let instances: String = instances
        .iter()
        .map(|address| format!("[[service.db.instance]]\naddress = \"{address}\"\n"))
        .collect();
    Home::new(&format!(
        "[listener.db]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nservice = \"db\"\n{keys}\n\
         [service.db]\nconnect_timeout = \"300ms\"\n{instances}"
    ))
    .start()
}

pub(crate) fn connect(node: &Node) -> TcpStream {
    let stream = TcpStream::connect(node.listener("db")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The client at 127.0.0.`source`.
fn connect_from(node: &Node, source: u8) -> TcpStream {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    let from = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, source), 0);
    rustix::net::bind(&socket, &from).unwrap();
    rustix::net::connect(&socket, &node.listener("db")).unwrap();
    TcpStream::from(socket)
}

pub(crate) fn ping(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(message).unwrap();
    let mut back = vec![0; message.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, message);
}

/// How a connection ends for its client.
pub(crate) fn end(stream: &mut TcpStream) -> Result<Vec<u8>, std::io::ErrorKind> {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => Ok(rest),
        Err(fault) => Err(fault.kind()),
    }
}

fn closed(node: &Node, why: &str) -> f64 {
    node.metric(&format!(
        "pointsman_route_closed_total{{listener=\"db\",route=\"db\",why=\"{why}\"}}"
    ))
}

#[test]
fn bytes_go_both_ways_and_each_end_by_itself() {
    let instance = Instance::new(|mut stream, _| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all.reverse();
        // Longer than everything that is buffered on the way.
        for _ in 0..8 {
            stream.write_all(&all).unwrap();
        }
    });
    let node = start("", &[instance.address]);
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut client = connect(&node);
    client.write_all(&sent).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let heard = end(&mut client).unwrap();
    let expected: Vec<u8> = sent.iter().rev().copied().collect();
    assert!(
        heard == expected.repeat(8),
        "{} bytes came back",
        heard.len()
    );
    let line = node.logged().until_line("\"protocol\":\"tcp\"");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["ended"], "ok");
    assert_eq!(line["received"], sent.len());
    assert_eq!(line["sent"], sent.len() * 8);
    assert_eq!(line["attempts"], 1);
    assert_eq!(closed(&node, "ok"), 1.0);
}

#[test]
fn small_messages_go_to_and_fro_on_one_connection() {
    let instance = Instance::echo();
    let node = start("", &[instance.address]);
    let mut client = connect(&node);
    for round in 0..500_usize {
        ping(&mut client, &vec![round as u8; 1 + round * 7]);
    }
    // Long ones in between are spliced, and short ones after them copied again.
    let mut writer = client.try_clone().unwrap();
    let long = vec![7; 5_000_000];
    let sent = long.clone();
    let thread = std::thread::spawn(move || writer.write_all(&sent).unwrap());
    let mut back = vec![0; long.len()];
    client.read_exact(&mut back).unwrap();
    thread.join().unwrap();
    assert!(back == long);
    ping(&mut client, b"short again");
    assert_eq!(instance.accepted(), 1);
}

#[test]
fn an_instance_that_refuses_or_hangs_is_passed_over() {
    let refuses = free_address();
    let echo = Instance::echo();
    // Its packets vanish: an address reserved for documentation.
    let hangs = SocketAddr::from(([192, 0, 2, 1], 9));
    let node = start("", &[refuses, hangs, echo.address]);
    for _ in 0..6 {
        ping(&mut connect(&node), b"hello");
    }
    assert_eq!(echo.accepted(), 6);
}

#[test]
fn without_an_instance_a_connection_is_reset() {
    let node = start("", &[]);
    let mut client = connect(&node);
    assert_eq!(end(&mut client), Err(std::io::ErrorKind::ConnectionReset));
    until("the count", || {
        (closed(&node, "unavailable") == 1.0).then_some(())
    });
}

#[test]
fn a_reset_is_passed_on_as_a_reset() {
    let instance = Instance::new(|mut stream, _| {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).unwrap();
        stream.write_all(b"part of an answ").unwrap();
        // Unread bytes make closing a reset.
        std::thread::sleep(Duration::from_millis(50));
    });
    let node = start("", &[instance.address]);
    let mut client = connect(&node);
    client.write_all(&[1; 1000]).unwrap();
    assert_eq!(end(&mut client), Err(std::io::ErrorKind::ConnectionReset));
    until("the count", || {
        (closed(&node, "instance_reset") == 1.0).then_some(())
    });
}

#[test]
fn idle_and_old_connections_end() {
    let instance = Instance::echo();
    let node = start(
        "[listener.db.tcp]\nidle = \"1s\"\nlifetime = \"2s\"",
        &[instance.address],
    );
    let mut idle = connect(&node);
    ping(&mut idle, b"once");
    assert_eq!(end(&mut idle), Ok(Vec::new()));
    let mut busy = connect(&node);
    until("the end of its life", || {
        if busy.write_all(b"x").is_err() {
            return Some(());
        }
        std::thread::sleep(Duration::from_millis(20));
        busy.read_exact(&mut [0]).is_err().then_some(())
    });
    until("the counts", || {
        (closed(&node, "idle") == 1.0 && closed(&node, "lifetime") == 1.0).then_some(())
    });
}

#[test]
fn a_client_that_never_reads_stops_its_instance_and_nothing_grows() {
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let instance = Instance::new(move |mut stream, _| {
        let block = vec![0; 64 * 1024];
        while let Ok(n) = stream.write(&block) {
            count.fetch_add(n, SeqCst);
        }
    });
    let node = start("", &[instance.address]);
    let before = node.memory();
    let clients: Vec<_> = (0..20).map(|_| connect(&node)).collect();
    let mut last = 0;
    until("the instance being stopped", || {
        std::thread::sleep(Duration::from_millis(100));
        let now = written.load(SeqCst);
        (std::mem::replace(&mut last, now) == now && now > 0).then_some(())
    });
    let grown = node.memory().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more");
    drop(clients);
}

#[test]
fn one_source_has_so_many_connections_and_no_more() {
    let instance = Instance::echo();
    let node = start("[listener.db.tcp]\nmax_per_source = 3", &[instance.address]);
    let mut open: Vec<_> = (0..3).map(|_| connect(&node)).collect();
    open.iter_mut().for_each(|c| ping(c, b"hello"));
    assert_eq!(
        end(&mut connect(&node)),
        Err(std::io::ErrorKind::ConnectionReset)
    );
    assert_eq!(
        node.metric("pointsman_listener_refused_total{listener=\"db\"}"),
        1.0
    );
    open.pop();
    until("a free place", || {
        let mut client = connect(&node);
        client.write_all(b"x").ok()?;
        client.read_exact(&mut [0]).ok()
    });
}

#[test]
fn one_source_begins_so_many_connections_a_second_and_others_are_not_held_back() {
    let instance = Instance::echo();
    let node = start(
        "[listener.db.tcp]\nrate_per_source = 5",
        &[instance.address],
    );
    let served = |mut client: TcpStream| {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"x").is_ok() && client.read_exact(&mut [0]).is_ok()
    };
    let began = Instant::now();
    let at_once = (0..40).filter(|_| served(connect(&node))).count();
    let most = 5 + (5.0 * began.elapsed().as_secs_f64()).ceil() as usize;
    assert!((5..=most).contains(&at_once), "{at_once}");
    assert!(served(connect_from(&node, 9)));
    let refused = "pointsman_listener_refused_total{listener=\"db\"}";
    assert_eq!(node.metric(refused), (40 - at_once) as f64);
    until("the next second", || served(connect(&node)).then_some(()));
}

#[test]
fn a_source_keeps_its_instance_where_connections_go_by_its_hash() {
    let named =
        |name: &'static [u8]| Instance::new(move |mut stream, _| drop(stream.write_all(name)));
    let instances = [named(b"a"), named(b"b"), named(b"c")];
    let addresses: String = { instances.iter() }
        .map(|instance| {
            format!(
                "[[service.db.instance]]\naddress = \"{}\"\n",
                instance.address
            )
        })
        .collect();
    let node = Home::new(&format!(
        "[listener.db]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nservice = \"db\"\n\
         [service.db]\npolicy = \"consistent_hash\"\nhash_on = \"source_ip\"\n{addresses}"
    ))
    .start();
    let mut chosen = BTreeSet::new();
    for source in 1..=30 {
        let told = || end(&mut connect_from(&node, source)).unwrap();
        let first = told();
        for _ in 0..5 {
            assert_eq!(told(), first, "127.0.0.{source}");
        }
        chosen.insert(first);
    }
    assert_eq!(chosen.len(), 3, "thirty sources are spread over all");
}

#[test]
fn a_removed_instance_has_its_connections_for_a_while() {
    let (first, second) = (Instance::echo(), Instance::echo());
    let node = start("[listener.db.tcp]\ndrain = \"1s\"", &[]);
    for (id, instance) in [("a", &first), ("b", &second)] {
        let body =
            json!({ "address": "127.0.0.1", "port": instance.address.port(), "persistent": true });
        node.register("db", id, &body);
    }
    node.until_instances("db", 2);
    let mut clients: Vec<_> = (0..200).map(|_| connect(&node)).collect();
    clients.iter_mut().for_each(|c| ping(c, b"hello"));
    assert!(first.accepted() > 50 && second.accepted() > 50);
    let answer = node.call(
        "DELETE",
        "/v1/services/db/instances/a",
        &serde_json::Value::Null,
    );
    assert_eq!(answer.status, 204, "{}", answer.text());
    // For now they go on.
    clients.iter_mut().for_each(|c| ping(c, b"still here"));
    until("the end of its connections", || {
        (closed(&node, "drained") == first.accepted() as f64).then_some(())
    });
    let mut left = 0;
    for client in &mut clients {
        // Those that were closed say so at once: on a busy machine, a short wait would take others for them.
        left += usize::from(client.write_all(b"x").is_ok() && client.read_exact(&mut [0]).is_ok());
    }
    assert_eq!(left, second.accepted());
    assert_eq!(
        node.metric("pointsman_instance_in_flight{service=\"db\",instance=\"b\"}"),
        left as f64
    );
}

#[test]
fn a_connection_can_be_explained() {
    let instance = Instance::echo();
    let node = start("", &[instance.address]);
    let answer = node.read(&format!("/v1/explain?url={}", node.listener("db")));
    assert_eq!(answer["route"]["name"], "db");
    let verdict = answer["verdict"].as_str().unwrap();
    assert!(
        verdict.starts_with("tcp listener db") && verdict.contains("goes to instance"),
        "{verdict}"
    );
}
