//! Clients of ZooKeeper's protocol without anything in between: one thread, many sessions, level-triggered epoll.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Get,
    Set,
    Create,
    /// Nine reads to one write.
    Mixed,
}

/// What came of it.
pub(super) struct Outcome {
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) took: Duration,
    /// In nanoseconds.
    pub(super) latency: Histogram<u64>,
}

/// Sessions, each over a connection of its own.
pub(super) struct Load {
    epoll: OwnedFd,
    sessions: Vec<Session>,
    scratch: Vec<u8>,
    issued: u64,
}

struct Session {
    stream: TcpStream,
    input: Vec<u8>,
    sent: VecDeque<Instant>,
    xid: i32,
}

impl Load {
    pub(super) fn open(target: SocketAddr, sessions: usize) -> anyhow::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut opened = Vec::with_capacity(sessions);
        for number in 0..sessions {
            let session = Session::open(target).context("no session")?;
            let data = EventData::new_u64(number as u64);
            epoll::add(&epoll, &session.stream, data, EventFlags::IN)?;
            opened.push(session);
        }
        Ok(Self {
            epoll,
            sessions: opened,
            scratch: vec![0; 256 << 10],
            issued: 0,
        })
    }

    /// Every session asks again as soon as it is answered, with so many requests on their way.
    pub(super) fn run(
        &mut self,
        kind: Kind,
        pipeline: usize,
        time: Duration,
    ) -> anyhow::Result<Outcome> {
        let began = Instant::now();
        let mut outcome = Outcome {
            answered: 0,
            failed: 0,
            took: Duration::ZERO,
            latency: Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?,
        };
        for number in 0..self.sessions.len() {
            self.ask(number, kind, pipeline)?;
        }
        let mut events = Vec::with_capacity(1_024);
        loop {
            let running = began.elapsed() < time;
            if !running && self.sessions.iter().all(|s| s.sent.is_empty()) {
                break;
            }
            self.wait(&mut events)?;
            for event in events.drain(..) {
                let number = event.data.u64() as usize;
                let answers = self.sessions[number].receive(&mut self.scratch, &mut outcome)?;
                if running && answers > 0 {
                    self.ask(number, kind, answers)?;
                }
            }
        }
        outcome.took = began.elapsed();
        Ok(outcome)
    }

    /// Every session asks one thing.
    pub(super) fn each(&mut self, op: i32, record: &[u8]) -> anyhow::Result<()> {
        for session in &mut self.sessions {
            let mut out = Vec::new();
            session.push(&mut out, op, record);
            session.send(&out)?;
        }
        self.hear(|session| session.sent.is_empty())
    }

    /// Waits until every session has heard an event.
    pub(super) fn hear_events(&mut self) -> anyhow::Result<()> {
        for session in &mut self.sessions {
            session.sent.push_back(Instant::now());
        }
        self.hear(|session| session.sent.is_empty())
    }

    fn hear(&mut self, done: impl Fn(&Session) -> bool) -> anyhow::Result<()> {
        let mut outcome = Outcome {
            answered: 0,
            failed: 0,
            took: Duration::ZERO,
            latency: Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?,
        };
        let mut left = self.sessions.iter().filter(|s| !done(s)).count();
        let mut events = Vec::with_capacity(1_024);
        while left > 0 {
            self.wait(&mut events)?;
            for event in events.drain(..) {
                let session = &mut self.sessions[event.data.u64() as usize];
                let before = done(session);
                session.receive(&mut self.scratch, &mut outcome)?;
                left -= usize::from(!before && done(session));
            }
        }
        Ok(())
    }

    fn wait(&self, events: &mut Vec<Event>) -> anyhow::Result<()> {
        let second = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        events.clear();
        epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(events),
            Some(&second),
        )?;
        Ok(())
    }

    fn ask(&mut self, number: usize, kind: Kind, count: usize) -> anyhow::Result<()> {
        let session = &mut self.sessions[number];
        let mut out = Vec::with_capacity(count * 80);
        for _ in 0..count {
            self.issued += 1;
            // A thousand nodes, in an order that no cache can foresee.
            let path = format!("/bench/n-{:010}", self.issued.wrapping_mul(7_919) % NODES);
            let write = kind == Kind::Set || kind == Kind::Mixed && self.issued.is_multiple_of(10);
            match kind {
                Kind::Create => session.push(&mut out, 1, &create("/made/n-", &VALUE, 2)),
                _ if write => session.push(&mut out, 5, &set(&path, &VALUE)),
                _ => session.push(&mut out, 4, &get(&path, false)),
            }
        }
        session.send(&out)
    }
}

