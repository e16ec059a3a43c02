//! The kernel's side of the reactor.

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use model::Moment;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::reactor::{Ready, Token};

/// Events taken at a time. Enough that a busy worker seldom calls twice, few enough (12 KiB) to stay in
/// the first-level cache.
const BATCH: usize = 512;

pub(super) struct Epoll {
    fd: OwnedFd,
    origin: Instant,
    buffer: RefCell<Box<[MaybeUninit<Event>; BATCH]>>,
}

impl Epoll {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            fd: epoll::create(CreateFlags::CLOEXEC)?,
            origin: *ORIGIN,
            buffer: RefCell::new(Box::new([const { MaybeUninit::uninit() }; BATCH])),
        })
    }

    pub(super) fn now(&self) -> Moment {
        // Past the year 2550 this would wrap; the process will have been restarted.
        Moment::from_nanos(self.origin.elapsed().as_nanos() as u64)
    }

    /// Edge-triggered, both directions, once for the life of the socket: no further `epoll_ctl`.
    pub(super) fn add(&self, fd: &OwnedFd, token: Token) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        self.add_for(fd, token, flags)
    }

    /// Edge-triggered, for what is never waited for to take something: each packet that leaves a UDP socket is an edge of
    /// its own otherwise.
    pub(super) fn add_reader(&self, fd: &OwnedFd, token: Token) -> io::Result<()> {
        self.add_for(fd, token, EventFlags::IN | EventFlags::ET)
    }

    fn add_for(&self, fd: &OwnedFd, token: Token, flags: EventFlags) -> io::Result<()> {
        let data = u64::from(token.generation) << 32 | u64::from(token.index);
        Ok(epoll::add(&self.fd, fd, EventData::new_u64(data), flags)?)
    }

    pub(super) fn wait(&self, timeout: Option<Duration>, out: &mut Vec<Ready>) -> io::Result<()> {
        let timeout = timeout.map(|t| Timespec {
            tv_sec: t.as_secs() as i64,
            tv_nsec: i64::from(t.subsec_nanos()),
        });
        let mut buffer = self.buffer.borrow_mut();
        let events = match epoll::wait(&self.fd, &mut buffer[..], timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(fault) => return Err(fault.into()),
        };
        out.extend(events.iter().map(ready));
        Ok(())
    }
}

/// One origin for every worker and for the control plane, so that moments can be compared.
static ORIGIN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);

/// The time on the workers' clock, for threads that are no worker.
pub(crate) fn now() -> Moment {
    Moment::from_nanos(ORIGIN.elapsed().as_nanos() as u64)
}

fn ready(event: &Event) -> Ready {
    let data = event.data.u64();
    let flags = event.flags;
    Ready {
        token: Token {
            index: data as u32,
            generation: (data >> 32) as u32,
        },
        readable: flags.contains(EventFlags::IN),
        writable: flags.contains(EventFlags::OUT),
        peer_closed: flags.contains(EventFlags::RDHUP),
        hung_up: flags.intersects(EventFlags::HUP | EventFlags::ERR),
    }
}
