//! The registry on disk: recovery at the start, then the log and its snapshots.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::sync::Arc;

use model::Revision;
use registry::replication::{Body, EntryId, Membership, Origin, Proposer, Record, Vote, commands};
use registry::tree::NOWHERE;
use registry::{Command, History, Registry};

use crate::apply::place;
use crate::card::Card;
use crate::log::{self, AppendError, Frame, Log, Place, Scan, ScanError, Segment};
use crate::node::{Recovery, secret};
use crate::raft::{Entry, Payload};
use crate::snapshot::{self, ReadError};
use crate::storage::{Disk, Storage};
use crate::{Durability, OpenError, Options, node_number};

/// How many snapshots are kept: should the newest turn out damaged, the one before and the log since
/// then give the same state.
const SNAPSHOTS_KEPT: usize = 2;
/// How many entries of a cluster of one are read before they are applied.
const COMMIT_STEP: usize = 256;
/// The largest segment that is read. Ours are as large as the options say, and one frame larger at most; what is longer
/// was not written by us, and is not taken into memory to find that out.
const MAX_SEGMENT: u64 = 4 << 30;

/// The open log, and which snapshots there are.
pub(crate) struct Store {
    pub(crate) storage: Arc<dyn Storage>,
    log: Log,
    /// Oldest first, with the place in the log from which on there is all that came after.
    snapshots: Vec<(Revision, u64)>,
    snapshot_after: u64,
    /// Bytes of log since the last snapshot was begun.
    logged: u64,
    /// The last snapshot's length.
    snapshot_len: u64,
}

/// A registry as it was found.
pub(crate) struct Recovered {
    pub(crate) registry: Registry,
    pub(crate) history: History,
    pub(crate) store: Option<Store>,
    pub(crate) report: Recovery,
    pub(crate) replica: Replica,
}

/// The replicated log as it was found.
#[derive(Debug, Default)]
pub(crate) struct Replica {
    /// The last entry in the snapshot that was read.
    pub(crate) snapshot: Option<EntryId>,
    /// What that snapshot stands for, and its revision.
    pub(crate) found: Option<(Origin, Revision)>,
    /// From where on the log has what came after that.
    pub(crate) position: u64,
    /// The last entry applied to the registry.
    pub(crate) applied: Option<EntryId>,
    /// The last entry.
    pub(crate) last: Option<EntryId>,
    /// Who belonged to the cluster as of `applied`, and the entry that says so; nobody before logs were replicated.
    pub(crate) membership: Option<(EntryId, Membership)>,
    pub(crate) vote: Option<Vote>,
    /// What is not known to be committed, oldest first.
    pub(crate) tail: VecDeque<Entry>,
    /// The first entry of each term after the snapshot.
    pub(crate) terms: Vec<EntryId>,
    /// The last batch of each node that was applied.
    pub(crate) proposed: BTreeMap<u64, Proposer>,
    /// The first entry of each segment, the place of the segment's first record, and its first frame.
    pub(crate) marks: Vec<(u64, u64, Place)>,
}

impl Store {
    /// See [`Log::append`].
    pub(crate) fn append(&mut self, frame: &mut Frame) -> Result<Revision, AppendError> {
        let revision = self.log.append(frame)?;
        self.logged += frame.len();
        Ok(revision)
    }

    /// Whether it is time for a snapshot. If so, the next time is counted from now on.
    pub(crate) fn snapshot_due(&mut self) -> bool {
        let due = self.logged >= self.snapshot_after.max(self.snapshot_len);
        if due {
            self.logged = 0;
        }
        due
    }

    /// The place of the next record.
    pub(crate) fn position(&self) -> u64 {
        self.log.next().0
    }

    /// Where the next frame begins, if there is room for it in the open segment.
    pub(crate) fn end(&self) -> Place {
        self.log.end()
    }

    /// A snapshot is on disk: removes older ones. Everything after it is in the log from `position` on.
    pub(crate) fn snapshot_written(
        &mut self,
        revision: Revision,
        position: u64,
        len: u64,
    ) -> io::Result<()> {
        // A second one of the same revision has taken the place of the first.
        self.snapshots.retain(|(taken, _)| *taken != revision);
        self.snapshots.push((revision, position));
        self.snapshot_len = len;
        let unneeded = self.snapshots.len().saturating_sub(SNAPSHOTS_KEPT);
        for (old, _) in self.snapshots.drain(..unneeded) {
            self.storage.remove(&snapshot::file_name(old))?;
        }
        Ok(())
    }

