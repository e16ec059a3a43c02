//! One UDP listener at one worker: receives for all of its sessions, and sends their answers.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use balance::{Bounds, Context, Flows, Unit};
use model::stream::{Arrival, find};
use model::{Closed, Health, ListenerTable, SourceLimits, Speaks, Stream, UdpLimits};

use rustix::process::{Resource, getrlimit};

use super::outbox::Outbox;
use super::session::{Parts, Session, Unsent};
use crate::inbox::Fleet;
use crate::l4::gate::Gate;
use crate::l4::is_ours;
use crate::rt::{Batch, Offload, Packets, TaskId, UdpSock, yield_now};
use crate::worker::{InFlight, Snapshot, Worker, source_key};

/// Receptions a call, and calls before others get their turn.
const RECEIVE: usize = 32;
const TURNS: usize = 8;

/// Receptions a call for one session: answers are few.
const ANSWERS: usize = 16;

/// A listener at a worker.
pub(super) struct Port {
    pub(super) worker: Rc<Worker>,
    fleet: Arc<Fleet>,
    number: usize,
    sock: UdpSock,
    pub(super) offload: Rc<Offload>,
    /// Whether it is bound to every address: answers then have to say from which they come.
    everywhere: bool,
    flows: RefCell<Flows>,
    sessions: RefCell<Vec<Option<Rc<Session>>>>,
    outbox: RefCell<Outbox>,
    answers: RefCell<Batch>,
    /// The task that sends what is in the outbox.
    task: Cell<TaskId>,
    table: RefCell<Arc<ListenerTable>>,
    /// So many descriptors of the process's may be in use before a new session takes the place of another.
    descriptors: u64,
}

/// Serves a UDP listener until `closing`.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    fleet: Arc<Fleet>,
    sock: UdpSock,
    address: SocketAddr,
    number: usize,
    closing: Rc<Cell<bool>>,
) {
    let snapshot = worker.snapshot();
    let Some(table) = snapshot.listener(number).cloned() else {
        return;
    };
    // Without its offloads a kernel is older than any that we run on.
    let everywhere = address.ip().is_unspecified();
    let Ok(offload) = Offload::of(&sock, everywhere) else {
        return;
    };
    drop(snapshot);
    let seed = worker.draw();
    let bounds = Bounds {
        sessions: 1,
        of_one_source: 1,
    };
    let port = Rc::new(Port {
        task: Cell::new(worker.reactor().current()),
        worker,
        fleet,
        number,
        sock,
        offload: Rc::new(offload),
        everywhere,
        flows: RefCell::new(Flows::new(bounds, seed)),
        sessions: RefCell::default(),
        outbox: RefCell::default(),
        answers: RefCell::new(Batch::new(ANSWERS)),
        table: RefCell::new(table),
        descriptors: getrlimit(Resource::Nofile)
            .current
            .map_or(u64::MAX, |most| most / 4 * 3),
    });
    port.run(&closing).await;
}

impl Port {
    async fn run(self: &Rc<Self>, closing: &Cell<bool>) {
        let mut batch = Batch::new(RECEIVE);
        let ends = || closing.get() || self.worker.draining();
        loop {
            let mut turns = 0;
            while turns < TURNS && self.receive(&mut batch) {
                turns += 1;
            }
            self.send_answers();
            // Packets that wait when it is taken away are lost with its socket, as if they had come a moment later.
            if ends() {
                break;
            }
            if self.sock.is_readable() {
                yield_now(self.worker.reactor()).await;
                continue;
            }
            let wanted = || ends() || !self.outbox.borrow().is_empty();
            // It has no deadline.
            let _ = self.sock.readable_unless(wanted).await;
        }
        self.end_all(Closed::Drained);
    }

    /// Receives once; whether there was anything.
    fn receive(self: &Rc<Self>, batch: &mut Batch) -> bool {
        match self.sock.try_recv(&self.offload, batch, RECEIVE) {
            Ok(None) => false,
            // An error of an answer that we sent: the client is gone, and its session will end by itself.
            Err(_) => true,
            Ok(Some(n)) => {
                let snapshot = self.worker.snapshot();
                if let Some(table) = self.table(&snapshot)
                    && let Speaks::Udp(stream) = &table.speaks
                {
                    for packets in batch.received(n) {
                        self.pass_on(&packets, &table, stream, &snapshot);
                    }
                }
                true
            }
        }
    }

