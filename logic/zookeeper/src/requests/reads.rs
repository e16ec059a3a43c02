use registry::tree::{Permission, Tree, Znode};
use wire::zookeeper::{ErrorCode, MultiOps, MultiResult, Out, Request};

use super::Fault;
use crate::clients::{Clients, Key};
use crate::connection::{AwaitedRequest, Connection, World};
use crate::reply::stat_fields;
use crate::watches::{CHILD, DATA};

impl Clients {
    /// Carries out a request that changes nothing.
    pub(super) fn read(
        &mut self,
        key: Key,
        number: i32,
        request: Request<'_>,
        world: &World<'_>,
    ) -> Result<(), Fault> {
        let tree = world.registry.tree();
        match request {
            Request::Exists { path, .. } if path.contains('\0') => {
                return Err(ErrorCode::BadArguments.into());
            }
            Request::Exists { path, watch } => {
                if watch {
                    self.watch(key, path, DATA);
                }
                let node = find(tree, path).ok_or(ErrorCode::NoNode)?;
                self.reply(key, number, world, |out| out.stat(&stat_fields(node)));
            }
            Request::GetData { path, watch } => {
                let node = self.readable(key, tree, path)?;
                if watch {
                    self.watch(key, path, DATA);
                }
                self.reply(key, number, world, |out| {
                    out.buffer(node.data.as_deref());
                    out.stat(&stat_fields(node));
                });
            }
            Request::GetChildren { path, watch, stat } => {
                let node = self.readable(key, tree, path)?;
                if watch {
                    self.watch(key, path, CHILD);
                }
                self.children(key, number, node, stat, world);
            }
            Request::GetAcl { path } => self.access_list(key, number, path, world)?,
            Request::Sync { path } => self.sync(key, number, path, world),
            Request::Ping => self.reply(key, number, world, |_| {}),
            Request::MultiRead(ops) => self.multi_read(key, number, ops, world)?,
            Request::Reconfig => return Err(ErrorCode::ReconfigDisabled.into()),
            Request::Watch { path, kind, remove } => {
                self.existing_watch(key, path, kind, remove)?;
                self.reply(key, number, world, |_| {});
            }
            Request::AddWatch { path, mode } => {
                self.lasting_watch(key, path, mode)?;
                self.reply(key, number, world, |out| out.int(0));
            }
            Request::SetWatches(watches) => {
                self.set_watches(key, &watches, tree);
                self.reply(key, number, world, |_| {});
            }
            Request::Auth(packet) => self.authenticate(key, number, &packet)?,
            Request::Sasl { token } => self.negotiate(key, number, token, world)?,
            Request::GetEphemerals { prefix } => self.ephemerals(key, number, prefix, world),
            Request::GetAllChildrenNumber { path } => {
                let count = self.readable(key, tree, path)?.descendant_count();
                self.reply(key, number, world, |out| out.int(count as i32));
            }
            Request::WhoAmI => self.who_am_i(key, number, world),
            _ => return Err(ErrorCode::Unimplemented.into()),
        }
        Ok(())
    }

    fn sync(&mut self, key: Key, number: i32, path: &str, world: &World<'_>) {
        match world.node {
            // Where there is one node, nobody knows more than it does.
            None => self.reply(key, number, world, |out| out.text(path)),
            Some(_) => self.wait(key, AwaitedRequest::Sync(number, path.into())),
        }
    }

    fn children(&mut self, key: Key, number: i32, node: &Znode, stat: bool, world: &World<'_>) {
        self.reply(key, number, world, |out| {
            out.texts(node.child_count(), node.children().map(Znode::name));
            if stat {
                out.stat(&stat_fields(node));
            }
        });
    }

