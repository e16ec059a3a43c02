//! ZooKeeper's clients on three nodes: sessions that move, locks that are nobody's for sure before they are another's.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::cluster::{Cluster, NAMES};
use crate::harness::{Node, ZkClient, get, until, zk_create, zk_text};

const CONFIG: &str = r#"
    [front.zookeeper]
    bind = "127.0.0.1:0"
    min_session_timeout = "1s"
"#;

/// Requests by their numbers.
const EXISTS: i32 = 3;
const GET: i32 = 4;
const SYNC: i32 = 9;
const SET: i32 = 5;

fn cluster() -> (Cluster, &'static str) {
    with(CONFIG)
}

fn with(config: &str) -> (Cluster, &'static str) {
    let cluster = Cluster::new(config, |_| {});
    let leader = cluster.leader();
    (cluster, leader)
}

/// A client with a session, once the node serves any.
fn client(node: &Node, timeout: i32) -> ZkClient {
    until("a session", || {
        ZkClient::attempt(node.zookeeper(), timeout, 0, &[0; 16]).ok()?
    })
}

/// The same client, at another node, once that has seen what it has seen.
fn moved(client: &ZkClient, node: &Node, timeout: i32) -> Option<ZkClient> {
    let (session, password) = (client.session, &client.password);
    until("an answer", || {
        ZkClient::attempt(node.zookeeper(), timeout, session, password).ok()
    })
}

/// Whether there is such a node, as of now.
fn exists(client: &mut ZkClient, path: &str) -> bool {
    assert_eq!(client.ask(SYNC, &zk_text(path.as_bytes())).0, 0);
    let record = [&zk_text(path.as_bytes())[..], &[0]].concat();
    client.ask(EXISTS, &record).0 == 0
}

#[test]
fn a_session_moves_from_node_to_node_with_what_it_owns() {
    let (cluster, _) = cluster();
    let [first, second, third] = NAMES.map(|name| &cluster.nodes[name]);
    let mut owner = client(first, 10_000);
    let mut watcher = client(third, 10_000);
    assert_eq!(owner.create("/lock", b"mine", 1), 0);
    assert!(exists(&mut watcher, "/lock"));
    let watch = [&zk_text(b"/lock")[..], &[1]].concat();
    assert_eq!(watcher.ask(GET, &watch).0, 0);
    let mut again = moved(&owner, second, 10_000).expect("the session");
    assert_eq!(again.session, owner.session);
    // Its former connection has ended.
    assert!(owner.answer().is_none());
    assert_eq!(again.data("/lock"), Ok(b"mine".to_vec()));
    let forger = ZkClient::resume(third.zookeeper(), 10_000, owner.session, &[7; 16]);
    assert!(forger.is_none());
    again.close();
    until("the lock is released, and the watcher told", || {
        (!exists(&mut watcher, "/lock")).then_some(())
    });
    assert_eq!(watcher.events, [(2, "/lock".to_owned())]);
    assert!(moved(&owner, first, 10_000).is_none());
}

#[test]
fn what_was_acknowledged_on_one_node_is_read_on_any_after_a_sync() {
    let (cluster, _) = cluster();
    let mut clients = NAMES.map(|name| client(&cluster.nodes[name], 10_000));
    assert_eq!(clients[0].create("/x", b"", 0), 0);
    for round in 0..60_u32 {
        let [writer, reader] = [round as usize % 3, (round as usize + 1) % 3];
        let value = round.to_be_bytes();
        let record = [zk_text(b"/x"), zk_text(&value), vec![255; 4]].concat();
        assert_eq!(clients[writer].ask(SET, &record).0, 0);
        assert_eq!(clients[reader].ask(SYNC, &zk_text(b"/x")).0, 0);
        assert_eq!(clients[reader].data("/x"), Ok(value.to_vec()));
    }
}

