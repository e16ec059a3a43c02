//! What is left after crashes, full disks and damage, on a disk that a seed decides over.

use std::sync::Arc;

use fastrand::Rng;
use model::{Host, Instance, Lease, Revision, ServiceKey, Timestamp, Weight};
use registry::replication::{
    Body, EntryId, Member, Membership, Origin, Proposer, Record, Vote, push_command,
};
use registry::{Command, Registry};

use crate::card::Card;
use crate::journal::Journal;
use crate::log::{self, AppendError, Frame, MAX_FRAME, file_name};
use crate::raft::{Entry, Payload};
use crate::storage::Storage;
use crate::storage::faulty::FaultyDisk;
use crate::store::{self, Recovered, Store};
use crate::{Durability, Node, OpenError, Options, SubmitError, node_number, snapshot};

fn options() -> Options {
    Options {
        segment_size: 1 << 10,
        snapshot_after: 3 << 10,
        history: 64,
        ..Options::new(Durability::Memory)
    }
}

pub(crate) fn open(disk: &FaultyDisk, options: &Options) -> Result<Recovered, OpenError> {
    let mut salts = Rng::with_seed(99);
    store::recover(
        Arc::new(disk.clone()),
        options,
        Box::new(move || salts.u64(..)),
    )
}

fn register(service: u32, id: u32, weight: u16) -> Command {
    Command::Register {
        key: ServiceKey::in_default(format!("s-{service}").parse().unwrap()),
        instance: Box::new(Instance {
            id: format!("i-{id}").parse().unwrap(),
            host: Host::Ip([10, 0, 0, 1].into()),
            port: 80.try_into().unwrap(),
            weight: Weight(weight),
            tier: 0,
            zone: None,
            tags: Box::default(),
            metadata: None,
            lease: Some(Lease {
                ttl: std::time::Duration::from_secs(30),
                grace: std::time::Duration::from_secs(30),
            }),
            check: None,
            enabled: true,
            drain: false,
        }),
        at: Timestamp(7),
    }
}

fn random_command(random: &mut Rng) -> Command {
    let (service, id) = (random.u32(0..3), random.u32(0..10));
    match random.u32(0..5) {
        0 => Command::Deregister {
            key: ServiceKey::in_default(format!("s-{service}").parse().unwrap()),
            id: format!("i-{id}").parse().unwrap(),
        },
        _ => register(service, id, random.u16(..)),
    }
}

fn frame(commands: &[Command]) -> Frame {
    let mut frame = Frame::default();
    frame.clear();
    for command in commands {
        frame.push(&Record::Command(command.clone()));
    }
    frame
}

fn dump(registry: &Registry) -> Vec<u8> {
    let mut bytes = registry.revision().0.to_le_bytes().to_vec();
    registry::snapshot::write(registry, registry::snapshot::Version::LATEST, |piece| {
        bytes.extend_from_slice(piece);
        Ok::<_, ()>(())
    })
    .unwrap();
    bytes
}

/// What a client of the registry knows for certain, and what may have happened besides.
struct Expected {
    /// Everything acknowledged.
    acknowledged: Registry,
    /// A batch that was refused, or cut short by the crash: there whole, or not at all.
    uncertain: Vec<Command>,
}

impl Expected {
    fn apply(&mut self, commands: &[Command]) {
        apply(&mut self.acknowledged, commands);
        self.uncertain.clear();
    }

    /// Takes what was found for the truth, if it may be.
    fn check(&mut self, found: &Registry, seed: u64) {
        let mut with = self.acknowledged.clone();
        apply(&mut with, &self.uncertain);
        let found_bytes = dump(found);
        let possible = found_bytes == dump(&self.acknowledged) || found_bytes == dump(&with);
        assert!(
            possible,
            "seed {seed}: found revision {}, acknowledged {}",
            found.revision(),
            self.acknowledged.revision()
        );
        self.acknowledged = found.clone();
        self.uncertain.clear();
    }
}

fn apply(registry: &mut Registry, commands: &[Command]) {
    for command in commands {
        registry.apply(registry.revision().next(), command);
    }
}

fn snapshot_if_due(store: &mut Store, registry: &Registry) {
    let revision = registry.revision();
    let origin = Origin {
        entry: EntryId {
            term: 0,
            index: revision.0,
        },
        position: revision.0 + 1,
        ..Origin::default()
    };
    if store.snapshot_due()
        && let Ok(len) = snapshot::write(&*store.storage, registry, &origin, || false)
    {
        let written = store.snapshot_written(revision, origin.position, len);
        written.unwrap();
        store.purge(origin.position).unwrap();
    }
}