    fn readable<'t>(&self, key: Key, tree: &'t Tree, path: &str) -> Result<&'t Znode, ErrorCode> {
        let node = find(tree, path).ok_or(ErrorCode::NoNode)?;
        let who = self.peek(key).map_or(&[][..], |c| &c.who);
        match node.access.allows(Permission::Read, who) {
            true => Ok(node),
            false => Err(ErrorCode::NoAuth),
        }
    }

    /// Whoever may not change an access list does not learn the hashes of passwords in it.
    fn access_list(
        &mut self,
        key: Key,
        number: i32,
        path: &str,
        world: &World<'_>,
    ) -> Result<(), Fault> {
        let node = find(world.registry.tree(), path).ok_or(ErrorCode::NoNode)?;
        let who = self.peek(key).map_or(&[][..], |c| &c.who);
        let admin = node.access.allows(Permission::Admin, who);
        if !admin && !node.access.allows(Permission::Read, who) {
            return Err(ErrorCode::NoAuth.into());
        }
        let mut entries = node.access.entries();
        for entry in &mut entries {
            let identity = &mut entry.identity;
            if !admin && &*identity.scheme == "digest" {
                let user = identity.id.split(':').next().unwrap_or_default();
                identity.id = format!("{user}:x").into();
            }
        }
        let lines = entries.iter().map(|entry| {
            let permissions = entry.permissions.into();
            (permissions, &*entry.identity.scheme, &*entry.identity.id)
        });
        self.reply(key, number, world, |out| {
            out.acl(entries.len(), lines);
            out.stat(&stat_fields(node));
        });
        Ok(())
    }

    fn multi_read(
        &mut self,
        key: Key,
        number: i32,
        mut ops: MultiOps<'_>,
        world: &World<'_>,
    ) -> Result<(), Fault> {
        let tree = world.registry.tree();
        let mut wanted = Vec::new();
        while let Some((_, op)) = ops.next_op().map_err(|_| ErrorCode::Marshalling)? {
            match op {
                Request::GetData { path, .. } => wanted.push((path, true)),
                Request::GetChildren {
                    path, stat: false, ..
                } => wanted.push((path, false)),
                _ => return Err(ErrorCode::Marshalling.into()),
            }
        }
        let found: Vec<_> = wanted
            .iter()
            .map(|(path, data)| (self.readable(key, tree, path), *data))
            .collect();
        self.reply(key, number, world, |out| {
            for (node, data) in found {
                read_result(out, node, data);
            }
            out.results_end();
        });
        Ok(())
    }

    fn ephemerals(&mut self, key: Key, number: i32, prefix: &str, world: &World<'_>) {
        let session = self.peek(key).map(|c| c.session);
        let session = session.and_then(|id| world.registry.tree().session(id));
        let all = || {
            let paths = session.into_iter().flat_map(|s| s.ephemerals.iter());
            paths.map(|path| &**path).filter(|p| p.starts_with(prefix))
        };
        self.reply(key, number, world, |out| out.texts(all().count(), all()));
    }

    fn who_am_i(&mut self, key: Key, number: i32, world: &World<'_>) {
        let who = self.peek(key).map(Connection::identities);
        let who = who.unwrap_or_default();
        self.reply(key, number, world, |out| {
            out.int(who.len() as i32);
            for identity in &*who {
                let user = match &*identity.scheme {
                    "digest" => identity.id.split(':').next().unwrap_or_default(),
                    _ => &identity.id,
                };
                out.text(&identity.scheme);
                out.text(user);
            }
        });
    }
}

impl Connection {
    fn identities(&self) -> std::sync::Arc<[registry::tree::Identity]> {
        self.who.clone()
    }
}

/// The node at that path; clients with a chroot of `/` ask for the root by nothing.
fn find<'t>(tree: &'t Tree, path: &str) -> Option<&'t Znode> {
    tree.node(if path.is_empty() { "/" } else { path })
}

fn read_result(out: &mut Out<'_>, node: Result<&Znode, ErrorCode>, data: bool) {
    match node {
        Ok(node) if data => {
            let stat = stat_fields(node);
            out.result(&MultiResult::Data(node.data.as_deref(), &stat));
        }
        Ok(node) => {
            let names: Vec<&str> = node.children().map(Znode::name).collect();
            out.result(&MultiResult::Children(&names));
        }
        Err(code) => out.result(&MultiResult::Failed(code.code())),
    }
}
