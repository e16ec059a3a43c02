//! One client's connection.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{h1, h2};
use model::{Closed, ListenerStats, ListenerTable, Moment, Timeouts};

use super::admit::Admitted;
use super::begin::{Answer, Begun, Plan};
use super::filter::Filtered;
use super::mirror::Copying;
use super::pump::{BUDGET, BadBody};
use super::tries::Phases;
use super::tunnel::Upgraded;
use crate::buffers::{FRONT, READ};
use crate::inbox::Open;
use crate::l4::{Introduced, NoPreface, introduced, secure};
use crate::rt::{Sock, TimedOut, yield_now};
use crate::worker::{Snapshot, Worker};

/// How long we go on reading what a client still sends after its last answer. Closing with unread bytes
/// resets the connection, and the answer may be lost with it (RFC 9112 §9.6). As long as nginx does: clients that read the
/// answer to a large upload only when they have sent all of it are many.
const LINGER: Duration = Duration::from_secs(30);
/// And with nothing coming.
const LINGER_SILENT: Duration = Duration::from_secs(2);

/// A client's connection and what is known of it between requests.
pub(crate) struct Session {
    pub(super) worker: Rc<Worker>,
    pub(super) client: Sock,
    pub(super) peer: SocketAddr,
    /// How a trusted peer introduced it, if one did.
    pub(super) from: Option<Rc<Introduced>>,
    pub(super) listener: usize,
    /// Bytes read and not yet used: the beginning of a head, or requests sent ahead of their turn.
    pub(super) held: RefCell<Vec<u8>>,
    /// How far `held` has been searched for the end of a head.
    scanned: Cell<usize>,
    /// Whether `held` may contain a whole head: true when another request was read along with the last.
    pub(super) unseen: Cell<bool>,
    /// Whether a request has been read.
    pub(super) served: Cell<bool>,
    /// Whether the present request is still on its way to an instance.
    pub(super) uploading: Cell<bool>,
    /// The status of the answer of which the client has a part: whatever goes wrong now, it cannot be sent
    /// another. 0 between answers.
    pub(super) speaking: Cell<u16>,
    /// When nobody waits for the present answer any more; [`Moment::NEVER`] if nobody has said so.
    pub(super) deadline: Cell<Moment>,
    /// Whether that has passed.
    pub(super) expired: Cell<bool>,
    /// Whether the present request is a call of gRPC, on which nothing may move for long.
    pub(super) calling: Cell<bool>,
    /// Whether the present call was answered with a status that says that something is broken.
    pub(super) call_failed: Cell<bool>,
    /// When the instance was heard of first; [`Moment::NEVER`] before.
    pub(super) heard: Cell<Moment>,
    /// How long the present attempt took to connect.
    pub(super) phases: Cell<Phases>,
    /// How many requests the instance says it is at work on.
    pub(super) load: Cell<Option<f32>>,
    /// Attempts that may follow the present one at its service, and the service's number.
    pub(super) spare: Cell<(u8, usize)>,
    /// The copy of the present request, while its body is coming.
    pub(super) copying: Cell<Option<Box<Copying>>>,
    /// Its room at a service that has no room for all. A tunnel gives it back.
    pub(super) admitted: Cell<Option<Box<Admitted>>>,
    /// What a tunnel needs, if the present request asks for one.
    pub(super) upgraded: Cell<Option<Box<Upgraded>>>,
    /// What filters know of the present request, if its route has any.
    pub(super) filtered: Cell<Option<Box<Filtered>>>,
    /// The listener as last known: its limits hold on when it is taken away.
    pub(super) table: RefCell<Arc<ListenerTable>>,
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
    /// The client goes on in HTTP/2.
    Many,
}

/// What reading came to.
enum Read {
    /// The client has to send more.
    More,
    /// A request was read.
    Begun(Box<(Begun, Plan)>),
    /// The client begins to speak HTTP/2.
    Many,
    /// The client has left.
    End,
    /// The listener was taken away: there is nobody to ask what to do with a request.
    Gone,
}

/// What bytes come to.
enum Parsed {
    /// There must be more of them.
    More,
    /// A request.
    Request(Box<(Begun, Plan)>),
    /// The beginning of a connection in HTTP/2.
    Preface,
}