/// One life of a node: opens, checks, works until the power goes.
fn live(disk: &FaultyDisk, expected: &mut Expected, random: &mut Rng, seed: u64) {
    let recovered = open(disk, &options()).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    expected.check(&recovered.registry, seed);
    let mut store = recovered.store.unwrap();
    for _ in 0..random.u32(0..60) {
        match random.u32(0..24) {
            0 => disk.set_room(Some(random.usize(0..600))),
            1 => disk.set_room(None),
            2 => disk.fail_sync_after(Some(random.u32(0..3))),
            3 => disk.set_stuck(random.bool()),
            _ => {}
        }
        let commands: Vec<_> = (0..random.u32(1..6))
            .map(|_| random_command(random))
            .collect();
        match store.append(&mut frame(&commands)) {
            Ok(first) => {
                assert_eq!(first, expected.acknowledged.revision().next());
                expected.apply(&commands);
                snapshot_if_due(&mut store, &expected.acknowledged);
            }
            Err(AppendError::NotWritten(_)) => expected.uncertain = commands,
            Err(AppendError::Broken(_)) => {
                expected.uncertain = commands;
                let again = store.append(&mut frame(&[register(0, 0, 0)]));
                assert!(matches!(again, Err(AppendError::Broken(_))));
                return;
            }
        }
    }
}

#[test]
fn no_crash_loses_what_was_acknowledged_or_leaves_half_a_batch() {
    for seed in 0..600 {
        let mut random = Rng::with_seed(seed);
        let mut disk = FaultyDisk::new(seed);
        let mut expected = Expected {
            acknowledged: Registry::default(),
            uncertain: Vec::new(),
        };
        for _ in 0..6 {
            live(&disk, &mut expected, &mut random, seed);
            disk = disk.power_cut();
        }
    }
}

/// A log in one segment: its bytes without the zeros behind them, and after each frame its length and the state so far.
fn small_log() -> (Vec<u8>, Vec<(usize, Vec<u8>)>) {
    let disk = FaultyDisk::new(0);
    let mut store = open(&disk, &large()).unwrap().store.unwrap();
    let mut registry = Registry::default();
    let mut random = Rng::with_seed(4);
    let name = file_name(Revision(1));
    let mut len = disk.bytes(&name).len();
    let mut states = vec![(len, dump(&registry))];
    for _ in 0..6 {
        let commands: Vec<_> = (0..random.u32(1..4))
            .map(|_| random_command(&mut random))
            .collect();
        let mut frame = frame(&commands);
        store.append(&mut frame).unwrap();
        apply(&mut registry, &commands);
        len += frame.len() as usize;
        states.push((len, dump(&registry)));
    }
    (disk.bytes(&name)[..len].to_vec(), states)
}

fn large() -> Options {
    Options {
        segment_size: 32 << 10,
        ..Options::new(Durability::Memory)
    }
}

#[test]
fn a_torn_tail_is_cut_off_at_every_byte() {
    let (bytes, states) = small_log();
    for cut in 0..=bytes.len() {
        let disk = FaultyDisk::new(0);
        disk.put(&file_name(Revision(1)), &bytes[..cut]);
        let recovered = open(&disk, &large()).unwrap();
        let whole = states.iter().rev().find(|(len, _)| *len <= cut);
        let (len, state) = whole.unwrap_or(&states[0]);
        assert_eq!(dump(&recovered.registry), *state, "cut at {cut}");
        assert_eq!(
            recovered.report.notes.is_empty(),
            *len == cut,
            "cut at {cut}"
        );
        // And the log goes on from there.
        let mut store = recovered.store.unwrap();
        store.append(&mut frame(&[register(9, 9, 9)])).unwrap();
        drop(store);
        let again = open(&disk, &large()).unwrap();
        assert_eq!(
            again.registry.revision(),
            recovered.registry.revision().next()
        );
        assert!(again.report.notes.is_empty());
    }
}

