//! One client's connection.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::h1;
use model::{ListenerStats, ListenerTable, Moment};

use super::begin::Begun;
use crate::buffers::{FRONT, READ};
use crate::listen::Open;
use crate::rt::{Sock, TimedOut};
use crate::worker::{Snapshot, Worker};

/// How long we go on reading what a client still sends after its last answer. Closing with unread bytes
/// resets the connection, and the answer may be lost with it (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);
/// And how much of it.
const LINGER_BYTES: usize = 1 << 20;

/// A client's connection and what is known of it between requests.
pub(crate) struct Session {
    pub(super) worker: Rc<Worker>,
    pub(super) client: Sock,
    pub(super) peer: SocketAddr,
    pub(super) listener: usize,
    /// Bytes read and not yet used: the beginning of a head, or requests sent ahead of their turn.
    pub(super) held: RefCell<Vec<u8>>,
    /// How far `held` has been searched for the end of a head.
    scanned: Cell<usize>,
    /// Whether `held` may contain a whole head: true when another request was read along with the last.
    pub(super) unseen: Cell<bool>,
    /// Bytes read from the client so far.
    pub(super) received: Cell<u64>,
    /// Bytes sent to the client so far.
    pub(super) sent: Cell<u64>,
}

/// What became of a request, as far as the connection is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The next request may follow.
    Request,
    /// The connection ends.
    Close,
    /// It ends, but the client may still be sending: its bytes are read and thrown away for a while.
    Linger,
}

/// What reading came to.
enum Read {
    /// The client has to send more.
    More,
    /// A request was read.
    Begun(Box<Begun>),
    /// The client has left.
    End,
}

/// Serves one connection until it ends.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    _open: Open,
    client: Sock,
    peer: SocketAddr,
    listener: usize,
) {
    let session = Session {
        worker,
        client,
        peer,
        listener,
        held: RefCell::default(),
        scanned: Cell::new(0),
        unseen: Cell::new(false),
        received: Cell::new(0),
        sent: Cell::new(0),
    };
    session.count(|stats| stats.accepted.bump(1));
    let mut next = Next::Request;
    while next == Next::Request {
        next = match session.next_request().await {
            // Boxed: an idle connection must not pay for what a busy one needs.
            Some(begun) => Box::pin(session.carry_out(begun)).await,
            None => Next::Close,
        };
    }
    if next == Next::Linger {
        session.linger().await;
    }
    session.count(|stats| {
        stats.closed.bump(1);
        stats.received.bump(session.received.get());
        stats.sent.bump(session.sent.get());
    });
}

impl Session {
    /// Reads the next request. `None`: there is none and the connection ends.
    async fn next_request(&self) -> Option<Box<Begun>> {
        let mut head_began: Option<Moment> = None;
        loop {
            match self.read() {
                Read::Begun(begun) => return Some(begun),
                Read::End => return None,
                Read::More => {}
            }
            let idle = self.held.borrow().is_empty();
            if idle && self.worker.draining() {
                return None;
            }
            let timeouts = self.worker.snapshot().listener(self.listener)?.timeouts;
            let reactor = self.worker.reactor();
            if idle {
                reactor.set_timeout(timeouts.idle);
            } else {
                // From the first byte on, not from the last: a byte now and then does not help.
                let began = *head_began.get_or_insert(self.worker.now());
                reactor.set_deadline(began + timeouts.request_head);
            }
            if let Err(TimedOut) = self.wait_for_request(idle).await {
                return self.head_timed_out(idle);
            }
        }
    }

    async fn wait_for_request(&self, idle: bool) -> Result<(), TimedOut> {
        let worker = &self.worker;
        // Draining wakes every task: an idle connection then stops waiting.
        let stop = || idle && worker.draining();
        self.client.readable_unless(stop).await
    }

    fn head_timed_out(&self, idle: bool) -> Option<Box<Begun>> {
        if idle {
            return None;
        }
        self.count(|stats| stats.timed_out.bump(1));
        Some(Box::new(
            self.refuse(408, "the request's head did not arrive in time"),
        ))
    }

    /// Reads what is there and looks for a head.
    fn read(&self) -> Read {
        let mut scratch = self.worker.buffers.scratch();
        let snapshot = self.worker.snapshot();
        let Some(listener) = snapshot.listener(self.listener) else {
            return Read::End;
        };
        let mut len = self.unhold(&mut scratch[FRONT..]);
        let mut look = self.unseen.replace(false);
        loop {
            if look {
                let input = &mut scratch[FRONT..FRONT + len];
                if let Some(begun) = self.parse(input, listener, &snapshot) {
                    self.scanned.set(0);
                    return Read::Begun(begun);
                }
            }
            match self
                .client
                .try_recv(&mut scratch[FRONT + len..FRONT + READ])
            {
                Ok(Some(0)) | Err(_) => return Read::End,
                Ok(Some(n)) => {
                    self.received.set(self.received.get() + n as u64);
                    len += n;
                    look = true;
                }
                Ok(None) => {
                    self.hold(&scratch[FRONT..FRONT + len]);
                    return Read::More;
                }
            }
        }
    }