    /// The listener's table as it is now; what it limits holds from now on.
    fn table(&self, snapshot: &Snapshot) -> Option<Arc<ListenerTable>> {
        let newest = snapshot.listener(self.number)?;
        let mut table = self.table.borrow_mut();
        let fresh = self.sessions.borrow().is_empty();
        if !Arc::ptr_eq(&table, newest) || fresh {
            *table = newest.clone();
            if let Speaks::Udp(stream) = &table.speaks {
                // Each worker has its part of the sessions, as the kernel spreads their packets.
                let part = |all: u32| all.div_ceil(self.fleet.len() as u32).max(1);
                self.flows.borrow_mut().bound(Bounds {
                    sessions: part(stream.limits.max_sessions),
                    of_one_source: part(stream.limits.sources.open),
                });
            }
        }
        Some(table.clone())
    }

    /// Gives packets to the session of their client, or begins one.
    fn pass_on(
        self: &Rc<Self>,
        packets: &Packets<'_>,
        table: &Arc<ListenerTable>,
        stream: &Stream<UdpLimits>,
        snapshot: &Snapshot,
    ) {
        let stats = table.stats.of(self.worker.index);
        stats.received.bump(packets.bytes.len() as u64);
        let known = self.flows.borrow_mut().heard(packets.from);
        if let Some(id) = known {
            let session = self.sessions.borrow()[id as usize].clone();
            let Some(session) = session else { return };
            if session.upstream.is_critical()
                && self.moves(&session, packets, table, stream, snapshot)
            {
                return;
            }
            match session.send(packets, self.worker.now()) {
                Ok(()) => return,
                // Its instance has no such port: the packet goes to another.
                Err(Unsent) => {
                    self.worker.upstream_failed(&session.upstream);
                    self.end(&session, Closed::InstanceReset);
                }
            }
        }
        if !self.is_welcome(packets.from.ip(), &stream.limits.sources) {
            stats.refused.bump(1);
            return;
        }
        let begun = self.begin(packets, table, stream, snapshot);
        if begun.is_none() {
            stats.refused.bump(1);
        }
    }

    fn is_welcome(&self, source: IpAddr, limits: &SourceLimits) -> bool {
        // Sessions at a time are counted here; how fast they come, by all workers together.
        let rate = SourceLimits {
            open: 0,
            rate: limits.rate,
        };
        let now = self.worker.now();
        Gate::admit(&self.fleet, self.number, source, &rate, now).is_ok()
    }

    /// Begins a session with its first packets. `None`: there is no instance, or no socket.
    fn begin(
        self: &Rc<Self>,
        packets: &Packets<'_>,
        table: &Arc<ListenerTable>,
        stream: &Stream<UdpLimits>,
        snapshot: &Snapshot,
    ) -> Option<()> {
        let source = packets.from.ip();
        let route = route_of(stream, source)?;
        let number = stream.routes[route].service;
        let counts = snapshot.service(number).stats.of(self.worker.index);
        counts.requests.bump(1);
        let Some(in_flight) = self.choose(source, number, snapshot) else {
            counts.unavailable.bump(1);
            return None;
        };
        self.open(packets, table, snapshot, route, in_flight)
    }

    /// Ends a session whose instance cannot work, as its check says, and begins another elsewhere with these packets. If
    /// there is no better one, it stays: an instance that may be gone is more than none.
    fn moves(
        self: &Rc<Self>,
        session: &Session,
        packets: &Packets<'_>,
        table: &Arc<ListenerTable>,
        stream: &Stream<UdpLimits>,
        snapshot: &Snapshot,
    ) -> bool {
        let source = packets.from.ip();
        let Some(route) = route_of(stream, source) else {
            return false;
        };
        let number = stream.routes[route].service;
        let Some(in_flight) = self.choose(source, number, snapshot) else {
            return false;
        };
        let service = snapshot.service(number);
        if service.endpoints[in_flight.endpoint()].health == Health::Critical {
            return false;
        }
        self.end(session, Closed::InstanceLost);
        service.stats.of(self.worker.index).requests.bump(1);
        self.open(packets, table, snapshot, route, in_flight)
            .is_some()
    }

