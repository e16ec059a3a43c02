use registry::tree::{Data, Kind, Mode, Op, TreeCommand};
use wire::zookeeper::{Create, ErrorCode, MultiOps, MultiResult, OpCode, Request};

use super::{Fault, Ticket};
use crate::access::resolve;
use crate::clients::{Clients, Key};
use crate::connection::{Connection, World};

/// The longest time to live, in milliseconds: what fits ZooKeeper's 40 bits.
const MAX_TTL: i64 = 0xff_ffff_ffff;

impl Clients {
    /// Makes a request that changes something a command.
    pub(super) fn write(
        &mut self,
        key: Key,
        number: i32,
        code: OpCode,
        request: Request<'_>,
        world: &World<'_>,
    ) -> Result<(), Fault> {
        let Some(connection) = self.peek(key) else {
            return Ok(());
        };
        let (session, at) = (connection.session, world.wall);
        if let Request::CloseSession = request {
            self.submit(key, TreeCommand::Close { session }, Ticket::Close(number));
            return Ok(());
        }
        let who = connection.who.clone();
        if let Request::Multi(ops) = request {
            return match several(connection, ops)? {
                Ok((ops, codes)) => {
                    let ticket = Ticket::Many(number, codes.into());
                    let command = TreeCommand::Many {
                        session,
                        who,
                        at,
                        ops,
                    };
                    self.submit(key, command, ticket);
                    Ok(())
                }
                Err((failed, of, code)) if connection.in_flight == 0 => {
                    self.failed_multi(key, number, failed, of, code, world);
                    Ok(())
                }
                Err((_, _, code)) => Err(code.into()),
            };
        }
        let op = operation(connection, &request)?;
        let command = TreeCommand::One {
            session,
            who,
            at,
            op,
        };
        self.submit(key, command, Ticket::One(number, code));
        Ok(())
    }

    /// A transaction that cannot be carried out whatever the tree is like.
    fn failed_multi(
        &mut self,
        key: Key,
        number: i32,
        failed: usize,
        of: usize,
        code: ErrorCode,
        world: &World<'_>,
    ) {
        self.reply(key, number, world, |out| {
            for index in 0..of {
                out.result(&MultiResult::Failed(result_code(index, failed, code)));
            }
            out.results_end();
        });
    }
}

/// What is said of each operation of a transaction of which one failed.
pub(crate) fn result_code(index: usize, failed: usize, code: ErrorCode) -> i32 {
    match index.cmp(&failed) {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Equal => code.code(),
        std::cmp::Ordering::Greater => ErrorCode::RuntimeInconsistency.code(),
    }
}

/// The operations of a multi; or which one of how many makes no sense, and why.
type Several = Result<(Vec<Op>, Vec<OpCode>), (usize, usize, ErrorCode)>;

fn several(connection: &Connection, mut ops: MultiOps<'_>) -> Result<Several, ErrorCode> {
    let (mut operations, mut codes) = (Vec::new(), Vec::new());
    let mut failed = None;
    while let Some((code, request)) = ops.next_op().map_err(|_| ErrorCode::Marshalling)? {
        if let Request::SetAcl { .. } = request {
            return Err(ErrorCode::Marshalling);
        }
        match operation(connection, &request) {
            Ok(op) => operations.push(op),
            Err(ErrorCode::Unimplemented) => return Err(ErrorCode::Marshalling),
            Err(why) => failed = failed.or(Some((codes.len(), why))),
        }
        codes.push(code);
    }
    Ok(match failed {
        None => Ok((operations, codes)),
        Some((index, why)) => Err((index, codes.len(), why)),
    })
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
