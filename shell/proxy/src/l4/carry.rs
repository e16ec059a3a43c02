//! Bytes both ways between two connections, until both sides have ended or one has broken.
//!
//! Copied while they are few: a read and a send cost least for a small message. When a read fills the buffer, more is
//! behind it, and the direction goes over to splice(2), by way of a pipe that it holds only while bytes come.

use std::cell::Cell;
use std::time::Duration;

use model::{Closed, Counter, Moment};

use super::lasting::Standing;
use super::pipes::Pipes;
use crate::buffers::Buffers;
use crate::rt::{Pipe, Reactor, Sock, TimedOut, try_join, yield_now};

/// What is copied at a time. Measured: with 64 KiB a stream of 1 MB costs twice as much, for it leaves the cache.
const COPY: usize = 32 * 1024;

/// What is spliced at a time.
const SPLICE: usize = 512 * 1024;

/// Bytes that one direction moves before the other connections get their turn.
const BUDGET: usize = 512 * 1024;

/// Two connections and what limits them.
pub(super) struct Pair<'a> {
    pub(super) client: &'a Sock,
    pub(super) instance: &'a Sock,
    pub(super) buffers: &'a Buffers,
    pub(super) pipes: &'a Pipes,
    pub(super) limits: Limits<'a>,
}

/// How long a connection may last.
pub(super) struct Limits<'a> {
    pub(super) idle: Duration,
    /// The end of its life, whatever happens.
    pub(super) ends: Moment,
    /// The time that is left when its instance or listener goes away.
    pub(super) drain: Duration,
    pub(super) grounds: [&'a Standing; 2],
}

/// One direction.
struct Way<'a> {
    from: &'a Sock,
    to: &'a Sock,
    /// What the receiver has still to get.
    unsent: Vec<u8>,
    pipe: Option<Pipe>,
    /// Whether its bytes come in bulk.
    bulk: bool,
    /// Bytes that moved since it last had to wait.
    run: usize,
    /// Where its bytes are counted, each of them as soon as it is through.
    counts: [&'a Counter; 2],
    broken_from: Closed,
    broken_to: Closed,
}

/// What a direction waits for.
#[derive(Clone, Copy)]
enum Until {
    Readable,
    Writable,
}

/// What a step came to.
enum Step {
    Moved(usize),
    WaitFrom,
    WaitTo,
    End,
}

impl Pair<'_> {
    /// Carries bytes both ways; `ahead` goes to the instance first. The counters get each direction's bytes: the
    /// listener's and the route's.
    pub(super) async fn carry(
        &self,
        ahead: Vec<u8>,
        up: [&Counter; 2],
        down: [&Counter; 2],
    ) -> Closed {
        let up = Way {
            from: self.client,
            to: self.instance,
            unsent: ahead,
            pipe: None,
            bulk: false,
            run: 0,
            counts: up,
            broken_from: Closed::ClientReset,
            broken_to: Closed::InstanceReset,
        };
        let down = Way {
            from: self.instance,
            to: self.client,
            unsent: Vec::new(),
            pipe: None,
            bulk: false,
            run: 0,
            counts: down,
            broken_from: Closed::InstanceReset,
            broken_to: Closed::ClientReset,
        };
        let ended = Cell::new(false);
        let outcome = try_join(self.one_way(up, &ended), self.one_way(down, &ended)).await;
        outcome.err().unwrap_or(Closed::Done)
    }

    /// Carries one direction to its end, and then the end; the other may go on.
    async fn one_way(&self, mut way: Way<'_>, other_ended: &Cell<bool>) -> Result<(), Closed> {
        let mut budget = BUDGET;
        loop {
            match way.step(self.buffers, self.pipes)? {
                Step::Moved(n) => {
                    budget = budget.saturating_sub(n);
                    if budget == 0 {
                        budget = BUDGET;
                        yield_now(self.reactor()).await;
                    }
                }
                Step::WaitFrom => {
                    way.rest(self.buffers, self.pipes);
                    self.wait(way.from, Until::Readable).await?;
                }
                Step::WaitTo => self.wait(way.to, Until::Writable).await?,
                Step::End => break,
            }
        }
        way.rest(self.buffers, self.pipes);
        // When both have ended, closing tells the peers so.
        if !other_ended.replace(true) {
            way.to.shutdown_write();
        }
        Ok(())
    }

    fn reactor(&self) -> &Reactor {
        self.client.reactor()
    }

    /// Waits for a socket. Either direction's progress moves the deadline of both.
    async fn wait(&self, sock: &Sock, until: Until) -> Result<(), Closed> {
        loop {
            let (deadline, why) = self.limits.deadline(self.reactor().now());
            self.reactor().set_deadline(deadline);
            let moved = || self.limits.leaves() < deadline;
            let waited = match until {
                Until::Readable => sock.readable_unless(moved).await,
                Until::Writable => sock.writable_unless(moved).await,
            };
            let ready = match until {
                Until::Readable => sock.is_readable(),
                Until::Writable => sock.is_writable(),
            };
            match waited {
                Err(TimedOut) => return Err(why),
                Ok(()) if ready => return Ok(()),
                // It was told that its time is shorter now.
                Ok(()) => {}
            }
        }
    }
}

