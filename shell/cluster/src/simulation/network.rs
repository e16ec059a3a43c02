//! A network whose connections take their time, hang, and break.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fastrand::Rng;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;

use crate::node::lock;
use crate::peers::{Listener, Opening, Stream, Transport};

/// Bytes that may be on their way.
const ROOM: usize = 256 << 10;
/// How long until a connection that nothing answers is tried once more.
const AGAIN: Duration = Duration::from_millis(200);

/// The network between nodes, which are numbered.
#[derive(Clone)]
pub(super) struct Net(Arc<Mutex<State>>);

struct State {
    /// In microseconds.
    now: u64,
    random: Rng,
    /// The longest that bytes take, in microseconds.
    slowest: u64,
    doors: BTreeMap<SocketAddr, Door>,
    pipes: BTreeMap<u64, Pipe>,
    next: u64,
    /// From whom nothing gets to whom.
    cut: BTreeSet<(usize, usize)>,
}

struct Door {
    node: usize,
    waiting: VecDeque<(Wire, usize)>,
    waker: Option<Waker>,
}

/// One direction of a connection.
struct Pipe {
    way: (usize, usize),
    /// When they are there, in order.
    bytes: VecDeque<(u64, Vec<u8>)>,
    size: usize,
    /// Nothing more is written.
    finished: bool,
    /// Nobody is at the other end, or never will be again.
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Net {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            now: 0,
            random: Rng::with_seed(seed),
            slowest: 1_000,
            doors: BTreeMap::new(),
            pipes: BTreeMap::new(),
            next: 0,
            cut: BTreeSet::new(),
        })))
    }

    /// What a node sees of it.
    pub(super) fn of(&self, node: usize) -> Arc<dyn Transport> {
        Arc::new(Way {
            net: self.clone(),
            node,
        })
    }

    /// Time goes by: what has arrived can be read.
    pub(super) fn advance(&self, by: Duration) {
        let mut state = lock(&self.0);
        state.now += by.as_micros() as u64;
        let State {
            now, pipes, cut, ..
        } = &mut *state;
        for pipe in pipes.values_mut() {
            let arrived = pipe.bytes.front().is_some_and(|(due, _)| due <= now);
            if pipe.broken || !cut.contains(&pipe.way) && (arrived || pipe.finished) {
                pipe.wake();
            }
        }
    }

    /// How long bytes may take.
    pub(super) fn set_slowest(&self, slowest: Duration) {
        lock(&self.0).slowest = slowest.as_micros() as u64;
    }

    /// From now on nothing gets from the one to the other, until it is mended.
    pub(super) fn cut(&self, from: usize, to: usize) {
        lock(&self.0).cut.insert((from, to));
    }

    pub(super) fn mend(&self) {
        lock(&self.0).cut.clear();
    }

    /// All connections between two nodes break.
    pub(super) fn sever(&self, one: usize, other: usize) {
        let between = [(one, other), (other, one)];
        lock(&self.0).break_all(|pipe| between.contains(&pipe.way));
    }

    /// A node is gone. What it was connected to is told, if it ended while its machine went on.
    pub(super) fn gone(&self, node: usize, told: bool) {
        let mut state = lock(&self.0);
        let doors = std::mem::take(&mut state.doors);
        let (gone, stay) = doors.into_iter().partition(|(_, door)| door.node == node);
        state.doors = stay;
        if told {
            state.break_all(|pipe| pipe.way.0 == node || pipe.way.1 == node);
        } else {
            // Nothing comes from there any more, and nothing is heard until it is back.
            for pipe in state.pipes.values_mut() {
                if pipe.way.0 == node {
                    pipe.bytes.clear();
                    pipe.finished = false;
                }
                pipe.broken &= pipe.way.1 != node;
            }
        }
        drop(state);
        // Wires that wait there lock the network when they are dropped.
        drop::<BTreeMap<SocketAddr, Door>>(gone);
    }

    /// A node is back: it knows nothing of the connections from before.
    pub(super) fn back(&self, node: usize) {
        lock(&self.0).break_all(|pipe| pipe.way.0 == node || pipe.way.1 == node);
    }
}

impl State {
    fn break_all(&mut self, which: impl Fn(&Pipe) -> bool) {
        for pipe in self.pipes.values_mut().filter(|pipe| which(pipe)) {
            pipe.broken = true;
            pipe.wake();
        }
    }

    fn pipe(&mut self, way: (usize, usize)) -> u64 {
        self.next += 1;
        let pipe = Pipe {
            way,
            bytes: VecDeque::new(),
            size: 0,
            finished: false,
            broken: false,
            reader: None,
            writer: None,
        };
        self.pipes.insert(self.next, pipe);
        self.next
    }

