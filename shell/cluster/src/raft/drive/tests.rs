use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{ThreadId, current, yield_now};
use std::time::Instant;

use registry::Command;
use registry::tree::{SessionId, TreeCommand};

use super::*;
use crate::storage::faulty::FaultyDisk;
use crate::{ClusterOptions, Done, Durability, Node, Options, crash_tests};

/// Long enough for a busy machine; nothing waits for it to pass.
const SOON: Duration = Duration::from_secs(30);
/// How long the disk stalls.
const STALL: Duration = Duration::from_secs(3);

/// A node that is one of several, but that there are no others.
fn start(disk: &FaultyDisk) -> Node {
    let address = "127.0.0.1:0";
    let options = Options {
        cluster: Some(ClusterOptions {
            node: "n0".into(),
            name: "c".into(),
            token: "t".into(),
            bind: address.parse().unwrap(),
            peers: BTreeMap::from([("n0".into(), address.into())]),
            join: Vec::new(),
            address: address.into(),
            tls: None,
            format: registry::FORMAT,
        }),
        ..Options::new(Durability::Memory)
    };
    Node::start(crash_tests::open(disk, &options).unwrap(), &options).unwrap()
}

/// Has a session opened; what is returned hears which thread has applied that.
fn open(node: &Node, session: i64) -> Receiver<ThreadId> {
    let command = Command::Tree(TreeCommand::Open {
        session: SessionId(session),
        password: [0; 16],
        timeout: 600_000,
    });
    let (told, applied) = channel();
    let done: Done = Box::new(move |_, committed| {
        assert!(committed.is_some());
        let _ = told.send(current().id());
    });
    let mut commands = VecDeque::from([(command, done)]);
    node.submit_with(&mut commands, false).unwrap();
    applied
}

#[test]
fn whoever_runs_the_library_writes_and_another_runs_it_while_the_disk_stalls() {
    let disk = FaultyDisk::new(1);
    let node = start(&disk);
    until(|| node.leads());
    let began = Instant::now();
    // Whether the disk was quick, a busy machine decides.
    for session in 1.. {
        assert!(began.elapsed() < SOON, "it never writes itself");
        let runs = open(&node, 2 * session).recv_timeout(SOON).unwrap();
        let (syncs, by) = disk.syncs_begun();
        if by != Some(runs) {
            continue;
        }
        disk.set_sync_time(STALL);
        let stalled = open(&node, 2 * session + 1);
        until(|| disk.syncs_begun().0 > syncs);
        disk.set_sync_time(Duration::ZERO);
        let proved = node.shared().proves_to_lead();
        let stalls_still = stalled.try_recv().is_err();
        let by = disk.syncs_begun().1;
        stalled.recv_timeout(SOON).unwrap();
        if by == Some(runs) {
            assert!(proved && stalls_still, "nobody took over");
            return;
        }
    }
}

fn until(holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < SOON);
        yield_now();
    }
}
