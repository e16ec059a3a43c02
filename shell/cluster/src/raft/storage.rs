//! The journal as the library's log.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds, RangeInclusive};
use std::sync::Arc;

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{LogId, RaftLogReader};

use super::types::{RaftVote, Term, Types, entry_id, log_id, raft_vote, vote};
use super::{Disk, Entry};
use crate::journal::Journal;

/// Writes and reads the log.
#[derive(Clone)]
pub(super) struct LogStorage {
    pub(super) journal: Arc<Journal>,
    pub(super) disk: Disk,
}

/// Reads the log.
pub(super) struct LogReader {
    journal: Arc<Journal>,
}

impl RaftLogReader<Types> for LogReader {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.journal.entries(start..end, false)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.journal.entries(start..end, true)
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        Ok(self.journal.vote().map(raft_vote))
    }

    /// The last of each term: what the library's code wants here. (Its documentation says the first.)
    async fn get_key_log_ids(
        &mut self,
        range: RangeInclusive<LogId<Term>>,
    ) -> io::Result<Vec<LogId<Term>>> {
        let (first, last) = (entry_id(range.start()), entry_id(range.end()));
        let ids = self.journal.terms(first, last);
        Ok(ids.into_iter().map(log_id).collect())
    }
}

impl RaftLogStorage<Types> for LogStorage {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let (purged, last) = self.journal.ends();
        Ok(LogState {
            last_purged_log_id: purged.map(log_id),
            last_log_id: last.map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader {
            journal: Arc::clone(&self.journal),
        }
    }

    async fn save_vote(&mut self, new: &RaftVote) -> io::Result<()> {
        self.journal.set_vote(vote(new));
        self.disk.write_vote().await
    }

    async fn save_committed(&mut self, committed: Option<LogId<Term>>) -> io::Result<()> {
        self.journal.set_committed(committed.as_ref().map(entry_id));
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId<Term>>> {
        Ok(self.journal.committed().map(log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let flushed = Box::new(|result| callback.io_completed(result));
        self.journal.append(entries.into_iter().collect(), flushed);
        self.disk.write();
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId<Term>>) -> io::Result<()> {
        self.journal.truncate(last.as_ref().map(entry_id));
        Ok(())
    }

    async fn purge(&mut self, upto: LogId<Term>) -> io::Result<()> {
        // Files that stay are tried to be removed with the next; no reason to give up the node.
        if let Err(e) = self.journal.purge(entry_id(&upto)) {
            self.disk.shared.fault(format!(
                "removing what is no longer needed of the log failed: {e}"
            ));
        }
        Ok(())
    }
}