/// Serves one connection until it ends. Not an `async fn`: that would keep its arguments beside the session made of them,
/// a hundred bytes for every idle connection.
pub(crate) fn serve(
    worker: Rc<Worker>,
    open: Open,
    client: Sock,
    peer: SocketAddr,
    listener: usize,
) -> impl Future<Output = ()> {
    let table = worker.snapshot().listener(listener).cloned();
    let mut session = table.map(|table| Session::new(worker, client, peer, listener, table));
    async move {
        let _open = open;
        // Else the listener was taken away while the connection waited to be accepted.
        let Some(session) = &mut session else {
            return;
        };
        let plain = {
            let table = session.table.borrow();
            table.accept_proxy.is_empty() && !table.tls
        };
        if !plain && !Box::pin(session.is_introduced()).await {
            return;
        }
        session.count(|stats| stats.accepted.bump(1));
        if session.serve().await == Next::Many {
            // Boxed: other connections must not pay for it.
            Box::pin(session.serve_many()).await;
        }
        session.count(|stats| {
            stats.closed.bump(1);
            stats.received.bump(session.client.received());
            stats.sent.bump(session.client.sent());
        });
    }
}

/// Ends a connection that does not begin as it has to.
fn turn_away(worker: &Worker, table: &ListenerTable, client: &Sock, why: NoPreface) {
    let stats = table.stats.of(worker.index);
    stats.accepted.bump(1);
    stats.closed.bump(1);
    match why {
        NoPreface::Left => {}
        NoPreface::Handshake(late) => {
            stats.handshakes_failed.bump(1);
            stats.timed_out.bump(u64::from(late));
            // No reset: it would overtake the alert that says why.
            return;
        }
        NoPreface::Late => stats.timed_out.bump(1),
        NoPreface::Garbage => stats.refused.bump(1),
    }
    client.abort_on_close();
}

impl Session {
    pub(super) fn new(
        worker: Rc<Worker>,
        client: Sock,
        peer: SocketAddr,
        listener: usize,
        table: Arc<ListenerTable>,
    ) -> Self {
        Self {
            table: RefCell::new(table),
            worker,
            client,
            peer,
            from: None,
            listener,
            held: RefCell::default(),
            scanned: Cell::new(0),
            unseen: Cell::new(false),
            served: Cell::new(false),
            uploading: Cell::new(false),
            speaking: Cell::new(0),
            admitted: Cell::new(None),
            upgraded: Cell::new(None),
            deadline: Cell::new(Moment::NEVER),
            expired: Cell::new(false),
            calling: Cell::new(false),
            call_failed: Cell::new(false),
            filtered: Cell::new(None),
            heard: Cell::new(Moment::NEVER),
            phases: Cell::default(),
            load: Cell::new(None),
            spare: Cell::new((0, 0)),
            copying: Cell::new(None),
        }
    }

    /// Reads who the client is, where a proxy in front of us says so first. False if the connection does not begin as it
    /// has to; then it is over.
    async fn is_introduced(&mut self) -> bool {
        let table = self.table.borrow().clone();
        let deadline = self.worker.now() + table.timeouts.request_head;
        let (worker, client) = (&self.worker, &self.client);
        let held = self.held.get_mut();
        let mut outcome = introduced(worker, client, self.peer, &table, held, deadline).await;
        if let (true, Ok(introduced)) = (table.tls, &mut outcome)
            && let Err(why) = self.is_secured(&table, introduced, deadline).await
        {
            outcome = Err(why);
        }
        match outcome {
            Ok(introduced) => {
                let held = self.held.get_mut();
                self.unseen.set(!held.is_empty());
                self.peer = introduced.client;
                self.from = Some(Rc::new(introduced));
                true
            }
            Err(why) => {
                turn_away(&self.worker, &table, &self.client, why);
                false
            }
        }
    }

    /// The TLS handshake; its client is introduced by it, too.
    async fn is_secured(
        &mut self,
        table: &ListenerTable,
        introduced: &mut Introduced,
        deadline: Moment,
    ) -> Result<(), NoPreface> {
        self.worker.reactor().set_deadline(deadline);
        let ahead = std::mem::take(self.held.get_mut());
        let from = introduced.client;
        secure(&self.worker, table, &mut self.client, from, ahead)
            .await
            .map(|secured| introduced.secured(&secured))
    }

    /// Serves one request after the other; says how the connection goes on, if it does.
    async fn serve(&self) -> Next {
        let mut next = match self.client.is_agreed(b"h2") {
            true => Next::Many,
            false => Next::Request,
        };
        while next == Next::Request {
            next = match self.next_request().await {
                // Boxed: an idle connection must not pay for what a busy one needs.
                Ok(begun) => Box::pin(self.carry_out(begun)).await,
                Err(next) => next,
            };
        }
        if next == Next::Linger {
            linger(&self.worker, &self.client).await;
        }
        next
    }

