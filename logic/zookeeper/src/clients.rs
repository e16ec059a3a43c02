use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use model::{FourLetterWord, Moment};
use registry::tree::{AccessList, NodeChange, Permission, SessionId, TreeEvent, parent};
use registry::{Command, Committed, Registry};
use slab::Slab;
use wire::zookeeper::{ConnectRequest, EventType, Frame, Out, frame};

use crate::connection::{Awaited, AwaitedRequest, Connection, Limits, Phase, World};
use crate::requests::Ticket;
use crate::watches::{CHILD, DATA, Gone, PERSISTENT, Watches};
use crate::words::{self, ConnectionFacts};

/// The longest frame of a client that has no session: its request for one has 45 bytes.
const FIRST_FRAME: usize = 1_024;

/// A connection's name. Places are used again, so it has a generation, and an answer that comes late reaches nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    index: u32,
    generation: u32,
}

/// The connections that one thread serves.
#[derive(Debug)]
pub struct Clients {
    pub(crate) limits: Limits,
    pub(crate) slab: Slab<Connection>,
    pub(crate) watches: Watches,
    pub(crate) sessions: BTreeMap<SessionId, Key>,
    /// There may be connections without a session, that may read.
    pub(crate) has_readers: bool,
    generation: u32,
    commands: VecDeque<(Key, Command, Ticket)>,
    /// Connections that wait for this node to have caught up.
    behind: Vec<Key>,
    /// Sessions that connections here have taken over, and that no other connection serves from now on.
    taken: Vec<SessionId>,
    words: Vec<(Key, FourLetterWord)>,
    /// Connections that something happened to.
    listed: Vec<Key>,
    /// Those that have been told of changes. They come after the others: who waits for an answer should not wait for ten
    /// thousand to be told of what it did.
    told: VecDeque<Key>,
    counters: Counters,
    /// Frames of events, made once for all who are told.
    scratch: Vec<u8>,
}

/// What has been counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests.
    pub received: u64,
    /// Answers and events.
    pub sent: u64,
    /// Events.
    pub events: u64,
    /// Connections closed because their clients did not read.
    pub dropped: u64,
}

/// What a connection has for the outside.
#[derive(Debug, Default)]
pub struct Take {
    /// To be sent.
    pub output: Vec<u8>,
    /// After that it is to be closed.
    pub close: bool,
    /// It does not take bytes until something has been sent or committed.
    pub full: bool,
}

/// How a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may be read from.
    Open,
    /// It waits for its own writes, or for its client to read.
    Full,
    /// It is gone, or about to be.
    Ending,
}

