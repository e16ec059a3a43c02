//! Bytes both ways between two connections, until both sides have ended or one has broken.
//!
//! Copied while they are few: a read and a send cost least for a small message. When a read fills the buffer, more is
//! behind it, and the direction goes over to splice(2), by way of a pipe that it holds only while bytes come.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use http::ws::{Frames, SERVICE_RESTART};
use model::{Closed, Counter, Moment};

use super::lasting::{Rest, Standing};
use super::pipes::Pipes;
use crate::buffers::Buffers;
use crate::rt::{Life, Pipe, Sock, yield_now};

/// What is copied at a time. Measured: with 64 KiB a stream of 1 MB costs twice as much, for it leaves the cache.
const COPY: usize = 32 * 1024;

/// What is spliced at a time.
const SPLICE: usize = 512 * 1024;

/// Bytes that one direction moves before the other connections get their turn.
const BUDGET: usize = 512 * 1024;

/// How long a client may take to say goodbye, too.
const GOODBYE: Duration = Duration::from_secs(2);

/// How long a peer that seems to be gone has for another sign of life: what it was asked may just be on its way.
const DOUBT: Duration = Duration::from_secs(2);

/// Two connections and what limits them.
pub(crate) struct Pair<'a> {
    pub(crate) client: &'a Sock,
    pub(crate) instance: &'a Sock,
    pub(crate) buffers: &'a Buffers,
    pub(crate) pipes: &'a Pipes,
    /// Where bytes are counted, each of them as soon as it is through: the client's, and the instance's.
    pub(crate) counts: [&'a [&'a Counter]; 2],
    pub(crate) limits: Limits<'a>,
    /// Whether they speak WebSocket: then an end that we make is one that they understand.
    pub(crate) websocket: bool,
    /// Called when we decide on the end, before goodbyes are said: its client may be back before they are.
    pub(crate) parts: &'a dyn Fn(Closed),
}

/// How a connection ended.
pub(crate) struct End {
    pub(crate) why: Closed,
    /// Whether both sides know that this was the end, and nothing is missing.
    pub(crate) told: bool,
}

/// How long a connection may last.
pub(crate) struct Limits<'a> {
    pub(crate) idle: Duration,
    /// How long the client's machine, and the instance's, may be silent when they are asked.
    pub(crate) silence: [Duration; 2],
    /// The end of its life, whatever happens.
    pub(crate) ends: Moment,
    /// The time that is left when its instance or listener goes away.
    pub(crate) drain: Duration,
    /// Its instance, and its listener.
    pub(crate) grounds: &'a [Standing; 2],
    /// Whether the process is about to end.
    pub(crate) stopping: &'a Cell<bool>,
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
    /// Whether any have since that was last asked.
    moved: bool,
    /// Where its bytes are counted.
    counts: &'a [&'a Counter],
    /// Where its frames begin and end, if it has any.
    frames: Option<Box<Frames>>,
    broken_from: Closed,
    broken_to: Closed,
    /// The last bytes that came this way, if they are known.
    tail: [u8; READY.len()],
    state: State,
}

/// PostgreSQL's `ReadyForQuery` outside of a transaction (protocol 3.0, message formats).
const READY: [u8; 6] = [b'Z', 0, 0, 0, 5, b'I'];

/// What a direction is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It can go on at once.
    Moving,
    /// The sender has nothing at present.
    WaitFrom,
    /// The receiver takes nothing at present.
    WaitTo,
    /// The sender has ended, and the receiver has everything.
    Ended,
    /// The receiver has been told so, too.
    Told,
}

/// What a step came to.
enum Step {
    Moved(usize),
    WaitFrom,
    WaitTo,
    End,
}

