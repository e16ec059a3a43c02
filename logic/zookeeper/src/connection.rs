use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use model::{Moment, Secret, Timestamp};
use registry::Registry;
use registry::tree::{Identity, Password, Pulse, SessionId};

/// What holds for all clients of a front.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The shortest timeout a session gets.
    pub min_timeout: Duration,
    /// The longest.
    pub max_timeout: Duration,
    /// Requests of one connection that may wait for the log.
    pub in_flight: u32,
    /// Bytes of answers that a connection may have waiting before no more of its requests are looked at.
    pub answers: usize,
    /// Bytes that may wait for a client, events among them, before its connection is closed. Its session stays until it runs out.
    pub backlog: usize,
    /// The id that `super:password` must have to be allowed everything.
    pub super_digest: Option<Box<str>>,
    /// Who may say by SASL who they are, and their passwords.
    pub sasl_users: BTreeMap<Box<str>, Secret>,
    /// Whether clients that want no more may read while the others are not heard of.
    pub readers: bool,
    /// The top byte of the ids of sessions opened here, 1 to 254.
    pub server: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            min_timeout: Duration::from_secs(4),
            max_timeout: Duration::from_secs(40),
            // ZooKeeper's bound for all clients together; with one connection's at that, one cannot take the queue.
            in_flight: 1_000,
            answers: 1 << 20,
            // 50,000 events; and the largest answer, of a hundred thousand children, fits many times.
            backlog: 16 << 20,
            super_digest: None,
            sasl_users: BTreeMap::new(),
            readers: false,
            server: 1,
        }
    }
}

/// What requests are carried out in.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// The registry, which does not change meanwhile.
    pub registry: &'a Registry,
    /// The node's clock.
    pub now: Moment,
    /// The wall clock.
    pub wall: Timestamp,
    /// Numbers that nobody can guess.
    pub draw: &'a dyn Fn() -> u64,
    /// Where to say that something was heard of a session's client.
    pub pulse: &'a dyn Fn(SessionId) -> Option<Pulse>,
    /// Which of several nodes this is; none if there is only one.
    pub node: Option<u64>,
    /// Whether a client is to look for another node than this, where others have more room: by its session, its timeout in
    /// milliseconds and the node that the session is at.
    pub passes_on: &'a dyn Fn(SessionId, u32, u64) -> bool,
    /// Whether this node hears of what the others do. If not, sessions may have ended that it takes for living.
    pub in_touch: bool,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It has not said who it is.
    New,
    /// Its session is being opened, looked for, or moved here.
    Opening,
    /// It is served.
    Serving,
    /// Nothing is taken from it any more, but what was asked for is answered.
    Leaving,
    /// What is waiting is sent, then it is closed.
    Ending,
}

/// A request that waits for this node to have caught up with what was committed when it came.
#[derive(Debug)]
pub(crate) struct Awaited {
    pub(crate) request: AwaitedRequest,
    /// Whether that has happened; then it is answered next.
    pub(crate) over: bool,
}

#[derive(Debug)]
pub(crate) enum AwaitedRequest {
    /// A session that is not known here, or not by that password.
    Find,
    /// So that what is read next is no older than this: its number and its path.
    Sync(i32, Box<str>),
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) generation: u32,
    pub(crate) phase: Phase,
    pub(crate) peer: IpAddr,
    pub(crate) port: u16,
    pub(crate) opened: Moment,
    /// When it last asked for something, pings aside.
    pub(crate) asked: Moment,
    /// It has come back to a session that no other node has had meanwhile.
    pub(crate) back: bool,
    pub(crate) session: SessionId,
    pub(crate) password: Password,
    pub(crate) timeout: u32,
    pub(crate) read_only: Option<bool>,
    /// It has no session, and may read what may be out of date.
    pub(crate) reader: bool,
    /// Who the client is; the address first.
    pub(crate) who: Arc<[Identity]>,
    /// What the next answer by SASL is to be about.
    pub(crate) nonce: Option<Box<str>>,
    pub(crate) pulse: Option<Pulse>,
    /// Commands on their way through the log.
    pub(crate) in_flight: u32,
    /// What cannot be answered before this node has caught up with the others.
    pub(crate) awaits: Option<Awaited>,
    /// What came and was not looked at yet.
    pub(crate) input: Vec<u8>,
    /// What is to be sent.
    pub(crate) output: Vec<u8>,
    /// The paths it watches.
    pub(crate) watched: BTreeSet<Arc<str>>,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// Whether its key is in the list of those that something happened to.
    pub(crate) listed: bool,
    /// Whether its key is in the list of those that have been told of changes.
    pub(crate) told: bool,
}

impl Connection {
    pub(crate) fn new(peer: IpAddr, port: u16, now: Moment, generation: u32) -> Self {
        let peer = peer.to_canonical();
        Self {
            generation,
            phase: Phase::New,
            peer,
            port,
            opened: now,
            asked: now,
            back: false,
            session: SessionId::default(),
            password: Password::default(),
            timeout: 0,
            read_only: None,
            reader: false,
            who: Arc::new([Identity::new("ip", &peer.to_string())]),
            nonce: None,
            pulse: None,
            in_flight: 0,
            awaits: None,
            input: Vec::new(),
            output: Vec::new(),
            watched: BTreeSet::new(),
            received: 0,
            sent: 0,
            listed: false,
            told: false,
        }
    }
}
