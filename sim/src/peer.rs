//! One side of a simulated connection, as scripts use it: what is to be sent waits in an outbox, what
//! came in gathers in an inbox, and both move at once, each at its own pace.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use model::Moment;
use proxy::rt::Sock;

/// What is known of how the other side has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It ended its side in order.
    Ended,
    /// The connection broke.
    Broken,
}

/// Why waiting came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// What was waited for is there.
    Enough,
    /// The other side has left, and what was waited for did not come.
    Gone(Gone),
    /// The deadline passed.
    Late,
}

/// One side of a connection.
pub struct Peer {
    sock: Sock,
    outbox: VecDeque<Piece>,
    write_from: Moment,
    /// What came in and was not yet taken.
    pub inbox: Vec<u8>,
    /// How it reads.
    pub gulps: Gulps,
    read_from: Moment,
    /// Whether our side ends as soon as everything was said.
    pub ends: bool,
    /// How the other side has left, if it has.
    pub gone: Option<Gone>,
    /// Bytes that the network took from us.
    pub sent: u64,
    /// Bytes that came in.
    pub received: u64,
}

struct Piece {
    pause: Duration,
    bytes: Vec<u8>,
    done: usize,
}

/// How a side reads: at most so many bytes, then a pause.
#[derive(Clone, Copy, Debug)]
pub struct Gulps {
    /// Bytes at a time; 0: it does not read at all.
    pub bytes: usize,
    /// The pause between.
    pub pause: Duration,
}

impl Peer {
    /// A side that reads whatever comes at once.
    pub fn new(sock: Sock) -> Self {
        let now = sock.reactor().now();
        Self {
            sock,
            outbox: VecDeque::new(),
            write_from: now,
            inbox: Vec::new(),
            gulps: Gulps {
                bytes: 64 * 1024,
                pause: Duration::ZERO,
            },
            read_from: now,
            ends: false,
            gone: None,
            sent: 0,
            received: 0,
        }
    }

    /// The virtual time.
    pub fn now(&self) -> Moment {
        self.sock.reactor().now()
    }

    /// Sends `bytes`, no sooner than `pause` after what is to be sent before.
    pub fn say_after(&mut self, pause: Duration, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return;
        }
        if self.outbox.is_empty() {
            self.write_from = self.now() + pause;
        }
        self.outbox.push_back(Piece {
            pause,
            bytes,
            done: 0,
        });
    }

    /// Sends `bytes` as soon as the network takes them.
    pub fn say(&mut self, bytes: impl Into<Vec<u8>>) {
        self.say_after(Duration::ZERO, bytes);
    }

    /// Whether everything that was to be sent has been taken by the network.
    pub fn has_said(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Ends our side.
    pub fn end(&self) {
        self.sock.shutdown_write();
    }

    /// Leaves with a reset.
    pub fn abort(self) {
        self.sock.abort_on_close();
    }

    /// Sends and reads until `enough` says so. The other side's leaving ends it too, but only once
    /// everything that came before was looked at.
    pub async fn until(
        &mut self,
        deadline: Moment,
        mut enough: impl FnMut(&mut Self) -> bool,
    ) -> Woken {
        loop {
            let moved = self.step();
            if enough(self) {
                return Woken::Enough;
            }
            if let Some(gone) = self.gone.filter(|_| self.outbox.is_empty()) {
                return Woken::Gone(gone);
            }
            if self.now() >= deadline {
                return Woken::Late;
            }
            if !moved {
                self.event(deadline).await;
            }
        }
    }

    /// Sends and reads for `time`, or until the other side leaves.
    pub async fn linger(&mut self, time: Duration) -> Woken {
        let deadline = self.now() + time;
        self.until(deadline, |_| false).await
    }

    /// Sends and reads what is possible now. Returns whether anything moved.
    fn step(&mut self) -> bool {
        let read = self.read();
        let written = self.write();
        if self.ends && self.outbox.is_empty() {
            self.ends = false;
            self.end();
        }
        read || written
    }

    fn read(&mut self) -> bool {
        if self.gone.is_some() || self.gulps.bytes == 0 || self.now() < self.read_from {
            return false;
        }
        let mut buffer = vec![0; self.gulps.bytes];
        match self.sock.try_recv(&mut buffer) {
            Ok(None) => false,
            Ok(Some(0)) => {
                self.gone = Some(Gone::Ended);
                true
            }
            Ok(Some(n)) => {
                self.inbox.extend_from_slice(&buffer[..n]);
                self.received += n as u64;
                self.read_from = self.now() + self.gulps.pause;
                true
            }
            Err(_) => {
                self.gone = Some(Gone::Broken);
                self.outbox.clear();
                true
            }
        }
    }

    fn write(&mut self) -> bool {
        let now = self.now();
        let Some(piece) = self.outbox.front_mut().filter(|_| self.write_from <= now) else {
            return false;
        };
        match self.sock.try_send(&piece.bytes[piece.done..]) {
            Ok(n) => {
                piece.done += n;
                self.sent += n as u64;
                if piece.done < piece.bytes.len() {
                    return n > 0;
                }
                self.outbox.pop_front();
                if let Some(next) = self.outbox.front() {
                    self.write_from = now + next.pause;
                }
                true
            }
            // Nobody listens any more; what is there to be read may still be of use.
            Err(_) => {
                self.outbox.clear();
                true
            }
        }
    }

    async fn event(&self, deadline: Moment) {
        let reactor = self.sock.reactor();
        let paused = |until: Moment, wanted: bool| match wanted && until > self.now() {
            true => until,
            false => Moment::NEVER,
        };
        let next = deadline
            .min(paused(self.write_from, !self.outbox.is_empty()))
            .min(paused(self.read_from, self.gulps.bytes > 0));
        reactor.set_deadline(next);
        let mut waited = false;
        poll_fn(|_| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            self.sock.wake_current();
            Poll::Pending
        })
        .await;
    }
}
