use registry::tree::Tree;
use wire::zookeeper::{ErrorCode, EventType, Out, Watches};

use super::Fault;
use crate::clients::{Clients, Key};
use crate::watches::{CHILD, DATA, PERSISTENT, RECURSIVE};

/// What an event stands for that is told again: no transaction.
const NO_ZXID: i64 = -1;

impl Clients {
    pub(super) fn watch(&mut self, key: Key, path: &str, kinds: u8) {
        if let Some(path) = self.watches.add(path, key.index(), kinds)
            && let Some(connection) = self.connection(key)
        {
            connection.watched.insert(path);
        }
    }

    pub(super) fn lasting_watch(&mut self, key: Key, path: &str, mode: i32) -> Result<(), Fault> {
        let kind = match mode {
            0 => PERSISTENT,
            1 => RECURSIVE,
            _ => return Err(ErrorCode::BadArguments.into()),
        };
        self.watch(key, path, kind);
        Ok(())
    }

    /// Looks for a watch, and takes it back if that is wanted. The client makes the event of that itself.
    pub(super) fn existing_watch(
        &mut self,
        key: Key,
        path: &str,
        kind: i32,
        remove: bool,
    ) -> Result<(), Fault> {
        let kinds = match kind {
            1 => CHILD,
            2 => DATA,
            3 => u8::MAX,
            4 => PERSISTENT,
            5 => RECURSIVE,
            _ => return Err(ErrorCode::BadArguments.into()),
        };
        if self.watches.kinds(path, key.index()) & kinds == 0 {
            return Err(ErrorCode::NoWatcher.into());
        }
        if remove
            && self.watches.remove(path, key.index(), kinds).is_some()
            && let Some(connection) = self.connection(key)
        {
            connection.watched.remove(path);
        }
        Ok(())
    }

    /// A client that was connected elsewhere, or before, says what it watches: what it missed is told now.
    pub(super) fn set_watches(&mut self, key: Key, watches: &Watches<'_>, tree: &Tree) {
        let since = watches.relative_zxid;
        let [data, exist, child, persistent, recursive] = &watches.paths;
        for path in data {
            match tree.node(path).map(|node| node.stat().mzxid.0) {
                None => self.tell_again(key, EventType::Deleted, path),
                Some(mzxid) if mzxid > since => {
                    self.tell_again(key, EventType::DataChanged, path);
                }
                Some(_) => self.watch(key, path, DATA),
            }
        }
        for path in exist {
            match tree.node(path) {
                Some(_) => self.tell_again(key, EventType::Created, path),
                None => self.watch(key, path, DATA),
            }
        }
        for path in child {
            match tree.node(path).map(|node| node.stat().pzxid.0) {
                None => self.tell_again(key, EventType::Deleted, path),
                Some(pzxid) if pzxid > since => {
                    self.tell_again(key, EventType::ChildrenChanged, path);
                }
                Some(_) => self.watch(key, path, CHILD),
            }
        }
        for path in persistent {
            self.watch(key, path, PERSISTENT);
        }
        for path in recursive {
            self.watch(key, path, RECURSIVE);
        }
    }

    fn tell_again(&mut self, key: Key, kind: EventType, path: &str) {
        if let Some(connection) = self.connection(key) {
            Out::event(&mut connection.output, NO_ZXID, kind, path);
        }
        self.count_answer(key);
    }
}
