use registry::tree::{Data, Kind, Mode, Op, TreeCommand, valid};
use wire::zookeeper::{Create, ErrorCode, MultiOps, OpCode, Request};

use super::{Fault, Ticket};
use crate::access::resolve;
use crate::clients::{Clients, Key};
use crate::connection::{Connection, Phase, World};

/// The longest time to live, in milliseconds: what fits ZooKeeper's 40 bits.
const MAX_TTL: i64 = 0xff_ffff_ffff;

impl Clients {
    /// Makes a request that changes something a command.
    pub(super) fn write(
        &mut self,
        key: Key,
        number: i32,
        code: OpCode,
        request: &Request<'_>,
        world: &World<'_>,
    ) -> Result<(), Fault> {
        let Some(connection) = self.peek(key) else {
            return Ok(());
        };
        let (session, at) = (connection.session, world.wall);
        if let Request::CloseSession = request {
            self.submit(key, TreeCommand::Close { session }, Ticket::Close(number));
            if let Some(connection) = self.connection(key) {
                connection.phase = Phase::Leaving;
            }
            return Ok(());
        }
        let who = connection.who.clone();
        if let Request::Multi(ops) = request {
            let (ops, lasting) = several(connection, *ops)?;
            let command = TreeCommand::Many {
                session,
                who,
                at,
                ops,
            };
            self.submit(key, command, Ticket::Many(number, lasting.into()));
            return Ok(());
        }
        let op = operation(connection, request)?;
        let command = TreeCommand::One {
            session,
            who,
            at,
            op,
        };
        self.submit(key, command, Ticket::One(number, code));
        Ok(())
    }
}

/// The operations of a multi, and of each whether it creates a container or a node with a time to live.
fn several(
    connection: &Connection,
    mut ops: MultiOps<'_>,
) -> Result<(Vec<Op>, Vec<bool>), ErrorCode> {
    let (mut operations, mut lasting) = (Vec::new(), Vec::new());
    while let Some((_, request)) = ops.next_op().map_err(|_| ErrorCode::Marshalling)? {
        if let Request::SetAcl { .. } = request {
            return Err(ErrorCode::Marshalling);
        }
        let op = match operation(connection, &request) {
            Ok(op) => op,
            Err(why @ (ErrorCode::InvalidAcl | ErrorCode::BadArguments)) => Op::Impossible {
                path: request_path(&request).into(),
                access: why == ErrorCode::InvalidAcl,
            },
            Err(_) => return Err(ErrorCode::Marshalling),
        };
        lasting.push(matches!(
            &op,
            Op::Create {
                mode: Mode {
                    kind: Kind::Container | Kind::Ttl(_),
                    ..
                },
                ..
            }
        ));
        operations.push(op);
    }
    Ok((operations, lasting))
}

fn request_path<'a>(request: &Request<'a>) -> &'a str {
    match request {
        Request::Create(create) => create.path,
        _ => "",
    }
}

fn operation(connection: &Connection, request: &Request<'_>) -> Result<Op, ErrorCode> {
    Ok(match request {
        Request::Create(create) => creation(connection, create)?,
        Request::Delete { path, version } => Op::Delete {
            path: (*path).into(),
            version: *version,
        },
        Request::SetData {
            path,
            data,
            version,
        } => Op::SetData {
            path: (*path).into(),
            data: owned(*data),
            version: *version,
        },
        Request::SetAcl { path, .. } if !valid(path) => return Err(ErrorCode::BadArguments),
        Request::SetAcl { path, acl, version } => Op::SetAccess {
            path: (*path).into(),
            access: resolve(acl, &connection.who).ok_or(ErrorCode::InvalidAcl)?,
            version: *version,
        },
        Request::Check { path, version } => Op::Check {
            path: (*path).into(),
            version: *version,
        },
        _ => return Err(ErrorCode::Unimplemented),
    })
}

fn creation(connection: &Connection, create: &Create<'_>) -> Result<Op, ErrorCode> {
    let ttl = create.ttl.unwrap_or(0);
    let (kind, sequential) = match create.flags {
        0 => (Kind::Persistent, false),
        1 => (Kind::Ephemeral, false),
        2 => (Kind::Persistent, true),
        3 => (Kind::Ephemeral, true),
        4 => (Kind::Container, false),
        5 | 6 if (1..=MAX_TTL).contains(&ttl) => (Kind::Ttl(ttl as u64), create.flags == 6),
        _ => return Err(ErrorCode::BadArguments),
    };
    if !create.path.contains('/') || create.path.contains('\0') {
        return Err(ErrorCode::BadArguments);
    }
    Ok(Op::Create {
        path: create.path.into(),
        data: owned(create.data),
        access: resolve(&create.acl, &connection.who).ok_or(ErrorCode::InvalidAcl)?,
        mode: Mode { sequential, kind },
    })
}

fn owned(data: Option<&[u8]>) -> Data {
    data.map(Into::into)
}