impl Limits<'_> {
    /// When it must end for its instance or listener.
    fn leaves(&self) -> Moment {
        let [a, b] = self.grounds;
        a.leaving().min(b.leaving()) + self.drain
    }

    /// When it ends if nothing moves, and why then.
    fn deadline(&self, now: Moment) -> (Moment, Closed) {
        let ends = [
            (now + self.idle, Closed::Idle),
            (self.ends, Closed::Lifetime),
            (self.leaves(), Closed::Drained),
        ];
        let [first, rest @ ..] = ends;
        rest.into_iter()
            .fold(first, |a, b| if b.0 < a.0 { b } else { a })
    }
}

impl Way<'_> {
    /// Moves what it can at once.
    fn step(&mut self, buffers: &Buffers, pipes: &Pipes) -> Result<Step, Closed> {
        if let Some(pipe) = self.pipe.take_if(|pipe| pipe.held() > 0) {
            return self.drain_pipe(pipe);
        }
        if !self.unsent.is_empty() {
            return self.send_rest(buffers);
        }
        if self.bulk && self.from.can_splice() && self.to.can_splice() {
            if let Some(pipe) = self.pipe.take().or_else(|| pipes.take()) {
                return self.splice(pipe);
            }
        }
        self.copy(buffers)
    }

    fn copy(&mut self, buffers: &Buffers) -> Result<Step, Closed> {
        let mut scratch = buffers.scratch();
        let room = &mut scratch[..COPY];
        let n = match self.from.try_recv(room) {
            Ok(None) if self.from.is_readable() => return Ok(Step::Moved(0)),
            Ok(None) => return Ok(Step::WaitFrom),
            Ok(Some(0)) => return Ok(Step::End),
            Ok(Some(n)) => n,
            Err(_) => return Err(self.broken_from),
        };
        self.bulk = n == COPY;
        let sent = self.to.try_send(&room[..n]).map_err(|_| self.broken_to)?;
        self.through(sent);
        if sent < n {
            self.unsent = buffers.take();
            self.unsent.extend_from_slice(&room[sent..n]);
            return Ok(Step::WaitTo);
        }
        Ok(Step::Moved(n))
    }

    fn send_rest(&mut self, buffers: &Buffers) -> Result<Step, Closed> {
        let sent = self.to.try_send(&self.unsent).map_err(|_| self.broken_to)?;
        self.through(sent);
        if sent < self.unsent.len() {
            self.unsent.drain(..sent);
            return Ok(Step::WaitTo);
        }
        buffers.put(std::mem::take(&mut self.unsent));
        Ok(Step::Moved(sent))
    }

    fn splice(&mut self, pipe: Pipe) -> Result<Step, Closed> {
        match self.from.try_splice_to(&pipe, SPLICE) {
            Ok(Some(0)) => {
                self.pipe = Some(pipe);
                Ok(Step::End)
            }
            Ok(Some(_)) => self.drain_pipe(pipe),
            Ok(None) => {
                self.pipe = Some(pipe);
                Ok(Step::WaitFrom)
            }
            Err(_) => Err(self.broken_from),
        }
    }

    fn drain_pipe(&mut self, pipe: Pipe) -> Result<Step, Closed> {
        let sent = self.to.try_splice_from(&pipe).map_err(|_| self.broken_to)?;
        self.through(sent);
        let done = pipe.held() == 0;
        self.pipe = Some(pipe);
        Ok(match sent {
            0 if !done => Step::WaitTo,
            sent => Step::Moved(sent),
        })
    }

    fn through(&mut self, n: usize) {
        self.run += n;
        for count in self.counts {
            count.bump(n as u64);
        }
    }

    /// Holds nothing while nothing comes.
    fn rest(&mut self, buffers: &Buffers, pipes: &Pipes) {
        // A run that would have fitted one read is no bulk.
        self.bulk = self.run >= COPY;
        self.run = 0;
        if let Some(pipe) = self.pipe.take() {
            pipes.put(pipe);
        }
        if self.unsent.capacity() != 0 {
            buffers.put(std::mem::take(&mut self.unsent));
        }
    }
}
