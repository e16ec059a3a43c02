use std::fmt;
use std::sync::{Arc, Mutex};

use registry::DecodeError;
use registry::replication::{Body, EntryId, Membership, Record, commands};
use tokio::sync::oneshot;

use super::types::Term;
use crate::SubmitError;
use crate::node::{Shared, lock};
use crate::queue::Job;

/// An entry of the replicated log.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(super) leader: Term,
    pub(crate) index: u64,
    pub(crate) payload: Payload,
}

/// What an entry says.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    Blank,
    Batch(Arc<Batch>),
    Membership(Arc<Membership>),
}

/// Commands that are committed together: all that was waiting when the log was free. One entry for a whole batch, so
/// that agreeing costs the same for a thousand commands as for one.
pub(crate) struct Batch {
    /// The commands as they are written and sent.
    pub(crate) records: Vec<u8>,
    /// Those who wait for it, on the node that took the commands in; gone once they have their answers.
    waiting: Mutex<Option<Waiting>>,
}

struct Waiting {
    jobs: Vec<Job>,
    shared: Arc<Shared>,
    /// Dropped when the batch is done with.
    _done: oneshot::Sender<()>,
}

impl Batch {
    /// A batch of these, and what ends when it is done with.
    pub(crate) fn new(jobs: Vec<Job>, shared: Arc<Shared>) -> (Self, oneshot::Receiver<()>) {
        let mut records = Vec::with_capacity(jobs.iter().map(|job| job.records.len()).sum());
        for job in &jobs {
            records.extend_from_slice(&job.records);
        }
        let (_done, ended) = oneshot::channel();
        let waiting = Waiting {
            jobs,
            shared,
            _done,
        };
        let batch = Self {
            records,
            waiting: Mutex::new(Some(waiting)),
        };
        (batch, ended)
    }

    /// A batch that was read, or came from another node.
    pub(crate) fn of_records(records: Vec<u8>) -> Self {
        Self {
            records,
            waiting: Mutex::default(),
        }
    }

    /// Hands over the commands, with those who wait for them, to be applied.
    pub(crate) fn hand_over(&self, apply: impl FnOnce(Vec<Job>)) -> Result<(), DecodeError> {
        let waiting = lock(&self.waiting).take();
        match waiting {
            Some(Waiting { jobs, _done, .. }) => apply(jobs),
            None => apply(vec![Job::of_nobody(commands(&self.records)?)]),
        }
        Ok(())
    }

    /// Tells those who wait, if they have no answer yet, that there is going to be none but this.
    pub(crate) fn give_up(&self, why: &SubmitError) {
        let waiting = lock(&self.waiting).take();
        if let Some(Waiting {
            jobs,
            shared,
            _done,
        }) = waiting
        {
            shared.refuse(jobs, why);
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.give_up(&SubmitError::Closed);
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a batch of {} bytes", self.records.len())
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}: {}", self.leader, self.index, self.payload)
    }
}

impl Entry {
    pub(crate) fn new(id: EntryId, payload: Payload) -> Self {
        Self {
            leader: Term::new(id.term),
            index: id.index,
            payload,
        }
    }

    /// What was written.
    pub(crate) fn read(id: EntryId, body: Body<'_>) -> Self {
        let payload = match body {
            Body::Blank => Payload::Blank,
            Body::Batch(records) => Payload::Batch(Arc::new(Batch::of_records(records.to_vec()))),
            Body::Membership(membership) => Payload::Membership(Arc::new(membership)),
        };
        Self::new(id, payload)
    }

    pub(crate) fn id(&self) -> EntryId {
        EntryId {
            term: self.leader.term,
            index: self.index,
        }
    }

    /// What is written of it.
    pub(crate) fn record(&self) -> Record<'_> {
        let body = match &self.payload {
            Payload::Blank => Body::Blank,
            Payload::Batch(batch) => Body::Batch(&batch.records),
            Payload::Membership(membership) => Body::Membership(Membership::clone(membership)),
        };
        Record::Entry(self.id(), body)
    }

    /// About how many bytes it is long.
    pub(crate) fn size(&self) -> usize {
        match &self.payload {
            Payload::Batch(batch) => 64 + batch.records.len(),
            _ => 64,
        }
    }
}
