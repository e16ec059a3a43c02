//! What clients ask for: which of it is answered from the registry, and which becomes a command.

mod reads;
mod session;
mod watch;
mod writes;

use wire::zookeeper::{ErrorCode, Fields, OpCode, Out, Request, xid};

use crate::clients::{Clients, Key};
use crate::connection::World;

/// What a command's answer looks like.
#[derive(Clone, Debug)]
pub enum Ticket {
    /// To a client that opens a session.
    Open,
    /// To one that comes back to it from another node.
    Move,
    /// To one that closes it, under this number.
    Close(i32),
    /// To one operation: the number, and what was asked for.
    One(i32, OpCode),
    /// To several: the number, and of each whether it creates a container or a node with a time to live.
    Many(i32, Box<[bool]>),
}

/// Why a request is not answered with what it asks for.
pub(crate) enum Fault {
    /// With this code.
    Code(ErrorCode),
    /// With this code, and then the connection is closed.
    Fatal(ErrorCode),
}

impl From<ErrorCode> for Fault {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl Clients {
    /// Carries out a request; returns whether it is done with. If not, it waits for commands on their way: what is
    /// answered here must not overtake them, and must show what they did.
    pub(crate) fn request(&mut self, key: Key, body: &[u8], world: &World<'_>) -> bool {
        let Some(connection) = self.peek(key) else {
            return true;
        };
        let mut fields = Fields::new(body);
        let (Ok(number), Ok(code)) = (fields.int(), fields.int()) else {
            self.end(key);
            return true;
        };
        let rest = &body[8..];
        let (in_flight, reader) = (connection.in_flight, connection.reader);
        let waits = in_flight > 0;
        let op = OpCode::of(code);
        if op != Some(OpCode::Ping)
            && let Some(connection) = self.connection(key)
        {
            connection.asked = world.now;
        }
        if reader && op.is_some_and(|op| is_write(op) || op == OpCode::Sync) {
            self.count_request(key);
            match op {
                Some(OpCode::CloseSession) => self.end(key),
                _ => self.refuse(key, number, &ErrorCode::NotReadOnly.into(), world),
            }
            return true;
        }
        let writes = op.is_some_and(is_write);
        if waits && (!writes || in_flight >= self.limits.in_flight) {
            return false;
        }
        let request = op.map(|op| (op, Request::read(op, rest)));
        let done = match request {
            None => Err(ErrorCode::Unimplemented.into()),
            // What is answered here must not overtake what is on its way.
            Some((_, Err(_))) if waits => return false,
            Some((_, Err(_))) => Err(ErrorCode::Marshalling.into()),
            Some((op, Ok(request))) if writes => {
                match self.write(key, number, op, &request, world) {
                    // It would be answered at once.
                    Err(_) if waits => return false,
                    written => written,
                }
            }
            Some((_, Ok(request))) => self.read(key, number, request, world),
        };
        self.count_request(key);
        if let Err(fault) = done {
            self.refuse(key, number, &fault, world);
        }
        true
    }

    fn refuse(&mut self, key: Key, number: i32, fault: &Fault, world: &World<'_>) {
        let (Fault::Code(code) | Fault::Fatal(code)) = fault;
        let zxid = match number {
            xid::AUTH => 0,
            _ => world.registry.tree().zxid().0,
        };
        if let Some(connection) = self.connection(key) {
            Out::empty(&mut connection.output, number, zxid, Some(*code));
        }
        self.count_answer(key);
        if let Fault::Fatal(_) = fault {
            self.end(key);
        }
    }

    /// Answers at once, with what `body` writes.
    pub(crate) fn reply(
        &mut self,
        key: Key,
        number: i32,
        world: &World<'_>,
        body: impl FnOnce(&mut Out<'_>),
    ) {
        let zxid = world.registry.tree().zxid().0;
        if let Some(connection) = self.connection(key) {
            let mut out = Out::reply(&mut connection.output, number, zxid, 0);
            body(&mut out);
            out.finish();
        }
        self.count_answer(key);
    }
}

fn is_write(op: OpCode) -> bool {
    matches!(
        op,
        OpCode::Create
            | OpCode::Create2
            | OpCode::CreateContainer
            | OpCode::CreateTtl
            | OpCode::Delete
            | OpCode::SetData
            | OpCode::SetAcl
            | OpCode::Check
            | OpCode::Multi
            | OpCode::CloseSession
    )
}
