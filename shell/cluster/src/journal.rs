//! The replicated log of this node: what is needed soon in memory, everything since the last snapshots on disk.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use model::Revision;
use registry::replication::{EntryId, Record, Vote};

use crate::SubmitError;
use crate::log::{AppendError, Frame};
use crate::node::lock;
use crate::raft::{Entry, Payload};
use crate::storage::Storage;
use crate::store::{Replica, Store};

/// Places in the log are remembered for entries about this many bytes apart.
const MARK_EVERY: u64 = 16 << 10;

/// Called when entries are on disk, or never will be.
pub(crate) type Flushed = Box<dyn FnOnce(io::Result<()>) + Send>;

/// The log: one who writes, many who read.
pub(crate) struct Journal {
    inner: Mutex<Inner>,
}

struct Inner {
    /// None for a registry in memory.
    store: Option<Store>,
    frame: Frame,
    /// Consecutive; the last is the log's last.
    recent: VecDeque<Entry>,
    /// What of the log's end is not on disk yet.
    unwritten: Vec<Unwritten>,
    purged: Option<EntryId>,
    last: Option<EntryId>,
    /// The first entry of each term, of those that are not purged.
    terms: Vec<EntryId>,
    vote: Option<Vote>,
    committed: Option<EntryId>,
    /// It is written with the next entries: alone, it would not be worth a sync.
    vote_unwritten: bool,
    closed: bool,
    /// Indexes, and places: entries from that index on are at that place or later. In the order of the places.
    marks: VecDeque<(u64, u64)>,
    marked_bytes: u64,
}

struct Unwritten {
    entries: Vec<Entry>,
    flushed: Flushed,
}

/// What a write cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    pub(crate) took: Duration,
    pub(crate) bytes: u64,
}

impl Journal {
    pub(crate) fn new(store: Option<Store>, replica: Replica) -> Self {
        let begun = replica.snapshot.map_or(0, |last| last.index + 1);
        let mut marks = VecDeque::from([(begun, replica.position)]);
        if let (Some(store), Some(last)) = (&store, replica.last) {
            marks.push_back((last.index + 1, store.position()));
        }
        let inner = Inner {
            store,
            frame: Frame::default(),
            recent: replica.tail,
            unwritten: Vec::new(),
            // Nobody asks for what a cluster of one has applied.
            purged: replica.applied,
            last: replica.last,
            terms: Vec::new(),
            vote: replica.vote,
            committed: replica.applied,
            vote_unwritten: false,
            closed: false,
            marks,
            marked_bytes: 0,
        };
        Self {
            inner: Mutex::new(inner),
        }
    }

    /// Adds entries, which can be read from now on; [`Journal::write`] puts them on disk.
    pub(crate) fn append(&self, entries: Vec<Entry>, flushed: Flushed) {
        let mut inner = lock(&self.inner);
        for entry in &entries {
            inner.added(entry.id());
            inner.recent.push_back(entry.clone());
        }
        inner.unwritten.push(Unwritten { entries, flushed });
    }

    /// Writes what was added, in as few frames as it fits in; then it survives a power cut.
    ///
    /// # Errors
    ///
    /// Leaves what failed to be written where it is, for another try.
    pub(crate) fn write(&self) -> Result<Written, AppendError> {
        let mut written = Written::default();
        loop {
            let mut guard = lock(&self.inner);
            let inner = &mut *guard;
            if inner.unwritten.is_empty() {
                return Ok(written);
            }
            let taken = inner.write_frame(&mut written)?;
            let done: Vec<Unwritten> = inner.unwritten.drain(..taken).collect();
            drop(guard);
            for unwritten in done {
                (unwritten.flushed)(Ok(()));
            }
        }
    }

    /// Whether something that was added could not be written.
    pub(crate) fn is_stalled(&self) -> bool {
        !lock(&self.inner).unwritten.is_empty()
    }

    /// Takes back the batches that could not be written: those who wait are told why, and their places in the log are left
    /// blank. Only where nobody else can have seen them.
    pub(crate) fn take_back(&self, why: &SubmitError) {
        let mut batches = Vec::new();
        {
            let mut guard = lock(&self.inner);
            let inner = &mut *guard;
            for entry in inner.unwritten.iter_mut().flat_map(|u| &mut u.entries) {
                if let Payload::Batch(batch) = &entry.payload {
                    batches.push(Arc::clone(batch));
                    entry.payload = Payload::Blank;
                    let recent = inner.recent.iter_mut().rev();
                    let same = recent.take_while(|r| r.index >= entry.index).last();
                    if let Some(same) = same.filter(|r| r.index == entry.index) {
                        same.payload = Payload::Blank;
                    }
                }
            }
        }
        for batch in batches {
            batch.give_up(why);
        }
    }

    /// Entries of these indexes that are there; from the first on, without gaps.
    pub(crate) fn entries(&self, range: Range<u64>) -> Vec<Entry> {
        let inner = lock(&self.inner);
        let Some(first) = inner.recent.front().map(|entry| entry.index) else {
            return Vec::new();
        };
        let start = range.start.max(first);
        let wanted = range.end.saturating_sub(start) as usize;
        let skipped = inner.recent.iter().skip((start - first) as usize);
        skipped.take(wanted).cloned().collect()
    }

    /// Removes entries after this one. On disk they stay until others take their places, which is as good: they were
    /// never committed.
    pub(crate) fn truncate(&self, after: Option<EntryId>) {
        let mut inner = lock(&self.inner);
        let keep = after.map_or(0, |after| after.index + 1);
        inner.forget_from(keep);
        inner.last = after;
    }

