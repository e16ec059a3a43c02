use std::collections::BTreeMap;

use model::{
    Health, Incarnation, Instance, InstanceId, Revision, Role, ServiceKey, Timestamp, Weight,
};

use crate::codec::{DecodeError, Reader, Writer, has_grpc_check, has_new_check};
use crate::tree::TreeCommand;

/// The most bytes in an encoded command. 64 KiB of metadata and a long list of tags fit many times over; the tree's
/// nodes may have a MiB of data, and there is who writes them beside that.
pub const MAX_COMMAND: usize = (1 << 20) + (1 << 16);

/// The most items in a batch: with the longest names and reasons each it stays below
/// [`MAX_COMMAND`].
pub const MAX_BATCH: usize = 1_000;

/// The longest reason of a verdict, in bytes: what was found, for people, not the whole answer of whoever was probed.
const MAX_REASON: usize = 250;

/// The version of the encoding; the first byte of every encoded command. A command is written in the oldest
/// version that can say it, so that going back to an older program works as long as nothing new was used.
const VERSION: u8 = 1;

/// Has roles in verdicts, and checks by exchange and by protocol.
const WITH_ROLES: u8 = 2;

/// Has the tree.
const WITH_TREE: u8 = 3;

/// Instances have tiers.
const WITH_TIERS: u8 = 4;

/// The first that has checks by gRPC.
const WITH_GRPC: u8 = 5;

/// Sessions of the tree move from node to node.
const WITH_MOVES: u8 = 6;

/// The latest format of commands and snapshots that this program reads and writes. Nodes tell it each other: what is written
/// in a cluster must be read by all of them.
pub const FORMAT: u8 = WITH_MOVES;

/// A change to the registry, as it is written to the log. Times and decisions are in it: applying it
/// consults nothing but the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Registers an instance, or replaces what is registered under its id.
    Register {
        /// The service.
        key: ServiceKey,
        /// The whole instance.
        instance: Box<Instance>,
        /// When the node took it, by its wall clock.
        at: Timestamp,
    },
    /// Removes an instance at its owner's wish.
    Deregister {
        /// The service.
        key: ServiceKey,
        /// The instance.
        id: InstanceId,
    },
    /// Changes some of what is registered.
    Patch {
        /// The service.
        key: ServiceKey,
        /// The instance.
        id: InstanceId,
        /// What is changed.
        patch: Box<Patch>,
    },
    /// What active checks found out.
    SetHealth(Vec<Verdict>),
    /// Leases that hold again after they had run out or were held over: their part turns passing.
    Renew(Vec<LeaseRef>),
    /// Leases that ran out but are held over by the mass-loss guard: their part turns warning.
    Hold(Vec<LeaseRef>),
    /// Leases that ran out: their part turns critical.
    Expire(Vec<LeaseRef>),
    /// Leases whose grace is over too: their instances are removed.
    Remove(Vec<LeaseRef>),
    /// A change of the tree.
    Tree(TreeCommand),
}

/// Changes to an instance; `None` leaves alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// Its share of the traffic.
    pub weight: Option<Weight>,
    /// Whether it takes no new work.
    pub drain: Option<bool>,
    /// Whether it is in traffic at all.
    pub enabled: Option<bool>,
    /// Words to select by, sorted; replaces all.
    pub tags: Option<Box<[Box<str>]>>,
    /// Replaces all; empty removes all.
    pub metadata: Option<BTreeMap<Box<str>, Box<str>>>,
}

/// What an active check found out about an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The service.
    pub key: ServiceKey,
    /// The instance.
    pub id: InstanceId,
    /// The life that was probed: a verdict on another address is void.
    pub incarnation: Incarnation,
    /// What was found.
    pub health: Health,
    /// What the instance is to the others, if the check learns that.
    pub role: Option<Role>,
    /// Why, in words, when it is not passing.
    pub reason: Option<Box<str>>,
}

impl Verdict {
    /// What is kept of a reason.
    pub fn shorten(reason: &str) -> &str {
        let ends = 0..=reason.len().min(MAX_REASON);
        let end = ends.rev().find(|end| reason.is_char_boundary(*end));
        &reason[..end.unwrap_or(0)]
    }
}

/// A lease, and the renewal that a decision about it was based on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRef {
    /// The service.
    pub key: ServiceKey,
    /// The instance.
    pub id: InstanceId,
    /// The record's `renewed` when it was decided. Void if it has been renewed since.
    pub renewed: Revision,
}

