//! What nodes of a cluster say to each other: a greeting first, then requests and their answers.

use model::{InstanceId, ServiceKey};

use super::{Body, Change, Crowd, EntryId, Heard, Report, Standing, Vote};
use crate::codec::{DecodeError, Reader, Writer};

/// The version of this protocol. A node refuses to talk to another version.
pub const PROTOCOL: u64 = 1;
/// The longest message, in bytes: one entry of the largest kind, and room for what is around it.
pub const MAX_MESSAGE: usize = 6 << 20;
/// The most bytes of entries in one message, if there is more than one entry.
pub const MAX_ENTRIES: usize = 1 << 20;

/// The first message on a connection, by whoever opened it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The version of the protocol that is spoken.
    pub protocol: u64,
    /// The name of the cluster.
    pub cluster: Box<str>,
    /// The secret that its nodes share.
    pub token: Box<str>,
    /// Who speaks.
    pub node: u64,
    /// The data directory of whoever speaks; see [`super::Member::disk`].
    pub disk: u64,
    /// Who is meant; zero for whoever is there.
    pub to: u64,
    /// The data directory that is meant; zero for any. Then nothing may be asked but [`Request::Who`] and to be taken in.
    pub to_disk: u64,
    /// The latest [format](crate::FORMAT) that whoever speaks reads.
    pub format: u8,
}

/// What one node asks of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Take these entries.
    Append {
        /// Of the leader that asks.
        vote: Vote,
        /// The entry before the first of these.
        previous: Option<EntryId>,
        /// What is committed.
        committed: Option<EntryId>,
        /// In order.
        entries: Vec<(EntryId, Body<'a>)>,
    },
    /// Vote for the node that asks.
    Vote(Ballot),
    /// Would you vote for the node that asks?
    PreVote(Ballot),
    /// Lead, if you are meant; otherwise vote for who is.
    Transfer {
        /// Of the leader that asks.
        vote: Vote,
        /// Who is to lead.
        to: u64,
        /// What that node must have.
        last: Option<EntryId>,
    },
    /// A part of a snapshot.
    Snapshot {
        /// Of the leader that asks.
        vote: Vote,
        /// Where in the snapshot it belongs.
        offset: u64,
        /// Whether it is the last.
        last: bool,
        /// The part.
        bytes: &'a [u8],
    },
    /// Commit this batch.
    Propose(&'a [u8]),
    /// Renew what these stand for.
    Renew {
        /// Instances with leases.
        instances: Vec<(ServiceKey, InstanceId)>,
        /// Sessions of the tree.
        sessions: Vec<u64>,
    },
    /// Who are you, and what do you know?
    Who,
    /// How far is what is committed? Asked of the leader.
    Reach {
        /// Whether a majority has to confirm first that it leads.
        prove: bool,
        /// Now and then, the clients of the node that asks: then those of all nodes are said with the answer.
        crowd: Option<Crowd>,
    },
    /// Change who belongs to the cluster, or who leads. Asked of the leader.
    Change(Change),
    /// How are you?
    Report,
    /// These instances failed where this node looked at them: see for yourself. Asked of the leader.
    Suspect(Vec<(ServiceKey, InstanceId)>),
}

/// A request for a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ballot {
    /// What is asked for.
    pub vote: Vote,
    /// The candidate's last entry.
    pub last: Option<EntryId>,
    /// Whether the leader itself wants it so.
    pub transfer: bool,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// To a request that wants nothing but to be done.
    Done,
    /// Entries up to this one were taken, if not all.
    Partial(Option<EntryId>),
    /// The entry before the first is another one here.
    Conflict,
    /// There is a later vote here.
    HigherVote(Vote),
    /// To a request for a vote.
    Ballot {
        /// The voter's vote.
        vote: Vote,
        /// Whether it is what was asked for.
        granted: bool,
        /// The voter's last entry.
        last: Option<EntryId>,
    },
    /// To [`Request::Who`].
    Standing(Box<Standing>),
    /// What is committed where the leader is, and how many milliseconds ago that was sure to be all there was.
    Reached {
        /// The last entry.
        index: u64,
        /// Milliseconds.
        age: u64,
        /// The clients of the other nodes, if those of the asker were told.
        crowds: Vec<Heard>,
    },
    /// Done, with something to say to people.
    Said(Box<str>),
    /// To [`Request::Report`].
    Report(Box<Report>),
    /// It was not done, and nothing has changed.
    Refused {
        /// Whether it may be done by another node, or a moment later.
        passing: bool,
        /// Why, in words.
        why: Box<str>,
    },
}