    /// Removes what of the log is before `position`, but for what the older of two snapshots needs to go on from.
    pub(crate) fn purge(&mut self, position: u64) -> io::Result<()> {
        match self.snapshots.first() {
            Some((_, needed)) if self.snapshots.len() == SNAPSHOTS_KEPT => {
                let position = position.min(*needed);
                self.log.purge(Revision(position.saturating_sub(1)))
            }
            _ => Ok(()),
        }
    }
}

impl Recovered {
    /// With all that is in the log, whether it is known to be committed or not.
    pub(crate) fn with_all(self) -> Self {
        let mut replay = Replay {
            node: None,
            registry: self.registry,
            history: self.history,
            report: self.report,
            replica: self.replica,
            next: 0,
            logged: 0,
        };
        replay.commit(u64::MAX);
        Self {
            registry: replay.registry,
            history: replay.history,
            report: replay.report,
            replica: replay.replica,
            store: self.store,
        }
    }
}

/// Reads what is on disk, if that is where the registry is kept.
pub(crate) fn open(options: &Options) -> Result<Recovered, OpenError> {
    match &options.durability {
        Durability::Memory => Ok(Recovered {
            registry: Registry::default(),
            history: History::new(Revision::default(), options.history),
            store: None,
            report: Recovery::default(),
            replica: Replica::default(),
        }),
        Durability::Disk(path) => recover(Arc::new(Disk::open(path)?), options, Box::new(secret)),
    }
}

/// Reads what is on disk.
pub(crate) fn recover(
    storage: Arc<dyn Storage>,
    options: &Options,
    new_salt: Box<dyn FnMut() -> u64 + Send>,
) -> Result<Recovered, OpenError> {
    let mut files = Files::list(&*storage)?;
    let mut report = Recovery::default();
    let found = files.newest_snapshot(&*storage, &mut report)?;
    let mut replay = Replay::new(found, report, options.history);
    replay.node = Card::read(&*storage)?.map(|card| node_number(&card.name));
    let last = replay.segments(&*storage, &mut files.segments)?;
    replay.finish();
    let next = Revision(replay.next);
    let (kept, size) = (files.segments, options.segment_size);
    let log = match &last {
        Some(last) => Log::resume(Arc::clone(&storage), kept, last, size, new_salt),
        None => Log::create(Arc::clone(&storage), kept, next, size, new_salt),
    };
    let log = log.map_err(io_error("write", &log::file_name(next)))?;
    let snapshots = positions(&*storage, &files.snapshots);
    Ok(Recovered {
        registry: replay.registry,
        history: replay.history,
        report: replay.report,
        store: Some(Store {
            storage,
            log,
            snapshots,
            snapshot_after: options.snapshot_after,
            logged: replay.logged,
            snapshot_len: files.snapshot_len,
        }),
        replica: replay.replica,
    })
}

/// From where on the log has what came after each of these snapshots. From its beginning, if a snapshot does not say.
fn positions(storage: &dyn Storage, snapshots: &[Revision]) -> Vec<(Revision, u64)> {
    let position = |revision: &Revision| {
        let file = storage.read(&snapshot::file_name(*revision)).ok()?;
        let origin = snapshot::read_origin(file).ok()?;
        Some(origin.position)
    };
    let known = snapshots.iter();
    known.map(|r| (*r, position(r).unwrap_or(0))).collect()
}

/// The files of a data directory.
struct Files {
    /// Oldest first.
    snapshots: Vec<Revision>,
    /// The length of the one that was read.
    snapshot_len: u64,
    /// Oldest first.
    segments: Vec<Segment>,
}

impl Files {
    fn list(storage: &dyn Storage) -> Result<Self, OpenError> {
        let mut names = storage
            .list()
            .map_err(io_error("list", "the data directory"))?;
        names.sort_unstable();
        if names.iter().any(|name| name == snapshot::TEMPORARY) {
            storage
                .remove(snapshot::TEMPORARY)
                .map_err(io_error("remove", snapshot::TEMPORARY))?;
        }
        let snapshots = names.iter().filter_map(|n| snapshot::revision(n));
        let segments = names.iter().filter_map(|n| log::first_revision(n));
        Ok(Self {
            snapshots: snapshots.collect(),
            snapshot_len: 0,
            segments: segments.map(Segment::at).collect(),
        })
    }