impl Pair<'_> {
    /// Carries bytes both ways; `ahead` goes to the instance and to the client first.
    pub(crate) async fn carry(&self, ahead: [Vec<u8>; 2]) -> End {
        let ends = [
            (self.client, Closed::ClientReset),
            (self.instance, Closed::InstanceReset),
        ];
        let way =
            |[(from, broken_from), (to, broken_to)]: [(_, _); 2], unsent: Vec<u8>, counts| Way {
                frames: self.websocket.then(|| frames(&unsent)),
                from,
                to,
                unsent,
                pipe: None,
                bulk: false,
                run: 0,
                moved: false,
                counts,
                broken_from,
                broken_to,
                tail: [0; _],
                state: State::Moving,
            };
        let [client, instance] = ends;
        let ([up, down], counts) = (ahead, self.counts);
        let mut ways = [
            way([client, instance], up, counts[0]),
            way([instance, client], down, counts[1]),
        ];
        let mut answered = true;
        loop {
            for way in &mut ways {
                if let Err(why) = way.go_on(self.buffers, self.pipes) {
                    return End { why, told: false };
                }
            }
            // What moved both ways at once may be an answer to something else.
            match ways.each_mut().map(|way| std::mem::take(&mut way.moved)) {
                [true, _] => answered = false,
                [false, true] => answered = true,
                [false, false] => {}
            }
            match ways.each_ref().map(|way| way.state) {
                // When both have ended, closing tells the peers so.
                [State::Ended | State::Told, State::Ended | State::Told] => {
                    let why = Closed::Done;
                    return End { why, told: true };
                }
                [State::Moving, _] | [_, State::Moving] => yield_now(self.client.reactor()).await,
                _ => {
                    ways.iter_mut().for_each(Way::pass_end_on);
                    if let Err(why) = self.wait(&ways, answered).await {
                        (self.parts)(why);
                        let told = Box::pin(self.say_goodbye(&mut ways)).await;
                        return End { why, told };
                    }
                    ways.iter_mut().for_each(Way::look);
                }
            }
        }
    }

    /// Waits until either direction can go on. Either's progress moves the deadline of both.
    async fn wait(&self, ways: &[Way<'_>; 2], answered: bool) -> Result<(), Closed> {
        let reactor = self.client.reactor();
        let since = reactor.now();
        let [upstream, _] = self.limits.grounds;
        upstream.rests(rest(ways, answered), since);
        let mut leaves = self.limits.leaves();
        let (mut deadline, mut why) = self.limits.deadline(since);
        let mut watch = Watch::new(&self.limits, since);
        reactor.set_deadline(deadline.min(watch.at));
        poll_fn(|_| {
            if ways.iter().any(Way::is_ready) {
                return Poll::Ready(Ok(()));
            }
            // It may have been told that its instance goes away, or has come back.
            if self.limits.leaves() != leaves {
                leaves = self.limits.leaves();
                (deadline, why) = self.limits.deadline(since);
                reactor.set_deadline(deadline.min(watch.at));
            }
            if reactor.timed_out() {
                if reactor.now() >= deadline {
                    return Poll::Ready(Err(why));
                }
                if let Some(lost) = watch.look(self, reactor.now()) {
                    return Poll::Ready(Err(lost));
                }
                reactor.set_deadline(deadline.min(watch.at));
            }
            if upstream.is_told() {
                return Poll::Ready(Err(Closed::Moved));
            }
            if self.limits.stopping.get() && are_between_frames(ways) {
                return Poll::Ready(Err(Closed::Drained));
            }
            self.client.wake_current();
            self.instance.wake_current();
            Poll::Pending
        })
        .await
    }
}

/// Looks, while nothing moves, whether both machines are still there.
struct Watch {
    /// When to look next; `NEVER` once the kernel does all that is to be done.
    at: Moment,
    /// Whether the client's, and the instance's, had said nothing when we last looked.
    doubt: [bool; 2],
}

impl Watch {
    /// Connections that rest for a moment only pay nothing for it.
    fn new(limits: &Limits<'_>, now: Moment) -> Self {
        Self {
            at: now + limits.silence[0].min(limits.silence[1]) / 2,
            doubt: [false; 2],
        }
    }