impl Command {
    /// Appends its encoding to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        let version = self.format();
        w.byte(version);
        match self {
            Self::Register { key, instance, at } => {
                w.byte(1);
                w.key(key);
                w.number(at.0);
                w.instance(instance);
            }
            Self::Deregister { key, id } => {
                w.byte(2);
                w.key(key);
                w.text(id.as_str());
            }
            Self::Patch { key, id, patch } => {
                w.byte(3);
                w.key(key);
                w.text(id.as_str());
                patch.encode(&mut w);
            }
            Self::SetHealth(verdicts) => {
                w.byte(4);
                w.number(verdicts.len() as u64);
                for v in verdicts {
                    w.key(&v.key);
                    w.text(v.id.as_str());
                    w.number(v.incarnation.0);
                    w.health(v.health);
                    if version >= WITH_ROLES {
                        w.option(v.role, Writer::role);
                    }
                    w.option(v.reason.as_ref(), |w, reason| w.text(reason));
                }
            }
            Self::Renew(leases) => encode_leases(&mut w, 5, leases),
            Self::Hold(leases) => encode_leases(&mut w, 6, leases),
            Self::Expire(leases) => encode_leases(&mut w, 7, leases),
            Self::Remove(leases) => encode_leases(&mut w, 8, leases),
            Self::Tree(command) => {
                w.byte(9);
                command.encode(&mut w);
            }
        }
    }

    /// Reads what [`Command::encode`] wrote; never takes more memory than a small multiple of `bytes`.
    ///
    /// # Errors
    ///
    /// When `bytes` are longer than [`MAX_COMMAND`], of an unknown version, or no command.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_COMMAND {
            return Err(DecodeError::TooLong(bytes.len()));
        }
        let mut r = Reader::new(bytes);
        let version = r.byte()?;
        if !(VERSION..=FORMAT).contains(&version) {
            return Err(DecodeError::Version(version));
        }
        let command = match r.byte()? {
            1 => Self::Register {
                key: r.key()?,
                at: Timestamp(r.number()?),
                instance: Box::new(r.instance()?),
            },
            2 => Self::Deregister {
                key: r.key()?,
                id: r.name()?,
            },
            3 => Self::Patch {
                key: r.key()?,
                id: r.name()?,
                patch: Box::new(Patch::decode(&mut r)?),
            },
            4 => Self::SetHealth(r.list(|r| {
                Ok(Verdict {
                    key: r.key()?,
                    id: r.name()?,
                    incarnation: Incarnation(r.number()?),
                    health: r.health()?,
                    role: match version >= WITH_ROLES {
                        true => r.option(Reader::role)?,
                        false => None,
                    },
                    reason: r.option(Reader::text)?,
                })
            })?),
            5 => Self::Renew(decode_leases(&mut r)?),
            6 => Self::Hold(decode_leases(&mut r)?),
            7 => Self::Expire(decode_leases(&mut r)?),
            8 => Self::Remove(decode_leases(&mut r)?),
            9 if version >= WITH_TREE => Self::Tree(TreeCommand::decode(&mut r)?),
            _ => return Err(r.fault("a kind of command")),
        };
        r.finish()?;
        Ok(command)
    }
}

impl Command {
    /// The oldest format that can say it, which is the one that it is written in.
    pub fn format(&self) -> u8 {
        let new = match self {
            Self::Register { instance, .. } if has_grpc_check(instance) => return WITH_GRPC,
            Self::Register { instance, .. } if instance.tier != 0 => return WITH_TIERS,
            Self::Register { instance, .. } => has_new_check(instance),
            Self::SetHealth(verdicts) => verdicts.iter().any(|v| v.role.is_some()),
            Self::Tree(TreeCommand::Move { .. }) => return WITH_MOVES,
            Self::Tree(_) => return WITH_TREE,
            _ => false,
        };
        if new { WITH_ROLES } else { VERSION }
    }

    /// The leases of a command about leases.
    pub(crate) fn leases_mut(&mut self) -> Option<&mut Vec<LeaseRef>> {
        match self {
            Self::Renew(leases)
            | Self::Hold(leases)
            | Self::Expire(leases)
            | Self::Remove(leases) => Some(leases),
            _ => None,
        }
    }
}

impl Patch {
    fn encode(&self, w: &mut Writer<'_>) {
        w.option(self.weight, |w, weight| w.number(weight.0.into()));
        w.option(self.drain, Writer::flag);
        w.option(self.enabled, Writer::flag);
        w.option(self.tags.as_ref(), |w, tags| w.texts(tags));
        w.option(self.metadata.as_ref(), Writer::pairs);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            weight: r.option(|r| r.short().map(Weight))?,
            drain: r.option(Reader::flag)?,
            enabled: r.option(Reader::flag)?,
            tags: r.option(|r| r.list(Reader::text).map(Into::into))?,
            metadata: r.option(Reader::pairs)?,
        })
    }
}

fn encode_leases(w: &mut Writer<'_>, kind: u8, leases: &[LeaseRef]) {
    w.byte(kind);
    w.number(leases.len() as u64);
    for lease in leases {
        w.key(&lease.key);
        w.text(lease.id.as_str());
        w.number(lease.renewed.0);
    }
}

fn decode_leases(r: &mut Reader<'_>) -> Result<Vec<LeaseRef>, DecodeError> {
    r.list(|r| {
        Ok(LeaseRef {
            key: r.key()?,
            id: r.name()?,
            renewed: Revision(r.number()?),
        })
    })
}