    /// The registry of the newest snapshot that is whole; an empty one if there is no snapshot. Forgets the
    /// snapshots that are not.
    fn newest_snapshot(
        &mut self,
        storage: &dyn Storage,
        report: &mut Recovery,
    ) -> Result<Option<(Registry, Origin)>, OpenError> {
        while let Some(revision) = self.snapshots.last() {
            let name = snapshot::file_name(*revision);
            let file = storage.read(&name).map_err(io_error("read", &name))?;
            match snapshot::read(io::BufReader::with_capacity(1 << 16, file)) {
                Ok((registry, origin, len)) if registry.revision() == *revision => {
                    self.snapshot_len = len;
                    return Ok(Some((registry, origin)));
                }
                Ok((registry, ..)) => report.notes.push(format!(
                    "{name} is passed over: it holds revision {}",
                    registry.revision()
                )),
                Err(ReadError::Io(source)) => return Err(io_error("read", &name)(source)),
                Err(ReadError::Version(found)) => {
                    return Err(OpenError::Version {
                        file: name,
                        found,
                        known: snapshot::VERSION,
                    });
                }
                // The log since the one before is still there, and is checked to be: nothing is lost.
                Err(ReadError::Damaged { offset, found }) => report.notes.push(format!(
                    "{name} is passed over for an older one and the log: at byte {offset} there is {found}"
                )),
            }
            self.snapshots.pop();
        }
        Ok(None)
    }
}

/// The log being applied to a registry.
struct Replay {
    /// Whose it is; none for a node that is alone.
    node: Option<u64>,
    registry: Registry,
    history: History,
    report: Recovery,
    replica: Replica,
    /// The place of the next record.
    next: u64,
    /// Bytes of log after the snapshot.
    logged: u64,
}

impl Replay {
    fn new(found: Option<(Registry, Origin)>, mut report: Recovery, history: usize) -> Self {
        let (registry, origin) = found.map_or_else(Default::default, |(r, o)| (r, Some(o)));
        report.snapshot = registry.revision();
        let mut replica = Replica::default();
        let mut next = 1;
        if let Some(origin) = origin {
            let entry = Some(origin.entry);
            replica.found = Some((origin.clone(), registry.revision()));
            (replica.snapshot, replica.applied, replica.last) = (entry, entry, entry);
            let known = !origin.membership.voters.is_empty();
            replica.membership = known.then_some((origin.since, origin.membership));
            replica.vote = origin.vote;
            replica.proposed = origin.proposed;
            next = origin.position;
        }
        replica.position = next;
        Self {
            node: None,
            history: History::new(registry.revision(), history),
            registry,
            report,
            replica,
            next,
            logged: 0,
        }
    }

    /// Applies the segments. Returns what the last one holds, if there is one to go on with.
    fn segments(
        &mut self,
        storage: &dyn Storage,
        segments: &mut Vec<Segment>,
    ) -> Result<Option<Scan>, OpenError> {
        let wanted = Revision(self.next);
        // The first one needed is the last that begins at or before the first revision wanted.
        let mut needed = segments.partition_point(|s| s.first <= wanted).max(1) - 1;
        // If nothing was written to the last segment yet, a crash may have torn the one before.
        let begun = match segments.last() {
            Some(last) => log::written(&read_segment(storage, &last.name)?) > log::SEGMENT_HEADER,
            None => true,
        };
        if !begun && needed + 1 == segments.len() {
            needed = needed.saturating_sub(1);
        }
        let mut last: Option<Scan> = None;
        let mut end = None;
        for at in needed..segments.len() {
            let segment = segments[at].clone();
            let expected = end.unwrap_or(wanted.min(segment.first));
            if segment.first != expected {
                return Err(gap(&segment, expected));
            }
            let last_written = at + 1 == segments.len() || !begun && at + 2 == segments.len();
            match self.segment(storage, &segment, last_written)? {
                Some(scan) => {
                    if scan.closed && at + 1 == segments.len() {
                        return Err(missing_next(&segment, &scan));
                    }
                    end = Some(scan.next);
                    last = Some(scan);
                }
                // A segment is only followed by another once frames were written to it.
                None if at + 1 < segments.len() => {
                    return Err(damaged(&segment.name, 0, "no finished header"));
                }
                None => {
                    // Removed, or else it would be passed over again at every start.
                    storage
                        .remove(&segment.name)
                        .map_err(io_error("remove", &segment.name))?;
                    segments.pop();
                    last = None;
                }
            }
        }
        // What a snapshot shows was in the log, and synced, before.
        let end = end.unwrap_or(Revision(1));
        if end < wanted {
            return Err(lost(end, wanted));
        }
        self.next = end.0;
        // One from an older program that nothing was written to is begun anew, for records of this one.
        if last
            .as_ref()
            .is_some_and(|l| l.version < log::VERSION && l.first == l.next)
        {
            segments.pop();
            last = None;
        }
        Ok(last)
    }

