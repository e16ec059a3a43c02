use std::sync::Arc;

use model::Secret;
use registry::tree::{Identity, SessionId, TreeCommand};
use wire::zookeeper::{AuthPacket, ConnectRequest, ConnectResponse, ErrorCode, Out};

use super::{Fault, Ticket};
use crate::access::{digest, same};
use crate::clients::{Clients, Key};
use crate::connection::{AwaitedRequest, Phase, World};
use crate::sasl;

/// Identities that one client may prove: each is written to the log with its commands.
const MOST_IDENTITIES: usize = 32;
/// The longest, in bytes.
const LONGEST_IDENTITY: usize = 512;

impl Clients {
    /// A client opens a session, or comes back to one.
    pub(crate) fn connect(&mut self, key: Key, request: &ConnectRequest<'_>, world: &World<'_>) {
        if !world.in_touch {
            // Nobody knows which sessions there are.
            return match self.limits.readers && request.read_only == Some(true) {
                true => self.let_read(key, request, world),
                false => self.end(key),
            };
        }
        if request.session == 0 {
            return self.open(key, request, world);
        }
        let Some(connection) = self.connection(key) else {
            return;
        };
        connection.session = SessionId(request.session);
        // One of another length is nobody's.
        connection.password = request.password.try_into().unwrap_or_default();
        connection.read_only = request.read_only;
        if !self.come_back(key, world) {
            match world.node {
                // It may have been opened on another node a moment ago.
                Some(_) => {
                    if let Some(connection) = self.connection(key) {
                        connection.phase = Phase::Opening;
                    }
                    self.wait(key, AwaitedRequest::Find);
                }
                None => self.turn_away(key),
            }
        }
    }

    /// Serves a client without a session: it may read what may be out of date, and is told so.
    fn let_read(&mut self, key: Key, request: &ConnectRequest<'_>, world: &World<'_>) {
        let timeout = self.timeout(request);
        // One that it may have is not looked for: it gets it back from a node that knows.
        let session = self.new_session(world);
        let Some(connection) = self.connection(key) else {
            return;
        };
        connection.session = session;
        connection.timeout = timeout;
        connection.read_only = request.read_only;
        connection.reader = true;
        self.has_readers = true;
        self.welcome(key);
        self.count_answer(key);
    }

    /// What a client gets that asks for a timeout, in milliseconds.
    fn timeout(&self, request: &ConnectRequest<'_>) -> u32 {
        let (least, most) = (self.limits.min_timeout, self.limits.max_timeout);
        let wanted = u64::try_from(request.timeout).unwrap_or(0);
        wanted.clamp(least.as_millis() as u64, most.as_millis() as u64) as u32
    }

    /// Serves a session that there is, once no other node does; false if there is none of that number and password.
    fn come_back(&mut self, key: Key, world: &World<'_>) -> bool {
        let Some(connection) = self.connection(key) else {
            return true;
        };
        let session = world.registry.tree().session(connection.session);
        let Some(session) = session.filter(|s| same(&s.password, &connection.password)) else {
            return false;
        };
        connection.timeout = session.timeout;
        let (session, timeout, by) = (session.id, session.timeout, session.node);
        match world.node {
            Some(node) if node != by && (world.passes_on)(session, timeout, by) => self.end(key),
            Some(node) if node != by => {
                if let Some(connection) = self.connection(key) {
                    connection.phase = Phase::Opening;
                }
                self.submit(key, TreeCommand::Move { session }, Ticket::Move);
            }
            _ => {
                if let Some(connection) = self.connection(key) {
                    connection.back = true;
                }
                self.welcome(key);
                self.attach(key, world);
                self.count_answer(key);
            }
        }
        true
    }

    /// Tells a client that its session is over.
    pub(crate) fn turn_away(&mut self, key: Key) {
        if let Some(connection) = self.connection(key) {
            ConnectResponse::refused(connection.read_only).write(&mut connection.output);
            self.end(key);
        }
    }

    /// Answers what has waited for this node to have caught up with the others.
    pub(crate) fn go_on(&mut self, key: Key, world: &World<'_>) {
        let awaited = self.connection(key).and_then(|c| c.awaits.take());
        match awaited.map(|awaited| awaited.request) {
            Some(AwaitedRequest::Find) if !self.come_back(key, world) => self.turn_away(key),
            Some(AwaitedRequest::Find) => {}
            Some(AwaitedRequest::Sync(number, path)) => {
                self.reply(key, number, world, |out| out.text(&path));
            }
            None => {}
        }
    }

    fn open(&mut self, key: Key, request: &ConnectRequest<'_>, world: &World<'_>) {
        let timeout = self.timeout(request);
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
                read_only: connection.read_only.map(|_| connection.reader),
            };
            response.write(&mut connection.output);
        }
    }

    /// A client is also this, as it has proven while it connected.
    pub fn identify(&mut self, key: Key, scheme: &str, id: &str) {
        if id.len() <= LONGEST_IDENTITY
            && let Some(connection) = self.connection(key)
        {
            let identity = Identity::new(scheme, id);
            let mut who = connection.who.to_vec();
            if !who.contains(&identity) && who.len() < MOST_IDENTITIES {
                who.push(identity);
            }
            connection.who = Arc::from(who);
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
            // Its certificate has proven it already.
            "x509" if connection.who.iter().any(|who| &*who.scheme == "x509") => {}
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

    /// A step of SASL: a question without an answer gets a challenge, and an answer to that is looked at.
    pub(super) fn negotiate(
        &mut self,
        key: Key,
        number: i32,
        token: &[u8],
        world: &World<'_>,
    ) -> Result<(), Fault> {
        if self.limits.sasl_users.is_empty() {
            // There is nothing here that could be negotiated with.
            return Err(ErrorCode::AuthFailed.into());
        }
        let Some(connection) = self.connection(key) else {
            return Ok(());
        };
        let nonce = connection.nonce.take();
        let said = match nonce.filter(|_| !token.is_empty()) {
            None => {
                let drawn = [(world.draw)().to_be_bytes(), (world.draw)().to_be_bytes()];
                let nonce = sasl::hex(&drawn.concat());
                let challenge = sasl::challenge(&nonce);
                connection.nonce = Some(nonce.into());
                challenge
            }
            Some(nonce) => {
                let users = &self.limits.sasl_users;
                let password = |user: &str| users.get(user).map(|Secret(password)| &**password);
                let Some((user, proof)) = sasl::verify(token, &nonce, password) else {
                    return Err(Fault::Fatal(ErrorCode::AuthFailed));
                };
                self.identify(key, "sasl", &user);
                proof
            }
        };
        if let Some(connection) = self.connection(key) {
            let mut out = Out::reply(&mut connection.output, number, 0, 0);
            out.buffer(Some(said.as_bytes()));
            out.finish();
        }
        self.count_answer(key);
        Ok(())
    }
}
