use std::sync::Arc;

use model::Timestamp;

use super::{AccessList, Entry, Identity};
use crate::codec::{DecodeError, Reader, Writer};

/// A session's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub i64);

/// What a client has to know to take its session up again.
pub type Password = [u8; 16];

/// A node's data. None is not the same as empty: clients can say both, and get back what they said.
pub type Data = Option<Arc<[u8]>>;

/// A change to the tree, as it is written to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeCommand {
    /// Opens a session.
    Open {
        /// Its number, drawn by whoever opens it.
        session: SessionId,
        /// Its password, likewise.
        password: Password,
        /// In milliseconds.
        timeout: u32,
    },
    /// The node that this command was given to serves the session from here on.
    Move {
        /// Which one.
        session: SessionId,
    },
    /// Ends a session, at its owner's wish or because its time ran out.
    Close {
        /// Which one.
        session: SessionId,
    },
    /// One operation of a session.
    One {
        /// Whose.
        session: SessionId,
        /// Who that is, for access lists.
        who: Arc<[Identity]>,
        /// When, by the wall clock of the node that took it.
        at: Timestamp,
        /// What is to be done.
        op: Op,
    },
    /// Several, of which all are carried out or none.
    Many {
        /// Whose.
        session: SessionId,
        /// Who that is, for access lists.
        who: Arc<[Identity]>,
        /// When, by the wall clock of the node that took it.
        at: Timestamp,
        /// What is to be done, in order.
        ops: Vec<Op>,
    },
    /// Removes those of these nodes that are containers which have served, or have outlived their time.
    Sweep {
        /// Their paths.
        paths: Vec<Box<str>>,
        /// When.
        at: Timestamp,
    },
}

/// An operation on one node. A version of −1 stands for any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Creates it.
    Create {
        /// Where; of a sequential one, without its number.
        path: Box<str>,
        /// Its data.
        data: Data,
        /// Who may do what with it.
        access: AccessList,
        /// What kind of node.
        mode: Mode,
    },
    /// Deletes it.
    Delete {
        /// Which one.
        path: Box<str>,
        /// The version that its data must have.
        version: i32,
    },
    /// Sets its data.
    SetData {
        /// Of which one.
        path: Box<str>,
        /// What to.
        data: Data,
        /// The version that its data must have.
        version: i32,
    },
    /// Sets its access list.
    SetAccess {
        /// Of which one.
        path: Box<str>,
        /// What to.
        access: AccessList,
        /// The version that its access list must have.
        version: i32,
    },
    /// Does nothing, if its data has this version.
    Check {
        /// Of which one.
        path: Box<str>,
        /// The version that its data must have.
        version: i32,
    },
    /// Cannot be carried out, whatever the tree is like. It has its turn among others all the same, for the first
    /// that fails is the one that is told.
    Impossible {
        /// On which one.
        path: Box<str>,
        /// Whether it is the access list that is at fault, and not another argument.
        access: bool,
    },
}

/// What kind of node is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Its parent's count of creations becomes the end of its name.
    pub sequential: bool,
    /// What its life depends on.
    pub kind: Kind,
}

/// What a new node's life depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Persistent,
    /// The session.
    Ephemeral,
    /// Its children.
    Container,
    /// Its data being set again within so many milliseconds.
    Ttl(u64),
}

impl TreeCommand {
    pub(crate) fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Self::Open {
                session,
                password,
                timeout,
            } => {
                w.byte(1);
                w.number(session.0 as u64);
                w.bytes(password);
                w.number((*timeout).into());
            }
            Self::Close { session } => {
                w.byte(2);
                w.number(session.0 as u64);
            }
            Self::One {
                session,
                who,
                at,
                op,
            } => {
                w.byte(3);
                encode_by(w, *session, who, *at);
                op.encode(w);
            }
            Self::Many {
                session,
                who,
                at,
                ops,
            } => {
                w.byte(4);
                encode_by(w, *session, who, *at);
                w.number(ops.len() as u64);
                ops.iter().for_each(|op| op.encode(w));
            }
            Self::Sweep { paths, at } => {
                w.byte(5);
                w.number(at.0);
                w.texts(paths);
            }
            Self::Move { session } => {
                w.byte(6);
                w.number(session.0 as u64);
            }
        }
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.byte()? {
            1 => Self::Open {
                session: session(r)?,
                password: password(r)?,
                timeout: r.number()?.try_into().map_err(|_| r.fault("a timeout"))?,
            },
            2 => Self::Close {
                session: session(r)?,
            },
            3 => Self::One {
                session: session(r)?,
                who: identities(r)?,
                at: Timestamp(r.number()?),
                op: Op::decode(r)?,
            },
            4 => Self::Many {
                session: session(r)?,
                who: identities(r)?,
                at: Timestamp(r.number()?),
                ops: r.list(Op::decode)?,
            },
            5 => Self::Sweep {
                at: Timestamp(r.number()?),
                paths: r.list(Reader::text)?,
            },
            6 => Self::Move {
                session: session(r)?,
            },
            _ => return Err(r.fault("a kind of command of the tree")),
        })
    }
}