/// How many nodes there are to read and write.
pub(super) const NODES: u64 = 1_000;
/// What they hold: as much as a registration of a service.
pub(super) const VALUE: [u8; 100] = [7; 100];

impl Session {
    fn open(target: SocketAddr) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        let mut request = 44_i32.to_be_bytes().to_vec();
        request.extend_from_slice(&[0; 12]);
        request.extend_from_slice(&30_000_i32.to_be_bytes());
        request.extend_from_slice(&[0; 8]);
        request.extend_from_slice(&16_i32.to_be_bytes());
        request.extend_from_slice(&[0; 16]);
        stream.write_all(&request)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut answer)?;
        ensure!(
            answer.len() >= 16 && answer[8..16] != [0; 8],
            "the session was refused"
        );
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            input: Vec::new(),
            sent: VecDeque::new(),
            xid: 0,
        })
    }

    fn push(&mut self, out: &mut Vec<u8>, op: i32, record: &[u8]) {
        self.xid = self.xid.wrapping_add(1) & i32::MAX;
        out.extend_from_slice(&(record.len() as i32 + 8).to_be_bytes());
        out.extend_from_slice(&self.xid.to_be_bytes());
        out.extend_from_slice(&op.to_be_bytes());
        out.extend_from_slice(record);
        self.sent.push_back(Instant::now());
    }

    fn send(&mut self, mut out: &[u8]) -> anyhow::Result<()> {
        while !out.is_empty() {
            match (&self.stream).write(out) {
                Ok(n) => out = &out[n..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_micros(50));
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Takes what has come; returns how many answers that was.
    fn receive(&mut self, scratch: &mut [u8], outcome: &mut Outcome) -> anyhow::Result<usize> {
        let read = match (&self.stream).read(scratch) {
            Ok(0) => anyhow::bail!("the server has closed a connection"),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(e) => return Err(e.into()),
        };
        self.input.extend_from_slice(&scratch[..read]);
        let (mut at, mut answers) = (0, 0);
        let now = Instant::now();
        while let Some(length) = self.input[at..].first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            let Some(body) = self.input.get(at + 4..at + 4 + length) else {
                break;
            };
            outcome.failed += u64::from(body.get(12..16) != Some(&[0; 4]));
            if let Some(sent) = self.sent.pop_front() {
                let waited = now.duration_since(sent).as_nanos() as u64;
                outcome.latency.saturating_record(waited);
            }
            outcome.answered += 1;
            answers += 1;
            at += 4 + length;
        }
        self.input.drain(..at);
        Ok(answers)
    }
}

fn text(text: &[u8]) -> Vec<u8> {
    [&(text.len() as i32).to_be_bytes(), text].concat()
}

pub(super) fn create(path: &str, data: &[u8], flags: i32) -> Vec<u8> {
    let everybody = [1_i32.to_be_bytes(), 31_i32.to_be_bytes()].concat();
    let access = [everybody, text(b"world"), text(b"anyone")].concat();
    let flags = flags.to_be_bytes().to_vec();
    [text(path.as_bytes()), text(data), access, flags].concat()
}

pub(super) fn set(path: &str, data: &[u8]) -> Vec<u8> {
    [text(path.as_bytes()), text(data), vec![255; 4]].concat()
}

pub(super) fn get(path: &str, watch: bool) -> Vec<u8> {
    [text(path.as_bytes()), vec![watch.into()]].concat()
}
