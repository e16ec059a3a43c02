//! Clients of registries without anything in between: one thread, many connections, level-triggered epoll, and the bytes of
//! each protocol made by hand, so that a generator costs about the same whoever is asked.

mod client;
mod etcd;
mod native;
mod pattern;
#[cfg(test)]
mod tests;
mod zookeeper;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use client::Client;
pub(crate) use pattern::Pattern;
pub(crate) use zookeeper::word;

/// How many keys there are to read and write.
pub(crate) const KEYS: u64 = 1_000;
/// What they hold: as much as a registration of a service.
const VALUE: [u8; 100] = [7; 100];
/// How long one thing may take until it is given up, unless the caller says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections opened at the same time: fewer than a server's queue for them holds; Java's has 50 places.
const AT_ONCE: usize = 32;
/// How often sessions say that they are there: three times in what ZooKeeper allows at most.
const PINGS: Duration = Duration::from_secs(10);

/// The protocol that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    ZooKeeper,
    /// gRPC, as etcd's clients of version 3 speak it.
    Etcd,
    /// Pointsman's own API.
    Native,
}

/// One thing to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Make the key of this number.
    Make(u64),
    /// Read it, wherever the connection leads.
    Get(u64),
    /// Read it, with all that was acknowledged anywhere before.
    GetLinearizable(u64),
    /// Write it.
    Set(u64),
    /// Make a key whose number the server chooses (ZooKeeper's protocol only).
    Create,
    /// Hear of changes of one certain key, which no other request touches.
    Watch,
    /// Change that key.
    Change,
    /// End the session.
    Leave,
}

/// What is asked for over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Get,
    GetLinearizable,
    Set,
    Create,
    /// Nine reads to one write.
    Mixed,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) took: Duration,
    /// In nanoseconds.
    pub(crate) latency: Histogram<u64>,
}

/// What was read from a connection, in whole messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Heard {
    /// Requests that are answered now, those that failed among them.
    answers: usize,
    failed: usize,
    /// Changes of what is watched.
    events: usize,
}

/// A connection's protocol.
trait Wire {
    /// Appends what a client says first; returns how many answers come to that.
    fn greet(&mut self, out: &mut Vec<u8>) -> usize;

    /// Appends a request.
    fn ask(&mut self, ask: Ask, out: &mut Vec<u8>);

    /// Appends what keeps an idle session; nobody waits for the answer.
    fn ping(&mut self, out: &mut Vec<u8>);

    /// Takes whole messages from `input`, and appends to `out` what the protocol wants said to them.
    fn take(&mut self, input: &mut Vec<u8>, out: &mut Vec<u8>) -> anyhow::Result<Heard>;
}

impl Protocol {
    /// Whether a watch ends with the first change.
    pub(crate) fn watches_once(self) -> bool {
        self == Self::ZooKeeper
    }

    fn wire(self, host: SocketAddr) -> Box<dyn Wire> {
        match self {
            Self::ZooKeeper => Box::new(zookeeper::Session::default()),
            Self::Etcd => Box::new(etcd::Connection::new(host)),
            Self::Native => Box::new(native::Connection::new(host)),
        }
    }
}

/// Clients, each with a connection of its own.
pub(crate) struct Clients {
    protocol: Protocol,
    epoll: OwnedFd,
    clients: Vec<Client>,
    patience: Duration,
    scratch: Vec<u8>,
    issued: u64,
    changes: u64,
    pinged: Instant,
    leaving: bool,
}

impl Clients {
    /// Connects so many clients, by turns to each of `targets`.
    pub(crate) fn open(
        protocol: Protocol,
        targets: &[SocketAddr],
        count: usize,
    ) -> anyhow::Result<Self> {
        Self::open_within(PATIENCE, protocol, targets, count)
    }

    /// The same, with how long anything may take from now on.
    pub(crate) fn open_within(
        patience: Duration,
        protocol: Protocol,
        targets: &[SocketAddr],
        count: usize,
    ) -> anyhow::Result<Self> {
        let mut all = Self {
            protocol,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            clients: Vec::with_capacity(count),
            patience,
            scratch: vec![0; 256 << 10],
            issued: 0,
            changes: 0,
            pinged: Instant::now(),
            leaving: false,
        };
        while all.clients.len() < count {
            let opened = all.clients.len();
            for number in opened..count.min(opened + AT_ONCE) {
                let target = targets[number % targets.len()];
                let client = Client::open(target, number, protocol.wire(target))?;
                let data = EventData::new_u64(number as u64);
                epoll::add(&all.epoll, &client.stream, data, EventFlags::IN)?;
                all.clients.push(client);
            }
            all.hear(opened, Client::is_answered)
                .context("a session was not opened")?;
            all.keep()?;
        }
        Ok(all)
    }

