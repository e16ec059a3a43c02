//! The tree as pieces of a snapshot: first the sessions, then the nodes, parents first.

use std::sync::Arc;

use super::command::{decode_access, encode_access, password, session};
use super::node::{Record, initial_root, put};
use super::{NOWHERE, Owner, Session, Totals, Tree, Znode, Zxid, path};
use crate::Sorted;
use crate::codec::{DecodeError, Reader, Writer};
use crate::snapshot::Version;

/// What a piece's first byte says.
pub(crate) const INSTANCES: u8 = 0;
pub(crate) const SESSIONS: u8 = 1;
pub(crate) const NODES: u8 = 2;

/// Writes all of the tree: pieces of about `size` bytes.
pub(crate) fn write<E>(
    tree: &Tree,
    size: usize,
    version: Version,
    sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut piece = vec![SESSIONS];
    Writer::new(&mut piece).number(tree.zxid.0 as u64);
    for session in tree.sessions() {
        if piece.len() >= size {
            sink(&piece)?;
            piece.clear();
            piece.push(SESSIONS);
            Writer::new(&mut piece).number(tree.zxid.0 as u64);
        }
        let mut w = Writer::new(&mut piece);
        w.number(session.id.0 as u64);
        w.bytes(&session.password);
        w.number(session.timeout.into());
        if version >= Version::WithMoves {
            w.number(session.node);
        }
    }
    sink(&piece)?;
    piece.clear();
    piece.push(NODES);
    // Not `walk`, which cannot stop at an error.
    let mut stack: Vec<(usize, &Znode)> = vec![(0, &tree.root)];
    while let Some((depth, node)) = stack.pop() {
        if piece.len() >= size {
            sink(&piece)?;
            piece.clear();
            piece.push(NODES);
        }
        encode_node(&mut Writer::new(&mut piece), depth, node);
        let first = stack.len();
        stack.extend(node.children().map(|child| (depth + 1, child)));
        stack[first..].reverse();
    }
    sink(&piece)
}

fn encode_node(w: &mut Writer<'_>, depth: usize, node: &Znode) {
    w.number(depth as u64);
    w.text(&node.name);
    w.data(&node.data);
    encode_access(w, &node.access);
    let r = &node.record;
    for number in [
        r.czxid.0 as u64,
        r.mzxid.0 as u64,
        r.pzxid.0 as u64,
        r.ctime,
        r.mtime,
    ] {
        w.number(number);
    }
    for number in [r.version, r.aversion, r.creates] {
        w.signed(number);
    }
    match r.owner {
        Owner::Nobody => w.byte(0),
        Owner::Session(id) => {
            w.byte(1);
            w.number(id.0 as u64);
        }
        Owner::Container => w.byte(2),
        Owner::Ttl(ttl) => {
            w.byte(3);
            w.number(ttl);
        }
    }
}

/// A tree being read from pieces.
#[derive(Debug, Default)]
pub(crate) struct Rebuild {
    tree: Tree,
    /// The path of the last node, and where each of its elements ends.
    path: String,
    ends: Vec<usize>,
}

impl Rebuild {
    pub(crate) fn sessions(
        &mut self,
        r: &mut Reader<'_>,
        version: Version,
    ) -> Result<(), DecodeError> {
        self.tree.zxid = Zxid(r.number()? as i64);
        while !r.is_empty() {
            let session = Session {
                id: session(r)?,
                password: password(r)?,
                timeout: r.number()?.try_into().map_err(|_| r.fault("a timeout"))?,
                node: match version >= Version::WithMoves {
                    true => r.number()?,
                    false => NOWHERE,
                },
                ephemerals: Default::default(),
            };
            if let Err(place) = self.tree.sessions.find(&session.id) {
                self.tree.sessions.insert_at(place, Arc::new(session));
            }
        }
        Ok(())
    }

    pub(crate) fn nodes(&mut self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        while !r.is_empty() {
            let fault = r.fault("a node below one that was there before");
            let depth = usize::try_from(r.number()?).map_err(|_| fault.clone())?;
            let node = decode_node(r)?;
            if depth == 0 {
                self.tree.root = Arc::new(node);
                continue;
            }
            if depth > self.ends.len() + 1 {
                return Err(fault);
            }
            self.ends.truncate(depth - 1);
            self.path.truncate(self.ends.last().copied().unwrap_or(0));
            self.path.push('/');
            self.path.push_str(&node.name);
            self.ends.push(self.path.len());
            if !path::valid(&self.path) || self.tree.node(&self.path).is_some() {
                return Err(fault);
            }
            self.place(node);
        }
        Ok(())
    }

    fn place(&mut self, node: Znode) {
        let path = self.path.as_str();
        match node.owner() {
            Owner::Session(id) => {
                if let Ok(place) = self.tree.sessions.find(&id) {
                    let session = Arc::make_mut(self.tree.sessions.at_mut(place));
                    session.ephemerals.insert(path.into());
                }
            }
            Owner::Container | Owner::Ttl(_) => {
                Arc::make_mut(&mut self.tree.fading).insert(path.into());
            }
            Owner::Nobody => {}
        }
        if let Some(parent) = self.tree.node_mut(path::parent(path)) {
            put(parent, node);
        }
    }

    /// The tree; one in which nothing has happened yet if there were no pieces.
    pub(crate) fn finish(mut self) -> Tree {
        if self.tree.root.child_count() == 0 {
            self.tree.root = Arc::new(initial_root());
        }
        let mut totals = Totals::default();
        self.tree.root.sum("", &mut totals);
        self.tree.totals = totals;
        self.tree
    }
}

fn decode_node(r: &mut Reader<'_>) -> Result<Znode, DecodeError> {
    let name = r.text()?;
    let data = r.data()?;
    let access = decode_access(r)?;
    let mut zxid = || r.number().map(|n| Zxid(n as i64));
    let (czxid, mzxid, pzxid) = (zxid()?, zxid()?, zxid()?);
    let record = Record {
        czxid,
        mzxid,
        pzxid,
        ctime: r.number()?,
        mtime: r.number()?,
        version: r.signed()?,
        aversion: r.signed()?,
        creates: r.signed()?,
        owner: match r.byte()? {
            0 => Owner::Nobody,
            1 => Owner::Session(session(r)?),
            2 => Owner::Container,
            3 => Owner::Ttl(r.number()?),
            _ => return Err(r.fault("what a node's life depends on")),
        },
    };
    Ok(Znode {
        name,
        data,
        access,
        record,
        children: Sorted::default(),
    })
}
