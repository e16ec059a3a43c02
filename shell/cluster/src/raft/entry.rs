use std::fmt;
use std::sync::Arc;

use registry::Command;
use registry::replication::{
    Batch as Encoded, Body, EntryId, Membership, Proposer, Record, push_command,
};

use super::types::Term;

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

/// Commands that are committed together: all that was waiting on a node. One entry for a whole batch, so that agreeing
/// costs the same for a thousand commands as for one.
pub(crate) struct Batch {
    /// The node that the commands were given to.
    pub(crate) node: u64,
    /// Which of its batches it is.
    pub(crate) proposer: Proposer,
    /// The commands as they are written and sent.
    pub(crate) records: Vec<u8>,
}

impl Batch {
    pub(crate) fn encoded(&self) -> Encoded<'_> {
        Encoded {
            node: self.node,
            proposer: self.proposer,
            commands: &self.records,
        }
    }

    pub(crate) fn read(encoded: Encoded<'_>) -> Self {
        Self {
            node: encoded.node,
            proposer: encoded.proposer,
            records: encoded.commands.to_vec(),
        }
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
            Body::Batch(batch) => Payload::Batch(Arc::new(Batch::read(batch))),
            Body::Membership(membership) => Payload::Membership(Arc::new(membership)),
        };
        Self::new(id, payload)
    }

    /// A command that was written before there were entries.
    pub(crate) fn old(index: u64, command: &Command) -> Self {
        let mut records = Vec::new();
        push_command(&mut records, command);
        let batch = Batch {
            node: 0,
            proposer: Proposer {
                run: 0,
                number: index,
            },
            records,
        };
        Self::new(EntryId { term: 0, index }, Payload::Batch(Arc::new(batch)))
    }

    pub(crate) fn id(&self) -> EntryId {
        EntryId {
            term: self.leader.term,
            index: self.index,
        }
    }

    /// What is written and sent of it.
    pub(crate) fn body(&self) -> Body<'_> {
        match &self.payload {
            Payload::Blank => Body::Blank,
            Payload::Batch(batch) => Body::Batch(batch.encoded()),
            Payload::Membership(membership) => Body::Membership(Membership::clone(membership)),
        }
    }

    /// What is written of it.
    pub(crate) fn record(&self) -> Record<'_> {
        Record::Entry(self.id(), self.body())
    }

    /// About how many bytes it is long.
    pub(crate) fn size(&self) -> usize {
        match &self.payload {
            Payload::Batch(batch) => 64 + batch.records.len(),
            Payload::Membership(membership) => 64 + 600 * membership.nodes.len(),
            Payload::Blank => 64,
        }
    }
}
