//! A network in memory with virtual time: whole sessions run on it, replayable from a seed.
//!
//! Bytes travel in segments cut at random places and delivered after random delays, in order within a
//! connection; windows are small, so that every partial read and partial write there is happens often.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use model::Moment;
use rustix::io::Errno;
use slab::Slab;

use super::reactor::{Ready, Token};

/// What the simulated network is like.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Decides every cut and delay.
    pub seed: u64,
    /// Bytes under way or unread per direction before the sender must wait.
    pub window: usize,
    /// The longest segment.
    pub segment: usize,
    /// The longest time a segment takes.
    pub delay: Duration,
}

/// A simulated network, shared by every socket on it.
#[derive(Clone)]
pub struct Network(Rc<RefCell<World>>);

/// One end of a simulated connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndId(u32);

struct World {
    conditions: Memory,
    random: u64,
    now: Moment,
    sequence: u64,
    ends: Slab<EndState>,
    listeners: BTreeMap<SocketAddr, ListenerState>,
    /// Addresses that never answer.
    silent: Vec<SocketAddr>,
    under_way: BinaryHeap<Reverse<Segment>>,
    ready: Vec<Ready>,
    next_port: u16,
}

struct ListenerState {
    token: Token,
    backlog: VecDeque<(EndId, SocketAddr)>,
}

#[derive(Default)]
struct EndState {
    token: Option<Token>,
    peer: Option<EndId>,
    inbox: VecDeque<u8>,
    /// Bytes sent to the peer that it has not read.
    outstanding: usize,
    /// When the last segment sent arrives: later ones come no earlier.
    last_arrival: Moment,
    refused: bool,
    ended: bool,
    reset: bool,
    sent_end: bool,
    blocked: bool,
    aborts: bool,
    closed: bool,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Segment {
    at: Moment,
    sequence: u64,
    to: u32,
    what: Payload,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Payload {
    Bytes(Vec<u8>),
    End,
    Reset,
    Connected,
    Refused,
    Window,
}

impl Network {
    /// An empty network at [`Moment::ZERO`].
    pub fn new(conditions: Memory) -> Self {
        Self(Rc::new(RefCell::new(World {
            conditions,
            random: conditions.seed ^ 0x9e37_79b9_7f4a_7c15,
            now: Moment::ZERO,
            sequence: 0,
            ends: Slab::new(),
            listeners: BTreeMap::new(),
            silent: Vec::new(),
            under_way: BinaryHeap::new(),
            ready: Vec::new(),
            next_port: 10_000,
        })))
    }

    /// Packets to `address` vanish from now on.
    pub fn silence(&self, address: SocketAddr) {
        self.0.borrow_mut().silent.push(address);
    }

    /// The virtual time.
    pub fn now(&self) -> Moment {
        self.0.borrow().now
    }

    /// Connections that neither side has closed.
    pub fn open_ends(&self) -> usize {
        self.0
            .borrow()
            .ends
            .iter()
            .filter(|(_, e)| !e.closed)
            .count()
    }

    pub(super) fn listen(&self, token: Token, address: SocketAddr) {
        let state = ListenerState {
            token,
            backlog: VecDeque::new(),
        };
        let before = self.0.borrow_mut().listeners.insert(address, state);
        assert!(before.is_none(), "{address} is taken");
    }

    pub(super) fn unlisten(&self, address: SocketAddr) {
        let backlog = self.0.borrow_mut().listeners.remove(&address);
        for (end, _) in backlog.into_iter().flat_map(|l| l.backlog) {
            self.abort_on_close(end);
            self.close(end);
        }
    }

    pub(super) fn accept(&self, address: SocketAddr) -> Option<(EndId, SocketAddr)> {
        let mut world = self.0.borrow_mut();
        world.listeners.get_mut(&address)?.backlog.pop_front()
    }

    pub(super) fn adopt(&self, end: EndId, token: Token) {
        let mut world = self.0.borrow_mut();
        let state = world.end(end);
        state.token = Some(token);
        // What arrived while the connection was queued made no edge.
        let (ended, reset) = (state.ended, state.reset);
        if ended || reset {
            world.edge(token, |r| (r.peer_closed, r.hung_up) = (ended, reset));
        }
    }

    pub(super) fn connect(&self, token: Token, address: SocketAddr) -> EndId {
        let mut world = self.0.borrow_mut();
        let ours = EndId(world.ends.insert(EndState {
            token: Some(token),
            ..EndState::default()
        }) as u32);
        if world.silent.contains(&address) {
            return ours;
        }
        if !world.listeners.contains_key(&address) {
            world.send(ours, Payload::Refused);
            return ours;
        }
        let theirs = EndId(world.ends.insert(EndState {
            peer: Some(ours),
            ..EndState::default()
        }) as u32);
        world.end(ours).peer = Some(theirs);
        world.next_port = world.next_port.wrapping_add(1);
        let from = SocketAddr::from(([127, 0, 0, 1], world.next_port));
        let listener = world.listeners.get_mut(&address).expect("just seen");
        listener.backlog.push_back((theirs, from));
        let listener = listener.token;
        world.edge(listener, |r| r.readable = true);
        world.send(ours, Payload::Connected);
        ours
    }

    pub(super) fn connect_outcome(&self, end: EndId) -> Result<(), Errno> {
        match self.0.borrow_mut().end(end).refused {
            true => Err(Errno::CONNREFUSED),
            false => Ok(()),
        }
    }

    pub(super) fn recv(&self, end: EndId, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut world = self.0.borrow_mut();
        let state = world.end(end);
        if state.reset {
            return Err(Errno::CONNRESET);
        }
        if state.inbox.is_empty() {
            return if state.ended {
                Ok(0)
            } else {
                Err(Errno::AGAIN)
            };
        }
        let n = buffer.len().min(state.inbox.len());
        for (to, from) in buffer.iter_mut().zip(state.inbox.drain(..n)) {
            *to = from;
        }
        if let Some(peer) = state.peer {
            world.end(peer).outstanding -= n;
            if std::mem::take(&mut world.end(peer).blocked) {
                world.send(peer, Payload::Window);
            }
        }
        Ok(n)
    }

    pub(super) fn send(&self, end: EndId, bytes: &[u8]) -> Result<usize, Errno> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let mut world = self.0.borrow_mut();
        let window = world.conditions.window;
        let state = world.end(end);
        let peer = state.peer.ok_or(Errno::NOTCONN)?;
        if state.reset || state.sent_end {
            return Err(Errno::PIPE);
        }
        let room = window.saturating_sub(state.outstanding).min(bytes.len());
        if room < bytes.len() {
            state.blocked = true;
        }
        if room == 0 {
            return Err(Errno::AGAIN);
        }
        state.outstanding += room;
        if world.end(peer).closed {
            // As a kernel does: the first bytes after the close are taken, and answered with a reset.
            world.end(end).outstanding -= room;
            world.send(end, Payload::Reset);
            return Ok(room);
        }
        let mut rest = &bytes[..room];
        while !rest.is_empty() {
            let longest = world.conditions.segment.min(rest.len()) as u64;
            let (now, later) = rest.split_at(1 + (world.draw() % longest) as usize);
            world.send(peer, Payload::Bytes(now.to_vec()));
            rest = later;
        }
        Ok(room)
    }

    pub(super) fn shutdown(&self, end: EndId, how: Shutdown) {
        debug_assert_eq!(how, Shutdown::Write, "nobody shuts down the reading side");
        let mut world = self.0.borrow_mut();
        let state = world.end(end);
        if let (false, Some(peer)) = (std::mem::replace(&mut state.sent_end, true), state.peer) {
            world.send(peer, Payload::End);
        }
    }

    pub(super) fn abort_on_close(&self, end: EndId) {
        self.0.borrow_mut().end(end).aborts = true;
    }

    pub(super) fn close(&self, end: EndId) {
        let mut world = self.0.borrow_mut();
        let state = world.end(end);
        state.closed = true;
        state.token = None;
        let peer = state.peer;
        let abort = state.aborts || !state.inbox.is_empty();
        let ended = std::mem::replace(&mut state.sent_end, true);
        if let Some(peer) = peer {
            if abort {
                world.send(peer, Payload::Reset);
            } else if !ended {
                world.send(peer, Payload::End);
            }
        }
    }

    /// Delivers what is due; when nothing is, moves the time to the next event or by `timeout`,
    /// whichever is sooner. `false`: nothing is under way and nobody waits for a time.
    pub(super) fn wait(&self, timeout: Option<Duration>, out: &mut Vec<Ready>) -> bool {
        let mut world = self.0.borrow_mut();
        if world.ready.is_empty() {
            let next = world.under_way.peek().map(|Reverse(s)| s.at);
            let limit = timeout.map(|t| world.now + t);
            match next.into_iter().chain(limit).min() {
                Some(at) => world.now = world.now.max(at),
                None => return false,
            }
        }
        while world
            .under_way
            .peek()
            .is_some_and(|Reverse(s)| s.at <= world.now)
        {
            let Some(Reverse(segment)) = world.under_way.pop() else {
                break;
            };
            world.deliver(segment);
        }
        out.append(&mut world.ready);
        true
    }
}

impl World {
    fn end(&mut self, id: EndId) -> &mut EndState {
        &mut self.ends[id.0 as usize]
    }