    /// An instance for a client's packets.
    fn choose<'a>(
        &'a self,
        client: IpAddr,
        service: usize,
        snapshot: &'a Snapshot,
    ) -> Option<InFlight<'a>> {
        let context = Context {
            unit: Unit::Connection,
            key: source_key(snapshot.service(service).balancing.hash_secret, client),
            ..Context::default()
        };
        self.worker.pick(snapshot, service, &context).ok()
    }

    /// Opens a session at the instance that was chosen.
    fn open(
        self: &Rc<Self>,
        packets: &Packets<'_>,
        table: &Arc<ListenerTable>,
        snapshot: &Snapshot,
        route: usize,
        in_flight: InFlight<'_>,
    ) -> Option<()> {
        let client = packets.from;
        let number = table.speaks.stream_routes()[route].service;
        let service = snapshot.service(number);
        let endpoint = &service.endpoints[in_flight.endpoint()];
        let from = self.worker.connect_from(service, endpoint.address);
        let sock = match UdpSock::connected(self.worker.reactor(), endpoint.address, from) {
            Ok(sock) => sock,
            Err(fault) => {
                // Ports or descriptors are free once the other's task has had its turn: whoever asks again gets in.
                if is_ours(&fault) {
                    self.end_least_alive();
                }
                return None;
            }
        };
        self.make_room(client);
        if sock.is_beyond(self.descriptors) {
            self.end_least_alive();
        }
        let id = self.flows.borrow_mut().open(client);
        let upstream = self.worker.lasting.upstream(number, service, endpoint);
        let session = Rc::new(Session::new(
            self,
            Parts {
                id,
                sock,
                client,
                local: packets.to.filter(|_| self.everywhere),
                upstream,
                table: table.clone(),
                route,
                held: in_flight.stands(),
            },
        ));
        let mut sessions = self.sessions.borrow_mut();
        if sessions.len() <= id as usize {
            sessions.resize_with(id as usize + 1, || None);
        }
        sessions[id as usize] = Some(session.clone());
        drop(sessions);
        table.stats.of(self.worker.index).accepted.bump(1);
        // The first packet never hears of an error: nothing was sent before it.
        let _ = session.send(packets, self.worker.now());
        let task = self.worker.handle.spawn(session.clone().last(self.clone()));
        session.task.set(task);
        Some(())
    }

    fn make_room(&self, client: SocketAddr) {
        // Lower bounds than before may want more than one to go; two at a time get there.
        for _ in 0..2 {
            let Some(id) = self.flows.borrow().in_the_way(client) else {
                return;
            };
            let session = self.sessions.borrow()[id as usize].clone();
            if let Some(session) = session {
                self.end(&session, Closed::Evicted);
            }
        }
    }

    fn end_least_alive(&self) {
        let id = self.flows.borrow().least_alive();
        let session = id.and_then(|id| self.sessions.borrow()[id as usize].clone());
        if let Some(session) = session {
            self.end(&session, Closed::Evicted);
        }
    }

    /// Ends a session: its place is free at once, its task ends in its turn.
    pub(super) fn end(&self, session: &Session, why: Closed) {
        if session.ended.replace(Some(why)).is_some() {
            return;
        }
        self.flows.borrow_mut().close(session.id);
        self.sessions.borrow_mut()[session.id as usize] = None;
        self.worker.reactor().wake(session.task.get());
    }

    fn end_all(&self, why: Closed) {
        let all: Vec<_> = self.sessions.borrow().iter().flatten().cloned().collect();
        all.iter().for_each(|session| self.end(session, why));
    }

    /// Receives answers for a session and queues them for its client; how many packets, or an ICMP error.
    pub(super) fn take_answers(&self, session: &Session) -> std::io::Result<Option<u32>> {
        let mut batch = self.answers.borrow_mut();
        let Some(n) = session.sock.try_recv(&self.offload, &mut batch, ANSWERS)? else {
            return Ok(None);
        };
        let mut outbox = self.outbox.borrow_mut();
        let was_empty = outbox.is_empty();
        let (mut count, mut bytes) = (0, 0);
        for packets in batch.received(n) {
            outbox.push(session.client, session.local, &packets);
            count += packets.count();
            bytes += packets.bytes.len();
        }
        let full = outbox.is_full();
        drop(outbox);
        if full {
            self.send_answers();
        } else if was_empty && n > 0 {
            self.worker.reactor().wake(self.task.get());
        }
        session.answered(count, bytes as u64, self.worker.now());
        self.flows.borrow_mut().answered(session.id);
        Ok(Some(count))
    }

    fn send_answers(&self) {
        let mut outbox = self.outbox.borrow_mut();
        if !outbox.is_empty() {
            // Lost ones are lost as anywhere on the way: whoever needs them asks again.
            let _ = outbox.send(&self.sock, &self.offload);
        }
    }
}

fn route_of(stream: &Stream<UdpLimits>, source: IpAddr) -> Option<usize> {
    let arrival = Arrival {
        source,
        sni: None,
        alpn: &[],
    };
    find(&stream.routes, &arrival)
}