/// A request or an answer with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A request; its answer has the same number.
    Request(u64, Request<'a>),
    /// An answer.
    Response(u64, Response),
}

impl Hello {
    /// Appends its encoding to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        w.number(self.protocol);
        w.text(&self.cluster);
        w.text(&self.token);
        w.number(self.node);
        w.number(self.disk);
        w.number(self.to);
        w.number(self.to_disk);
        w.byte(self.format);
    }

    /// Reads what [`Hello::encode`] wrote. What a later program says behind that is passed over.
    ///
    /// # Errors
    ///
    /// When `bytes` are no greeting.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let hello = Self {
            protocol: r.number()?,
            cluster: r.text()?,
            token: r.text()?,
            node: r.number()?,
            disk: r.number()?,
            to: r.number()?,
            to_disk: r.number()?,
            format: r.byte()?,
        };
        Ok(hello)
    }
}

impl<'a> Message<'a> {
    /// Appends its encoding to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        match self {
            Self::Request(number, request) => {
                w.byte(0);
                w.number(*number);
                request.encode(out);
            }
            Self::Response(number, response) => {
                w.byte(1);
                w.number(*number);
                response.encode(&mut w);
            }
        }
    }

    /// Reads what [`Message::encode`] wrote. The commands of batches are not looked at.
    ///
    /// # Errors
    ///
    /// When `bytes` are no message.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let fault = r.fault("a request or an answer");
        let message = match r.byte()? {
            0 => Self::Request(r.number()?, Request::decode(&mut r)?),
            1 => Self::Response(r.number()?, Response::decode(&mut r)?),
            _ => return Err(fault),
        };
        r.finish()?;
        Ok(message)
    }
}

impl<'a> Request<'a> {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        match self {
            Self::Append {
                vote,
                previous,
                committed,
                entries,
            } => {
                w.byte(1);
                vote.encode(&mut w);
                w.option(*previous, |w, id| id.encode(w));
                w.option(*committed, |w, id| id.encode(w));
                encode_entries(entries, out);
            }
            Self::Vote(ballot) | Self::PreVote(ballot) => {
                w.byte(2 + u8::from(matches!(self, Self::PreVote(_))));
                ballot.encode(&mut w);
            }
            Self::Transfer { vote, to, last } => {
                w.byte(4);
                vote.encode(&mut w);
                w.number(*to);
                w.option(*last, |w, id| id.encode(w));
            }
            Self::Snapshot {
                vote,
                offset,
                last,
                bytes,
            } => {
                w.byte(5);
                vote.encode(&mut w);
                w.number(*offset);
                w.flag(*last);
                w.bytes(bytes);
            }
            Self::Propose(batch) => {
                w.byte(6);
                w.bytes(batch);
            }
            Self::Renew {
                instances,
                sessions,
            } => {
                w.byte(7);
                encode_instances(instances, &mut w);
                w.number(sessions.len() as u64);
                sessions.iter().for_each(|session| w.number(*session));
            }
            Self::Who => w.byte(8),
            Self::Reach { prove, crowd } => {
                w.byte(9);
                w.flag(*prove);
                w.option(crowd.as_ref(), |w, crowd| crowd.encode(w));
            }
            Self::Change(change) => {
                w.byte(10);
                change.encode(&mut w);
            }
            Self::Report => w.byte(11),
            Self::Suspect(instances) => {
                w.byte(12);
                encode_instances(instances, &mut w);
            }
        }
    }

    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let fault = r.fault("a kind of request");
        Ok(match r.byte()? {
            1 => Self::Append {
                vote: Vote::decode(r)?,
                previous: r.option(EntryId::decode)?,
                committed: r.option(EntryId::decode)?,
                entries: r.list(|r| Body::decode(r.bytes()?))?,
            },
            2 => Self::Vote(Ballot::decode(r)?),
            3 => Self::PreVote(Ballot::decode(r)?),
            4 => Self::Transfer {
                vote: Vote::decode(r)?,
                to: r.number()?,
                last: r.option(EntryId::decode)?,
            },
            5 => Self::Snapshot {
                vote: Vote::decode(r)?,
                offset: r.number()?,
                last: r.flag()?,
                bytes: r.bytes()?,
            },
            6 => Self::Propose(r.bytes()?),
            7 => Self::Renew {
                instances: r.list(|r| Ok((r.key()?, r.name()?)))?,
                sessions: r.list(Reader::number)?,
            },
            8 => Self::Who,
            9 => Self::Reach {
                prove: r.flag()?,
                crowd: r.option(Crowd::decode)?,
            },
            10 => Self::Change(Change::decode(r)?),
            11 => Self::Report,
            12 => Self::Suspect(r.list(|r| Ok((r.key()?, r.name()?)))?),
            _ => return Err(fault),
        })
    }
}