    /// Applies one segment; `None` if it was never finished being created. Only in the last one written to can
    /// a crash have torn anything.
    fn segment(
        &mut self,
        storage: &dyn Storage,
        segment: &Segment,
        last_written: bool,
    ) -> Result<Option<Scan>, OpenError> {
        let name = &segment.name;
        let bytes = read_segment(storage, name)?;
        let before = self.replica.last;
        let begins_with = self.replica.last.map_or(0, |last| last.index + 1);
        let scanned = log::scan(&bytes, |position, record| self.record(position, record));
        let scan = match scanned {
            Ok(scan) => scan,
            Err(ScanError::Unborn) if last_written => {
                self.report.notes.push(format!(
                    "{name} is removed: a crash interrupted its creation, and nothing was written to it"
                ));
                return Ok(None);
            }
            Err(ScanError::Version(found)) => {
                return Err(OpenError::Version {
                    file: name.clone(),
                    found,
                    known: log::VERSION,
                });
            }
            Err(ScanError::Unborn) => {
                return Err(damaged(
                    name,
                    0,
                    "no finished header, and there are later segments",
                ));
            }
            Err(ScanError::Damage(damage)) => {
                return Err(damaged(name, damage.offset as u64, &damage.found));
            }
        };
        if scan.first != segment.first {
            let found = format!("a header for revision {}", scan.first);
            return Err(damaged(name, 0, &found));
        }
        if scan.torn > 0 {
            let rest = scan.torn;
            if !last_written {
                let found = format!(
                    "no frame that begins with revision {}, and there are later segments",
                    scan.next
                );
                return Err(damaged(name, scan.end as u64, &found));
            }
            // Now, or what is written to a later segment would make it damage in the middle.
            cut_off(storage, name, scan.end as u64)?;
            self.report.notes.push(format!(
                "the last {rest} bytes of {name}, from byte {}, are cut off: a write that a crash interrupted, and that was never acknowledged",
                scan.end
            ));
        }
        let place = Place {
            segment: scan.first,
            salt: scan.salt(),
            offset: log::SEGMENT_HEADER as u64,
        };
        self.replica.marks.push((begins_with, scan.first.0, place));
        if self.replica.last > before {
            self.logged += scan.end as u64;
        }
        Ok(Some(scan))
    }

    fn record(&mut self, position: Revision, record: Record<'_>) -> Result<(), String> {
        match record {
            Record::Command(command) => {
                let id = EntryId {
                    term: 0,
                    index: position.0,
                };
                if self.append(id)? {
                    self.apply(NOWHERE, &command);
                    self.replica.applied = Some(id);
                }
            }
            Record::Entry(id, body) => {
                if self.append(id)? {
                    // What cannot be applied is better found now.
                    if let Body::Batch(batch) = &body {
                        commands(batch.commands).map_err(|e| e.to_string())?;
                    }
                    self.replica.tail.push_back(Entry::read(id, body));
                    // Or a long log would all be in memory at once.
                    if self.replica.tail.len().is_multiple_of(COMMIT_STEP) {
                        self.finish();
                    }
                }
            }
            Record::Vote(vote) => self.replica.vote = Some(vote),
            Record::Committed(index) => self.commit(index),
        }
        Ok(())
    }

    /// Makes an entry the last of the log, in place of those that were there from its index on; false for what the snapshot
    /// has. A segment may begin before the snapshot. Gaps are found by the scan, and between segments by the names.
    fn append(&mut self, id: EntryId) -> Result<bool, String> {
        let replica = &mut self.replica;
        if replica
            .applied
            .is_some_and(|applied| id.index <= applied.index)
        {
            return Ok(false);
        }
        let expected = replica.last.map_or(id.index.min(1), |last| last.index + 1);
        if id.index > expected {
            return Err(format!(
                "is entry {}, where {expected} is expected",
                id.index
            ));
        }
        while replica
            .tail
            .back()
            .is_some_and(|entry| entry.index >= id.index)
        {
            replica.tail.pop_back();
        }
        replica.terms.retain(|first| first.index < id.index);
        if replica.terms.last().is_none_or(|last| last.term != id.term) {
            replica.terms.push(id);
        }
        replica.last = Some(id);
        Ok(true)
    }