    /// Forgets entries up to this one: a snapshot has them.
    pub(crate) fn purge(&self, upto: EntryId) {
        let mut guard = lock(&self.inner);
        let inner = &mut *guard;
        inner.purged = inner.purged.max(Some(upto));
        if inner.last < Some(upto) {
            inner.last = Some(upto);
            inner.terms.clear();
        }
        while inner.recent.front().is_some_and(|e| e.index <= upto.index) {
            inner.recent.pop_front();
        }
    }

    /// Says that entries up to this index are applied, and need not stay in memory.
    pub(crate) fn applied(&self, index: u64) {
        let mut guard = lock(&self.inner);
        let inner = &mut *guard;
        let written = inner.first_unwritten();
        while inner
            .recent
            .front()
            .is_some_and(|e| e.index <= index && e.index < written)
        {
            inner.recent.pop_front();
        }
    }

    /// The last entry that is purged, and the last of all.
    pub(crate) fn ends(&self) -> (Option<EntryId>, Option<EntryId>) {
        let inner = lock(&self.inner);
        (inner.purged, inner.last)
    }

    /// The first entries of all terms between these two, and the two themselves.
    pub(crate) fn terms(&self, first: EntryId, last: EntryId) -> Vec<EntryId> {
        let inner = lock(&self.inner);
        let between = |id: &&EntryId| first.index < id.index && id.index < last.index;
        let mut terms = vec![first];
        terms.extend(inner.terms.iter().filter(between));
        if last != first {
            terms.push(last);
        }
        terms
    }

    pub(crate) fn vote(&self) -> Option<Vote> {
        lock(&self.inner).vote
    }

    /// Notes a vote, to be written with what is written next.
    pub(crate) fn set_vote(&self, vote: Vote) {
        let mut inner = lock(&self.inner);
        inner.vote = Some(vote);
        inner.vote_unwritten = true;
    }

    pub(crate) fn committed(&self) -> Option<EntryId> {
        lock(&self.inner).committed
    }

    /// Notes what is committed. That is not written: in a cluster of one, what is on disk is committed.
    pub(crate) fn set_committed(&self, committed: Option<EntryId>) {
        lock(&self.inner).committed = committed;
    }

    /// Whether it is time for a snapshot. If so, the next time is counted from now on.
    pub(crate) fn snapshot_due(&self) -> bool {
        let mut inner = lock(&self.inner);
        inner.store.as_mut().is_some_and(Store::snapshot_due)
    }

    /// Where the log goes on after this entry, and the node's vote: what a snapshot that ends with it should say.
    pub(crate) fn position(&self, entry: Option<EntryId>) -> (u64, Option<Vote>) {
        let inner = lock(&self.inner);
        let next = entry.map_or(0, |entry| entry.index + 1);
        let mut marks = inner.marks.iter().rev();
        let mark = marks.find(|(index, _)| *index <= next);
        (mark.map_or(0, |(_, position)| *position), inner.vote)
    }

    /// The files, if there are any.
    pub(crate) fn storage(&self) -> Option<Arc<dyn Storage>> {
        let inner = lock(&self.inner);
        inner.store.as_ref().map(|store| Arc::clone(&store.storage))
    }

    /// A snapshot is on disk: removes what is no longer needed.
    pub(crate) fn snapshot_written(
        &self,
        revision: Revision,
        position: u64,
        len: u64,
    ) -> io::Result<()> {
        let mut guard = lock(&self.inner);
        let inner = &mut *guard;
        // All but the last that are no longer asked for.
        while inner
            .marks
            .get(1)
            .is_some_and(|(_, next)| *next <= position)
        {
            inner.marks.pop_front();
        }
        match &mut inner.store {
            Some(store) => store.snapshot_written(revision, position, len),
            None => Ok(()),
        }
    }

    /// Closes the files: nothing is written any more.
    pub(crate) fn close(&self) {
        let mut inner = lock(&self.inner);
        inner.store = None;
        inner.closed = true;
    }
}

impl Inner {
    /// Writes one frame, and returns how many of those who wait have all of theirs on disk.
    fn write_frame(&mut self, written: &mut Written) -> Result<usize, AppendError> {
        if self.closed {
            return Err(AppendError::Broken("the log is closed".into()));
        }
        let frame = &mut self.frame;
        frame.clear();
        if let Some(vote) = self.vote.filter(|_| self.vote_unwritten) {
            frame.push(&Record::Vote(vote));
        }
        let (mut taken, mut first) = (0, None);
        for unwritten in &self.unwritten {
            let size = unwritten.entries.iter().map(Entry::size).sum();
            if taken > 0 && !frame.has_room(size) {
                break;
            }
            for entry in &unwritten.entries {
                frame.push(&entry.record());
                first.get_or_insert(entry.index);
            }
            taken += 1;
        }
        if let Some(store) = &mut self.store {
            let position = store.position();
            let began = Instant::now();
            let appended = store.append(frame);
            written.took += began.elapsed();
            appended?;
            written.bytes += frame.len();
            self.marked_bytes += frame.len();
            if let Some(first) = first
                && self.marked_bytes >= MARK_EVERY
            {
                self.marked_bytes = 0;
                self.marks.push_back((first, position));
            }
        }
        self.vote_unwritten = false;
        Ok(taken)
    }

    fn added(&mut self, id: EntryId) {
        if self.terms.last().is_none_or(|last| last.term != id.term) {
            self.terms.push(id);
        }
        self.last = Some(id);
    }

    fn forget_from(&mut self, index: u64) {
        while self.recent.back().is_some_and(|entry| entry.index >= index) {
            self.recent.pop_back();
        }
        self.terms.retain(|first| first.index < index);
    }

    fn first_unwritten(&self) -> u64 {
        let mut entries = self.unwritten.iter().flat_map(|u| &u.entries);
        entries.next().map_or(u64::MAX, |entry| entry.index)
    }
}
