use std::sync::Arc;

use registry::tree::{Identity, SessionId, TreeCommand};
use wire::zookeeper::{AuthPacket, ConnectRequest, ConnectResponse, ErrorCode, Out};

use super::{Fault, Ticket};
use crate::access::digest;
use crate::clients::{Clients, Key};
use crate::connection::{Phase, World};

/// Identities that one client may prove: each is written to the log with its commands.
const MOST_IDENTITIES: usize = 32;
/// The longest, in bytes.
const LONGEST_IDENTITY: usize = 512;

impl Clients {
    /// A client opens a session, or comes back to one.
    pub(crate) fn connect(&mut self, key: Key, request: &ConnectRequest<'_>, world: &World<'_>) {
        if request.session == 0 {
            return self.open(key, request, world);
        }
        let id = SessionId(request.session);
        let session = world.registry.tree().session(id);
        let session = session.filter(|s| same(&s.password, request.password));
        let Some(connection) = self.connection(key) else {
            return;
        };
        let Some(session) = session else {
            ConnectResponse::refused(request.read_only).write(&mut connection.output);
            return self.end(key);
        };
        connection.session = id;
        connection.password = session.password;
        connection.timeout = session.timeout;
        connection.read_only = request.read_only;
        self.welcome(key);
        self.attach(key, world);
        self.count_answer(key);
    }

    fn open(&mut self, key: Key, request: &ConnectRequest<'_>, world: &World<'_>) {
        let (least, most) = (self.limits.min_timeout, self.limits.max_timeout);
        let timeout = u64::try_from(request.timeout).unwrap_or(0);
        let timeout = timeout.clamp(least.as_millis() as u64, most.as_millis() as u64) as u32;
        let session = self.new_session(world);
        let Some(connection) = self.connection(key) else {
            return;
        };
        connection.session = session;
        connection.timeout = timeout;
        connection.read_only = request.read_only;
        connection.phase = Phase::Opening;
        let (a, b) = ((world.draw)().to_be_bytes(), (world.draw)().to_be_bytes());
        connection.password[..8].copy_from_slice(&a);
        connection.password[8..].copy_from_slice(&b);
        let command = TreeCommand::Open {
            session,
            password: connection.password,
            timeout,
        };
        self.submit(key, command, Ticket::Open);
    }

    fn new_session(&self, world: &World<'_>) -> SessionId {
        loop {
            let low = (world.draw)() >> 8;
            let id = SessionId((u64::from(self.limits.server) << 56 | low) as i64);
            if world.registry.tree().session(id).is_none() {
                return id;
            }
        }
    }

    /// Tells a client its session.
    pub(crate) fn welcome(&mut self, key: Key) {
        if let Some(connection) = self.connection(key) {
            connection.phase = Phase::Serving;
            let response = ConnectResponse {
                timeout: connection.timeout as i32,
                session: connection.session.0,
                password: connection.password,
                read_only: connection.read_only.map(|_| false),
            };
            response.write(&mut connection.output);
        }
    }

    pub(super) fn authenticate(
        &mut self,
        key: Key,
        number: i32,
        packet: &AuthPacket<'_>,
    ) -> Result<(), Fault> {
        let failed = Fault::Fatal(ErrorCode::AuthFailed);
        let super_digest = self.limits.super_digest.clone();
        let Some(connection) = self.connection(key) else {
            return Ok(());
        };
        let mut who = connection.who.to_vec();
        let mut add = |identity: Identity| {
            if !who.contains(&identity) {
                who.push(identity);
            }
        };
        match packet.scheme {
            "digest" => {
                let auth = std::str::from_utf8(packet.auth);
                let Ok(auth) = auth.map_err(drop).and_then(|auth| match auth.len() {
                    0..=LONGEST_IDENTITY => Ok(auth),
                    _ => Err(()),
                }) else {
                    return Err(failed);
                };
                let id = digest(auth);
                if super_digest.is_some_and(|wanted| *wanted == *id) {
                    add(Identity::new("super", ""));
                }
                add(Identity::new("digest", &id));
            }
            "ip" => add(Identity::new("ip", &connection.peer.to_string())),
            _ => return Err(failed),
        }
        if who.len() > MOST_IDENTITIES {
            return Err(failed);
        }
        connection.who = Arc::from(who);
        Out::empty(&mut connection.output, number, 0, None);
        self.count_answer(key);
        Ok(())
    }
}

/// Whether two passwords are the same, in a time that does not say where they differ.
fn same(ours: &[u8], theirs: &[u8]) -> bool {
    let differing = ours.iter().zip(theirs).fold(0, |all, (a, b)| all | (a ^ b));
    ours.len() == theirs.len() && differing == 0
}
