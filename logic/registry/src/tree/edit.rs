//! Putting nodes in and taking them out, with everything that is kept beside them.

use std::sync::Arc;

use super::node::put;
use super::{NodeChange, Owner, Session, SessionId, Tree, TreeEvent, Znode, path};

/// A node that is to be put in at a path where there is none, below one that there is.
pub(super) struct Made<'a> {
    pub(super) path: &'a str,
    pub(super) node: Znode,
}

impl Tree {
    pub(super) fn add(&mut self, Made { path, node }: Made<'_>) {
        let (zxid, owner, bytes) = (self.zxid, node.owner(), node.data_length() as i64);
        node.count(path.len(), &mut self.totals, 1);
        if let Some(parent) = self.node_mut(path::parent(path)) {
            parent.record.creates = parent.record.creates.wrapping_add(1);
            parent.record.pzxid = zxid;
            put(parent, node);
        }
        match owner {
            Owner::Session(id) => {
                if let Some(session) = self.session_mut(id) {
                    session.ephemerals.insert(path.into());
                }
            }
            Owner::Container | Owner::Ttl(_) => {
                Arc::make_mut(&mut self.fading).insert(path.into());
            }
            Owner::Nobody => {}
        }
        self.count_for_quota(path, bytes, 1);
        self.measure_for_quota(path);
    }

    /// Takes out a node without children, if there is one at that path.
    pub(super) fn remove(&mut self, path: &str, events: &mut Vec<TreeEvent>) {
        let zxid = self.zxid;
        let Some(parent) = self.node_mut(path::parent(path)) else {
            return;
        };
        let Ok(place) = parent.children.find(path::name(path)) else {
            return;
        };
        let node = parent.children.remove_at(place);
        parent.record.pzxid = zxid;
        events.push(TreeEvent {
            zxid,
            change: NodeChange::Deleted,
            path: path.into(),
            access: node.access.clone(),
            parent_access: parent.access.clone(),
        });
        node.count(path.len(), &mut self.totals, -1);
        match node.owner() {
            Owner::Session(id) => {
                if let Some(session) = self.session_mut(id) {
                    session.ephemerals.remove(path);
                }
            }
            Owner::Container | Owner::Ttl(_) => {
                Arc::make_mut(&mut self.fading).remove(path);
            }
            Owner::Nobody => {}
        }
        self.count_for_quota(path, -(node.data_length() as i64), -1);
    }

    /// The node at that path, to be changed: what a clone of the tree still shows is copied.
    pub(super) fn node_mut(&mut self, path: &str) -> Option<&mut Znode> {
        let mut node = Arc::make_mut(&mut self.root);
        for name in path::names(path)? {
            let place = node.children.find(name).ok()?;
            node = Arc::make_mut(node.children.at_mut(place));
        }
        Some(node)
    }

    fn session_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        let place = self.sessions.find(&id).ok()?;
        Some(Arc::make_mut(self.sessions.at_mut(place)))
    }
}
