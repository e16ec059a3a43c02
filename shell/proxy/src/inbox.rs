//! What other threads tell a worker.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use model::Counter;
use rustix::event::{EventfdFlags, eventfd};

use crate::bind::Transport;
use crate::l4::{Gate, Surplus};
use crate::rt::in_use;

/// Something a worker is to do.
pub(crate) enum Order {
    /// Accept connections, or receive packets, with this socket.
    Listen(Ear, OwnedFd),
    /// Stop doing so.
    Unlisten(Ear),
    /// Serve a connection that another worker accepted for this listener.
    Adopt(usize, OwnedFd, SocketAddr, Open),
    /// Close connections that an endpoint has beyond its share.
    GiveUp(Arc<Surplus>),
    /// Accept nothing more; end connections as their requests finish.
    Drain,
    /// End at once.
    Stop,
}

/// Where something comes in: what, for which listener, at which address.
pub(crate) type Ear = (Transport, usize, SocketAddr);

/// Counts a connection as its worker's until it is dropped. Begins when it is decided who serves it, not when
/// that worker gets round to it: a burst would all be given to whoever was least busy before.
pub(crate) struct Open(Arc<Fleet>, usize);

impl Open {
    pub(crate) fn new(fleet: Arc<Fleet>, worker: usize) -> Self {
        fleet.members[worker].connections.fetch_add(1, Relaxed);
        Self(fleet, worker)
    }

    /// All workers, this one among them.
    pub(crate) fn fleet(&self) -> &Arc<Fleet> {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.members[self.1].connections.fetch_sub(1, Relaxed);
    }
}

/// All workers, as any thread sees them.
pub(crate) struct Fleet {
    members: Vec<Member>,
    /// Connections handed from the worker that accepted them to a less busy one.
    pub(crate) handed_over: Counter,
    /// Times that a listener rested because there were too few descriptors, or the kernel accepted nothing.
    pub(crate) rests: Counter,
    /// Limits by the client's address.
    pub(crate) gate: Gate,
}

#[repr(align(64))]
struct Member {
    orders: Mutex<Vec<Order>>,
    bell: OwnedFd,
    connections: AtomicUsize,
}

impl Fleet {
    pub(crate) fn new(workers: usize) -> io::Result<Self> {
        let member = |_| {
            Ok(Member {
                orders: Mutex::default(),
                bell: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
                connections: AtomicUsize::new(0),
            })
        };
        Ok(Self {
            members: (0..workers).map(member).collect::<io::Result<_>>()?,
            handed_over: Counter::default(),
            rests: Counter::default(),
            gate: Gate::default(),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn order(&self, worker: usize, order: Order) {
        let member = &self.members[worker];
        member
            .orders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(order);
        // It can only fail when the count would overflow, and then the bell has rung already.
        let _ = rustix::io::write(&member.bell, &1_u64.to_ne_bytes());
    }

    /// How many descriptors of the process's are in use.
    pub(crate) fn descriptors_in_use(&self) -> u64 {
        in_use(&self.members[0].bell)
    }

    /// Lets every worker look at what has changed.
    pub(crate) fn ring_all(&self) {
        for member in &self.members {
            let _ = rustix::io::write(&member.bell, &1_u64.to_ne_bytes());
        }
    }

    pub(crate) fn order_all(&self, order: impl Fn() -> Order) {
        for worker in 0..self.members.len() {
            self.order(worker, order());
        }
    }

    /// What `worker` was told since it last asked.
    pub(crate) fn orders(&self, worker: usize) -> Vec<Order> {
        let mut orders = self.members[worker]
            .orders
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut orders)
    }

    /// A descriptor that becomes readable with every order.
    pub(crate) fn bell(&self, worker: usize) -> io::Result<OwnedFd> {
        self.members[worker].bell.try_clone()
    }

    pub(crate) fn loads(&self) -> Vec<usize> {
        self.members
            .iter()
            .map(|m| m.connections.load(Relaxed))
            .collect()
    }

    /// Who should serve a connection that `accepter` accepted. The kernel spreads connections by hash, so
    /// a few long ones may well land on one worker; whoever has clearly more than the least busy passes
    /// them on. The slack (8, or an eighth) keeps short connections where they arrive.
    pub(crate) fn placement(&self, accepter: usize) -> usize {
        let load = |i: usize| self.members[i].connections.load(Relaxed);
        let least = (0..self.members.len())
            .min_by_key(|&i| load(i))
            .unwrap_or(accepter);
        let slack = (load(least) / 8).max(8);
        if load(accepter) > load(least) + slack {
            least
        } else {
            accepter
        }
    }
}
