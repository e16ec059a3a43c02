//! The instances: servers that share an imagined processor, so that twenty of them fit on one core. When an answer is
//! due is computed by the simulator's own server, in the time that really passes; nothing is burnt.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use memchr::memmem;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use sim::balance::Scenario;
use sim::balance::draw::Draw;
use sim::balance::server::Server;

use crate::machine::{self, LOAD_CPU};

/// The instances of one run, on a thread of their own. Stopped when dropped.
pub(super) struct Origins {
    pub(super) addresses: Vec<SocketAddr>,
    served: Arc<[AtomicU64]>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Origins {
    pub(super) fn start(scenario: &Scenario, seed: u64) -> anyhow::Result<Self> {
        let listeners = scenario
            .servers
            .iter()
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<Result<Vec<_>, _>>()?;
        let addresses = listeners
            .iter()
            .map(TcpListener::local_addr)
            .collect::<Result<_, _>>()?;
        let served: Arc<[AtomicU64]> = listeners.iter().map(|_| AtomicU64::new(0)).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let world = World::new(scenario, seed, listeners, served.clone())?;
        let flag = stop.clone();
        let thread = std::thread::Builder::new()
            .name("origins".into())
            .spawn(move || world.run(&flag))?;
        Ok(Self {
            addresses,
            served,
            stop,
            thread: Some(thread),
        })
    }

    /// Requests that each has answered.
    pub(super) fn served(&self) -> Vec<u64> {
        self.served.iter().map(|n| n.load(Relaxed)).collect()
    }

    /// Ends them.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Relaxed);
        let thread = self.thread.take().context("they run")?;
        thread.join().expect("origins do not panic")
    }
}

impl Drop for Origins {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

struct World {
    scenario: Scenario,
    began: Instant,
    epoll: std::os::fd::OwnedFd,
    listeners: Vec<TcpListener>,
    servers: Vec<Server>,
    /// When antagonists change what they leave of a server.
    changes: Vec<u64>,
    /// One stream of random numbers a server for its work, and one for its antagonists.
    work: Vec<Draw>,
    fate: Vec<Draw>,
    /// A job has its connection's number.
    connections: Vec<Option<Connection>>,
    served: Arc<[AtomicU64]>,
}

struct Connection {
    stream: TcpStream,
    server: usize,
    head: Vec<u8>,
}

/// What every request is answered with.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

/// How long nothing may be due before it is looked whether all is over.
const LONGEST: u64 = 50_000_000;

impl World {
    fn new(
        scenario: &Scenario,
        seed: u64,
        listeners: Vec<TcpListener>,
        served: Arc<[AtomicU64]>,
    ) -> anyhow::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        for (number, listener) in listeners.iter().enumerate() {
            listener.set_nonblocking(true)?;
            let data = EventData::new_u64(number as u64);
            epoll::add(&epoll, listener, data, EventFlags::IN)?;
        }
        let numbers = 0..listeners.len() as u64;
        let mut world = Self {
            scenario: scenario.clone(),
            began: Instant::now(),
            epoll,
            servers: scenario.servers.iter().map(|b| Server::new(*b)).collect(),
            changes: vec![u64::MAX; listeners.len()],
            work: numbers.clone().map(|n| Draw::new(seed, 2 * n)).collect(),
            fate: numbers.map(|n| Draw::new(seed, 2 * n + 1)).collect(),
            listeners,
            connections: Vec::new(),
            served,
        };
        for server in 0..world.servers.len() {
            world.antagonise(server, 0);
        }
        Ok(world)
    }

    fn run(mut self, stop: &AtomicBool) -> anyhow::Result<()> {
        machine::pin(&[LOAD_CPU])?;
        let mut events: Vec<Event> = Vec::with_capacity(256);
        while !stop.load(Relaxed) {
            let due = (0..self.servers.len())
                .map(|s| self.servers[s].next().min(self.changes[s]))
                .min();
            let wait = due.unwrap_or(u64::MAX).saturating_sub(self.now());
            let wait = Timespec {
                tv_sec: 0,
                tv_nsec: wait.min(LONGEST) as i64,
            };
            events.clear();
            let room = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, room, Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(fault) => return Err(fault.into()),
            }
            // What was due before these came is over before they come.
            self.pass(self.now());
            for event in &events {
                let (number, data) = (event.data.u64() as usize, event.data);
                match number.checked_sub(self.listeners.len()) {
                    None => self.accept(number)?,
                    Some(number) => self.read(number, data),
                }
            }
        }
        Ok(())
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Everything that is due up to `now` happens, each at its own moment.
    fn pass(&mut self, now: u64) {
        for server in 0..self.servers.len() {
            loop {
                let (next, change) = (self.servers[server].next(), self.changes[server]);
                if next.min(change) > now {
                    break;
                }
                if change <= next {
                    self.antagonise(server, change);
                } else if let Some(job) = self.servers[server].complete(next) {
                    self.answer(job as usize);
                }
            }
        }
    }

    /// What is left of a server changes.
    fn antagonise(&mut self, server: usize, now: u64) {
        let Some(antagonists) = self.scenario.antagonists else {
            return;
        };
        let draw = &mut self.fate[server];
        let factor = antagonists.from + draw.uniform() * (antagonists.to - antagonists.from);
        let lasts = draw.exponential() * antagonists.every;
        self.servers[server].change(now, |s| s.factor = factor);
        self.changes[server] = now + (lasts * 1e9) as u64;
    }

    fn accept(&mut self, server: usize) -> anyhow::Result<()> {
        let Ok((stream, _)) = self.listeners[server].accept() else {
            return Ok(());
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        // Numbers are not used again: a job that outlives its connection would answer another.
        let number = self.connections.len();
        let data = EventData::new_u64((self.listeners.len() + number) as u64);
        epoll::add(&self.epoll, stream.as_fd(), data, EventFlags::IN)?;
        self.connections.push(Some(Connection {
            stream,
            server,
            head: Vec::new(),
        }));
        Ok(())
    }

    fn read(&mut self, number: usize, _: EventData) {
        let Some(connection) = &mut self.connections[number] else {
            return;
        };
        let mut buffer = [0; 4096];
        match connection.stream.read(&mut buffer) {
            Ok(n @ 1..) => connection.head.extend_from_slice(&buffer[..n]),
            Err(fault) if fault.kind() == std::io::ErrorKind::WouldBlock => return,
            // Closing takes it out of the epoll instance.
            _ => {
                self.connections[number] = None;
                return;
            }
        }
        // Proxies send the next request when this one is answered.
        if memmem::find(&connection.head, b"\r\n\r\n").is_some() {
            connection.head.clear();
            let server = connection.server;
            let work = &self.scenario.work;
            let demand = work.draw(&mut self.work[server]) * self.scenario.mean;
            let now = self.now();
            self.servers[server].arrive(number as u32, demand, now);
        }
    }

    fn answer(&mut self, number: usize) {
        let Some(connection) = &mut self.connections[number] else {
            return;
        };
        self.served[connection.server].fetch_add(1, Relaxed);
        if connection.stream.write_all(ANSWER).is_err() {
            self.connections[number] = None;
        }
    }
}

/// How long a start takes until the first requests are of use: caches of connections fill, latencies are learned.
pub(super) const WARM_UP: Duration = Duration::from_secs(2);