    /// Everybody asks again as soon as it is answered, with so many requests on their way.
    pub(crate) fn run(
        &mut self,
        kind: Kind,
        pipeline: usize,
        time: Duration,
    ) -> anyhow::Result<Outcome> {
        let began = Instant::now();
        let mut outcome = Outcome::new()?;
        for number in 0..self.clients.len() {
            self.ask(number, kind, pipeline)?;
        }
        let mut events = Vec::with_capacity(1_024);
        let mut stalled = Instant::now();
        loop {
            let running = began.elapsed() < time;
            if !running && self.clients.iter().all(Client::is_answered) {
                break;
            }
            self.wait(&mut events)?;
            for event in events.drain(..) {
                let number = event.data.u64() as usize;
                let heard = self.clients[number].receive(&mut self.scratch, &mut outcome)?;
                if heard.answers > 0 {
                    stalled = Instant::now();
                }
                if running && heard.answers > 0 {
                    self.ask(number, kind, heard.answers)?;
                }
            }
            ensure!(stalled.elapsed() < self.patience, "no answers any more");
        }
        outcome.took = began.elapsed();
        Ok(outcome)
    }

    /// Whether no server has closed a connection.
    pub(crate) fn is_open(&self) -> bool {
        self.clients.iter().all(Client::is_open)
    }

    /// Everybody asks one thing.
    pub(crate) fn each(&mut self, ask: Ask) -> anyhow::Result<()> {
        for client in &mut self.clients {
            client.ask(&[ask])?;
        }
        self.hear(0, Client::is_answered)
    }

    /// Makes all keys.
    pub(crate) fn make_keys(&mut self) -> anyhow::Result<()> {
        // The first by itself: it makes what the others are below of.
        self.clients[0].ask(&[Ask::Make(0)])?;
        self.hear(0, Client::is_answered)?;
        let mut keys = 1..KEYS;
        while !keys.is_empty() {
            for (client, key) in self.clients.iter_mut().zip(&mut keys) {
                client.ask(&[Ask::Make(key)])?;
            }
            self.hear(0, Client::is_answered)?;
        }
        Ok(())
    }

    /// Ends sessions, of which a server would otherwise think for a while yet.
    pub(crate) fn leave(mut self) -> anyhow::Result<()> {
        if self.protocol != Protocol::ZooKeeper {
            return Ok(());
        }
        self.leaving = true;
        for client in &mut self.clients {
            if client.ask(&[Ask::Leave]).is_err() {
                epoll::delete(&self.epoll, &client.stream)?;
                client.forget();
            }
        }
        self.hear(0, Client::is_answered)
    }

    /// Waits until everybody has heard of one change more.
    pub(crate) fn hear_change(&mut self) -> anyhow::Result<()> {
        self.changes += 1;
        let changes = self.changes;
        self.hear(0, move |client| client.events >= changes)
    }

    /// Waits for those from number `first` on.
    fn hear(&mut self, first: usize, done: impl Fn(&Client) -> bool) -> anyhow::Result<()> {
        let mut outcome = Outcome::new()?;
        let deadline = Instant::now() + self.patience;
        let waiting = self.clients[first..].iter().filter(|client| !done(client));
        let mut left = waiting.count();
        let mut events = Vec::with_capacity(1_024);
        while left > 0 {
            self.wait(&mut events)?;
            for event in events.drain(..) {
                let number = event.data.u64() as usize;
                let client = &mut self.clients[number];
                let before = done(client);
                if let Err(error) = client.receive(&mut self.scratch, &mut outcome) {
                    // Whoever has said goodbye is left.
                    ensure!(self.leaving, error);
                    epoll::delete(&self.epoll, &client.stream)?;
                    client.forget();
                }
                left -= usize::from(number >= first && !before && done(client));
            }
            ensure!(outcome.failed == 0, "{} requests failed", outcome.failed);
            ensure!(Instant::now() < deadline, "{left} clients heard nothing");
            self.keep()?;
        }
        Ok(())
    }

    /// Keeps idle sessions.
    fn keep(&mut self) -> anyhow::Result<()> {
        if self.pinged.elapsed() < PINGS {
            return Ok(());
        }
        self.pinged = Instant::now();
        self.clients.iter_mut().try_for_each(Client::ping)
    }

    fn wait(&self, events: &mut Vec<Event>) -> anyhow::Result<()> {
        let a_while = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        events.clear();
        epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(events),
            Some(&a_while),
        )?;
        Ok(())
    }

    fn ask(&mut self, number: usize, kind: Kind, count: usize) -> anyhow::Result<()> {
        let mut asks = Vec::with_capacity(count);
        for _ in 0..count {
            self.issued += 1;
            // In an order that no cache can foresee.
            let key = self.issued.wrapping_mul(7_919) % KEYS;
            asks.push(match kind {
                Kind::Create => Ask::Create,
                Kind::Set => Ask::Set(key),
                Kind::Mixed if self.issued.is_multiple_of(10) => Ask::Set(key),
                Kind::GetLinearizable => Ask::GetLinearizable(key),
                Kind::Get | Kind::Mixed => Ask::Get(key),
            });
        }
        self.clients[number].ask(&asks)
    }
}

impl Outcome {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            answered: 0,
            failed: 0,
            took: Duration::ZERO,
            latency: Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?,
        })
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.answered as f64 / self.took.as_secs_f64()
    }

    /// The latency that the share `q` of all does not exceed.
    pub(crate) fn quantile(&self, q: f64) -> Duration {
        Duration::from_nanos(self.latency.value_at_quantile(q))
    }
}
