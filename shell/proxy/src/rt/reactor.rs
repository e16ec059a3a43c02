//! What sockets and tasks of one worker share: readiness, the run queue, deadlines, the clock.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use model::Moment;
use slab::Slab;

use super::descriptors::Descriptors;
use super::diag::Diag;
use super::epoll::Epoll;
use super::memory::Network;
use super::records::Sealed;
use super::timers::Timers;

/// A task's slot and which of the slot's occupants it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskId {
    index: u32,
    generation: u32,
}

impl TaskId {
    const NONE: Self = Self::new(u32::MAX, 0);

    pub(super) const fn new(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    pub(super) const fn index(self) -> usize {
        self.index as usize
    }

    pub(super) const fn generation(self) -> u32 {
        self.generation
    }
}

/// What the kernel said of a socket, and who wants to know.
#[derive(Debug)]
struct Source {
    generation: u32,
    readable: bool,
    writable: bool,
    /// The peer has closed its side: reads end, so a short read does not mean "drained".
    peer_closed: bool,
    /// Both sides are closed, or the connection is in error.
    hung_up: bool,
    waiter: TaskId,
}

/// A socket's number at the reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// One edge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub(super) token: Token,
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) peer_closed: bool,
    pub(super) hung_up: bool,
}

/// Where events come from.
pub(super) enum Driver {
    Epoll(Epoll),
    Memory(Network),
}

/// A task's deadline, and the earliest entry the wheel has for it.
#[derive(Clone, Copy)]
struct Deadline {
    generation: u32,
    at: Moment,
    armed: Moment,
}

/// The heart of a worker. One per thread, shared by its tasks through `Rc`.
pub struct Reactor {
    pub(super) driver: Driver,
    sources: RefCell<Slab<Source>>,
    generations: Cell<u32>,
    run_queue: RefCell<VecDeque<TaskId>>,
    timers: RefCell<Timers>,
    deadlines: RefCell<Vec<Deadline>>,
    now: Cell<Moment>,
    current: Cell<TaskId>,
    events: RefCell<Vec<Ready>>,
    fired: RefCell<Vec<TaskId>>,
    /// Tasks to be woken if they are still there then, in the order of time.
    soon: RefCell<VecDeque<(Moment, TaskId)>>,
    /// Where TLS reads to: one buffer for all of a worker's connections, made when the first needs it.
    pub(super) ciphertext: RefCell<Vec<u8>>,
    /// Where TLS seals, in the same way.
    pub(super) sealed: RefCell<Sealed>,
    /// What connections of many streams have their output in while there is much of it, and give back when it is sent.
    pub(super) outputs: RefCell<Vec<Vec<u8>>>,
    pub(super) diag: Diag,
    descriptors: Descriptors,
}

/// How long a wait goes on before it is worth to watch for what seldom happens. Most answers of an instance nearby are
/// there sooner.
const SOON: Duration = Duration::from_millis(2);

impl Reactor {
    /// A reactor on the kernel's sockets.
    ///
    /// # Errors
    /// When the kernel gives no epoll instance (descriptor limit).
    pub fn on_kernel() -> io::Result<Rc<Self>> {
        let epoll = Epoll::new()?;
        let now = epoll.now();
        Ok(Rc::new(Self::new(Driver::Epoll(epoll), now)))
    }

    /// A reactor on a simulated network with virtual time.
    pub fn on_network(network: Network) -> Rc<Self> {
        let now = network.now();
        Rc::new(Self::new(Driver::Memory(network), now))
    }

    fn new(driver: Driver, now: Moment) -> Self {
        Self {
            driver,
            sources: RefCell::default(),
            generations: Cell::new(0),
            run_queue: RefCell::default(),
            timers: RefCell::new(Timers::new(now)),
            deadlines: RefCell::default(),
            now: Cell::new(now),
            current: Cell::new(TaskId::NONE),
            events: RefCell::default(),
            fired: RefCell::default(),
            soon: RefCell::default(),
            ciphertext: RefCell::default(),
            sealed: RefCell::default(),
            outputs: RefCell::default(),
            diag: Diag::default(),
            descriptors: Descriptors::of_process(),
        }
    }

    /// The time at which the present batch of events was taken. Coarse on purpose: one clock read a
    /// batch, not one a request.
    pub fn now(&self) -> Moment {
        self.now.get()
    }

    /// How many descriptors may be in use.
    pub fn descriptors(&self) -> Descriptors {
        self.descriptors
    }

    /// The simulated network, when there is one.
    pub(super) fn network(&self) -> Option<&Network> {
        match &self.driver {
            Driver::Memory(network) => Some(network),
            Driver::Epoll(_) => None,
        }
    }

    pub(super) fn set_current(&self, task: TaskId) {
        self.current.set(task);
    }

