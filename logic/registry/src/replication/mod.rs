//! What replicas of the registry keep and send each other: positions in the log, votes, who belongs to the cluster,
//! and the log's records. Bytes only; what they mean is decided by whoever replicates.

mod message;
mod question;
mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::codec::{DecodeError, Reader, Writer};

pub use message::{Ballot, Hello, MAX_ENTRIES, MAX_MESSAGE, Message, PROTOCOL, Request, Response};
pub use question::{Change, Crowd, Heard, Report, Standing};
pub use record::{Batch, Body, Proposer, Record, commands, push_command};

/// The most nodes that a membership may name: more would not be a cluster that agrees on anything in time.
const MAX_NODES: usize = 256;
/// The longest name or address of a node, in bytes.
const MAX_TEXT: usize = 255;

/// A place in the replicated log, and the term of the leader that put something there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryId {
    /// The leader's term. Zero for what was written before there were terms.
    pub term: u64,
    /// The place, without gaps.
    pub index: u64,
}

/// Whom a node votes for, or follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    /// The term.
    pub term: u64,
    /// The node that leads in it, or wants to.
    pub node: u64,
    /// Whether a majority has agreed.
    pub committed: bool,
}

/// A node of the cluster, as the others know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: Box<str>,
    /// Where the others reach it, `host:port`. Empty for a node without others.
    pub address: Box<str>,
    /// Drawn when its data directory was begun: with another one it has forgotten what it promised, and is another node.
    /// Zero for a node without others.
    pub disk: u64,
    /// The latest [format](crate::FORMAT) that its program reads; zero if it has not said so.
    pub format: u8,
}

/// What members read of whom nobody has said it: memberships did not at first.
const UNSAID: u8 = 6;
/// Stands where the number of sets of voters is in memberships that do not say what their members read: there are two at most.
const WITH_FORMATS: u64 = 3;

/// Who belongs to the cluster, and who votes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The voters; two sets while one replaces the other.
    pub voters: Vec<BTreeSet<u64>>,
    /// All nodes by their number, observers too.
    pub nodes: BTreeMap<u64, Member>,
}

impl EntryId {
    pub(crate) fn encode(self, w: &mut Writer<'_>) {
        w.number(self.term);
        w.number(self.index);
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            term: r.number()?,
            index: r.number()?,
        })
    }
}

impl Vote {
    pub(crate) fn encode(self, w: &mut Writer<'_>) {
        w.number(self.term);
        w.number(self.node);
        w.flag(self.committed);
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            term: r.number()?,
            node: r.number()?,
            committed: r.flag()?,
        })
    }
}

impl Membership {
    /// The only member of a cluster of one.
    pub fn of_one(node: u64, member: Member) -> Self {
        Self {
            voters: vec![BTreeSet::from([node])],
            nodes: BTreeMap::from([(node, member)]),
        }
    }

    /// The node of this name.
    pub fn named(&self, name: &str) -> Option<(u64, &Member)> {
        let mut nodes = self.nodes.iter();
        let found = nodes.find(|(_, member)| *member.name == *name);
        found.map(|(node, member)| (*node, member))
    }

    /// The latest format that all members read, so that it may be written.
    pub fn format(&self) -> u8 {
        let said = self.nodes.values().map(|member| match member.format {
            0 => UNSAID,
            format => format,
        });
        said.min().unwrap_or(UNSAID)
    }

    /// Whether a node votes.
    pub fn votes(&self, node: u64) -> bool {
        self.voters.iter().any(|set| set.contains(&node))
    }

    /// Whether a node belongs to it, with this data directory.
    pub fn has(&self, node: u64, disk: u64) -> bool {
        self.nodes.get(&node).is_some_and(|m| m.disk == disk)
    }

    pub(crate) fn encode(&self, w: &mut Writer<'_>) {
        w.number(WITH_FORMATS);
        w.number(self.voters.len() as u64);
        for set in &self.voters {
            w.number(set.len() as u64);
            set.iter().for_each(|node| w.number(*node));
        }
        w.number(self.nodes.len() as u64);
        for (node, member) in &self.nodes {
            w.number(*node);
            w.text(&member.name);
            w.text(&member.address);
            w.number(member.disk);
            w.byte(member.format);
        }
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let fault = r.fault("a membership");
        let first = r.number()?;
        let formats = first == WITH_FORMATS;
        let sets = if formats { r.number()? } else { first };
        if sets > 2 {
            return Err(fault);
        }
        let set = |r: &mut Reader<'_>| Ok(r.list(Reader::number)?.into_iter().collect());
        let voters: Vec<BTreeSet<u64>> = (0..sets).map(|_| set(r)).collect::<Result<_, _>>()?;
        let nodes: BTreeMap<u64, Member> = r
            .list(|r| {
                let node = r.number()?;
                let member = Member {
                    name: r.text()?,
                    address: r.text()?,
                    disk: r.number()?,
                    format: if formats { r.byte()? } else { 0 },
                };
                Ok((node, member))
            })?
            .into_iter()
            .collect();
        let known = |set: &BTreeSet<u64>| set.iter().all(|node| nodes.contains_key(node));
        let short =
            |member: &Member| member.name.len() <= MAX_TEXT && member.address.len() <= MAX_TEXT;
        let sound = voters.iter().all(|set| !set.is_empty() && known(set))
            && nodes.len() <= MAX_NODES
            && nodes.values().all(short);
        match sound {
            true => Ok(Self { voters, nodes }),
            false => Err(fault),
        }
    }

    /// Appends its encoding to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.encode(&mut Writer::new(out));
    }

    /// Reads what [`Membership::write`] wrote.
    ///
    /// # Errors
    ///
    /// When `bytes` are no membership, or name voters that are no nodes.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let membership = Self::decode(&mut r)?;
        r.finish()?;
        Ok(membership)
    }
}

/// What a snapshot stands for, besides the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The last entry in it.
    pub entry: EntryId,
    /// Who belonged to the cluster then.
    pub membership: Membership,
    /// The entry that says so.
    pub since: EntryId,
    /// What the node that took it had voted for.
    pub vote: Option<Vote>,
    /// The place in that node's log from which on there is all that came after.
    pub position: u64,
    /// The last batch of each node that was applied.
    pub proposed: BTreeMap<u64, Proposer>,
}

impl Origin {
    /// Appends its encoding to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        self.entry.encode(&mut w);
        self.membership.encode(&mut w);
        self.since.encode(&mut w);
        w.option(self.vote, |w, vote| vote.encode(w));
        w.number(self.position);
        w.number(self.proposed.len() as u64);
        for (node, last) in &self.proposed {
            w.number(*node);
            last.encode(&mut w);
        }
    }

    /// Reads what [`Origin::write`] wrote.
    ///
    /// # Errors
    ///
    /// When `bytes` are none.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let origin = Self {
            entry: EntryId::decode(&mut r)?,
            membership: Membership::decode(&mut r)?,
            since: EntryId::decode(&mut r)?,
            vote: r.option(Vote::decode)?,
            position: r.number()?,
            proposed: r
                .list(|r| Ok((r.number()?, Proposer::decode(r)?)))?
                .into_iter()
                .collect(),
        };
        r.finish()?;
        Ok(origin)
    }
}
