use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{ThreadId, current};

use fastrand::Rng;
use model::Revision;
use registry::Command;
use registry::tree::{SessionId, TreeCommand};

use super::*;
use crate::storage::faulty::FaultyDisk;
use crate::{Done, Durability, Node, Options, crash_tests};

/// More than serving threads wait for.
const SLOW: Duration = Duration::from_millis(2);
/// Long enough for a busy machine; nothing waits for it to pass.
const SOON: Duration = Duration::from_secs(20);

fn start(disk: &FaultyDisk) -> Node {
    let options = Options::new(Durability::Memory);
    let node = Node::start(crash_tests::open(disk, &options).unwrap(), &options).unwrap();
    let began = Instant::now();
    while !node.leads() {
        assert!(began.elapsed() < SOON);
        std::thread::yield_now();
    }
    node
}

fn open(session: i64, timeout: u32) -> Command {
    Command::Tree(TreeCommand::Open {
        session: SessionId(session),
        password: [0; 16],
        timeout,
    })
}

fn close(session: i64) -> Command {
    Command::Tree(TreeCommand::Close {
        session: SessionId(session),
    })
}

/// Hands over one command; what is returned hears at which revision and by which thread it was applied.
fn hand_over(node: &Node, command: Command) -> Receiver<(Option<Revision>, ThreadId)> {
    let (told, hears) = channel();
    let done: Done = Box::new(move |_, committed| {
        let _ = told.send((committed.map(|c| c.revision), current().id()));
    });
    let mut commands = VecDeque::from([(command, done)]);
    node.submit_with(&mut commands, true).unwrap();
    hears
}

/// The last write was quick: how quick it really was, a busy machine decides.
fn was_quick(node: &Node) {
    let mut log = lock(&node.shared().lone.log);
    log.as_mut().unwrap().took = Duration::ZERO;
}

/// Whether this thread has applied a command, when it has handed it over.
fn commits_here(node: &Node, command: Command) -> bool {
    let answered = hand_over(node, command);
    match answered.try_recv() {
        Ok((revision, by)) => revision.is_some() && by == current().id(),
        Err(_) => {
            let (revision, by) = answered.recv_timeout(SOON).unwrap();
            assert!(revision.is_some() && by != current().id());
            false
        }
    }
}

#[test]
fn who_has_something_to_write_writes_it_unless_the_disk_was_slow() {
    let disk = FaultyDisk::new(1);
    let node = start(&disk);
    disk.set_sync_time(SLOW);
    assert!(commits_here(&node, open(1, 60_000)), "nobody knows yet");
    assert!(!commits_here(&node, open(2, 60_000)));
    disk.set_sync_time(Duration::ZERO);
    assert!(!commits_here(&node, open(3, 60_000)), "nobody knows yet");
    // A busy machine may make a quick disk slow, but not always.
    let began = Instant::now();
    let mut sessions = 4;
    while !commits_here(&node, open(sessions, 60_000)) {
        assert!(began.elapsed() < SOON);
        sessions += 1;
    }
    let known = |node: &Node| node.read(|r| r.tree().session_count()) as i64;
    assert_eq!(known(&node), sessions);
    node.shutdown();
    assert_eq!(hand_over_when_closed(&node), SubmitError::Closed);
    assert_eq!(known(&start(&disk.power_cut())), sessions);
}

fn hand_over_when_closed(node: &Node) -> SubmitError {
    let done: Done = Box::new(|_, _| panic!("it was taken"));
    let mut commands = VecDeque::from([(close(1), done)]);
    let refused = node.submit_with(&mut commands, true).unwrap_err();
    std::mem::forget(commands);
    refused
}

#[test]
fn what_one_thread_hands_over_is_applied_in_its_order_whoever_applies_it() {
    const EACH: i64 = 3_000;
    let disk = FaultyDisk::new(2);
    let node = start(&disk);
    let (told, heard) = channel();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (node, disk, told) = (&node, &disk, told.clone());
            scope.spawn(move || {
                let mut random = Rng::with_seed(thread);
                let mut given = 0;
                while given < EACH {
                    let some = random.i64(1..20).min(EACH - given);
                    let mut commands = VecDeque::new();
                    for number in given..given + some {
                        let told = told.clone();
                        let done: Done = Box::new(move |_, committed| {
                            let revision = committed.map(|c| c.revision);
                            told.send((thread, number, revision.unwrap())).unwrap();
                        });
                        let session = 1 + thread as i64 * EACH + number;
                        commands.push_back((open(session, 600_000), done));
                    }
                    node.submit_with(&mut commands, random.u32(0..8) > 0)
                        .unwrap();
                    given += some;
                    // Where all write all the time, it would be the log's thread that does.
                    if random.u32(0..10) == 0 {
                        std::thread::sleep(SLOW);
                    }
                    if random.u32(0..40) == 0 {
                        let slow = random.bool().then_some(SLOW / 4);
                        disk.set_sync_time(slow.unwrap_or_default());
                        was_quick(node);
                    }
                }
            });
        }
    });
    drop(told);
    let mut last = HashMap::new();
    for _ in 0..3 * EACH {
        let (thread, number, revision) = heard.recv_timeout(SOON).unwrap();
        if let Some((before, earlier)) = last.insert(thread, (number, revision)) {
            assert!(number == before + 1 && revision > earlier);
        }
    }
    assert_eq!(node.revision(), Revision(3 * EACH as u64));
    drop(node);
    let found = start(&disk.power_cut());
    let sessions = found.read(|r| r.tree().session_count());
    assert_eq!(sessions as i64, 3 * EACH);
}

#[test]
fn a_fault_of_the_program_while_a_serving_thread_writes_ends_the_node_as_in_its_own_thread() {
    let disk = FaultyDisk::new(3);
    let node = start(&disk);
    assert!(commits_here(&node, open(1, 60_000)));
    was_quick(&node);
    let done: Done = Box::new(|_, _| panic!("as a fault of ours would"));
    let mut commands = VecDeque::from([(open(2, 60_000), done)]);
    let panicked = catch_unwind(AssertUnwindSafe(|| node.submit_with(&mut commands, true)));
    assert!(panicked.is_err());
    let fault = node.stats().fault.unwrap_or_default();
    assert!(fault.contains("fault of the program"), "{fault}");
    assert!(!node.leads());
    assert_eq!(hand_over_when_closed(&node), SubmitError::Closed);
    node.shutdown();
    // It was on disk.
    let found = start(&disk.power_cut());
    assert_eq!(found.read(|r| r.tree().session_count()), 2);
}

#[test]
fn a_disk_that_stalls_under_a_serving_thread_is_not_held_against_its_clients() {
    let disk = FaultyDisk::new(4);
    let node = start(&disk);
    assert!(commits_here(&node, open(1, 1_000)));
    was_quick(&node);
    disk.set_sync_time(Duration::from_millis(3_000));
    // Nothing is heard of the client meanwhile, for this is the thread that would.
    assert!(commits_here(&node, open(2, 600_000)));
    disk.set_sync_time(Duration::ZERO);
    let heard = node.now();
    let there = || node.read(|r| r.tree().session(SessionId(1)).is_some());
    let began = Instant::now();
    while there() {
        assert!(began.elapsed() < SOON, "its time is never over");
        std::thread::sleep(Duration::from_millis(1));
    }
    let silent = node.now().since(heard);
    assert!(silent >= Duration::from_millis(900), "{silent:?}");
}