    /// The task that is being polled.
    pub(crate) fn current(&self) -> TaskId {
        self.current.get()
    }

    /// Gives the current task until `at`; waiting on a socket beyond that is [`super::TimedOut`].
    /// Replaces the deadline it had.
    pub fn set_deadline(&self, at: Moment) {
        let task = self.current.get();
        let mut deadlines = self.deadlines.borrow_mut();
        let deadline = &mut deadlines[task.index()];
        deadline.at = at;
        // The wheel already has an entry that fires before: it will look at `at` then.
        if at < deadline.armed {
            deadline.armed = self.timers.borrow_mut().insert(task, at);
        }
    }

    /// Gives the current task `time` from now.
    pub fn set_timeout(&self, time: Duration) {
        self.set_deadline(self.now() + time);
    }

    /// Whether the current task's deadline has passed.
    pub(crate) fn timed_out(&self) -> bool {
        let deadline = self.deadlines.borrow()[self.current.get().index()];
        self.now.get() >= deadline.at
    }

    pub(super) fn task_begins(&self, task: TaskId) {
        let mut deadlines = self.deadlines.borrow_mut();
        if deadlines.len() <= task.index() {
            let unused = Deadline {
                generation: 0,
                at: Moment::NEVER,
                armed: Moment::NEVER,
            };
            deadlines.resize(task.index() + 1, unused);
        }
        deadlines[task.index()] = Deadline {
            generation: task.generation(),
            at: Moment::NEVER,
            armed: Moment::NEVER,
        };
    }

    /// Puts `task` on the run queue.
    pub fn wake(&self, task: TaskId) {
        if task != TaskId::NONE {
            self.run_queue.borrow_mut().push_back(task);
        }
    }

    /// Puts `task` before all others on the run queue: what it is to see is in the processor's caches now.
    pub(super) fn wake_next(&self, task: TaskId) {
        if task != TaskId::NONE {
            self.run_queue.borrow_mut().push_front(task);
        }
    }

    /// Puts the current task on the run queue: it goes on after the others.
    pub(super) fn wake_current(&self) {
        self.wake(self.current.get());
    }

    /// Wakes the current task in a moment ([`SOON`]), whatever it then waits for.
    pub(crate) fn wake_soon(&self) {
        let at = self.now() + SOON;
        self.soon.borrow_mut().push_back((at, self.current.get()));
    }