    /// Applies entries up to this one.
    fn commit(&mut self, index: u64) {
        while let Some(entry) = self.replica.tail.pop_front() {
            if entry.index > index {
                self.replica.tail.push_front(entry);
                return;
            }
            let id = entry.id();
            match entry.payload {
                Payload::Blank => {}
                Payload::Batch(batch) => {
                    let last = self.replica.proposed.get(&batch.node);
                    if batch.proposer.is_after(last) {
                        // They were read once already.
                        for command in commands(&batch.records).unwrap_or_default() {
                            self.apply(place(batch.node), &command);
                        }
                        let proposed = &mut self.replica.proposed;
                        proposed.insert(batch.node, batch.proposer);
                    }
                }
                Payload::Membership(membership) => {
                    self.replica.membership = Some((id, Membership::clone(&membership)));
                }
            }
            self.replica.applied = Some(id);
        }
    }

    /// In a cluster of one, what is on disk is committed; but not on an observer's, which may have what that one has lost.
    fn finish(&mut self) {
        if self.is_alone()
            && let Some(last) = self.replica.last
        {
            self.commit(last.index);
        }
    }

    /// Whether this is the only voter, by the last entry so far that says who belongs to the cluster.
    fn is_alone(&self) -> bool {
        let mut tail = self.replica.tail.iter().rev();
        let last = tail.find_map(|e| match &e.payload {
            Payload::Membership(membership) => Some(&**membership),
            _ => None,
        });
        let known = self.replica.membership.as_ref().map(|(_, known)| known);
        last.or(known)
            .is_none_or(|m| match (&*m.voters, self.node) {
                ([only], Some(node)) => only.len() == 1 && only.contains(&node),
                ([only], None) => only.len() == 1,
                _ => false,
            })
    }

    fn apply(&mut self, node: u64, command: &Command) {
        let revision = self.registry.revision().next();
        let applied = self.registry.apply_from(node, revision, command);
        self.history.extend(applied.events);
        self.report.records += 1;
    }
}

const MISSING: &str = "Put the missing file back, or move the data aside with `pointsman cluster wipe -c FILE`, and let the node be taken in anew, or start it from \
     a snapshot";
const RESTORE: &str = "Move the data aside with `pointsman cluster wipe -c FILE`: a node of a cluster gets it from the others then, and one \
                       that is alone starts anew, or from a snapshot; instances that heartbeat register themselves again";

fn damaged(file: &str, offset: u64, found: &str) -> OpenError {
    OpenError::Damaged {
        file: file.into(),
        offset,
        found: found.into(),
        advice: RESTORE,
    }
}

fn gap(segment: &Segment, expected: Revision) -> OpenError {
    let found = format!(
        "it begins with revision {}, and revision {expected} is expected: a segment before it is missing",
        segment.first
    );
    OpenError::Damaged {
        file: segment.name.clone(),
        offset: 0,
        found,
        advice: MISSING,
    }
}

fn missing_next(segment: &Segment, scan: &Scan) -> OpenError {
    let next = log::file_name(scan.next);
    OpenError::Damaged {
        file: segment.name.clone(),
        offset: scan.end as u64,
        found: format!("it is closed, but the next segment, {next}, is missing"),
        advice: MISSING,
    }
}

fn read_segment(storage: &dyn Storage, name: &str) -> Result<Vec<u8>, OpenError> {
    let file = storage.read(name).map_err(io_error("read", name))?;
    let mut bytes = Vec::new();
    Read::take(file, MAX_SEGMENT + 1)
        .read_to_end(&mut bytes)
        .map_err(io_error("read", name))?;
    match bytes.len() as u64 > MAX_SEGMENT {
        true => Err(damaged(
            name,
            MAX_SEGMENT,
            "more bytes than any segment has",
        )),
        false => Ok(bytes),
    }
}

fn cut_off(storage: &dyn Storage, name: &str, len: u64) -> Result<(), OpenError> {
    storage
        .open(name, len)
        .and_then(|mut file| {
            file.truncate(len)?;
            file.sync()
        })
        .map_err(io_error("cut off the end of", name))
}

/// The log ends before the snapshot was taken.
fn lost(end: Revision, wanted: Revision) -> OpenError {
    OpenError::Damaged {
        file: log::file_name(end),
        offset: 0,
        found: format!(
            "the log ends before revision {end}, or is missing, but a snapshot shows that it went on to {wanted} at least"
        ),
        advice: RESTORE,
    }
}

fn io_error(action: &'static str, path: &str) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io {
        action,
        path,
        source,
    }
}