#[test]
fn the_loss_of_the_leader_ends_no_session_but_those_that_stay_silent() {
    let (mut cluster, leader) = cluster();
    let mut kept = client(cluster.other_than(leader), 4_000);
    let mut comes_back = client(&cluster.nodes[leader], 4_000);
    let mut lost = client(&cluster.nodes[leader], 2_000);
    for (client, path) in [
        (&mut kept, "/kept"),
        (&mut comes_back, "/comes-back"),
        (&mut lost, "/lost"),
    ] {
        assert_eq!(client.create(path, b"", 1), 0);
    }
    cluster.nodes.remove(leader).expect("it runs").kill();
    let node = cluster.other_than(leader);
    let mut again = moved(&comes_back, node, 4_000).expect("the session");
    until("the silent one's is gone", || {
        again.ask(11, &[]);
        let (error, _) = kept.ask(EXISTS, &[&zk_text(b"/lost")[..], &[0]].concat());
        (error == -101).then_some(())
    });
    // Longer than any timeout: pings are all that keeps them.
    let from = Instant::now();
    while from.elapsed() < Duration::from_secs(5) {
        kept.ask(11, &[]);
        again.ask(11, &[]);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(exists(&mut kept, "/kept"));
    assert!(exists(&mut kept, "/comes-back"));
}

#[test]
fn a_node_that_is_cut_off_sends_its_clients_away_before_their_locks_are_others() {
    // Two seconds without news, of which some may have passed when the others stop.
    let (cluster, leader) = with(&CONFIG.replace("1s", "4s"));
    let apart = NAMES.into_iter().find(|name| *name != leader);
    let apart = &cluster.nodes[apart.expect("a follower")];
    let mut holder = client(apart, 4_000);
    assert_eq!(holder.create("/lock", b"", 1), 0);
    let others: Vec<&Node> = NAMES
        .iter()
        .map(|name| &cluster.nodes[name])
        .filter(|node| node.api != apart.api)
        .collect();
    for node in &others {
        node.signal(Signal::STOP);
    }
    let stopped = Instant::now();
    // It pings all the time, and is answered until it is sent away.
    let away = loop {
        holder.send(11, &[]);
        if holder.answer().is_none() {
            break stopped.elapsed();
        }
        assert!(stopped.elapsed() < Duration::from_secs(8));
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(away > Duration::from_secs(1), "{away:?}");
    // Nor is anybody let in, and monitors are told.
    assert!(ZkClient::attempt(apart.zookeeper(), 4_000, 0, &[0; 16]).is_err());
    assert_eq!(word(apart.zookeeper(), "isro"), "null");
    assert_eq!(word(apart.zookeeper(), "ruok"), "imok");
    for node in &others {
        node.signal(Signal::CONT);
    }
    let again = moved(&holder, apart, 4_000);
    assert!(exists(&mut again.expect("the session"), "/lock"));
    let state = |node: &Node| word(node.zookeeper(), "srvr");
    let modes = || NAMES.map(|name| state(&cluster.nodes[name]));
    until("one leads and two follow", || {
        let modes = modes();
        let count = |mode: &str| modes.iter().filter(|text| text.contains(mode)).count();
        (count("Mode: leader") == 1 && count("Mode: follower") == 2).then_some(())
    });
}

fn word(at: SocketAddr, word: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(at).expect("a connection");
    stream.write_all(word.as_bytes()).expect("a word");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

#[test]
fn what_sessions_register_is_in_the_catalog_of_all_nodes_whoever_leads() {
    let (mut cluster, leader) = cluster();
    let mut provider = client(cluster.other_than(leader), 6_000);
    for path in ["/services", "/services/shop"] {
        assert_eq!(provider.create(path, b"", 0), 0);
    }
    let instance =
        json!({ "name": "shop", "id": "shop-1", "address": "127.0.0.1", "port": 1, "payload": {} });
    let instance = instance.to_string();
    assert_eq!(
        provider.create("/services/shop/shop-1", instance.as_bytes(), 1),
        0
    );
    let known = |node: &Node| get(node.api, "/v1/services/shop").text().contains("shop-1");
    for node in cluster.nodes.values() {
        until("registered", || known(node).then_some(()));
    }
    cluster.nodes.remove(leader).expect("it runs").kill();
    cluster.leader();
    let path = [&zk_text(b"/services/shop/shop-1")[..], &[0]].concat();
    assert_eq!(provider.ask(EXISTS, &path).0, 0);
    assert!(cluster.nodes.values().all(known));
    provider.close();
    for node in cluster.nodes.values() {
        until("deregistered", || (!known(node)).then_some(()));
    }
}

/// What all writers know together.
#[derive(Default)]
struct Known {
    /// Sequential nodes whose creation was acknowledged.
    created: Mutex<BTreeSet<String>>,
    /// Compare-and-set operations that were acknowledged, and those that nobody knows of.
    set: AtomicU64,
    open: AtomicU64,
    /// Where there is somebody to write to.
    nodes: RwLock<Vec<SocketAddr>>,
    over: AtomicBool,
}

impl Known {
    fn follow(&self, cluster: &Cluster) {
        let running = cluster.nodes.values().map(Node::zookeeper).collect();
        *self.nodes.write().expect("a list") = running;
    }

    /// Creates sequential nodes and counts, wherever it can, until told to stop.
    fn write(&self, writer: usize) {
        let mut turn = writer;
        while !self.over.load(Relaxed) {
            let at = {
                let nodes = self.nodes.read().expect("a list");
                nodes[turn % nodes.len()]
            };
            turn += 1;
            let Ok(Some(mut client)) = ZkClient::attempt(at, 4_000, 0, &[0; 16]) else {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            };
            while self.write_once(&mut client).is_some() && !self.over.load(Relaxed) {}
        }
    }

    fn write_once(&self, client: &mut ZkClient) -> Option<()> {
        client.send(1, &zk_create("/list/n-", b"x", 2));
        let (_, (error, body)) = client.answer()?;
        if error != 0 {
            return None;
        }
        let path = String::from_utf8(body[4..].to_vec()).expect("a path");
        let new = self.created.lock().expect("a list").insert(path.clone());
        assert!(new, "{path} was given out twice");
        client.send(EXISTS, &[&zk_text(b"/counter")[..], &[0]].concat());
        let (_, (_, stat)) = client.answer()?;
        let version = stat.get(32..36)?;
        let record = [zk_text(b"/counter"), zk_text(b"y"), version.to_vec()].concat();
        client.send(SET, &record);
        match client.answer() {
            Some((_, (0, _))) => self.set.fetch_add(1, Relaxed),
            // Somebody else was first.
            Some((_, (-103, _))) => 0,
            _ => {
                self.open.fetch_add(1, Relaxed);
                return None;
            }
        };
        Some(())
    }
}

#[test]
fn under_kills_of_leaders_nothing_acknowledged_is_lost_and_no_compare_and_set_counts_twice() {
    let (mut cluster, _) = cluster();
    let mut first = client(&cluster.nodes["n1"], 10_000);
    assert_eq!(first.create("/list", b"", 0), 0);
    assert_eq!(first.create("/counter", b"", 0), 0);
    let known = Known::default();
    known.follow(&cluster);
    std::thread::scope(|scope| {
        for writer in 0..6 {
            let known = &known;
            scope.spawn(move || known.write(writer));
        }
        for _ in 0..5 {
            let written = known.set.load(Relaxed);
            until("writes go on", || {
                (known.set.load(Relaxed) > written + 20).then_some(())
            });
            let leader = cluster.leader();
            cluster.nodes.remove(leader).expect("it runs").kill();
            known.follow(&cluster);
            let written = known.set.load(Relaxed);
            until("writes go on", || {
                (known.set.load(Relaxed) > written + 20).then_some(())
            });
            cluster.start(leader);
            known.follow(&cluster);
        }
        known.over.store(true, Relaxed);
    });
    for name in NAMES {
        let mut reader = client(&cluster.nodes[name], 10_000);
        assert!(exists(&mut reader, "/list"));
        let created = known.created.lock().expect("a list");
        let gone: Vec<&String> = created
            .iter()
            .filter(|path| reader.data(path).is_err())
            .collect();
        assert!(gone.is_empty(), "{name} lacks {gone:?}");
        let (_, stat) = reader.ask(EXISTS, &[&zk_text(b"/counter")[..], &[0]].concat());
        let version = i32::from_be_bytes(stat[32..36].try_into().expect("four")) as u64;
        let (set, open) = (known.set.load(Relaxed), known.open.load(Relaxed));
        assert!(
            (set..=set + open).contains(&version),
            "{set} {version} {open}"
        );
    }
}