    /// Waits for a moment (2 ms): what timers, which are made for seconds, are too coarse for.
    pub(crate) async fn a_moment(&self) {
        let until = self.now() + SOON;
        self.wake_soon();
        poll_fn(|_| match self.now() >= until {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    /// Waits for `time`, and up to 34 ms more. Uses the task's deadline.
    pub async fn sleep(&self, time: Duration) {
        self.set_timeout(time);
        poll_fn(|_| match self.timed_out() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
        self.set_deadline(Moment::NEVER);
    }

    /// How many tasks are due to run.
    pub(super) fn queued(&self) -> usize {
        self.run_queue.borrow().len()
    }

    pub(super) fn next_queued(&self) -> Option<TaskId> {
        self.run_queue.borrow_mut().pop_front()
    }

    // === sources ===

    /// Watches a kernel socket from now on.
    pub(super) fn register(
        &self,
        fd: &OwnedFd,
        readable: bool,
        writable: bool,
    ) -> io::Result<Token> {
        let token = self.add_source(readable, writable);
        if let Err(fault) = self.watch(fd, token) {
            self.forget(token);
            return Err(fault);
        }
        Ok(token)
    }

    /// Watches a kernel socket for what there is to read.
    pub(super) fn register_reader(&self, fd: &OwnedFd, readable: bool) -> io::Result<Token> {
        let Driver::Epoll(epoll) = &self.driver else {
            unreachable!("a kernel socket on a simulated network");
        };
        let token = self.add_source(readable, true);
        if let Err(fault) = epoll.add_reader(fd, token) {
            self.forget(token);
            return Err(fault);
        }
        Ok(token)
    }

    /// Has the kernel tell of a socket's events.
    pub(super) fn watch(&self, fd: &OwnedFd, token: Token) -> io::Result<()> {
        let Driver::Epoll(epoll) = &self.driver else {
            unreachable!("a kernel socket on a simulated network");
        };
        epoll.add(fd, token)
    }

    pub(super) fn add_source(&self, readable: bool, writable: bool) -> Token {
        let generation = self.generations.get().wrapping_add(1);
        self.generations.set(generation);
        let index = self.sources.borrow_mut().insert(Source {
            generation,
            readable,
            writable,
            peer_closed: false,
            hung_up: false,
            waiter: TaskId::NONE,
        });
        Token {
            index: index as u32,
            generation,
        }
    }

    /// Stops watching; events still under way for it are dropped by their generation. The kernel
    /// removes a closed descriptor from the epoll set by itself.
    pub(super) fn forget(&self, token: Token) {
        self.sources.borrow_mut().remove(token.index as usize);
    }

    fn with_source<R>(&self, token: Token, f: impl FnOnce(&mut Source) -> R) -> R {
        let mut sources = self.sources.borrow_mut();
        let source = &mut sources[token.index as usize];
        debug_assert_eq!(
            source.generation, token.generation,
            "a socket outlived its slot"
        );
        f(source)
    }

    pub(super) fn readable(&self, token: Token) -> bool {
        self.with_source(token, |s| s.readable)
    }

    pub(super) fn writable(&self, token: Token) -> bool {
        self.with_source(token, |s| s.writable)
    }

    pub(super) fn peer_closed(&self, token: Token) -> bool {
        self.with_source(token, |s| s.peer_closed)
    }

    pub(super) fn hung_up(&self, token: Token) -> bool {
        self.with_source(token, |s| s.hung_up)
    }

    /// Nothing more to read until the next edge. Not after the peer closed: that edge has been, and
    /// the end of the stream is still to be read.
    pub(super) fn drained(&self, token: Token) {
        self.with_source(token, |s| s.readable = s.peer_closed);
    }

    pub(super) fn unreadable(&self, token: Token) {
        self.with_source(token, |s| s.readable = false);
    }

    pub(super) fn unwritable(&self, token: Token) {
        self.with_source(token, |s| s.writable = false);
    }

    /// The current task hears of the socket's next edge.
    pub(super) fn wait_on(&self, token: Token) {
        let task = self.current.get();
        self.with_source(token, |s| s.waiter = task);
    }

    // === the loop's step ===

    /// Waits for events, or for the next deadline, or not at all when tasks are queued; then queues
    /// the tasks concerned. Returns `false` when nothing can ever happen again (simulation only).
    pub(super) fn turn(&self) -> io::Result<bool> {
        let timeout = if self.queued() > 0 {
            Some(Duration::ZERO)
        } else {
            let next = self.timers.borrow().next();
            let soon = self.soon.borrow().front().map(|(at, _)| *at);
            let next = [next, soon].into_iter().flatten().min();
            next.map(|at| at.since(self.driver_now()))
        };
        let mut events = self.events.borrow_mut();
        let alive = match &self.driver {
            Driver::Epoll(epoll) => epoll.wait(timeout, &mut events).map(|()| true)?,
            Driver::Memory(network) => network.wait(timeout, &mut events),
        };
        self.now.set(self.driver_now());
        for event in events.drain(..) {
            self.deliver(event);
        }
        self.fire_timers();
        self.wake_due();
        Ok(alive)
    }

    fn wake_due(&self) {
        let mut soon = self.soon.borrow_mut();
        while let Some(&(at, task)) = soon.front()
            && at <= self.now.get()
        {
            soon.pop_front();
            self.wake(task);
        }
    }

    fn driver_now(&self) -> Moment {
        match &self.driver {
            Driver::Epoll(epoll) => epoll.now(),
            Driver::Memory(network) => network.now(),
        }
    }

    pub(super) fn deliver(&self, event: Ready) {
        let mut sources = self.sources.borrow_mut();
        let Some(source) = sources.get_mut(event.token.index as usize) else {
            return;
        };
        if source.generation != event.token.generation {
            return;
        }
        source.readable |= event.readable || event.peer_closed || event.hung_up;
        source.writable |= event.writable || event.hung_up;
        source.peer_closed |= event.peer_closed || event.hung_up;
        source.hung_up |= event.hung_up;
        let waiter = std::mem::replace(&mut source.waiter, TaskId::NONE);
        drop(sources);
        self.wake(waiter);
    }

    fn fire_timers(&self) {
        let mut fired = self.fired.borrow_mut();
        self.timers.borrow_mut().advance(self.now.get(), &mut fired);
        for task in fired.drain(..) {
            self.look_at_deadline(task);
        }
    }

    fn look_at_deadline(&self, task: TaskId) {
        let mut deadlines = self.deadlines.borrow_mut();
        let deadline = &mut deadlines[task.index()];
        // An entry left behind when the deadline was shortened: another fires for it. Put in again, such entries
        // would gather for as long as the task lives.
        if deadline.generation != task.generation() || deadline.armed > self.now.get() {
            return;
        }
        if deadline.at <= self.now.get() {
            deadline.armed = Moment::NEVER;
            self.wake(task);
        } else if deadline.at == Moment::NEVER {
            deadline.armed = Moment::NEVER;
        } else {
            deadline.armed = self.timers.borrow_mut().insert(task, deadline.at);
        }
    }
}

#[cfg(test)]
#[path = "reactor_tests.rs"]
mod tests;
