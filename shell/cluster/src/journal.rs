//! The replicated log of this node: what is needed soon in memory, everything since the last snapshots on disk.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use model::Revision;
use registry::replication::{EntryId, MAX_ENTRIES, Record, Vote};

use crate::log::{self, AppendError, Frame, Place};
use crate::node::lock;
use crate::raft::Entry;
use crate::storage::Storage;
use crate::store::{Replica, Store};

/// How many bytes of applied entries stay in memory in a cluster, for followers that are a little behind.
const KEPT: usize = 8 << 20;
/// Places in the log are remembered for entries about this many bytes apart.
const MARK_EVERY: u64 = 16 << 10;

/// Called when entries are on disk, or never will be.
pub(crate) type Flushed = Box<dyn FnOnce(io::Result<()>) + Send>;

/// The log: one who writes, many who read.
pub(crate) struct Journal {
    /// To be locked before `inner`, by whoever needs both.
    writer: Mutex<Writer>,
    inner: Mutex<Inner>,
    storage: Option<Arc<dyn Storage>>,
}

struct Writer {
    /// None for a registry in memory.
    store: Option<Store>,
    frame: Frame,
    closed: bool,
}

#[derive(Default)]
struct Inner {
    /// Consecutive; the last is the log's last.
    recent: VecDeque<Entry>,
    /// Bytes of `recent` that are applied.
    recent_bytes: usize,
    /// What of the log's end is not on disk yet.
    unwritten: VecDeque<Unwritten>,
    purged: Option<EntryId>,
    last: Option<EntryId>,
    /// The first entry of each term, of those that are not purged.
    terms: Vec<EntryId>,
    vote: Option<Vote>,
    committed: Option<EntryId>,
    /// These are written with the next entries: alone, they would not be worth a sync.
    vote_unwritten: bool,
    committed_unwritten: bool,
    snapshot_due: bool,
    /// In the order of the places.
    marks: VecDeque<Mark>,
    marked_bytes: u64,
}

