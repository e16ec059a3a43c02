use std::sync::Arc;

use super::{AccessList, Data, SessionId, Totals, Zxid, access};
use crate::{Keyed, Sorted};

/// A node of the tree.
#[derive(Clone, Debug)]
pub struct Znode {
    pub(super) name: Box<str>,
    /// What clients have put there; `None` where a client said so, which is not the same as nothing.
    pub data: Data,
    /// Who may do what.
    pub access: AccessList,
    pub(super) record: Record,
    pub(super) children: Sorted<Znode>,
}

/// What is kept of a node's past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) czxid: Zxid,
    pub(super) mzxid: Zxid,
    pub(super) pzxid: Zxid,
    pub(super) ctime: u64,
    pub(super) mtime: u64,
    pub(super) version: i32,
    pub(super) aversion: i32,
    /// How many children were ever created: the next sequential child's number.
    pub(super) creates: i32,
    pub(super) owner: Owner,
}

/// What a node's life depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nothing.
    Nobody,
    /// A session.
    Session(SessionId),
    /// Its children: it goes after the last of them has gone.
    Container,
    /// It goes when it has no children and its data was not set for so many milliseconds.
    Ttl(u64),
}

/// A node's statistics, as clients see them. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// The transaction that created it.
    pub czxid: Zxid,
    /// The one that set its data last.
    pub mzxid: Zxid,
    /// When it was created.
    pub ctime: u64,
    /// When its data was set last.
    pub mtime: u64,
    /// How many times its data was set.
    pub version: i32,
    /// How many times children came and went.
    pub cversion: i32,
    /// How many times its access list was set.
    pub aversion: i32,
    /// The session it lives by, or zero.
    pub owner: SessionId,
    /// Bytes of data.
    pub data_length: i32,
    /// How many children it has.
    pub children: i32,
    /// The transaction that added or removed a child last.
    pub pzxid: Zxid,
}

impl Znode {
    pub(super) fn new(name: &str, data: Data, access: AccessList, record: Record) -> Self {
        Self {
            name: name.into(),
            data,
            access,
            record,
            children: Sorted::default(),
        }
    }

    /// Its last path element; empty for the root.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its life depends on.
    pub fn owner(&self) -> Owner {
        self.record.owner
    }

    /// The child of that name.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.get(name).map(|child| &**child)
    }

    /// Its children, by their names.
    pub fn children(&self) -> impl Iterator<Item = &Self> {
        self.children.iter().map(|child| &**child)
    }

    /// How many children it has.
    pub fn child_count(&self) -> usize {
        self.children.len()
    }

    /// How many nodes there are below it.
    pub fn descendant_count(&self) -> usize {
        let below = self.children().map(Self::descendant_count).sum::<usize>();
        self.children.len() + below
    }

    /// Its statistics.
    pub fn stat(&self) -> Stat {
        let record = &self.record;
        let children = self.children.len() as i32;
        Stat {
            czxid: record.czxid,
            mzxid: record.mzxid,
            ctime: record.ctime,
            mtime: record.mtime,
            version: record.version,
            // Every creation counts one, and so does every removal: creations less what is left.
            cversion: record.creates.wrapping_mul(2).wrapping_sub(children),
            aversion: record.aversion,
            owner: match record.owner {
                Owner::Session(id) => id,
                _ => SessionId(0),
            },
            data_length: self.data_length() as i32,
            children,
            pzxid: record.pzxid,
        }
    }

    pub(super) fn data_length(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.len())
    }

    /// Whether it is a container that has served, or has outlived its time.
    pub(super) fn is_faded(&self, at: u64) -> bool {
        self.children.is_empty()
            && match self.record.owner {
                Owner::Container => self.record.creates > 0,
                Owner::Ttl(ttl) => self.record.mtime.saturating_add(ttl) <= at,
                Owner::Nobody | Owner::Session(_) => false,
            }
    }

    pub(super) fn walk(&self, path: &mut String, visit: &mut impl FnMut(&str, &Self)) {
        visit(if path.is_empty() { "/" } else { path }, self);
        for child in self.children() {
            let len = path.len();
            path.push('/');
            path.push_str(&child.name);
            child.walk(path, visit);
            path.truncate(len);
        }
    }

    /// Adds it, and what is below it, to the sums.
    pub(super) fn sum(&self, path: &str, totals: &mut Totals) {
        let mut path = path.to_owned();
        self.walk(&mut path, &mut |path, node| {
            node.count(path.len(), totals, 1);
        });
    }

    /// Adds it to the sums, or takes it away.
    pub(super) fn count(&self, path: usize, totals: &mut Totals, sign: i64) {
        let bytes = (path + self.data_length()) as i64;
        let ephemeral = i64::from(matches!(self.record.owner, Owner::Session(_)));
        totals.nodes = totals.nodes.saturating_add_signed(sign);
        totals.bytes = totals.bytes.saturating_add_signed(sign * bytes);
        totals.ephemerals = totals.ephemerals.saturating_add_signed(sign * ephemeral);
    }
}

impl Keyed for Znode {
    type Key = str;

    fn key(&self) -> &str {
        &self.name
    }
}

/// The root of a tree in which nothing has happened yet: with the nodes that servers keep for themselves.
pub(super) fn initial_root() -> Znode {
    let plain = |name: &str, access: AccessList| {
        let empty = Some(Arc::from(&b""[..]));
        Znode::new(name, empty, access, Record::default())
    };
    let mut zookeeper = plain("zookeeper", AccessList::OPEN);
    let mut config = plain("config", access::read_only());
    // As ZooKeeper shows it: its access list was never set by anybody.
    config.record.aversion = -1;
    put(&mut zookeeper, config);
    put(&mut zookeeper, plain("quota", AccessList::OPEN));
    let mut root = plain("", AccessList::OPEN);
    put(&mut root, zookeeper);
    root
}

/// Puts a child in its place; there is none of its name.
pub(super) fn put(parent: &mut Znode, child: Znode) {
    if let Err(place) = parent.children.find(&child.name) {
        parent.children.insert_at(place, Arc::new(child));
    }
}

impl Default for Record {
    fn default() -> Self {
        Self {
            czxid: Zxid(0),
            mzxid: Zxid(0),
            pzxid: Zxid(0),
            ctime: 0,
            mtime: 0,
            version: 0,
            aversion: 0,
            creates: 0,
            owner: Owner::Nobody,
        }
    }
}
