//! One client's packets to an instance, and what comes back.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use balance::{FlowId, Held};
use model::{Closed, ListenerTable, Moment, Speaks, StreamRoute, UdpLimits};
use telemetry::{ConnectionRecord, Record};

use super::port::Port;
use crate::l4::lasting::Upstream;
use crate::rt::{Offload, Packets, TaskId, UdpSock, yield_now};

/// Receptions before the other tasks get their turn.
const TURNS: usize = 16;

/// A session.
pub(super) struct Session {
    pub(super) id: FlowId,
    pub(super) sock: UdpSock,
    pub(super) client: SocketAddr,
    /// The address of ours that the client knows, where there are several.
    pub(super) local: Option<IpAddr>,
    pub(super) task: Cell<TaskId>,
    /// Why it ended, once it has.
    pub(super) ended: Cell<Option<Closed>>,
    pub(super) upstream: Rc<Upstream>,
    offload: Rc<Offload>,
    table: Arc<ListenerTable>,
    route: usize,
    worker: usize,
    began: Moment,
    /// When a packet last moved.
    moved: Cell<Moment>,
    /// Answers that are still to come, if they are counted.
    expected: Cell<u32>,
    received: Cell<u64>,
    sent: Cell<u64>,
    _held: Option<Held>,
}

/// A session that is recorded when this goes.
struct Recorded(Rc<Session>, Rc<Port>);

impl Drop for Recorded {
    fn drop(&mut self) {
        self.0.record(&self.1);
    }
}

/// Why a packet could not be sent: the instance has no such port.
pub(super) struct Unsent;

/// What a session is made of.
pub(super) struct Parts {
    pub(super) id: FlowId,
    pub(super) sock: UdpSock,
    pub(super) client: SocketAddr,
    pub(super) local: Option<IpAddr>,
    pub(super) upstream: Rc<Upstream>,
    pub(super) table: Arc<ListenerTable>,
    pub(super) route: usize,
    /// Counted at the instance for as long as this lives.
    pub(super) held: Option<Held>,
}

impl Session {
    pub(super) fn new(port: &Port, parts: Parts) -> Self {
        let now = port.worker.now();
        Self {
            id: parts.id,
            sock: parts.sock,
            client: parts.client,
            local: parts.local,
            task: Cell::new(port.worker.reactor().current()),
            ended: Cell::new(None),
            _held: parts.held,
            upstream: parts.upstream,
            offload: port.offload.clone(),
            table: parts.table,
            route: parts.route,
            worker: port.worker.index,
            began: now,
            moved: Cell::new(now),
            expected: Cell::new(0),
            received: Cell::new(0),
            sent: Cell::new(0),
        }
    }

    fn limits(&self) -> &UdpLimits {
        match &self.table.speaks {
            Speaks::Udp(stream) => &stream.limits,
            Speaks::Http | Speaks::Tcp(_) => unreachable!("sessions are of UDP listeners"),
        }
    }

    fn route(&self) -> &StreamRoute {
        &self.table.speaks.stream_routes()[self.route]
    }

    /// Sends the client's packets to the instance.
    pub(super) fn send(&self, packets: &Packets<'_>, now: Moment) -> Result<(), Unsent> {
        let to = self.upstream.answerer.address;
        let sent = self.sock.try_send(&self.offload, packets, to);
        sent.map_err(|_| Unsent)?;
        let answers = self.limits().responses * packets.count();
        self.expected
            .set(self.expected.get().saturating_add(answers));
        self.moved.set(now);
        let bytes = packets.bytes.len() as u64;
        self.received.set(self.received.get() + bytes);
        self.route().stats.of(self.worker).received.bump(bytes);
        Ok(())
    }

    /// Counts answers.
    pub(super) fn answered(&self, count: u32, bytes: u64, now: Moment) {
        self.upstream.stats.succeeded();
        self.expected.set(self.expected.get().saturating_sub(count));
        self.moved.set(now);
        self.sent.set(self.sent.get() + bytes);
        self.route().stats.of(self.worker).sent.bump(bytes);
        self.table.stats.of(self.worker).sent.bump(bytes);
    }

    /// Waits for answers until the session ends. Whatever becomes of its task, it is recorded.
    pub(super) fn last(self: Rc<Self>, port: Rc<Port>) -> impl Future<Output = ()> {
        let recorded = Recorded(self, port);
        async move {
            let Recorded(session, port) = &recorded;
            session.receive(port).await;
        }
    }

    async fn receive(&self, port: &Port) {
        let reactor = port.worker.reactor();
        let standing = self.upstream.stand(reactor.current());
        let idle = self.limits().idle;
        let mut turns = 0;
        while self.ended.get().is_none() {
            match port.take_answers(self) {
                Ok(Some(_)) if self.has_its_answers() => port.end(self, Closed::Done),
                Ok(Some(_)) => {
                    turns += 1;
                    if turns % TURNS == 0 {
                        yield_now(reactor).await;
                    }
                }
                Err(_) => {
                    port.worker.upstream_failed(&self.upstream);
                    port.end(self, Closed::InstanceReset);
                }
                Ok(None) => {
                    let ends = standing.ends(idle);
                    let (at, why) = self.deadline(idle, ends);
                    reactor.set_deadline(at);
                    let stop = || self.ended.get().is_some() || standing.ends(idle) != ends;
                    let waited = self.sock.readable_unless(stop).await;
                    // The client may have sent something meanwhile.
                    if waited.is_err() && self.deadline(idle, ends).0 <= port.worker.now() {
                        port.end(self, why);
                    }
                }
            }
        }
    }

    /// When it ends if nothing moves. Packets go on to an instance that is leaving for as long as a silent client is
    /// waited for: nothing in UDP tells where one piece of work ends and the next begins.
    fn deadline(&self, idle: Duration, ends: Moment) -> (Moment, Closed) {
        let silent = self.moved.get() + idle;
        match ends < silent {
            true => (ends, Closed::Drained),
            false => (silent, Closed::Idle),
        }
    }

    fn has_its_answers(&self) -> bool {
        self.limits().responses != 0 && self.expected.get() == 0
    }

    fn record(&self, port: &Port) {
        // Else the process ends, and this with it.
        let why = self.ended.get().unwrap_or(Closed::Drained);
        let route = self.route();
        route.stats.of(self.worker).ended(why);
        self.table.stats.of(self.worker).closed.bump(1);
        let Some(logger) = &port.worker.logger else {
            return;
        };
        logger.push(Record::Connection(ConnectionRecord {
            at: SystemTime::now(),
            duration: port.worker.now().since(self.began),
            connect: Duration::ZERO,
            protocol: "udp",
            client: self.client,
            listener: self.table.name.clone(),
            route: Some(route.name.clone()),
            sni: None,
            received: self.received.get(),
            sent: self.sent.get(),
            instance: Some(self.upstream.answerer.clone()),
            attempts: 1,
            ended: why.as_str(),
        }));
    }
}