impl Op {
    /// The path it is about.
    pub fn path(&self) -> &str {
        match self {
            Self::Create { path, .. }
            | Self::Delete { path, .. }
            | Self::SetData { path, .. }
            | Self::SetAccess { path, .. }
            | Self::Check { path, .. }
            | Self::Impossible { path, .. } => path,
        }
    }

    fn encode(&self, w: &mut Writer<'_>) {
        let kind = match self {
            Self::Create { .. } => 1,
            Self::Delete { .. } => 2,
            Self::SetData { .. } => 3,
            Self::SetAccess { .. } => 4,
            Self::Check { .. } => 5,
            Self::Impossible { .. } => 6,
        };
        w.byte(kind);
        w.text(self.path());
        match self {
            Self::Create {
                data, access, mode, ..
            } => {
                w.data(data);
                encode_access(w, access);
                w.flag(mode.sequential);
                match mode.kind {
                    Kind::Persistent => w.byte(0),
                    Kind::Ephemeral => w.byte(1),
                    Kind::Container => w.byte(2),
                    Kind::Ttl(ttl) => {
                        w.byte(3);
                        w.number(ttl);
                    }
                }
            }
            Self::SetData { data, version, .. } => {
                w.data(data);
                w.signed(*version);
            }
            Self::SetAccess {
                access, version, ..
            } => {
                encode_access(w, access);
                w.signed(*version);
            }
            Self::Delete { version, .. } | Self::Check { version, .. } => w.signed(*version),
            Self::Impossible { access, .. } => w.flag(*access),
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = r.byte()?;
        let path = r.text()?;
        Ok(match kind {
            1 => Self::Create {
                path,
                data: r.data()?,
                access: decode_access(r)?,
                mode: Mode {
                    sequential: r.flag()?,
                    kind: match r.byte()? {
                        0 => Kind::Persistent,
                        1 => Kind::Ephemeral,
                        2 => Kind::Container,
                        3 => Kind::Ttl(r.number()?),
                        _ => return Err(r.fault("a kind of node")),
                    },
                },
            },
            2 => Self::Delete {
                path,
                version: r.signed()?,
            },
            3 => Self::SetData {
                path,
                data: r.data()?,
                version: r.signed()?,
            },
            4 => Self::SetAccess {
                path,
                access: decode_access(r)?,
                version: r.signed()?,
            },
            5 => Self::Check {
                path,
                version: r.signed()?,
            },
            6 => Self::Impossible {
                path,
                access: r.flag()?,
            },
            _ => return Err(r.fault("an operation of the tree")),
        })
    }
}

fn encode_by(w: &mut Writer<'_>, session: SessionId, who: &[Identity], at: Timestamp) {
    w.number(session.0 as u64);
    w.number(who.len() as u64);
    for identity in who {
        w.text(&identity.scheme);
        w.text(&identity.id);
    }
    w.number(at.0);
}

pub(super) fn session(r: &mut Reader<'_>) -> Result<SessionId, DecodeError> {
    r.number().map(|id| SessionId(id as i64))
}

pub(super) fn password(r: &mut Reader<'_>) -> Result<Password, DecodeError> {
    let fault = r.fault("a password of 16 bytes");
    r.bytes()?.try_into().map_err(|_| fault)
}

fn identity(r: &mut Reader<'_>) -> Result<Identity, DecodeError> {
    Ok(Identity {
        scheme: r.text()?,
        id: r.text()?,
    })
}

fn identities(r: &mut Reader<'_>) -> Result<Arc<[Identity]>, DecodeError> {
    r.list(identity).map(Into::into)
}

pub(super) fn encode_access(w: &mut Writer<'_>, access: &AccessList) {
    let entries = access.0.as_deref().unwrap_or_default();
    w.flag(access.is_open());
    if !access.is_open() {
        w.number(entries.len() as u64);
    }
    for entry in entries {
        w.byte(entry.permissions);
        w.text(&entry.identity.scheme);
        w.text(&entry.identity.id);
    }
}

pub(super) fn decode_access(r: &mut Reader<'_>) -> Result<AccessList, DecodeError> {
    if r.flag()? {
        return Ok(AccessList::OPEN);
    }
    let entries = r.list(|r| {
        Ok(Entry {
            permissions: r.byte()?,
            identity: identity(r)?,
        })
    })?;
    Ok(AccessList(Some(entries.into())))
}
