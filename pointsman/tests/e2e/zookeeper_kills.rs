//! ZooKeeper's promises while the node is killed again and again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use crate::harness::{Home, ZkClient, zk_create, zk_text};

const LIVES: u64 = 8;
const WRITERS: usize = 6;

const CONFIG: &str = r#"
    [front.zookeeper]
    bind = "127.0.0.1:0"
    [registry]
    snapshot_bytes = "1MiB"
"#;

/// What all writers know together.
#[derive(Default)]
struct Known {
    /// Sequential nodes whose creation was acknowledged.
    created: Mutex<BTreeSet<String>>,
    /// Compare-and-set operations that were acknowledged, and those that nobody knows of.
    set: AtomicU64,
    open: AtomicU64,
}

#[test]
fn what_was_acknowledged_outlives_kills_and_no_compare_and_set_counts_twice() {
    let home = Home::new(CONFIG);
    let known = Known::default();
    for life in 0..LIVES {
        let node = home.start();
        let at = node.zookeeper();
        let mut client = ZkClient::open(at, 10_000);
        if life == 0 {
            assert_eq!(client.create("/list", b"", 0), 0);
            assert_eq!(client.create("/counter", b"", 0), 0);
        }
        check(&mut client, &known);
        let begun = Barrier::new(WRITERS + 1);
        std::thread::scope(|scope| {
            for _ in 0..WRITERS {
                scope.spawn(|| {
                    begun.wait();
                    write(at, &known);
                });
            }
            begun.wait();
            std::thread::sleep(Duration::from_millis(40 + life * 30));
            node.kill();
        });
    }
    let node = home.start();
    check(&mut ZkClient::open(node.zookeeper(), 10_000), &known);
    let created = known.created.lock().expect("a list").len();
    assert!(created > 100, "only {created}");
}

/// Creates sequential nodes and counts, until the node is gone.
fn write(at: SocketAddr, known: &Known) {
    let mut client = ZkClient::open(at, 10_000);
    loop {
        client.send(1, &zk_create("/list/n-", b"x", 2));
        let Some((_, (0, body))) = client.answer() else {
            return;
        };
        let path = String::from_utf8(body[4..].to_vec()).expect("a path");
        let new = known.created.lock().expect("a list").insert(path.clone());
        assert!(new, "{path} was given out twice");
        let Some(version) = version(&mut client) else {
            return;
        };
        let record = [
            zk_text(b"/counter"),
            zk_text(b"y"),
            version.to_be_bytes().to_vec(),
        ]
        .concat();
        client.send(5, &record);
        match client.answer() {
            Some((_, (0, _))) => known.set.fetch_add(1, Relaxed),
            // Somebody else was first.
            Some((_, (-103, _))) => 0,
            Some(other) => panic!("{other:?}"),
            None => {
                known.open.fetch_add(1, Relaxed);
                return;
            }
        };
    }
}

fn version(client: &mut ZkClient) -> Option<i32> {
    client.send(3, &[&zk_text(b"/counter")[..], &[0]].concat());
    let (_, (error, stat)) = client.answer()?;
    assert_eq!(error, 0);
    stat[32..36].try_into().ok().map(i32::from_be_bytes)
}

fn check(client: &mut ZkClient, known: &Known) {
    let (error, body) = client.ask(8, &[&zk_text(b"/list")[..], &[0]].concat());
    assert_eq!(error, 0);
    let mut at = 4;
    let mut there = BTreeSet::new();
    while let Some(length) = body.get(at..at + 4) {
        let length = i32::from_be_bytes(length.try_into().expect("four")) as usize;
        let name = String::from_utf8(body[at + 4..at + 4 + length].to_vec()).expect("a name");
        there.insert(format!("/list/{name}"));
        at += 4 + length;
    }
    let created = known.created.lock().expect("a list");
    let lost: Vec<_> = created.difference(&there).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    let version = version(client).expect("an answer") as u64;
    let (set, open) = (known.set.load(Relaxed), known.open.load(Relaxed));
    assert!(
        (set..=set + open).contains(&version),
        "{set} + {open} and {version}"
    );
}

#[test]
fn a_storm_of_clients_that_come_back_at_once_finds_its_sessions() {
    // None may expire because the machine is busy.
    const PATIENT: i32 = 40_000;
    let home = Home::new(CONFIG);
    let node = home.start();
    let at = node.zookeeper();
    let sessions: Vec<(i64, Vec<u8>)> = (0..400)
        .map(|number| {
            let mut client = ZkClient::open(at, PATIENT);
            assert_eq!(client.create(&format!("/e-{number}"), b"", 1), 0);
            (client.session, client.password.clone())
        })
        .collect();
    node.kill();
    let node = home.start();
    let at = node.zookeeper();
    std::thread::scope(|scope| {
        for part in sessions.chunks(20) {
            scope.spawn(move || {
                for (session, password) in part {
                    let again = ZkClient::resume(at, PATIENT, *session, password);
                    let mut again = again.expect("the session is there");
                    assert_eq!(again.ask(11, &[]).0, 0);
                    again.close();
                }
            });
        }
    });
    let mut client = ZkClient::open(at, 10_000);
    let (_, children) = client.ask(8, &[&zk_text(b"/")[..], &[0]].concat());
    assert_eq!(
        children,
        [&[0, 0, 0, 1][..], &zk_text(b"zookeeper")].concat()
    );
}