    /// Who is gone, if somebody is.
    fn look(&mut self, pair: &Pair<'_>, now: Moment) -> Option<Closed> {
        let ends = [
            (pair.client, Closed::ClientLost),
            (pair.instance, Closed::InstanceLost),
        ];
        let mut next = Moment::NEVER;
        for (n, (sock, lost)) in ends.into_iter().enumerate() {
            let silence = pair.limits.silence[n];
            sock.keep_alive(silence);
            let life = sock.life(silence);
            let doubted = std::mem::replace(&mut self.doubt[n], life == Some(Life::Silent));
            next = match life {
                None | Some(Life::Quiet) => next,
                Some(Life::Busy) => next.min(now + silence / 2),
                Some(Life::Silent) if doubted => return Some(lost),
                Some(Life::Silent) => next.min(now + DOUBT),
            };
        }
        self.at = next;
        None
    }
}

/// What a connection's end is called that a broken side has made.
fn broken(fault: &std::io::Error, side: Closed) -> Closed {
    use std::io::ErrorKind;
    match (fault.kind(), side) {
        // Keepalive had no answer, or routers say that there is no way.
        (
            ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable,
            side,
        ) => match side {
            Closed::ClientReset => Closed::ClientLost,
            _ => Closed::InstanceLost,
        },
        (_, side) => side,
    }
}

