//! A load generator for HTTP/1.1: one thread, many connections, level-triggered epoll.
//!
//! *Closed*: every connection asks again as soon as it is answered; shows what a server can do at most. *Open*: requests
//! are due at fixed times whatever the server does, and latency counts from when a request was due, not from when
//! a connection was free to send it: a server that stalls is charged for everybody who would have waited
//! ("coordinated omission" is leaving that out).

mod answers;
mod connection;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

pub(crate) use answers::Answers;
use connection::Connection;

/// What load to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) target: SocketAddr,
    pub(crate) connections: usize,
    /// Requests that may be under way on a connection.
    pub(crate) pipeline: usize,
    pub(crate) pace: Pace,
    /// When to end; without it, when there are no more requests.
    pub(crate) time: Option<Duration>,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As soon as a connection is free.
    Closed,
    /// So many a second.
    Open(f64),
    /// So many a second on average, at random times (a Poisson process), from this seed.
    Random(f64, u64),
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Requests answered with 2xx.
    pub(crate) answered: u64,
    /// Requests answered otherwise, by status.
    pub(crate) refused: BTreeMap<u16, u64>,
    /// Requests that were not answered because the connection broke.
    pub(crate) broken: u64,
    pub(crate) took: Duration,
    /// In nanoseconds.
    pub(crate) latency: Histogram<u64>,
}

impl Outcome {
    pub(crate) fn errors(&self) -> u64 {
        self.refused.values().sum::<u64>() + self.broken
    }

    /// The errors, in words.
    pub(crate) fn faults(&self) -> String {
        let refused = self
            .refused
            .iter()
            .map(|(status, n)| format!("{n} × status {status}"));
        let broken = (self.broken > 0).then(|| format!("{} × connection broken", self.broken));
        match refused.chain(broken).collect::<Vec<_>>() {
            none if none.is_empty() => "no errors".into(),
            some => format!("ERRORS: {}", some.join(", ")),
        }
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.answered as f64 / self.took.as_secs_f64()
    }
}

/// Where the next request comes from: appends it to the buffer, and returns `false` if there are no more.
pub(crate) type Requests<'a> = &'a mut dyn FnMut(&mut Vec<u8>) -> bool;

/// Opens the connections and makes the load.
pub(crate) fn run(plan: &Plan, next: Requests<'_>) -> io::Result<Outcome> {
    Generator::open(plan)?.run(next)
}

/// Whoever waited longer counts as that long, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// A buffer for what is read: a whole large answer most of the time.
const READ: usize = 256 << 10;

/// A load that can begin: its connections are open.
pub(crate) struct Generator {
    plan: Plan,
    exhausted: bool,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    /// Connections that may be sent a request; one stands here once for each that it may be sent.
    free: VecDeque<usize>,
    /// Connections with unsent bytes.
    unsent: Vec<usize>,
    under_way: usize,
    issued: u64,
    /// Of a random pace: when the next request is due, since the beginning.
    next: Duration,
    random: fastrand::Rng,
    began: Instant,
    events: Vec<Event>,
    scratch: Vec<u8>,
    outcome: Outcome,
}

