use std::sync::Arc;

use super::{AccessList, Data, Mode, Znode};
use super::{
    Identity, Kind, NOWHERE, NodeChange, Op, Outcome, Owner, Permission, Refusal, Session,
    SessionId, Tree, TreeCommand, TreeEvent, TreeReply, Zxid, edit::Made, node::Record, path,
};

/// Nodes that servers keep for themselves and that stay.
const KEPT: [&str; 4] = ["/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"];

impl Tree {
    /// Applies a command that was given to this node, as the next transaction.
    pub(crate) fn apply(
        &mut self,
        node: u64,
        command: &TreeCommand,
        events: &mut Vec<TreeEvent>,
    ) -> TreeReply {
        self.zxid.0 += 1;
        match command {
            TreeCommand::Open {
                session,
                password,
                timeout,
            } => {
                self.open(Session {
                    id: *session,
                    password: *password,
                    timeout: *timeout,
                    node,
                    ephemerals: Default::default(),
                });
                TreeReply::Session
            }
            TreeCommand::Move { session } => match self.sessions.find(session) {
                Ok(place) => {
                    Arc::make_mut(self.sessions.at_mut(place)).node = node;
                    TreeReply::Session
                }
                Err(_) => TreeReply::One(Err(Refusal::SessionExpired)),
            },
            TreeCommand::Close { session } => {
                self.close(*session, events);
                TreeReply::Session
            }
            TreeCommand::One {
                session,
                who,
                at,
                op,
            } => {
                let by = self.by(node, *session, who, at.0);
                TreeReply::One(by.and_then(|by| self.carry_out(&by, op, events)))
            }
            TreeCommand::Many {
                session,
                who,
                at,
                ops,
            } => match self.by(node, *session, who, at.0) {
                Ok(by) => TreeReply::Many(self.all_or_none(&by, ops, events)),
                Err(refusal) => TreeReply::Many(Err((0, refusal))),
            },
            TreeCommand::Sweep { paths, at } => {
                let faded = |tree: &Self, path| tree.node(path).is_some_and(|n| n.is_faded(at.0));
                let mut swept = 0;
                for path in paths {
                    if faded(self, path) {
                        self.remove(path, events);
                        swept += 1;
                    }
                }
                TreeReply::Swept(swept)
            }
        }
    }

    fn open(&mut self, session: Session) {
        match self.sessions.find(&session.id) {
            // Numbers are drawn from 56 bits; should one be drawn twice, the first owner keeps it, and the second finds a
            // password that is not its own.
            Ok(_) => {}
            Err(place) => self.sessions.insert_at(place, Arc::new(session)),
        }
    }

    fn close(&mut self, id: SessionId, events: &mut Vec<TreeEvent>) {
        let Ok(place) = self.sessions.find(&id) else {
            return;
        };
        let session = self.sessions.remove_at(place);
        for path in &session.ephemerals {
            self.remove(path, events);
        }
    }