    fn delay(&mut self) -> u64 {
        let slowest = self.slowest;
        // Mostly fast, as networks are.
        match self.random.u8(..8) {
            0 => self.random.u64(50..=slowest.max(50)),
            _ => self.random.u64(50..=slowest.clamp(50, 300)),
        }
    }
}

impl Pipe {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()]
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }
}

/// The network as one node sees it.
struct Way {
    net: Net,
    node: usize,
}

impl Transport for Way {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let (net, from) = (self.net.clone(), self.node);
        let address: SocketAddr = address.parse().expect("an address of the simulation");
        let connect = async move {
            loop {
                let delay = lock(&net.0).delay();
                sleep(Duration::from_micros(delay)).await;
                if let Some(connected) = net.attempt(from, address) {
                    return connected.map(|wire| Box::new(wire) as Box<dyn Stream>);
                }
                sleep(AGAIN).await;
            }
        };
        connect.boxed()
    }

    fn listen(&self, at: SocketAddr) -> io::Result<Opening> {
        let door = Door {
            node: self.node,
            waiting: VecDeque::new(),
            waker: None,
        };
        lock(&self.net.0).doors.insert(at, door);
        let net = self.net.clone();
        Ok(Box::new(move || {
            Ok(Box::new(Entrance { net, at }) as Box<dyn Listener>)
        }))
    }
}

impl Net {
    /// None if nothing answers.
    fn attempt(&self, from: usize, address: SocketAddr) -> Option<io::Result<Wire>> {
        let mut state = lock(&self.0);
        let Some(to) = state.doors.get(&address).map(|door| door.node) else {
            return Some(Err(io::ErrorKind::ConnectionRefused.into()));
        };
        if state.cut.contains(&(from, to)) || state.cut.contains(&(to, from)) {
            return None;
        }
        let (there, here) = (state.pipe((from, to)), state.pipe((to, from)));
        let wire = |read, write| Wire {
            net: self.clone(),
            read,
            write,
        };
        let door = state.doors.get_mut(&address)?;
        door.waiting.push_back((wire(there, here), from));
        if let Some(waker) = door.waker.take() {
            waker.wake();
        }
        Some(Ok(wire(here, there)))
    }
}

struct Entrance {
    net: Net,
    at: SocketAddr,
}

impl Listener for Entrance {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>> {
        let accept = poll_fn(|cx| {
            let mut state = lock(&self.net.0);
            let Some(door) = state.doors.get_mut(&self.at) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            match door.waiting.pop_front() {
                Some((wire, from)) => {
                    let wire = Box::new(wire) as Box<dyn Stream>;
                    Poll::Ready(Ok((wire, format!("node {from}"))))
                }
                None => {
                    door.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        });
        accept.boxed()
    }
}

/// One end of a connection.
struct Wire {
    net: Net,
    read: u64,
    write: u64,
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = lock(&self.net.0);
        let State {
            now, pipes, cut, ..
        } = &mut *state;
        let Some(pipe) = pipes.get_mut(&self.read) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if pipe.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let reaches = !cut.contains(&pipe.way);
        let ended = reaches && pipe.finished && pipe.bytes.is_empty();
        match pipe
            .bytes
            .front_mut()
            .filter(|(due, _)| reaches && *due <= *now)
        {
            Some((_, bytes)) => {
                let taken = bytes.len().min(out.remaining());
                out.put_slice(&bytes[..taken]);
                bytes.drain(..taken);
                if bytes.is_empty() {
                    pipe.bytes.pop_front();
                }
                pipe.size -= taken;
                if let Some(writer) = pipe.writer.take() {
                    writer.wake();
                }
                Poll::Ready(Ok(()))
            }
            None if ended => Poll::Ready(Ok(())),
            None => {
                pipe.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.net.0);
        let due = state.now + state.delay();
        let Some(pipe) = state.pipes.get_mut(&self.write).filter(|p| !p.broken) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if pipe.size >= ROOM {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        // What was written before is there before.
        let due = pipe
            .bytes
            .back()
            .map_or(due, |(before, _)| due.max(*before));
        pipe.size += bytes.len();
        pipe.bytes.push_back((due, bytes.to_vec()));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(pipe) = lock(&self.net.0).pipes.get_mut(&self.write) {
            pipe.finished = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let mut state = lock(&self.net.0);
        // Once both ends are gone, so is the pipe.
        match state.pipes.get_mut(&self.write) {
            Some(pipe) if pipe.broken => drop(state.pipes.remove(&self.write)),
            Some(pipe) => pipe.finished = true,
            None => {}
        }
        match state.pipes.get_mut(&self.read) {
            Some(pipe) if pipe.finished => drop(state.pipes.remove(&self.read)),
            Some(pipe) => pipe.broken = true,
            None => {}
        }
    }
}