#[test]
fn zeros_behind_a_frame_are_room_for_more_and_zeros_within_the_last_are_a_torn_write() {
    let (bytes, states) = small_log();
    let (before_last, last_but_one) = &states[states.len() - 2];
    for lost in (0..bytes.len() - before_last)
        .step_by(16)
        .chain([usize::MAX])
    {
        let mut bytes = bytes.clone();
        if let Some(sector) = bytes.get_mut(before_last.saturating_add(lost)..) {
            sector.fill(0);
        }
        bytes.resize(MAX_FRAME * 2, 0);
        let disk = FaultyDisk::new(0);
        disk.put(&file_name(Revision(1)), &bytes);
        let recovered = open(&disk, &large()).unwrap();
        let (whole, torn) = match lost {
            usize::MAX => (&states.last().unwrap().1, false),
            lost => (last_but_one, lost > 0),
        };
        assert_eq!(dump(&recovered.registry), *whole, "zeros from {lost} on");
        assert_eq!(
            !recovered.report.notes.is_empty(),
            torn,
            "zeros from {lost} on"
        );
    }
}

#[test]
fn a_flipped_bit_is_a_cut_tail_or_a_refusal_and_never_a_wrong_middle() {
    let (bytes, states) = small_log();
    let (before_last, last_but_one) = &states[states.len() - 2];
    let mut refused = 0;
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            let disk = FaultyDisk::new(0);
            disk.put(&file_name(Revision(1)), &bytes);
            match open(&disk, &large()) {
                Ok(recovered) => {
                    assert!(at >= *before_last, "byte {at} is in the middle");
                    assert_eq!(dump(&recovered.registry), *last_but_one);
                }
                Err(OpenError::Damaged { file, offset, .. }) => {
                    assert!(at < *before_last, "byte {at} is in the last write");
                    assert_eq!(file, file_name(Revision(1)));
                    assert!(offset as usize <= at, "byte {at} was found at {offset}");
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert_eq!(refused, before_last * 8);
}

#[test]
fn what_a_client_writes_into_metadata_is_not_taken_for_a_frame() {
    let disk = FaultyDisk::new(0);
    let name = file_name(Revision(1));
    let mut store = open(&disk, &large()).unwrap().store.unwrap();
    store.append(&mut frame(&[register(0, 0, 0)])).unwrap();
    // A good frame of another file, whose salt the client cannot know.
    let (other, _) = small_log();
    let text: String = other[32..].iter().map(|b| char::from(b & 0x7f)).collect();
    let Command::Register {
        key,
        mut instance,
        at,
    } = register(0, 1, 0)
    else {
        unreachable!()
    };
    instance.tags = Box::new([text.into()]);
    store
        .append(&mut frame(&[Command::Register { key, instance, at }]))
        .unwrap();
    let mut bytes = disk.bytes(&name);
    let middle = log::written(&bytes) / 2;
    bytes[middle] ^= 1;
    disk.put(&name, &bytes);
    assert_eq!(
        open(&disk, &large()).unwrap().registry.revision(),
        Revision(1)
    );
}

#[test]
fn a_full_disk_refuses_and_takes_again_once_there_is_room() {
    for room in 0..200 {
        let disk = FaultyDisk::new(room as u64);
        let mut store = open(&disk, &options()).unwrap().store.unwrap();
        let mut registry = Registry::default();
        disk.set_room(Some(room));
        let mut refused = 0;
        for i in 0..20 {
            let commands = [register(0, i, 1), register(1, i, 1)];
            match store.append(&mut frame(&commands)) {
                Ok(_) => apply(&mut registry, &commands),
                Err(AppendError::NotWritten(why)) => {
                    assert!(why.contains("log-"), "{why}");
                    refused += 1;
                    if refused > 3 {
                        disk.set_room(None);
                    }
                }
                Err(AppendError::Broken(why)) => panic!("{why}"),
            }
        }
        assert_eq!(refused, 4);
        let found = open(&disk.power_cut(), &options()).unwrap().registry;
        assert_eq!(dump(&found), dump(&registry), "room {room}");
    }
}

#[tokio::test]
async fn a_node_on_a_failing_disk_reads_on_and_says_what_is_wrong() {
    let disk = FaultyDisk::new(0);
    let options = large();
    let node = Node::start(open(&disk, &options).unwrap(), &options).unwrap();
    node.submit(register(0, 0, 0)).await.unwrap();
    disk.set_room(Some(10));
    let refused = node.submit(register(0, 1, 0)).await.unwrap_err();
    assert!(matches!(refused, SubmitError::NotWritten(_)), "{refused}");
    assert!(node.stats().fault.is_some());
    assert_eq!(
        (node.revision(), node.stats().not_written),
        (Revision(1), 1)
    );
    disk.set_room(None);
    let committed = node.submit(register(0, 1, 0)).await.unwrap();
    assert_eq!(committed.revision, Revision(2));
    assert_eq!(node.stats().fault, None);
    disk.fail_sync_after(Some(0));
    for _ in 0..2 {
        let refused = node.submit(register(0, 2, 0)).await.unwrap_err();
        assert!(matches!(refused, SubmitError::ReadOnly(_)), "{refused}");
        disk.fail_sync_after(None);
    }
    let key = ServiceKey::in_default("s-0".parse().unwrap());
    assert_eq!(node.service(&key).unwrap().instance_count(), 2);
    node.shutdown();
    let found = open(&disk.power_cut(), &options).unwrap().registry;
    assert_eq!(found.revision(), Revision(2));
}

#[test]
fn after_a_failed_sync_nothing_is_written_any_more() {
    let disk = FaultyDisk::new(0);
    let mut store = open(&disk, &large()).unwrap().store.unwrap();
    store.append(&mut frame(&[register(0, 0, 0)])).unwrap();
    disk.fail_sync_after(Some(0));
    let one = [register(0, 1, 0)];
    assert!(matches!(
        store.append(&mut frame(&one)),
        Err(AppendError::Broken(_))
    ));
    // The disk claims to be well again. It is not believed.
    disk.fail_sync_after(None);
    assert!(matches!(
        store.append(&mut frame(&one)),
        Err(AppendError::Broken(_))
    ));
    let found = open(&disk.power_cut(), &large()).unwrap().registry;
    assert_eq!(found.revision(), Revision(1));
}

/// A directory with several segments and two snapshots, and its state.
fn busy_directory() -> (FaultyDisk, Vec<u8>) {
    let disk = FaultyDisk::new(0);
    let mut store = open(&disk, &options()).unwrap().store.unwrap();
    let mut registry = Registry::default();
    let mut random = Rng::with_seed(8);
    for _ in 0..400 {
        let commands = [random_command(&mut random)];
        store.append(&mut frame(&commands)).unwrap();
        apply(&mut registry, &commands);
        snapshot_if_due(&mut store, &registry);
    }
    (disk, dump(&registry))
}

fn names(disk: &FaultyDisk, prefix: &str) -> Vec<String> {
    let names = disk.list().unwrap().into_iter();
    names.filter(|n| n.starts_with(prefix)).collect()
}

#[test]
fn snapshots_and_log_give_the_same_state_as_the_log_alone() {
    let (disk, state) = busy_directory();
    assert_eq!(names(&disk, "snapshot-").len(), 2);
    assert!(!names(&disk, "log-").contains(&file_name(Revision(1))));
    let recovered = open(&disk, &options()).unwrap();
    assert_eq!(dump(&recovered.registry), state);
    assert!(recovered.report.snapshot > Revision(0));
    // With the newest snapshot damaged anywhere, the older one and the log do.
    let newest = names(&disk, "snapshot-").pop().unwrap();
    let bytes = disk.bytes(&newest);
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        disk.put(&newest, &bytes);
        let recovered = open(&disk, &options()).unwrap();
        assert_eq!(dump(&recovered.registry), state, "byte {at}");
        assert_eq!(recovered.report.notes.len(), 1, "byte {at}");
        disk.put(&newest, &bytes[..at]);
        assert_eq!(dump(&open(&disk, &options()).unwrap().registry), state);
    }
}

#[test]
fn the_log_is_kept_whole_until_there_are_two_snapshots() {
    let disk = FaultyDisk::new(0);
    let mut store = open(&disk, &options()).unwrap().store.unwrap();
    let mut registry = Registry::default();
    for i in 0.. {
        let commands = [register(0, i, 1)];
        store.append(&mut frame(&commands)).unwrap();
        apply(&mut registry, &commands);
        snapshot_if_due(&mut store, &registry);
        if let Some(only) = names(&disk, "snapshot-").first() {
            disk.put(only, b"not a snapshot");
            break;
        }
    }
    assert!(names(&disk, "log-").len() > 1);
    let found = open(&disk, &options()).unwrap().registry;
    assert_eq!(dump(&found), dump(&registry));
}

#[test]
fn what_is_on_the_disk_of_an_only_voter_is_committed_and_on_that_of_its_observer_is_not() {
    let member = |name: &str| Member {
        name: name.into(),
        address: "127.0.0.1:1".into(),
        disk: 1,
        format: 0,
    };
    let (voter, observer) = (node_number("n1"), node_number("n2"));
    let mut membership = Membership::of_one(voter, member("n1"));
    membership.nodes.insert(observer, member("n2"));
    let mut records = Vec::new();
    push_command(&mut records, &register(0, 0, 0));
    let batch = registry::replication::Batch {
        node: voter,
        proposer: Proposer { run: 1, number: 1 },
        commands: &records,
    };
    for (name, instances) in [("n1", 1), ("n2", 0)] {
        let disk = FaultyDisk::new(0);
        let card = Card {
            name: name.into(),
            disk: 1,
        };
        card.write(&disk).unwrap();
        let mut store = open(&disk, &large()).unwrap().store.unwrap();
        let mut frame = Frame::default();
        frame.clear();
        let id = |index| EntryId { term: 1, index };
        frame.push(&Record::Entry(id(0), Body::Membership(membership.clone())));
        frame.push(&Record::Committed(0));
        frame.push(&Record::Entry(id(1), Body::Batch(batch)));
        store.append(&mut frame).unwrap();
        drop(store);
        let found = open(&disk, &large()).unwrap();
        assert_eq!(found.registry.counts().total(), instances, "{name}");
        assert_eq!(found.replica.last, Some(id(1)));
    }
}

#[test]
fn a_missing_or_damaged_segment_is_refused_by_name() {
    let (full, _) = busy_directory();
    let segments = names(&full, "log-");
    assert!(segments.len() > 3);
    for (i, segment) in segments.iter().enumerate() {
        let disk = copy(&full);
        disk.remove(segment).unwrap();
        let opened = open(&disk, &options());
        // Segments from before the newest snapshot are only there in case that one is damaged.
        let needed = open(&full, &options()).unwrap().report.snapshot;
        let next = segments
            .get(i + 1)
            .map(|n| crate::log::first_revision(n).unwrap());
        match opened {
            Ok(_) => assert!(next.is_some_and(|n| n <= needed.next()), "{segment}"),
            Err(e) => assert!(matches!(e, OpenError::Damaged { .. }), "{e}"),
        }
        // A middle segment cut short.
        if next.is_some_and(|n| n > needed.next()) {
            let disk = copy(&full);
            let bytes = full.bytes(segment);
            disk.put(segment, &bytes[..log::written(&bytes) - 1]);
            let text = open(&disk, &options()).err().unwrap().to_string();
            assert!(text.contains(segment.as_str()), "{text}");
        }
    }
    let disk = copy(&full);
    for segment in &segments {
        disk.remove(segment).unwrap();
    }
    assert!(matches!(
        open(&disk, &options()),
        Err(OpenError::Damaged { .. })
    ));
}

fn copy(disk: &FaultyDisk) -> FaultyDisk {
    let copy = FaultyDisk::new(1);
    for name in disk.list().unwrap() {
        copy.put(&name, &disk.bytes(&name));
    }
    copy
}

#[test]
fn a_file_of_another_version_is_refused_by_its_version() {
    let (disk, _) = busy_directory();
    for (prefix, latest) in [("snapshot-", 6), ("log-", 2)] {
        let disk = copy(&disk);
        let name = names(&disk, prefix).pop().unwrap();
        let mut bytes = disk.bytes(&name);
        bytes[8] = 9;
        let end = if prefix == "log-" { 28 } else { 20 };
        let crc = crc32c::crc32c(&bytes[..end]);
        bytes[end..end + 4].copy_from_slice(&crc.to_le_bytes());
        disk.put(&name, &bytes);
        match open(&disk, &options()) {
            Err(OpenError::Version { file, found, known }) => {
                assert_eq!((file, found, known), (name, 9, latest));
            }
            other => panic!("{:?}", other.err()),
        }
    }
}

#[tokio::test]
async fn what_an_older_program_has_written_is_gone_on_with() {
    let disk = FaultyDisk::new(0);
    let (bytes, _) = small_log();
    disk.put(&file_name(Revision(1)), &as_of_version_1(bytes));
    let options = large();
    let before = open(&disk, &options).unwrap().registry;
    for more in 1..3 {
        let node = Node::start(open(&disk, &options).unwrap(), &options).unwrap();
        node.submit(register(9, more, 0)).await.unwrap();
        node.shutdown();
        let found = open(&disk, &options).unwrap().registry;
        assert_eq!(found.revision().0, before.revision().0 + u64::from(more));
    }
    // An older program would not know what is in the new one.
    let segments = names(&disk, "log-");
    assert_eq!(segments.len(), 2);
    assert_eq!(disk.bytes(&segments[0])[8], 1);
    assert_eq!(disk.bytes(&segments[1])[8], 2);
}

#[test]
fn a_vote_that_was_written_already_closes_no_segment() {
    let disk = FaultyDisk::new(0);
    let vote = Vote {
        term: 3,
        node: 7,
        committed: false,
    };
    {
        let recovered = open(&disk, &large()).unwrap();
        let journal = Journal::new(recovered.store, recovered.replica);
        journal.set_vote(vote);
        let mut told = Vec::new();
        for waiting in 1..3 {
            journal.append(Vec::new(), Box::new(|_| {}));
            journal.write(&mut told).unwrap();
            assert_eq!(told.len(), waiting);
        }
        let id = EntryId { term: 3, index: 0 };
        let blank = Entry::new(id, Payload::Blank);
        journal.append(vec![blank], Box::new(|_| {}));
        journal.write(&mut told).unwrap();
    }
    let found = open(&disk.power_cut(), &large()).unwrap().replica;
    assert_eq!(found.vote, Some(vote));
    assert_eq!(found.last, Some(EntryId { term: 3, index: 0 }));
}

#[tokio::test]
async fn an_older_programs_log_without_a_record_is_begun_anew() {
    let disk = FaultyDisk::new(0);
    let (bytes, states) = small_log();
    disk.put(
        &file_name(Revision(1)),
        &as_of_version_1(bytes[..states[0].0].to_vec()),
    );
    let options = large();
    let node = Node::start(open(&disk, &options).unwrap(), &options).unwrap();
    node.submit(register(0, 0, 0)).await.unwrap();
    node.shutdown();
    let segments = names(&disk, "log-");
    assert_eq!((segments.len(), disk.bytes(&segments[0])[8]), (1, 2));
    let found = open(&disk.power_cut(), &options).unwrap().registry;
    assert_eq!(found.revision(), Revision(1));
}

fn as_of_version_1(mut segment: Vec<u8>) -> Vec<u8> {
    segment[8..12].copy_from_slice(&1_u32.to_le_bytes());
    let crc = crc32c::crc32c(&segment[..28]);
    segment[28..32].copy_from_slice(&crc.to_le_bytes());
    segment
}

#[tokio::test]
async fn a_node_that_loses_its_power_again_and_again_keeps_what_it_acknowledged() {
    let options = options();
    let mut disk = FaultyDisk::new(3);
    let mut random = Rng::with_seed(3);
    let mut expected = Registry::default();
    for _ in 0..12 {
        let recovered = open(&disk, &options).unwrap();
        assert_eq!(dump(&recovered.registry), dump(&expected));
        let node = Node::start(recovered, &options).unwrap();
        for _ in 0..random.u32(0..60) {
            let commands: Vec<_> = (0..random.u32(1..6))
                .map(|_| random_command(&mut random))
                .collect();
            disk.set_room((random.u32(0..8) == 0).then(|| random.usize(0..300)));
            let done = node.submit_batch(commands.clone()).await;
            disk.set_room(None);
            match done {
                Ok(_) => apply(&mut expected, &commands),
                Err(why) => assert!(matches!(why, SubmitError::NotWritten(_)), "{why}"),
            }
        }
        assert_eq!(dump(&node.read(Registry::clone)), dump(&expected));
        // The power goes while the node runs; what is left of it writes to a disk that nobody looks at.
        disk = disk.power_cut();
    }
}

#[test]
fn any_bytes_may_be_scanned() {
    let (bytes, _) = small_log();
    let mut random = Rng::with_seed(2);
    for _ in 0..20_000 {
        let mut bytes = bytes.clone();
        for _ in 0..random.u32(1..8) {
            let at = random.usize(0..bytes.len());
            bytes[at] = random.u8(..);
        }
        bytes.truncate(random.usize(0..=bytes.len()));
        let _ = crate::log::scan(&bytes, |_, _| Ok(()));
    }
}