    fn by<'a>(
        &self,
        node: u64,
        session: SessionId,
        who: &'a [Identity],
        at: u64,
    ) -> Result<By<'a>, Refusal> {
        match self.session(session) {
            // What a client asked of the node that it was with before: it has been told that nobody knows what became of
            // it, and may have asked again.
            Some(of) if node != NOWHERE && of.node != node => Err(Refusal::SessionMoved),
            Some(_) => Ok(By { session, who, at }),
            None => Err(Refusal::SessionExpired),
        }
    }

    fn all_or_none(
        &mut self,
        by: &By<'_>,
        ops: &[Op],
        events: &mut Vec<TreeEvent>,
    ) -> Result<Vec<Outcome>, (usize, Refusal)> {
        let before = self.clone();
        let told = events.len();
        let mut outcomes = Vec::with_capacity(ops.len());
        for (index, op) in ops.iter().enumerate() {
            match self.carry_out(by, op, events) {
                Ok(outcome) => outcomes.push(outcome),
                Err(refusal) => {
                    *self = before;
                    events.truncate(told);
                    return Err((index, refusal));
                }
            }
        }
        Ok(outcomes)
    }

    fn carry_out(
        &mut self,
        by: &By<'_>,
        op: &Op,
        events: &mut Vec<TreeEvent>,
    ) -> Result<Outcome, Refusal> {
        match op {
            Op::Create {
                path,
                data,
                access,
                mode,
            } => self.create(by, path, data, access, *mode, events),
            Op::Delete { path, version } => self.delete(by, path, *version, events),
            Op::SetData {
                path,
                data,
                version,
            } => self.set_data(by, path, data, *version, events),
            Op::SetAccess {
                path,
                access,
                version,
            } => {
                let node = self.existing(path)?;
                by.may(Permission::Admin, &node.access)?;
                let next = next_version(node.record.aversion, *version)?;
                let node = self.node_mut(path).ok_or(Refusal::NoNode)?;
                node.access = access.clone();
                node.record.aversion = next;
                Ok(Outcome::Set(node.stat()))
            }
            Op::Check { path, version } => {
                let node = self.existing(path)?;
                by.may(Permission::Read, &node.access)?;
                next_version(node.record.version, *version)?;
                Ok(Outcome::Checked)
            }
            Op::Impossible { access: true, .. } => Err(Refusal::InvalidAccess),
            Op::Impossible { access: false, .. } => Err(Refusal::BadArguments),
        }
    }

    /// The checks are in the order of ZooKeeper's, so that what several things are wrong with gets the same answer.
    fn create(
        &mut self,
        by: &By<'_>,
        given: &str,
        data: &Data,
        access: &AccessList,
        mode: Mode,
        events: &mut Vec<TreeEvent>,
    ) -> Result<Outcome, Refusal> {
        if !given.contains('/') || given.contains('\0') {
            return Err(Refusal::BadArguments);
        }
        let parent = self.node(path::parent(given)).ok_or(Refusal::NoNode)?;
        by.may(Permission::Create, &parent.access)?;
        let creates = parent.record.creates;
        let (parent_access, parent_owner) = (parent.access.clone(), parent.owner());
        let numbered = mode.sequential.then(|| format!("{given}{creates:010}"));
        let path = numbered.as_deref().unwrap_or(given);
        if !path::valid(path) {
            return Err(Refusal::BadArguments);
        }
        if self.node(path).is_some() {
            return Err(Refusal::NodeExists);
        }
        if matches!(parent_owner, Owner::Session(_)) {
            return Err(Refusal::NoChildrenForEphemerals);
        }
        self.check_quota(path, data.as_ref().map_or(0, |d| d.len()) as i64, 1)?;
        let owner = match mode.kind {
            Kind::Persistent => Owner::Nobody,
            Kind::Ephemeral => Owner::Session(by.session),
            Kind::Container => Owner::Container,
            Kind::Ttl(ttl) => Owner::Ttl(ttl),
        };
        let record = Record::created(self.zxid, by.at, owner);
        let made = Made {
            path,
            node: Znode::new(path::name(path), data.clone(), access.clone(), record),
        };
        let stat = made.node.stat();
        self.add(made);
        events.push(TreeEvent {
            zxid: self.zxid,
            change: NodeChange::Created,
            path: path.into(),
            access: access.clone(),
            parent_access,
        });
        Ok(Outcome::Created(path.into(), stat))
    }

    fn delete(
        &mut self,
        by: &By<'_>,
        path: &str,
        version: i32,
        events: &mut Vec<TreeEvent>,
    ) -> Result<Outcome, Refusal> {
        if !path.contains('/') || path.contains('\0') || KEPT.contains(&path) {
            return Err(Refusal::BadArguments);
        }
        let parent = self.node(path::parent(path)).ok_or(Refusal::NoNode)?;
        by.may(Permission::Delete, &parent.access)?;
        let node = self.node(path).ok_or(Refusal::NoNode)?;
        next_version(node.record.version, version)?;
        if node.child_count() > 0 {
            return Err(Refusal::NotEmpty);
        }
        self.remove(path, events);
        Ok(Outcome::Deleted)
    }

    fn set_data(
        &mut self,
        by: &By<'_>,
        path: &str,
        data: &Data,
        version: i32,
        events: &mut Vec<TreeEvent>,
    ) -> Result<Outcome, Refusal> {
        let node = self.existing(path)?;
        by.may(Permission::Write, &node.access)?;
        let grown = data.as_ref().map_or(0, |d| d.len()) as i64 - node.data_length() as i64;
        let next = next_version(node.record.version, version)?;
        self.check_quota(path, grown, 0)?;
        let zxid = self.zxid;
        let node = self.node_mut(path).ok_or(Refusal::NoNode)?;
        node.data.clone_from(data);
        node.record.version = next;
        node.record.mzxid = zxid;
        node.record.mtime = by.at;
        let stat = node.stat();
        events.push(TreeEvent {
            zxid,
            change: NodeChange::Data,
            path: path.into(),
            access: node.access.clone(),
            parent_access: AccessList::OPEN,
        });
        self.totals.bytes = self.totals.bytes.saturating_add_signed(grown);
        self.count_for_quota(path, grown, 0);
        Ok(Outcome::Set(stat))
    }

    fn existing(&self, path: &str) -> Result<&Znode, Refusal> {
        if !path::valid(path) {
            return Err(Refusal::BadArguments);
        }
        self.node(path).ok_or(Refusal::NoNode)
    }
}

/// Who does something, and when.
struct By<'a> {
    session: SessionId,
    who: &'a [Identity],
    at: u64,
}

impl By<'_> {
    fn may(&self, permission: Permission, access: &AccessList) -> Result<(), Refusal> {
        match access.allows(permission, self.who) {
            true => Ok(()),
            false => Err(Refusal::NoAuth),
        }
    }
}

impl Record {
    fn created(zxid: Zxid, at: u64, owner: Owner) -> Self {
        Self {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: at,
            mtime: at,
            owner,
            ..Self::default()
        }
    }
}

/// The version after `present`, if that is the expected one. Never −1, which stands for any.
fn next_version(present: i32, expected: i32) -> Result<i32, Refusal> {
    if expected != -1 && expected != present {
        return Err(Refusal::BadVersion);
    }
    match present.wrapping_add(1) {
        -1 => Ok(0),
        next => Ok(next),
    }
}