/// Whether a connection that waits could be closed without harm.
fn rest(ways: &[Way<'_>; 2], answered: bool) -> Rest {
    let quiet = ways.iter().all(|way| way.state == State::WaitFrom);
    let ended = match ways[1].frames {
        Some(_) => are_between_frames(ways),
        None => answered,
    };
    match quiet && ended {
        true if ways[1].tail == READY => Rest::Ready,
        true => Rest::Answered,
        false => Rest::Busy,
    }
}

/// Whether both sides of a WebSocket wait for each other between frames.
fn are_between_frames(ways: &[Way<'_>; 2]) -> bool {
    let between = |way: &Way<'_>| way.frames.as_ref().is_some_and(|f| f.is_between());
    ways.iter()
        .all(|way| way.state == State::WaitFrom && between(way))
}

fn frames(ahead: &[u8]) -> Box<Frames> {
    let mut frames = Box::new(Frames::default());
    frames.see(ahead);
    frames
}

impl Pair<'_> {
    /// An end that we make: a WebSocket's client is told to connect again, and its answer is its instance's goodbye. Returns
    /// whether it was told.
    async fn say_goodbye(&self, ways: &mut [Way<'_>; 2]) -> bool {
        if !are_between_frames(ways)
            || self.client.try_send(&SERVICE_RESTART).ok() != Some(SERVICE_RESTART.len())
        {
            return false;
        }
        let [up, _] = ways;
        let reactor = self.client.reactor();
        reactor.set_timeout(GOODBYE);
        loop {
            up.state = State::Moving;
            let moved = up.go_on(self.buffers, self.pipes);
            let closed = up.frames.as_ref().is_some_and(|f| f.has_closed());
            if moved.is_err() || closed && up.state != State::WaitTo || up.state == State::Ended {
                return true;
            }
            let ready = poll_fn(|_| match (up.is_ready(), reactor.timed_out()) {
                (true, _) => Poll::Ready(true),
                (_, true) => Poll::Ready(false),
                _ => {
                    self.client.wake_current();
                    self.instance.wake_current();
                    Poll::Pending
                }
            });
            if !ready.await {
                return true;
            }
        }
    }
}

impl Limits<'_> {
    /// When it must end for its instance or listener.
    fn leaves(&self) -> Moment {
        let [a, b] = self.grounds;
        a.ends(self.drain).min(b.ends(self.drain))
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
    /// Moves bytes until it has to wait, or it is the others' turn.
    fn go_on(&mut self, buffers: &Buffers, pipes: &Pipes) -> Result<(), Closed> {
        let mut budget = BUDGET;
        while self.state == State::Moving && budget > 0 {
            match self.step(buffers, pipes)? {
                Step::Moved(n) => budget = budget.saturating_sub(n),
                Step::WaitTo => self.state = State::WaitTo,
                Step::WaitFrom => {
                    self.rest(buffers, pipes);
                    self.state = State::WaitFrom;
                }
                Step::End => {
                    self.rest(buffers, pipes);
                    self.state = State::Ended;
                }
            }
        }
        Ok(())
    }

    fn is_ready(&self) -> bool {
        match self.state {
            State::Moving => true,
            State::WaitFrom => self.from.is_readable(),
            State::WaitTo => self.to.is_writable(),
            State::Ended | State::Told => false,
        }
    }

    fn look(&mut self) {
        if self.is_ready() {
            self.state = State::Moving;
        }
    }

    /// Tells the receiver that nothing more comes; the other direction goes on.
    fn pass_end_on(&mut self) {
        if self.state == State::Ended {
            self.to.shutdown_write();
            self.state = State::Told;
        }
    }

    /// Moves what it can at once.
    fn step(&mut self, buffers: &Buffers, pipes: &Pipes) -> Result<Step, Closed> {
        if let Some(pipe) = self.pipe.take_if(|pipe| pipe.held() > 0) {
            return self.drain_pipe(pipe);
        }
        if !self.unsent.is_empty() {
            return self.send_rest(buffers);
        }
        if self.bulk
            && self.frames.is_none()
            && self.from.can_splice()
            && self.to.can_splice()
            && let Some(pipe) = (self.pipe.take()).or_else(|| pipes.take(self.from.reactor()))
        {
            return self.splice(pipe);
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
            Err(fault) => return Err(broken(&fault, self.broken_from)),
        };
        self.bulk = n == COPY;
        // The sender has ended: when this is the last of it, it leaves in one segment with the end, which follows at once.
        let (n, last) = match self.from.has_ended() && n < COPY {
            true => self.rest_of(room, n),
            false => (n, false),
        };
        let sent = match last {
            true => self.to.try_send_last(&room[..n]),
            false => self.to.try_send(&room[..n]),
        };
        let sent = sent.map_err(|fault| broken(&fault, self.broken_to))?;
        self.through(sent);
        self.tail = room[..n].last_chunk().copied().unwrap_or_default();
        if let Some(frames) = &mut self.frames {
            frames.see(&room[..n]);
        }
        if sent < n {
            self.unsent = buffers.take();
            self.unsent.extend_from_slice(&room[sent..n]);
            return Ok(Step::WaitTo);
        }
        Ok(match last {
            true => Step::End,
            false => Step::Moved(n),
        })
    }

    /// Reads on behind `n` bytes: how many there are, and whether they are the last. A break is for the next read to find.
    fn rest_of(&self, room: &mut [u8], mut n: usize) -> (usize, bool) {
        while n < room.len() {
            match self.from.try_recv(&mut room[n..]) {
                Ok(Some(0)) => return (n, true),
                Ok(Some(more)) => n += more,
                Ok(None) | Err(_) => break,
            }
        }
        (n, false)
    }

    fn send_rest(&mut self, buffers: &Buffers) -> Result<Step, Closed> {
        let sent = self.to.try_send(&self.unsent);
        let sent = sent.map_err(|fault| broken(&fault, self.broken_to))?;
        self.through(sent);
        if sent < self.unsent.len() {
            self.unsent.drain(..sent);
            return Ok(Step::WaitTo);
        }
        buffers.put(std::mem::take(&mut self.unsent));
        Ok(Step::Moved(sent))
    }

    fn splice(&mut self, pipe: Pipe) -> Result<Step, Closed> {
        self.tail = [0; _];
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
            Err(fault) => Err(broken(&fault, self.broken_from)),
        }
    }

    fn drain_pipe(&mut self, pipe: Pipe) -> Result<Step, Closed> {
        let sent = self.to.try_splice_from(&pipe);
        let sent = sent.map_err(|fault| broken(&fault, self.broken_to))?;
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
        self.moved |= n != 0;
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