    /// Reads the next request; if there is none, says how the connection ends.
    async fn next_request(&self) -> Result<Box<(Begun, Plan)>, Next> {
        let mut head_began: Option<Moment> = None;
        let mut waited = false;
        loop {
            match self.read() {
                Read::Begun(begun) => return Ok(begun),
                Read::Many => return Err(Next::Many),
                Read::End => return Err(Next::Close),
                Read::Gone => return Err(Next::Linger),
                Read::More => {}
            }
            let idle = self.held.borrow().is_empty();
            let fresh = self.client.received() == 0;
            if idle && self.is_ending() {
                // Right after an answer, the next request may be on its way, and would reset that answer away.
                return Err(if waited || fresh {
                    Next::Close
                } else {
                    Next::Linger
                });
            }
            let timeouts = self.timeouts();
            let reactor = self.worker.reactor();
            if idle && !fresh {
                reactor.set_timeout(timeouts.idle);
            } else {
                // From the first byte on, not from the last: a byte now and then does not help.
                let began = *head_began.get_or_insert(self.worker.now());
                reactor.set_deadline(began + timeouts.request_head);
            }
            // Draining wakes every task, and so does taking a listener away: an idle connection then stops waiting.
            let stop = move || idle && self.is_ending();
            if let Err(TimedOut) = self.client.readable_unless(stop).await {
                return self.head_timed_out(idle);
            }
            waited = true;
        }
    }

    fn head_timed_out(&self, idle: bool) -> Result<Box<(Begun, Plan)>, Next> {
        if idle {
            return Err(Next::Close);
        }
        self.count(|stats| stats.timed_out.bump(1));
        let since = self.position();
        self.hold(&[]);
        let answer = Answer::text(408, "the request's head did not arrive in time");
        let refused = self.refuse(answer.because("head_too_slow"), since);
        Ok(Box::new(refused))
    }

    /// Whether the connection should end as soon as no request is in progress.
    pub(super) fn is_ending(&self) -> bool {
        self.worker.draining() || self.worker.snapshot().listener(self.listener).is_none()
    }

    /// Bytes of what the client has sent that were used so far.
    pub(super) fn position(&self) -> u64 {
        self.client.received() - self.held.borrow().len() as u64
    }