/// With its length in front: what later programs say besides is passed over by earlier ones.
fn open_ended(w: &mut Writer<'_>, write: impl FnOnce(&mut Writer<'_>)) {
    let mut bytes = Vec::new();
    write(&mut Writer::new(&mut bytes));
    w.bytes(&bytes);
}

fn encode_entries(entries: &[(EntryId, Body<'_>)], out: &mut Vec<u8>) {
    Writer::new(out).number(entries.len() as u64);
    let mut bytes = Vec::new();
    for (id, body) in entries {
        bytes.clear();
        body.encode(*id, &mut bytes);
        Writer::new(out).bytes(&bytes);
    }
}

fn encode_instances(instances: &[(ServiceKey, InstanceId)], w: &mut Writer<'_>) {
    w.number(instances.len() as u64);
    for (key, id) in instances {
        w.key(key);
        w.text(id.as_str());
    }
}

impl Ballot {
    fn encode(&self, w: &mut Writer<'_>) {
        self.vote.encode(w);
        w.option(self.last, |w, id| id.encode(w));
        w.flag(self.transfer);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            vote: Vote::decode(r)?,
            last: r.option(EntryId::decode)?,
            transfer: r.flag()?,
        })
    }
}

impl Response {
    fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Done => w.byte(1),
            Self::Partial(last) => {
                w.byte(2);
                w.option(*last, |w, id| id.encode(w));
            }
            Self::Conflict => w.byte(3),
            Self::HigherVote(vote) => {
                w.byte(4);
                vote.encode(w);
            }
            Self::Ballot {
                vote,
                granted,
                last,
            } => {
                w.byte(5);
                vote.encode(w);
                w.flag(*granted);
                w.option(*last, |w, id| id.encode(w));
            }
            Self::Standing(standing) => {
                w.byte(8);
                open_ended(w, |w| standing.encode(w));
            }
            Self::Reached { index, age, crowds } => {
                w.byte(9);
                w.number(*index);
                w.number(*age);
                w.number(crowds.len() as u64);
                crowds.iter().for_each(|heard| heard.encode(w));
            }
            Self::Said(text) => {
                w.byte(10);
                w.text(text);
            }
            Self::Report(report) => {
                w.byte(11);
                open_ended(w, |w| report.encode(w));
            }
            Self::Refused { passing, why } => {
                w.byte(7);
                w.flag(*passing);
                w.text(why);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let fault = r.fault("a kind of answer");
        Ok(match r.byte()? {
            1 => Self::Done,
            2 => Self::Partial(r.option(EntryId::decode)?),
            3 => Self::Conflict,
            4 => Self::HigherVote(Vote::decode(r)?),
            5 => Self::Ballot {
                vote: Vote::decode(r)?,
                granted: r.flag()?,
                last: r.option(EntryId::decode)?,
            },
            7 => Self::Refused {
                passing: r.flag()?,
                why: r.text()?,
            },
            8 => Self::Standing(Box::new(Standing::decode(&mut Reader::new(r.bytes()?))?)),
            9 => Self::Reached {
                index: r.number()?,
                age: r.number()?,
                crowds: r.list(Heard::decode)?,
            },
            10 => Self::Said(r.text()?),
            11 => Self::Report(Box::new(Report::decode(&mut Reader::new(r.bytes()?))?)),
            _ => return Err(fault),
        })
    }
}