impl Generator {
    /// Opens the connections.
    pub(crate) fn open(plan: &Plan) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(plan.connections);
        for number in 0..plan.connections {
            let connection = Connection::open(plan.target)?;
            watch(&epoll, &connection, number)?;
            connections.push(connection);
        }
        let free = (0..plan.pipeline).flat_map(|_| 0..plan.connections);
        Ok(Self {
            plan: *plan,
            exhausted: false,
            epoll,
            connections,
            free: free.collect(),
            unsent: Vec::new(),
            under_way: 0,
            next: Duration::ZERO,
            random: match plan.pace {
                Pace::Random(_, seed) => fastrand::Rng::with_seed(seed),
                Pace::Closed | Pace::Open(_) => fastrand::Rng::with_seed(0),
            },
            issued: 0,
            began: Instant::now(),
            events: Vec::with_capacity(256),
            scratch: vec![0; READ],
            outcome: Outcome {
                answered: 0,
                refused: BTreeMap::new(),
                broken: 0,
                took: Duration::ZERO,
                latency: Histogram::new_with_max(LONGEST, 3).expect("the bounds are constants"),
            },
        })
    }

    /// Makes the load.
    pub(crate) fn run(mut self, next: Requests<'_>) -> io::Result<Outcome> {
        self.began = Instant::now();
        while !self.done() {
            self.issue(next);
            self.flush()?;
            self.wait()?;
        }
        Ok(self.outcome())
    }

    fn done(&self) -> bool {
        let over = |time| self.began.elapsed() >= time;
        self.plan.time.is_some_and(over) || self.exhausted && self.under_way == 0
    }

    /// When the next request is due; `None` if as soon as possible.
    fn due(&self) -> Option<Instant> {
        match self.plan.pace {
            Pace::Closed => None,
            Pace::Open(rate) => {
                Some(self.began + Duration::from_secs_f64(self.issued as f64 / rate))
            }
            Pace::Random(..) => Some(self.began + self.next),
        }
    }

    /// Gives every free connection a request that is due.
    fn issue(&mut self, next: Requests<'_>) {
        let now = Instant::now();
        while !self.exhausted && !self.free.is_empty() {
            let due = self.due().unwrap_or(now);
            if due > now {
                return;
            }
            let number = self.free[0];
            let connection = &mut self.connections[number];
            if !next(&mut connection.out) {
                self.exhausted = true;
                return;
            }
            self.free.pop_front();
            connection.under_way.push_back(due);
            self.unsent.push(number);
            self.under_way += 1;
            self.count();
        }
    }

    /// One more was due.
    fn count(&mut self) {
        self.issued += 1;
        if let Pace::Random(rate, _) = self.plan.pace {
            let gap = -(1.0 - self.random.f64()).ln() / rate;
            self.next += Duration::from_secs_f64(gap);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while let Some(number) = self.unsent.pop() {
            let connection = &mut self.connections[number];
            match connection.send() {
                Ok(true) => {}
                // It is watched for room only while it needs some.
                Ok(false) => {
                    let flags = EventFlags::IN | EventFlags::OUT;
                    let data = EventData::new_u64(number as u64);
                    epoll::modify(&self.epoll, &connection.stream, data, flags)?;
                }
                Err(_) => self.replace(number)?,
            }
        }
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let timeout = self.timeout();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            Some(&timeout),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(fault) => return Err(fault.into()),
        }
        for event in &events {
            let (data, flags) = (event.data, event.flags);
            let number = data.u64() as usize;
            if flags.contains(EventFlags::OUT) {
                let connection = &self.connections[number];
                epoll::modify(&self.epoll, &connection.stream, data, EventFlags::IN)?;
                self.unsent.push(number);
            }
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                self.read(number)?;
            }
        }
        self.events = events;
        Ok(())
    }

    /// How long to wait for answers at most: not beyond the next request that can be sent, nor the end.
    fn timeout(&self) -> Timespec {
        let now = Instant::now();
        let end = self.plan.time.map(|time| self.began + time);
        let due = self.due().filter(|_| !self.free.is_empty());
        let at = [end, due].into_iter().flatten().min();
        // With neither, an answer must come; looking up now and then does no harm.
        let wait = at.map_or(Duration::from_secs(1), |at| {
            at.saturating_duration_since(now)
        });
        Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: i64::from(wait.subsec_nanos()),
        }
    }

    fn read(&mut self, number: usize) -> io::Result<()> {
        let connection = &mut self.connections[number];
        let read = connection.receive(&mut self.scratch);
        let now = Instant::now();
        for status in connection.statuses.drain(..) {
            // An answer to nothing would be the server's fault, and is shown as one.
            let Some(due) = connection.under_way.pop_front() else {
                self.outcome.broken += 1;
                continue;
            };
            self.under_way -= 1;
            match status {
                200..300 => self.outcome.answered += 1,
                _ => *self.outcome.refused.entry(status).or_default() += 1,
            }
            let latency = now.saturating_duration_since(due);
            self.outcome
                .latency
                .saturating_record(latency.as_nanos() as u64);
            if !connection.closing {
                self.free.push_back(number);
            }
        }
        match read {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => self.replace(number),
        }
    }

    /// Opens a new connection in the place of one that has ended.
    fn replace(&mut self, number: usize) -> io::Result<()> {
        let old = &self.connections[number];
        let lost = old.under_way.len();
        // Those that were free before are still in the list; those answered last, or lost, are not.
        let returned = lost + usize::from(old.closing);
        self.outcome.broken += lost as u64;
        self.under_way -= lost;
        let connection = Connection::open(self.plan.target)?;
        watch(&self.epoll, &connection, number)?;
        self.connections[number] = connection;
        self.free.extend(std::iter::repeat_n(number, returned));
        Ok(())
    }

    fn outcome(mut self) -> Outcome {
        self.outcome.took = self.began.elapsed();
        // What is unanswered at the end has waited that long already, sent or not: left out, a stall at the end would not show.
        if let Pace::Open(_) | Pace::Random(..) = self.plan.pace {
            let now = Instant::now();
            let mut waiting: Vec<Instant> = self
                .connections
                .iter()
                .flat_map(|connection| connection.under_way.iter().copied())
                .collect();
            while let Some(due) = self.due().filter(|due| *due < now && !self.exhausted) {
                waiting.push(due);
                self.count();
            }
            for due in waiting {
                let age = now.saturating_duration_since(due).as_nanos() as u64;
                self.outcome.latency.saturating_record(age);
            }
        }
        self.outcome
    }
}

fn watch(epoll: &OwnedFd, connection: &Connection, number: usize) -> io::Result<()> {
    let data = EventData::new_u64(number as u64);
    Ok(epoll::add(epoll, &connection.stream, data, EventFlags::IN)?)
}

#[cfg(test)]
mod tests;
