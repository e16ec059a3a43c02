use super::{EntryId, Membership, Vote};
use crate::Command;
use crate::codec::{DecodeError, Reader, Writer};

/// The first byte of each kind of record. Commands begin with the version of their encoding, which is far below.
const ENTRY: u8 = 0x80;
const VOTE: u8 = 0x81;
const COMMITTED: u8 = 0x82;

/// One record of a node's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A command by itself: written before logs were replicated, and committed by being there. Its index is its
    /// place in the log.
    Command(Command),
    /// An entry of the replicated log. It takes the place of what has its index or a later one.
    Entry(EntryId, Body<'a>),
    /// What the node votes for from here on.
    Vote(Vote),
    /// Entries up to this index were committed when this was written.
    Committed(u64),
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// Nothing: a leader's first, or what is left of a batch that was taken back.
    Blank,
    /// Commands, applied one after the other.
    Batch(Batch<'a>),
    /// Who belongs to the cluster from here on.
    Membership(Membership),
}

/// Commands that are committed together, and who wants that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    /// The node that the commands were given to.
    pub node: u64,
    /// Which batch of that node it is.
    pub proposer: Proposer,
    /// The commands; see [`commands`].
    pub commands: &'a [u8],
}

/// Numbers a node's batches: one that is sent again, for its answer was lost, is not applied again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proposer {
    /// Drawn when the node started.
    pub run: u64,
    /// Counts the batches since then. The next is sent once the one before is done with.
    pub number: u64,
}

impl Proposer {
    pub(super) fn encode(self, w: &mut Writer<'_>) {
        w.number(self.run);
        w.number(self.number);
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            run: r.number()?,
            number: r.number()?,
        })
    }

    /// Whether this batch is still to be applied, if `last` is the last that was of its node.
    pub fn is_after(self, last: Option<&Self>) -> bool {
        last.is_none_or(|last| last.run != self.run || last.number < self.number)
    }
}

impl<'a> Batch<'a> {
    /// Appends its encoding to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        w.number(self.node);
        self.proposer.encode(&mut w);
        out.extend_from_slice(self.commands);
    }

    /// Reads what [`Batch::encode`] wrote.
    ///
    /// # Errors
    ///
    /// When `bytes` are too short for one. The commands are not looked at.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        Ok(Self {
            node: r.number()?,
            proposer: Proposer::decode(&mut r)?,
            commands: r.rest(),
        })
    }
}

impl<'a> Record<'a> {
    /// Appends its encoding to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Command(command) => command.encode(out),
            Self::Entry(id, body) => {
                out.push(ENTRY);
                body.encode(*id, out);
            }
            Self::Vote(vote) => {
                out.push(VOTE);
                vote.encode(&mut Writer::new(out));
            }
            Self::Committed(index) => {
                out.push(COMMITTED);
                Writer::new(out).number(*index);
            }
        }
    }

    /// Reads what [`Record::encode`] wrote. The commands of a batch are read by [`commands`].
    ///
    /// # Errors
    ///
    /// When `bytes` are no record.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let Some((kind, rest)) = bytes.split_first() else {
            return Command::decode(bytes).map(Self::Command);
        };
        let mut r = Reader::new(rest);
        let record = match *kind {
            ENTRY => {
                let (id, body) = Body::decode(rest)?;
                return Ok(Self::Entry(id, body));
            }
            VOTE => Self::Vote(Vote::decode(&mut r)?),
            COMMITTED => Self::Committed(r.number()?),
            _ => return Command::decode(bytes).map(Self::Command),
        };
        r.finish()?;
        Ok(record)
    }
}

impl<'a> Body<'a> {
    /// Appends the encoding of an entry to `out`.
    pub fn encode(&self, id: EntryId, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        id.encode(&mut w);
        match self {
            Self::Blank => w.byte(0),
            Self::Batch(batch) => {
                w.byte(1);
                batch.encode(out);
            }
            Self::Membership(membership) => {
                w.byte(2);
                membership.encode(&mut w);
            }
        }
    }

    /// Reads an entry.
    ///
    /// # Errors
    ///
    /// When `bytes` are none.
    pub fn decode(bytes: &'a [u8]) -> Result<(EntryId, Self), DecodeError> {
        let mut r = Reader::new(bytes);
        let id = EntryId::decode(&mut r)?;
        let fault = r.fault("a kind of entry");
        let body = match r.byte()? {
            0 => Self::Blank,
            1 => return Ok((id, Self::Batch(Batch::decode(r.rest())?))),
            2 => Self::Membership(Membership::decode(&mut r)?),
            _ => return Err(fault),
        };
        r.finish()?;
        Ok((id, body))
    }
}

/// Appends a command to a batch, with its length in front; returns the size of its encoding.
pub fn push_command(batch: &mut Vec<u8>, command: &Command) -> usize {
    let start = batch.len() + 4;
    batch.extend_from_slice(&[0; 4]);
    command.encode(batch);
    let size = batch.len() - start;
    batch[start - 4..start].copy_from_slice(&(size as u32).to_le_bytes());
    size
}

/// The commands of a batch.
///
/// # Errors
///
/// When one of them is none, or ends after the batch.
pub fn commands(mut batch: &[u8]) -> Result<Vec<Command>, DecodeError> {
    let mut commands = Vec::new();
    while !batch.is_empty() {
        let (len, rest) = batch
            .split_first_chunk::<4>()
            .ok_or(DecodeError::Malformed {
                offset: 0,
                expected: "the length of a command",
            })?;
        let (command, rest) = rest
            .split_at_checked(u32::from_le_bytes(*len) as usize)
            .ok_or(DecodeError::Malformed {
                offset: 4,
                expected: "a command of that length",
            })?;
        commands.push(Command::decode(command)?);
        batch = rest;
    }
    Ok(commands)
}