    fn parse(
        &self,
        input: &mut [u8],
        listener: &ListenerTable,
        snapshot: &Snapshot,
    ) -> Option<Box<Begun>> {
        let limits = h1::Limits {
            head: listener.max_head,
            fields: listener.max_fields,
        };
        let mut scanned = self.scanned.get();
        let parsed = h1::parse_request(input, &mut scanned, &limits);
        self.scanned.set(scanned);
        match parsed {
            Ok(None) => None,
            Ok(Some(request)) => {
                let (begun, head_len) = self.begin(&request, listener, snapshot);
                Some(Box::new(self.begin_body(begun, &mut input[head_len..])))
            }
            Err(fault) => {
                self.count(|stats| stats.refused.bump(1));
                Some(Box::new(self.refuse(fault.status(), &fault.to_string())))
            }
        }
    }

    /// Keeps bytes for later.
    pub(super) fn hold(&self, bytes: &[u8]) {
        let mut held = self.held.borrow_mut();
        if bytes.is_empty() {
            self.worker.buffers.put(std::mem::take(&mut held));
            return;
        }
        if held.capacity() == 0 {
            *held = self.worker.buffers.take();
        }
        held.clear();
        held.extend_from_slice(bytes);
    }

    /// Moves what was kept to the front of `buffer`; returns how much it was.
    fn unhold(&self, buffer: &mut [u8]) -> usize {
        let held = std::mem::take(&mut *self.held.borrow_mut());
        buffer[..held.len()].copy_from_slice(&held);
        let len = held.len();
        self.worker.buffers.put(held);
        len
    }

    /// Sends what the client can take, waiting as often as it must. Fails when the client is gone or
    /// takes too little for too long.
    pub(super) async fn send(&self, mut bytes: &[u8]) -> Result<(), Cut> {
        let stall = self.timeouts().stall;
        loop {
            let n = self.client.try_send(bytes).map_err(|_| Cut::Left)?;
            self.sent.set(self.sent.get() + n as u64);
            bytes = &bytes[n..];
            if bytes.is_empty() {
                return Ok(());
            }
            self.worker.reactor().set_timeout(stall);
            self.client.writable().await.map_err(|TimedOut| Cut::Slow)?;
        }
    }

    /// The listener's limits in time; the defaults' shortest when the listener is gone.
    pub(super) fn timeouts(&self) -> model::Timeouts {
        let gone = model::Timeouts {
            request_head: LINGER,
            idle: LINGER,
            stall: LINGER,
            tunnel: LINGER,
            min_rate: 0,
        };
        let snapshot = self.worker.snapshot();
        snapshot
            .listener(self.listener)
            .map_or(gone, |l| l.timeouts)
    }

    async fn linger(&self) {
        self.client.shutdown_write();
        self.worker.reactor().set_timeout(LINGER);
        let mut left = LINGER_BYTES;
        loop {
            let read = self
                .client
                .try_recv(&mut self.worker.buffers.scratch()[..READ]);
            match read {
                Ok(Some(0)) | Err(_) => return,
                Ok(Some(n)) if n >= left => return,
                Ok(Some(n)) => left -= n,
                Ok(None) => {
                    if self.client.readable().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    pub(super) fn count(&self, f: impl FnOnce(&ListenerStats)) {
        if let Some(listener) = self.worker.snapshot().listener(self.listener) {
            f(listener.stats.of(self.worker.index));
        }
    }
}

/// Why a message to or from the client ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The client closed the connection, or it broke.
    Left,
    /// The client sent or took too little for too long.
    Slow,
    /// The client sent something that is no HTTP.
    Malformed,
    /// The instance closed, or the connection to it broke.
    InstanceLeft,
    /// The instance was silent for too long.
    InstanceSilent,
    /// The instance sent something that is no HTTP.
    InstanceMalformed,
}

impl Cut {
    /// A word for logs.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "client_left",
            Self::Slow => "client_too_slow",
            Self::Malformed => "client_malformed",
            Self::InstanceLeft => "instance_left",
            Self::InstanceSilent => "instance_silent",
            Self::InstanceMalformed => "instance_malformed",
        }
    }
}
