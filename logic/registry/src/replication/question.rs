//! What nodes ask each other besides what agreeing takes: who they are, how they are, whom they serve, and who is to belong to
//! the cluster.

use super::{EntryId, MAX_TEXT, Membership};
use crate::codec::{DecodeError, Reader, Writer};

/// A change of who belongs to the cluster, or of who leads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Take a node in.
    Add {
        /// Its name.
        name: Box<str>,
        /// Where the others reach it, `host:port`.
        address: Box<str>,
        /// Whether it only follows and serves; otherwise it votes, once it has what the others have.
        observer: bool,
    },
    /// Let a node go.
    Remove {
        /// Its name.
        name: Box<str>,
        /// Even if no majority of those who stay answers at present.
        force: bool,
    },
    /// Make an observer a voter.
    Promote {
        /// Its name.
        name: Box<str>,
    },
    /// Let another node lead.
    Transfer {
        /// Its name; whoever is furthest, if none is named.
        to: Option<Box<str>>,
    },
}

impl Change {
    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Add {
                name,
                address,
                observer,
            } => {
                w.byte(1);
                w.text(name);
                w.text(address);
                w.flag(*observer);
            }
            Self::Remove { name, force } => {
                w.byte(2);
                w.text(name);
                w.flag(*force);
            }
            Self::Promote { name } => {
                w.byte(3);
                w.text(name);
            }
            Self::Transfer { to } => {
                w.byte(4);
                w.option(to.as_deref(), Writer::text);
            }
        }
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let fault = r.fault("a kind of change of a cluster");
        Ok(match r.byte()? {
            1 => Self::Add {
                name: r.text()?,
                address: r.text()?,
                observer: r.flag()?,
            },
            2 => Self::Remove {
                name: r.text()?,
                force: r.flag()?,
            },
            3 => Self::Promote { name: r.text()? },
            4 => Self::Transfer {
                to: r.option(Reader::text)?,
            },
            _ => return Err(fault),
        })
    }
}

/// Who a node is, and which cluster it knows itself to belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub name: Box<str>,
    /// Its data directory; see [`super::Member::disk`].
    pub disk: u64,
    /// Whether that is empty: it has never voted, nor had an entry.
    pub blank: bool,
    /// The names in its configuration of those who begin a cluster, sorted; none if it joins one.
    pub founders: Vec<Box<str>>,
    /// Who belongs to its cluster, as far as it knows, and the entry that says so.
    pub membership: Option<(EntryId, Membership)>,
    /// The latest [format](crate::FORMAT) that it reads.
    pub format: u8,
}

impl Standing {
    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.text(&self.name);
        w.number(self.disk);
        w.flag(self.blank);
        w.texts(&self.founders);
        w.option(self.membership.as_ref(), |w, (since, membership)| {
            since.encode(w);
            membership.encode(w);
        });
        w.byte(self.format);
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: r.text()?,
            disk: r.number()?,
            blank: r.flag()?,
            founders: r.list(Reader::text)?,
            membership: r.option(|r| Ok((EntryId::decode(r)?, Membership::decode(r)?)))?,
            format: r.byte()?,
        })
    }
}

/// How a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The program's version.
    pub version: Box<str>,
    /// The last command applied.
    pub revision: u64,
    /// The last entry applied.
    pub applied: u64,
    /// The last entry it has.
    pub last: u64,
    /// How many milliseconds ago what it has was sure to be all there was; none if it never was.
    pub age: Option<u64>,
    /// Bytes that its disk has room for.
    pub free: Option<u64>,
    /// Bytes that its log and snapshots take.
    pub used: Option<u64>,
    /// What is wrong with its disk.
    pub fault: Option<Box<str>>,
    /// What keeps it from taking part.
    pub trouble: Option<Box<str>>,
    /// The latest [format](crate::FORMAT) that it reads.
    pub format: u8,
}

impl Report {
    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.text(&self.version);
        w.number(self.revision);
        w.number(self.applied);
        w.number(self.last);
        for number in [self.age, self.free, self.used] {
            w.option(number, Writer::number);
        }
        for text in [&self.fault, &self.trouble] {
            w.option(text.as_deref(), Writer::text);
        }
        w.byte(self.format);
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            version: r.text()?,
            revision: r.number()?,
            applied: r.number()?,
            last: r.number()?,
            age: r.option(Reader::number)?,
            free: r.option(Reader::number)?,
            used: r.option(Reader::number)?,
            fault: r.option(Reader::text)?,
            trouble: r.option(Reader::text)?,
            format: r.byte()?,
        })
    }
}

/// The clients that a node serves by connections that last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crowd {
    /// Drawn when the node started.
    pub run: u64,
    /// Its part of all of them is as its weight is to those of all nodes.
    pub weight: u16,
    /// Where clients reach its API, `host:port`; empty if that is not known.
    pub api: Box<str>,
    /// Connections with sessions of the tree; none if it does not serve any, or its own machine's only.
    pub sessions: Option<u64>,
    /// Watches of services by the native API.
    pub watches: u64,
}

/// A node's crowd, and how old that is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The node.
    pub node: u64,
    /// Milliseconds ago.
    pub age: u64,
    /// What it has said.
    pub crowd: Crowd,
}

impl Crowd {
    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.number(self.run);
        w.number(self.weight.into());
        w.text(&self.api);
        w.option(self.sessions, Writer::number);
        w.number(self.watches);
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let fault = r.fault("whom a node serves, with an address of 255 bytes at most");
        let crowd = Self {
            run: r.number()?,
            weight: r.short()?,
            api: r.text()?,
            sessions: r.option(count)?,
            watches: count(r)?,
        };
        match crowd.api.len() <= MAX_TEXT {
            true => Ok(crowd),
            false => Err(fault),
        }
    }
}

/// More than four thousand million are no connections, and could not be added up.
fn count(r: &mut Reader<'_>) -> Result<u64, DecodeError> {
    Ok(r.number()?.min(u32::MAX.into()))
}

impl Heard {
    pub(super) fn encode(&self, w: &mut Writer<'_>) {
        w.number(self.node);
        w.number(self.age);
        self.crowd.encode(w);
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            node: r.number()?,
            age: r.number()?,
            crowd: Crowd::decode(r)?,
        })
    }
}