/// Entries from that index on are at that place or later.
struct Mark {
    index: u64,
    position: u64,
    place: Option<Place>,
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
    /// The log as it was found.
    pub(crate) fn new(store: Option<Store>, replica: Replica) -> Self {
        let marks = replica.marks.iter().map(|(index, position, place)| Mark {
            index: *index,
            position: *position,
            place: Some(*place),
        });
        let mut marks: VecDeque<Mark> = marks.collect();
        if marks.is_empty() {
            marks.push_back(Mark {
                index: replica.last.map_or(0, |last| last.index + 1),
                position: replica.position,
                place: store.as_ref().map(Store::end),
            });
        }
        let inner = Inner {
            recent: replica.tail,
            purged: replica.snapshot,
            last: replica.last,
            terms: replica.terms,
            vote: replica.vote,
            committed: replica.applied,
            marks,
            ..Inner::default()
        };
        Self {
            storage: store.as_ref().map(|store| Arc::clone(&store.storage)),
            writer: Mutex::new(Writer {
                store,
                frame: Frame::default(),
                closed: false,
            }),
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
        inner.unwritten.push_back(Unwritten { entries, flushed });
    }

    /// Writes what was added, in as few frames as it fits in; then it survives a power cut. Those who wait for that are to be
    /// told by the caller: they are added to `told`, also when the rest fails.
    ///
    /// # Errors
    ///
    /// Leaves what failed to be written where it is, for another try.
    pub(crate) fn write(&self, told: &mut Vec<Flushed>) -> Result<Written, AppendError> {
        let mut written = Written::default();
        loop {
            let mut writer = lock(&self.writer);
            let Some(filled) = lock(&self.inner).fill(&mut writer.frame) else {
                return Ok(written);
            };
            let place = writer.write(&mut written)?;
            let mut inner = lock(&self.inner);
            inner.snapshot_due |= writer.store.as_mut().is_some_and(Store::snapshot_due);
            told.extend(inner.filled_is_written(&filled, place, writer.frame.len()));
        }
    }

    /// Whether something that was added is not written.
    pub(crate) fn is_behind(&self) -> bool {
        !lock(&self.inner).unwritten.is_empty()
    }

    /// Gives up what is not written, for it never will be.
    pub(crate) fn fail(&self, why: &str) {
        let unwritten = std::mem::take(&mut lock(&self.inner).unwritten);
        for unwritten in unwritten {
            (unwritten.flushed)(Err(io::Error::other(why.to_owned())));
        }
    }

    /// Entries of these indexes that are there, without gaps: from the first on, and at least one if that is there. With
    /// `limited`, not many more bytes than fit in a message.
    pub(crate) fn entries(&self, range: Range<u64>, limited: bool) -> io::Result<Vec<Entry>> {
        let limit = if limited { MAX_ENTRIES } else { usize::MAX };
        let mut found = self.older(&range, limit)?;
        let mut bytes: usize = found.iter().map(Entry::size).sum();
        let inner = lock(&self.inner);
        let Some(first) = inner.recent.front().map(|entry| entry.index) else {
            return Ok(found);
        };
        let start = found.last().map_or(range.start, |last| last.index + 1);
        if start < first {
            return Ok(found);
        }
        for entry in inner.recent.iter().skip((start - first) as usize) {
            if entry.index >= range.end || (bytes + entry.size() > limit && !found.is_empty()) {
                break;
            }
            bytes += entry.size();
            found.push(entry.clone());
        }
        Ok(found)
    }

    /// Entries that are no longer in memory.
    fn older(&self, range: &Range<u64>, limit: usize) -> io::Result<Vec<Entry>> {
        let (end, place, terms) = {
            let inner = lock(&self.inner);
            let after_purged = inner.purged.map_or(0, |purged| purged.index + 1);
            let first_recent = inner.recent.front().map(|entry| entry.index);
            let end_of_log = inner.last.map_or(0, |last| last.index + 1);
            let end = range.end.min(first_recent.unwrap_or(end_of_log));
            if range.start >= end || range.start < after_purged {
                return Ok(Vec::new());
            }
            let mut marks = inner.marks.iter().rev();
            let mark = marks.find(|mark| mark.index <= range.start && mark.place.is_some());
            (end, mark.and_then(|mark| mark.place), inner.terms.clone())
        };
        let (Some(place), Some(storage)) = (place, &self.storage) else {
            return Err(io::Error::other(format!(
                "entry {} is not where it was remembered to be",
                range.start
            )));
        };
        let mut found = Found {
            range: range.start..end,
            terms,
            entries: Vec::new(),
            bytes: 0,
            limit,
        };
        read_segments(&**storage, place, &mut found)?;
        Ok(found.entries)
    }

    /// Removes entries after this one. On disk they stay until others take their places, which is as good: they were
    /// never committed.
    pub(crate) fn truncate(&self, after: Option<EntryId>) {
        let mut inner = lock(&self.inner);
        let keep = after.map_or(0, |after| after.index + 1);
        while inner.recent.back().is_some_and(|e| e.index >= keep) {
            inner.recent.pop_back();
        }
        inner.terms.retain(|first| first.index < keep);
        inner.last = after;
    }

    /// Forgets entries up to this one: a snapshot has them.
    pub(crate) fn purge(&self, upto: EntryId) -> io::Result<()> {
        let mut guard = lock(&self.inner);
        let inner = &mut *guard;
        inner.purged = inner.purged.max(Some(upto));
        if inner.last < Some(upto) {
            inner.last = Some(upto);
            inner.terms.clear();
        }
        while inner.recent.front().is_some_and(|e| e.index <= upto.index) {
            let first = inner.recent.pop_front();
            let size = first.map_or(0, |first| first.size());
            inner.recent_bytes = inner.recent_bytes.saturating_sub(size);
        }
        // All but the last that are no longer asked for.
        while inner
            .marks
            .get(1)
            .is_some_and(|next| next.index <= upto.index + 1)
        {
            inner.marks.pop_front();
        }
        let position = inner.marks.front().map_or(0, |mark| mark.position);
        drop(guard);
        match &mut lock(&self.writer).store {
            Some(store) => store.purge(position),
            None => Ok(()),
        }
    }

    /// Says that this entry is applied, and need not stay in memory.
    pub(crate) fn applied(&self, entry: &Entry) {
        let mut guard = lock(&self.inner);
        let inner = &mut *guard;
        let mut unwritten = inner.unwritten.iter().flat_map(|u| &u.entries);
        let written = unwritten.next().map_or(u64::MAX, |entry| entry.index);
        inner.recent_bytes += entry.size();
        while inner.recent_bytes > KEPT
            && let Some(first) = inner.recent.front()
            && first.index <= entry.index
            && first.index < written
        {
            inner.recent_bytes = inner.recent_bytes.saturating_sub(first.size());
            inner.recent.pop_front();
        }
    }

    /// The last entry that is purged, and the last of all.
    pub(crate) fn ends(&self) -> (Option<EntryId>, Option<EntryId>) {
        let inner = lock(&self.inner);
        (inner.purged, inner.last)
    }

    /// The last entries of all terms between these two, of which the second is the log's last.
    pub(crate) fn terms(&self, first: EntryId, last: EntryId) -> Vec<EntryId> {
        let inner = lock(&self.inner);
        let mut terms = Vec::new();
        let mut term = first.term;
        for begun in &inner.terms {
            let between = first.index < begun.index && begun.index <= last.index;
            if between && begun.term != term {
                let index = begun.index - 1;
                terms.push(EntryId { term, index });
                term = begun.term;
            }
        }
        terms.push(last);
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

    /// Notes what is committed, to be written with what is written next.
    pub(crate) fn set_committed(&self, committed: Option<EntryId>) {
        let mut inner = lock(&self.inner);
        inner.committed_unwritten |= inner.committed != committed;
        inner.committed = committed;
    }

    /// Whether it is time for a snapshot. If so, the next time is counted from now on.
    pub(crate) fn snapshot_due(&self) -> bool {
        std::mem::take(&mut lock(&self.inner).snapshot_due)
    }

    /// Where the log goes on after this entry, and the node's vote: what a snapshot that ends with it should say.
    pub(crate) fn position(&self, entry: EntryId) -> (u64, Option<Vote>) {
        let inner = lock(&self.inner);
        let mut marks = inner.marks.iter().rev();
        let mark = marks.find(|mark| mark.index <= entry.index + 1);
        (mark.map_or(0, |mark| mark.position), inner.vote)
    }

    /// The files, if there are any.
    pub(crate) fn storage(&self) -> Option<Arc<dyn Storage>> {
        self.storage.clone()
    }

    /// A snapshot is on disk: removes older ones. What of the log is no longer needed goes with [`Journal::purge`].
    pub(crate) fn snapshot_written(
        &self,
        revision: Revision,
        position: u64,
        len: u64,
    ) -> io::Result<()> {
        if let Some(store) = &mut lock(&self.writer).store {
            store.snapshot_written(revision, position, len)?;
        }
        Ok(())
    }

    /// Closes the files: nothing is written any more.
    pub(crate) fn close(&self) {
        let mut writer = lock(&self.writer);
        writer.store = None;
        writer.closed = true;
    }
}

/// Entries that are looked for on disk.
struct Found {
    range: Range<u64>,
    terms: Vec<EntryId>,
    entries: Vec<Entry>,
    bytes: usize,
    limit: usize,
}

impl Found {
    /// Takes what belongs there; false once that is all.
    fn visit(&mut self, position: u64, record: Record<'_>) -> bool {
        let entry = match record {
            Record::Entry(id, body) => Entry::read(id, body),
            Record::Command(command) => Entry::old(position, &command),
            Record::Vote(_) | Record::Committed(_) => return true,
        };
        let next = self
            .entries
            .last()
            .map_or(self.range.start, |last| last.index + 1);
        let term = self
            .terms
            .iter()
            .rev()
            .find(|first| first.index <= entry.index);
        // Others have been there and lost their places.
        if entry.index == next && term.is_some_and(|first| first.term == entry.id().term) {
            self.bytes += entry.size();
            self.entries.push(entry);
        }
        // Of the one that is next: this record may have been before it.
        let last = self.entries.last().map(|last| last.index);
        last.is_none_or(|last| last + 1 < self.range.end) && self.bytes < self.limit
    }
}

fn read_segments(storage: &dyn Storage, from: Place, found: &mut Found) -> io::Result<()> {
    let mut segments: Vec<Revision> = storage
        .list()?
        .iter()
        .filter_map(|name| log::first_revision(name))
        .filter(|first| *first >= from.segment)
        .collect();
    segments.sort_unstable();
    for first in segments {
        let name = log::file_name(first);
        let (salt, offset) = match first == from.segment {
            true => (from.salt, from.offset),
            false => (
                log::read_salt(storage.read(&name)?)?,
                log::SEGMENT_HEADER as u64,
            ),
        };
        let mut more = true;
        log::read_frames(
            storage.read_from(&name, offset)?,
            salt,
            |position, record| {
                more = found.visit(position, record);
                more
            },
        )?;
        if !more {
            break;
        }
    }
    Ok(())
}

impl Writer {
    /// Writes the frame; returns where it is, as a place in the log and in the files.
    fn write(&mut self, written: &mut Written) -> Result<(u64, Option<Place>), AppendError> {
        if self.closed {
            return Err(AppendError::Broken("the log is closed".into()));
        }
        let Some(store) = &mut self.store else {
            return Ok((0, None));
        };
        // A vote that somebody waits for may have been written with entries before.
        if self.frame.is_empty() {
            return Ok((store.position(), None));
        }
        let position = store.position();
        let began = Instant::now();
        let appended = store.append(&mut self.frame);
        written.took += began.elapsed();
        appended?;
        written.bytes += self.frame.len();
        let mut place = store.end();
        place.offset -= self.frame.len();
        Ok((position, Some(place)))
    }
}

/// What a frame was filled with.
struct Filled {
    /// How many of those who wait have all of theirs in it.
    taken: usize,
    /// The first entry in it.
    first: Option<u64>,
    vote: Option<Vote>,
    committed: Option<EntryId>,
}

impl Inner {
    /// Fills a frame with what is not written, if there is anything.
    fn fill(&self, frame: &mut Frame) -> Option<Filled> {
        let mut filled = Filled {
            taken: 0,
            first: None,
            vote: self.vote.filter(|_| self.vote_unwritten),
            committed: self.committed.filter(|_| self.committed_unwritten),
        };
        if self.unwritten.is_empty() {
            return None;
        }
        frame.clear();
        if let Some(vote) = filled.vote {
            frame.push(&Record::Vote(vote));
        }
        let mut last = None;
        for unwritten in &self.unwritten {
            let size = unwritten.entries.iter().map(Entry::size).sum();
            if filled.taken > 0 && !frame.has_room(size) {
                break;
            }
            for entry in &unwritten.entries {
                frame.push(&entry.record());
                filled.first.get_or_insert(entry.index);
                last = Some(entry.index);
            }
            filled.taken += 1;
        }
        // After the entries: one before them would be about those whose places they take.
        match (filled.committed, last) {
            (Some(committed), Some(last)) => {
                frame.push(&Record::Committed(committed.index.min(last)));
            }
            _ => filled.committed = None,
        }
        Some(filled)
    }

    fn filled_is_written(
        &mut self,
        filled: &Filled,
        (position, place): (u64, Option<Place>),
        bytes: u64,
    ) -> impl Iterator<Item = Flushed> {
        self.vote_unwritten &= self.vote != filled.vote;
        self.committed_unwritten &=
            filled.committed.is_none() || self.committed != filled.committed;
        self.marked_bytes += bytes;
        if let Some(index) = filled.first
            && self.marked_bytes >= MARK_EVERY
        {
            self.marked_bytes = 0;
            self.marks.push_back(Mark {
                index,
                position,
                place,
            });
        }
        let done = self.unwritten.drain(..filled.taken);
        done.map(|unwritten| unwritten.flushed)
    }

    fn added(&mut self, id: EntryId) {
        if self.terms.last().is_none_or(|last| last.term != id.term) {
            self.terms.push(id);
        }
        self.last = Some(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Payload;

    fn id(term: u64, index: u64) -> EntryId {
        EntryId { term, index }
    }

    #[test]
    fn the_last_entry_of_each_term_is_known_also_after_a_truncation() {
        let journal = Journal::new(None, Replica::default());
        let entries = [(1, 0), (1, 1), (1, 2), (3, 3), (3, 4), (4, 5)];
        let entries = entries.map(|(term, index)| Entry::new(id(term, index), Payload::Blank));
        journal.append(entries.to_vec(), Box::new(|_| {}));
        let all = journal.terms(id(1, 0), id(4, 5));
        assert_eq!(all, [id(1, 2), id(3, 4), id(4, 5)]);
        assert_eq!(journal.terms(id(1, 1), id(3, 4)), [id(1, 2), id(3, 4)]);
        assert_eq!(journal.terms(id(4, 5), id(4, 5)), [id(4, 5)]);
        journal.truncate(Some(id(3, 3)));
        let more = [Entry::new(id(6, 4), Payload::Blank)];
        journal.append(more.to_vec(), Box::new(|_| {}));
        assert_eq!(
            journal.terms(id(1, 0), id(6, 4)),
            [id(1, 2), id(3, 3), id(6, 4)]
        );
        let found = journal.entries(2..9, false).unwrap();
        let found: Vec<EntryId> = found.iter().map(Entry::id).collect();
        assert_eq!(found, [id(1, 2), id(3, 3), id(6, 4)]);
    }
}