impl Clients {
    /// Nobody yet. `seed` must not be known to clients.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            slab: Slab::new(),
            watches: Watches::new(seed),
            sessions: BTreeMap::new(),
            has_readers: false,
            generation: 0,
            commands: VecDeque::new(),
            behind: Vec::new(),
            taken: Vec::new(),
            words: Vec::new(),
            listed: Vec::new(),
            told: VecDeque::new(),
            counters: Counters::default(),
            scratch: Vec::new(),
        }
    }

    /// A new connection.
    pub fn accept(&mut self, peer: SocketAddr, now: Moment) -> Key {
        self.generation = self.generation.wrapping_add(1);
        let connection = Connection::new(peer.ip(), peer.port(), now, self.generation);
        Key {
            index: self.slab.insert(connection) as u32,
            generation: self.generation,
        }
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// What has been counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How many watches there are.
    pub fn watch_counts(&self) -> crate::WatchCounts {
        self.watches.counts()
    }

    /// Bytes came from a client: carries out what can be carried out.
    pub fn receive(&mut self, key: Key, bytes: &[u8], world: &World<'_>) {
        let Some(connection) = self.connection(key) else {
            return;
        };
        let has_session = connection.phase == Phase::Serving && !connection.reader;
        if connection.pulse.is_none() && has_session {
            connection.pulse = (world.pulse)(connection.session);
        }
        if let Some(pulse) = &connection.pulse {
            pulse.beat(world.now);
        }
        if connection.input.is_empty() {
            let used = self.drive(key, bytes, world);
            if let Some(connection) = self.connection(key) {
                connection.input.extend_from_slice(&bytes[used..]);
            }
        } else {
            connection.input.extend_from_slice(bytes);
            self.resume(key, world);
        }
    }

    /// Goes on with what came and had to wait.
    pub fn resume(&mut self, key: Key, world: &World<'_>) {
        let Some(connection) = self.connection(key) else {
            return;
        };
        let mut input = std::mem::take(&mut connection.input);
        let used = self.drive(key, &input, world);
        if let Some(connection) = self.connection(key) {
            if used == input.len() {
                // An idle connection keeps no memory for what may come.
                input = Vec::new();
            } else {
                input.drain(..used);
            }
            connection.input = input;
        }
    }

    /// Whether there is something that waited and may be gone on with.
    pub fn is_resumable(&self, key: Key) -> bool {
        self.peek(key).is_some_and(|c| {
            c.awaits.as_ref().is_some_and(|awaited| awaited.over)
                || c.in_flight == 0
                    && c.awaits.is_none()
                    && !c.input.is_empty()
                    && c.output.len() < self.limits.answers
                    && !matches!(frame(&c.input), Frame::Partial)
        })
    }

    /// Handles whole frames at the front of `bytes`; returns how many bytes are done with.
    fn drive(&mut self, key: Key, bytes: &[u8], world: &World<'_>) -> usize {
        let mut used = 0;
        loop {
            let answers = self.limits.answers;
            let Some(connection) = self.connection(key) else {
                return bytes.len();
            };
            let rest = &bytes[used..];
            match &connection.awaits {
                Some(awaited) if awaited.over => {
                    self.go_on(key, world);
                    continue;
                }
                Some(_) => return used,
                None => {}
            }
            match connection.phase {
                Phase::Leaving | Phase::Ending => return bytes.len(),
                Phase::Opening => return used,
                Phase::New => {
                    if let Some(word) = words::read(rest) {
                        self.words.push((key, word));
                        self.end(key);
                        return bytes.len();
                    }
                }
                Phase::Serving if connection.output.len() >= answers => return used,
                Phase::Serving => {}
            }
            match frame(rest) {
                Frame::Whole(body, length) => {
                    if !self.take_frame(key, body, world) {
                        return used;
                    }
                    used += length;
                }
                Frame::Partial => {
                    let new = self.peek(key).is_none_or(|c| c.phase == Phase::New);
                    if new && rest.len() > FIRST_FRAME {
                        self.end(key);
                    }
                    return used;
                }
                Frame::Bad(_) => {
                    self.end(key);
                    return bytes.len();
                }
            }
        }
    }

    /// Returns whether the frame is done with; otherwise it waits.
    fn take_frame(&mut self, key: Key, body: &[u8], world: &World<'_>) -> bool {
        if self.peek(key).is_none_or(|c| c.phase != Phase::New) {
            return self.request(key, body, world);
        }
        match ConnectRequest::read(body) {
            Ok(request) if request.last_zxid <= world.registry.tree().zxid().0 => {
                self.connect(key, &request, world);
            }
            // No such request; or a client that has seen what is not here, and would go back in time with us.
            _ => self.end(key),
        }
        self.counters.received += 1;
        true
    }

    /// The connection serves a session from now on, and no other does.
    pub(crate) fn attach(&mut self, key: Key, world: &World<'_>) {
        let Some(connection) = self.connection(key) else {
            return;
        };
        let session = connection.session;
        connection.pulse = (world.pulse)(session);
        if let Some(pulse) = &connection.pulse {
            pulse.beat(world.now);
        }
        self.taken.push(session);
        if let Some(old) = self.sessions.insert(session, key)
            && old != key
        {
            self.end(old);
        }
    }

    /// The connection serves a session that nobody served before.
    pub(crate) fn serve(&mut self, key: Key) {
        if let Some(session) = self.peek(key).map(|c| c.session) {
            self.sessions.insert(session, key);
        }
    }

    /// Another thread's connection serves this session now.
    pub fn displace(&mut self, session: SessionId) {
        if let Some(key) = self.sessions.remove(&session) {
            self.end(key);
        }
    }

    /// Ends all connections with a session, for their clients to find another node, or to come back: what they watch for
    /// may have happened.
    pub fn end_sessions(&mut self) {
        for key in std::mem::take(&mut self.sessions).into_values() {
            self.cut(key);
        }
    }

    /// Ends the connections of those who could only read: they can have a session again.
    pub fn end_readers(&mut self) {
        if !std::mem::take(&mut self.has_readers) {
            return;
        }
        let readers = self.slab.iter().filter(|(_, c)| c.reader);
        let key = |(index, c): (usize, &Connection)| Key {
            index: index as u32,
            generation: c.generation,
        };
        for key in readers.map(key).collect::<Vec<_>>() {
            self.end(key);
        }
    }

    /// A connection that waits for this node to have caught up with the others: [`Clients::caught_up`] says when it has.
    pub fn poll_behind(&mut self) -> Option<Key> {
        self.behind.pop()
    }

    /// This node has caught up with what was committed when [`Clients::poll_behind`] named the connection, or cannot.
    pub fn caught_up(&mut self, key: Key, has: bool) {
        let Some(connection) = self.connection(key) else {
            return;
        };
        match (&mut connection.awaits, has) {
            (Some(awaited), true) => awaited.over = true,
            _ => return self.cut(key),
        }
        self.list(key);
    }

    /// A session is over.
    pub fn session_closed(&mut self, session: SessionId) {
        self.displace(session);
    }

    /// The answer to a command of [`Clients::poll_command`]; to be called before anybody can read what it did. `None`: it was
    /// not committed, and nobody knows what the client should be told but that the connection is gone.
    pub fn committed(
        &mut self,
        key: Key,
        ticket: &Ticket,
        registry: &Registry,
        committed: Option<&Committed>,
    ) {
        let Some(connection) = self.connection(key) else {
            return;
        };
        connection.in_flight -= 1;
        let phase = connection.phase;
        match committed {
            // What was in front of it in the output is gone.
            _ if phase == Phase::Ending => {}
            Some(committed) => {
                connection.sent += 1;
                self.counters.sent += 1;
                self.answer(key, ticket, registry, committed);
            }
            None => self.cut(key),
        }
        if phase == Phase::Leaving && self.peek(key).is_some_and(|c| c.in_flight == 0) {
            self.end(key);
        }
        self.list(key);
    }

    /// Changes of the tree, which can be read already: tells who watches.
    pub fn changed(&mut self, events: &[TreeEvent]) {
        for event in events {
            let above = |clients: &mut Self| {
                if event.path.len() > 1 {
                    clients.tell(
                        event,
                        parent(&event.path),
                        EventType::ChildrenChanged,
                        CHILD | PERSISTENT,
                    );
                }
            };
            match event.change {
                NodeChange::Created => {
                    self.tell(event, &event.path, EventType::Created, DATA | PERSISTENT);
                    above(self);
                }
                NodeChange::Deleted => {
                    let kinds = DATA | CHILD | PERSISTENT;
                    self.tell(event, &event.path, EventType::Deleted, kinds);
                    above(self);
                }
                NodeChange::Data => {
                    let kinds = DATA | PERSISTENT;
                    self.tell(event, &event.path, EventType::DataChanged, kinds);
                }
            }
        }
    }

    fn tell(&mut self, event: &TreeEvent, path: &str, kind: EventType, wanted: u8) {
        let mut gone = Vec::new();
        let children = kind == EventType::ChildrenChanged;
        let told = self.watches.trigger(path, wanted, !children, &mut gone);
        for Gone(index) in gone {
            if let Some(connection) = self.slab.get_mut(index as usize) {
                connection.watched.remove(path);
            }
        }
        if told.is_empty() {
            return;
        }
        let access = match children {
            true => &event.parent_access,
            false => &event.access,
        };
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        Out::event(&mut bytes, event.zxid.0, kind, path);
        for index in told {
            self.push_event(index, &bytes, access);
        }
        self.scratch = bytes;
    }

    fn push_event(&mut self, index: u32, bytes: &[u8], access: &AccessList) {
        let backlog = self.limits.backlog;
        let Some(connection) = self.slab.get_mut(index as usize) else {
            return;
        };
        let key = Key {
            index,
            generation: connection.generation,
        };
        let ending = connection.phase == Phase::Ending;
        // Who may not read a node is not told that it has changed either.
        if ending || !access.allows(Permission::Read, &connection.who) {
            return;
        }
        if connection.output.len() + bytes.len() > backlog {
            self.counters.dropped += 1;
            return self.cut(key);
        }
        connection.output.extend_from_slice(bytes);
        connection.sent += 1;
        self.counters.sent += 1;
        self.counters.events += 1;
        if !std::mem::replace(&mut connection.told, true) {
            self.told.push_back(key);
        }
    }

    /// A command to be submitted, in this order; its answer goes to [`Clients::committed`].
    pub fn poll_command(&mut self) -> Option<(Key, Command, Ticket)> {
        self.commands.pop_front()
    }

    /// A question by one of the four-letter words; its answer goes to [`Clients::say`].
    pub fn poll_word(&mut self) -> Option<(Key, FourLetterWord)> {
        self.words.pop()
    }

    /// Sessions that were taken over here: to be told to the other threads' [`Clients::displace`].
    pub fn poll_taken(&mut self) -> Option<SessionId> {
        self.taken.pop()
    }

    /// Connections that something happened to since they were last listed. Those that were only told of changes come last,
    /// and no more than `most` of them at a time.
    pub fn take_listed(&mut self, most: usize) -> Vec<Key> {
        let mut listed = std::mem::take(&mut self.listed);
        for key in &listed {
            if let Some(connection) = self.connection(*key) {
                connection.listed = false;
            }
        }
        for _ in 0..most.min(self.told.len()) {
            let Some(key) = self.told.pop_front() else {
                break;
            };
            if let Some(connection) = self.connection(key) {
                connection.told = false;
                listed.push(key);
            }
        }
        listed
    }

    /// Whether [`Clients::take_listed`] has any to list.
    pub fn has_listed(&self) -> bool {
        !self.listed.is_empty() || !self.told.is_empty()
    }

    /// What a connection has for the outside.
    pub fn take(&mut self, key: Key) -> Take {
        let Some(connection) = self.connection(key) else {
            return Take {
                close: true,
                ..Take::default()
            };
        };
        let output = std::mem::take(&mut connection.output);
        let close = connection.phase == Phase::Ending;
        Take {
            output,
            close,
            full: self.standing(key) != Standing::Open,
        }
    }

    /// Gives back what could not be sent, in front of what has come since. Returns whether the connection is to be read
    /// from no more until some of it has been sent.
    pub fn give_back(&mut self, key: Key, mut unsent: Vec<u8>) -> bool {
        let backlog = self.limits.backlog;
        if let Some(connection) = self.connection(key) {
            unsent.extend_from_slice(&connection.output);
            connection.output = unsent;
            if connection.output.len() > 2 * backlog {
                self.cut(key);
            }
        }
        self.standing(key) != Standing::Open
    }

    /// How a connection stands.
    pub fn standing(&self, key: Key) -> Standing {
        match self.peek(key) {
            None => Standing::Ending,
            Some(c) if matches!(c.phase, Phase::Leaving | Phase::Ending) => Standing::Ending,
            // A frame more than the longest is not taken until the first of it is done with.
            Some(c) if c.input.len() > wire::zookeeper::MAX_FRAME + 4 => Standing::Full,
            Some(c) if (c.in_flight > 0 || c.awaits.is_some()) && !c.input.is_empty() => {
                Standing::Full
            }
            Some(c) if c.output.len() >= self.limits.answers => Standing::Full,
            Some(_) => Standing::Open,
        }
    }

    /// Whether the connection has not said yet who it is, and since when it could have.
    pub fn unfinished_since(&self, key: Key) -> Option<Moment> {
        let connection = self.peek(key)?;
        (connection.phase == Phase::New).then_some(connection.opened)
    }

    /// Appends an answer to a four-letter word.
    pub fn say(&mut self, key: Key, text: &str) {
        if let Some(connection) = self.connection(key) {
            connection.output.extend_from_slice(text.as_bytes());
            self.list(key);
        }
    }

    /// Forgets what has been counted.
    pub fn reset_counters(&mut self) {
        self.counters = Counters::default();
    }

    /// Ends a connection, once what it has asked for is answered and sent.
    pub fn end(&mut self, key: Key) {
        if let Some(connection) = self.connection(key) {
            connection.phase = match connection.in_flight {
                0 => Phase::Ending,
                _ => Phase::Leaving,
            };
            connection.input = Vec::new();
            self.list(key);
        }
    }

    /// Ends a connection with what it has waiting.
    fn cut(&mut self, key: Key) {
        if let Some(connection) = self.connection(key) {
            connection.phase = Phase::Ending;
            connection.output = Vec::new();
            connection.input = Vec::new();
            self.list(key);
        }
    }

    /// A connection is gone. Its session stays.
    pub fn disconnected(&mut self, key: Key) {
        if self.connection(key).is_none() {
            return;
        }
        let connection = self.slab.remove(key.index as usize);
        for path in &connection.watched {
            self.watches.remove(path, key.index, u8::MAX);
        }
        if self.sessions.get(&connection.session) == Some(&key) {
            self.sessions.remove(&connection.session);
        }
    }

    /// What there is to say about each connection.
    pub fn facts(&self) -> impl Iterator<Item = ConnectionFacts> {
        self.slab.iter().map(|(_, c)| ConnectionFacts::of(c))
    }

    /// Every watched path, and the sessions that watch it.
    pub fn watched(&self) -> Vec<(String, Vec<SessionId>)> {
        let session = |index: u32| self.slab.get(index as usize).map(|c| c.session);
        let paths = self.watches.by_path();
        paths
            .map(|(path, indexes)| (path.to_owned(), indexes.filter_map(session).collect()))
            .collect()
    }

    pub(crate) fn submit(
        &mut self,
        key: Key,
        command: registry::tree::TreeCommand,
        ticket: Ticket,
    ) {
        if let Some(connection) = self.connection(key) {
            connection.in_flight += 1;
            self.commands
                .push_back((key, Command::Tree(command), ticket));
        }
    }

    /// What is asked for is answered once this node has caught up.
    pub(crate) fn wait(&mut self, key: Key, request: AwaitedRequest) {
        if let Some(connection) = self.connection(key) {
            connection.awaits = Some(Awaited {
                request,
                over: false,
            });
            self.behind.push(key);
        }
    }

    pub(crate) fn connection(&mut self, key: Key) -> Option<&mut Connection> {
        let connection = self.slab.get_mut(key.index as usize)?;
        (connection.generation == key.generation).then_some(connection)
    }

    pub(crate) fn peek(&self, key: Key) -> Option<&Connection> {
        let connection = self.slab.get(key.index as usize)?;
        (connection.generation == key.generation).then_some(connection)
    }

    pub(crate) fn count_request(&mut self, key: Key) {
        self.counters.received += 1;
        if let Some(connection) = self.connection(key) {
            connection.received += 1;
        }
    }

    pub(crate) fn count_answer(&mut self, key: Key) {
        self.counters.sent += 1;
        if let Some(connection) = self.connection(key) {
            connection.sent += 1;
        }
        self.list(key);
    }

    fn list(&mut self, key: Key) {
        if let Some(connection) = self.connection(key)
            && !std::mem::replace(&mut connection.listed, true)
        {
            self.listed.push(key);
        }
    }
}

impl Key {
    pub(crate) fn new(index: usize, generation: u32) -> Self {
        let index = index as u32;
        Self { index, generation }
    }

    /// Its place; no two connections at a time have the same.
    pub fn index(self) -> u32 {
        self.index
    }
}