    /// xorshift64*: all a simulation needs.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn send(&mut self, to: EndId, what: Payload) {
        let longest = self.conditions.delay.as_nanos() as u64 + 1;
        let delay = Duration::from_nanos(self.draw() % longest);
        // In order on its connection.
        let at = (self.now + delay).max(self.end(to).last_arrival);
        self.end(to).last_arrival = at;
        self.sequence += 1;
        self.under_way.push(Reverse(Segment {
            at,
            sequence: self.sequence,
            to: to.0,
            what,
        }));
    }

    fn deliver(&mut self, segment: Segment) {
        let to = &mut self.ends[segment.to as usize];
        if to.closed {
            // Bytes to a closed socket are answered with a reset.
            if let (Payload::Bytes(_), Some(peer)) = (&segment.what, to.peer) {
                self.send(peer, Payload::Reset);
            }
            return;
        }
        let (mut readable, mut writable, mut closed, mut hung_up) = (false, false, false, false);
        match segment.what {
            Payload::Bytes(bytes) => {
                to.inbox.extend(bytes);
                readable = true;
            }
            Payload::End => {
                to.ended = true;
                (closed, hung_up) = (true, to.sent_end);
            }
            Payload::Reset => {
                to.reset = true;
                hung_up = true;
            }
            Payload::Connected | Payload::Window => writable = true,
            Payload::Refused => {
                to.refused = true;
                hung_up = true;
            }
        }
        if let Some(token) = to.token {
            self.edge(token, |r| {
                (r.readable, r.writable) = (readable, writable);
                (r.peer_closed, r.hung_up) = (closed, hung_up);
            });
        }
    }

    fn edge(&mut self, token: Token, set: impl FnOnce(&mut Ready)) {
        let mut ready = Ready {
            token,
            readable: false,
            writable: false,
            peer_closed: false,
            hung_up: false,
        };
        set(&mut ready);
        self.ready.push(ready);
    }
}