    /// Reads what is there and looks for a head.
    fn read(&self) -> Read {
        let mut scratch = self.worker.buffers.scratch();
        let snapshot = self.worker.snapshot();
        let Some(listener) = snapshot.listener(self.listener) else {
            return Read::Gone;
        };
        self.follow(listener);
        let mut len = self.unhold(&mut scratch[FRONT..]);
        let mut look = self.unseen.replace(false);
        loop {
            if look {
                let input = &mut scratch[FRONT..FRONT + len];
                match self.parse(input, listener, &snapshot) {
                    Parsed::More => {}
                    Parsed::Request(begun) => {
                        self.scanned.set(0);
                        return Read::Begun(begun);
                    }
                    Parsed::Preface => {
                        self.hold(input);
                        return Read::Many;
                    }
                }
            }
            match self
                .client
                .try_recv(&mut scratch[FRONT + len..FRONT + READ])
            {
                Ok(Some(0)) | Err(_) => return Read::End,
                Ok(Some(n)) => {
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

    fn parse(&self, input: &mut [u8], listener: &ListenerTable, snapshot: &Snapshot) -> Parsed {
        let since = self.client.received() - input.len() as u64;
        let limits = h1::Limits {
            head: listener.max_head,
            fields: listener.max_fields,
        };
        let mut scanned = self.scanned.get();
        let parsed = h1::parse_request(input, &mut scanned, &limits);
        self.scanned.set(scanned);
        // By reference: a parsed head is large, and moving it costs as much as parsing it.
        match &parsed {
            Ok(None) => Parsed::More,
            Ok(Some(request)) => {
                self.served.set(true);
                let head_len = request.head_len;
                let mut begun = Box::new(self.begin(request, listener, snapshot, since));
                self.begin_body(&mut begun, &mut input[head_len..]);
                Parsed::Request(begun)
            }
            // Found out here, where nothing is lost by looking: as a request it is none (RFC 9113 §3.4).
            Err(_) if self.may_speak_many(input) => Parsed::Preface,
            Err(fault) => {
                self.count(|stats| stats.refused.bump(1));
                Parsed::Request(Box::new(self.refuse((*fault).into(), since)))
            }
        }
    }

    /// Whether a connection begins as one in HTTP/2 does, without having agreed on a protocol before.
    fn may_speak_many(&self, input: &[u8]) -> bool {
        let len = input.len().min(h2::PREFACE.len());
        let enabled = self.table.borrow().http2.enabled;
        enabled
            && !self.served.get()
            && !self.client.is_secured()
            && input[..len] == h2::PREFACE[..len]
    }

    /// Keeps the listener's newest form: its limits hold on when it is taken away.
    pub(super) fn follow(&self, newest: &Arc<ListenerTable>) {
        let mut table = self.table.borrow_mut();
        if !Arc::ptr_eq(newest, &table) {
            *table = newest.clone();
        }
    }

    /// Keeps bytes for later.
    pub(super) fn hold(&self, bytes: &[u8]) {
        self.worker.buffers.hold(&self.held, bytes);
    }

    /// Moves what was kept to the front of `buffer`; returns how much it was.
    pub(super) fn unhold(&self, buffer: &mut [u8]) -> usize {
        self.worker.buffers.unhold(&self.held, buffer)
    }

    /// Sends what the client can take, waiting as often as it must; `last` if our side ends after it. Fails when the
    /// client is gone or takes too little for too long.
    pub(super) async fn send(&self, mut bytes: &[u8], last: bool) -> Result<(), Cut> {
        while !bytes.is_empty() {
            let sent = match last {
                true => self.client.try_send_last(bytes),
                false => self.client.try_send(bytes),
            };
            let n = sent.map_err(|_| Cut::Left)?;
            bytes = &bytes[n..];
            if !bytes.is_empty() {
                self.set_timeout(self.timeouts().stall);
                self.client.writable().await.map_err(|TimedOut| Cut::Slow)?;
            }
        }
        Ok(())
    }

    /// The listener's limits in time, as they were when the last request began.
    pub(super) fn timeouts(&self) -> Timeouts {
        let mut timeouts = self.table.borrow().timeouts;
        if self.calling.get() {
            // Either side of a call may have nothing to say for long, as with a tunnel.
            timeouts.stall = timeouts.tunnel;
            timeouts.min_rate = 0;
        }
        timeouts
    }

    /// Gives the task so much time, or as much as is left until the request's own deadline.
    pub(super) fn set_timeout(&self, timeout: Duration) {
        let due = self.worker.now() + timeout;
        self.worker
            .reactor()
            .set_deadline(due.min(self.deadline.get()));
    }

    pub(super) fn count(&self, f: impl FnOnce(&ListenerStats)) {
        f(self.table.borrow().stats.of(self.worker.index));
    }
}

/// Ends our side of a client's connection, and reads for a while what it still sends.
pub(super) async fn linger(worker: &Worker, client: &Sock) {
    client.shutdown_write();
    let until = worker.now() + LINGER;
    let mut budget = BUDGET;
    while worker.now() < until {
        let read = client.try_recv(&mut worker.buffers.scratch()[..READ]);
        match read {
            Ok(Some(0)) | Err(_) => return,
            Ok(Some(n)) if n < budget => budget -= n,
            Ok(Some(_)) => {
                budget = BUDGET;
                yield_now(worker.reactor()).await;
            }
            Ok(None) => {
                worker.reactor().set_timeout(LINGER_SILENT);
                if client.readable().await.is_err() {
                    return;
                }
            }
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
    Malformed(BadBody),
    /// The client sent more than it may.
    TooLong,
    /// The instance closed, or the connection to it broke.
    InstanceLeft,
    /// The instance was silent for too long.
    InstanceSilent,
    /// The instance sent something that is no HTTP.
    InstanceMalformed,
    /// The request's own deadline passed.
    Expired,
    /// A tunnel was ended here.
    Ended {
        /// Why.
        why: Closed,
        /// Whether both sides were told in their own protocol.
        told: bool,
    },
}

impl Cut {
    /// Whether the instance is to blame.
    pub(super) const fn is_by_instance(self) -> bool {
        matches!(
            self,
            Self::InstanceLeft | Self::InstanceSilent | Self::InstanceMalformed
        )
    }

    /// A word for logs.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "client_left",
            Self::Slow => "client_too_slow",
            Self::Malformed(bad) => bad.as_str(),
            Self::TooLong => "body",
            Self::InstanceLeft => "instance_left",
            Self::InstanceSilent => "instance_silent",
            Self::InstanceMalformed => "instance_malformed",
            Self::Expired => "deadline_passed",
            Self::Ended { why, .. } => why.as_str(),
        }
    }
}
