//! One client's connection: which service gets it, which instance, and what became of it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use balance::Tried;
use model::stream::{Arrival, find};
use model::{
    Closed, EndpointStats, ListenerTable, Moment, ServiceTable, Speaks, Stream, StreamRoute,
    TcpLimits,
};
use telemetry::{ConnectionRecord, Record};

use super::carry::{Limits, Pair};
use super::gate::{Admitted, Gate};
use super::lasting::{Standing, Upstream};
use crate::inbox::Open;
use crate::rt::Sock;
use crate::worker::Worker;

/// A connection from its acceptance to its end.
struct Session {
    worker: Rc<Worker>,
    table: Arc<ListenerTable>,
    client: Sock,
    peer: SocketAddr,
    listener: usize,
    began: Moment,
    /// What the client sent before it was known where to.
    ahead: Vec<u8>,
    sni: Option<Box<str>>,
}

/// A connection to an instance.
struct Reached {
    instance: Sock,
    occupied: Occupied,
    upstream: Rc<Upstream>,
    attempts: u8,
    took: Duration,
}

/// What a connection's record needs beyond the session.
#[derive(Default)]
struct Outcome {
    route: Option<usize>,
    upstream: Option<Rc<Upstream>>,
    attempts: u8,
    connect: Duration,
}

/// Serves one connection until it ends.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    open: Open,
    client: Sock,
    peer: SocketAddr,
    listener: usize,
) {
    let snapshot = worker.snapshot();
    // The listener was taken away while the connection waited to be accepted.
    let Some(table) = snapshot.listener(listener).cloned() else {
        return;
    };
    drop(snapshot);
    let mut session = Session {
        began: worker.now(),
        worker,
        table,
        client,
        peer,
        listener,
        ahead: Vec::new(),
        sni: None,
    };
    let stats = session.table.stats.clone();
    let stats = stats.of(session.worker.index);
    stats.accepted.bump(1);
    // Boxed: what finding an instance takes must not stay with the connection for its whole life.
    match Box::pin(session.begin(&open)).await {
        Ok((reached, route, admitted)) => session.last(reached, route, admitted).await,
        Err((closed, outcome)) => {
            // No end in order: the client would take it for an answer of nothing.
            session.client.abort_on_close();
            session.record(closed, &outcome);
        }
    }
    stats.closed.bump(1);
}

impl Session {
    fn stream(&self) -> &Stream<TcpLimits> {
        match &self.table.speaks {
            Speaks::Tcp(stream) => stream,
            Speaks::Http | Speaks::Udp(_) => {
                unreachable!("connections come here by their listener")
            }
        }
    }

    /// Finds the connection an instance.
    async fn begin(
        &mut self,
        open: &Open,
    ) -> Result<(Reached, usize, Option<Admitted>), (Closed, Outcome)> {
        let mut outcome = Outcome::default();
        let admitted = match self.admit(open) {
            Some(admitted) => admitted,
            None => return Err((Closed::Evicted, outcome)),
        };
        outcome.route = self.route();
        let Some(route) = outcome.route else {
            return Err((Closed::Unavailable, outcome));
        };
        match self.reach(&self.stream().routes[route], &mut outcome).await {
            Ok(reached) => Ok((reached, route, admitted)),
            Err(closed) => Err((closed, outcome)),
        }
    }

    fn admit(&self, open: &Open) -> Option<Option<Admitted>> {
        let (limits, now) = (&self.stream().limits, self.worker.now());
        let stats = &self.table.stats;
        let most = u64::from(limits.max_connections);
        // This one is counted already.
        if most != 0 && stats.total(|s| &s.accepted) - stats.total(|s| &s.closed) > most {
            stats.of(self.worker.index).refused.bump(1);
            return None;
        }
        let admitted = Gate::admit(
            open.fleet(),
            self.listener,
            self.peer.ip(),
            &limits.sources,
            now,
        );
        if admitted.is_err() {
            stats.of(self.worker.index).refused.bump(1);
        }
        admitted.ok()
    }

    fn route(&self) -> Option<usize> {
        let arrival = Arrival {
            source: self.peer.ip(),
            sni: self.sni.as_deref(),
            alpn: &[],
        };
        find(&self.stream().routes, &arrival)
    }

    /// Attempts at instances until one accepts.
    async fn reach(&self, route: &StreamRoute, outcome: &mut Outcome) -> Result<Reached, Closed> {
        let worker = &self.worker;
        let snapshot = worker.snapshot();
        let service = snapshot.service(route.service);
        let stats = service.stats.of(worker.index);
        stats.requests.bump(1);
        let mut tried = Tried::default();
        loop {
            let Ok(number) = worker.pick(&snapshot, route.service, &tried) else {
                stats.unavailable.bump(u64::from(outcome.attempts == 0));
                return Err(Closed::Unavailable);
            };
            tried.add(number);
            let endpoint = &service.endpoints[number];
            // Counted from the attempt on: whoever picks next should see it.
            let occupied = Occupied::begin(endpoint.stats.clone());
            outcome.attempts += 1;
            let connected = self.connect(endpoint.address, service).await;
            match connected {
                Ok(instance) => {
                    endpoint.stats.connected(true);
                    endpoint.stats.succeeded();
                    return Ok(Reached {
                        instance,
                        occupied,
                        upstream: worker.lasting.upstream(route.service, service, endpoint),
                        attempts: outcome.attempts,
                        took: worker.now().since(self.began),
                    });
                }
                Err(_) if self.client.is_hung_up() => return Err(Closed::ClientReset),
                // Our own want of ports or descriptors says nothing of the instance.
                Err(fault) if is_ours(&fault) => {}
                Err(_) => {
                    endpoint.stats.connected(false);
                    worker.attempt_failed(service, number);
                }
            }
            if outcome.attempts > service.retries {
                return Err(Closed::Unavailable);
            }
            stats.retries.bump(1);
        }
    }

    async fn connect(&self, to: SocketAddr, service: &ServiceTable) -> io::Result<Sock> {
        let reactor = self.worker.reactor();
        reactor.set_timeout(service.connect_timeout);
        Sock::connect_from(reactor, to, self.worker.connect_from(service, to)).await
    }

    /// Carries bytes until the connection ends.
    async fn last(mut self, reached: Reached, route: usize, _admitted: Option<Admitted>) {
        let Reached {
            instance,
            occupied,
            upstream,
            attempts,
            took,
        } = reached;
        let ahead = std::mem::take(&mut self.ahead);
        let worker = &self.worker;
        let task = worker.reactor().current();
        let grounds = [
            upstream.stand(task),
            Standing::on(&worker.lasting.listener(self.listener), task),
        ];
        let limits = &self.stream().limits;
        let route_stats = self.stream().routes[route].stats.of(worker.index);
        let listener_stats = self.table.stats.of(worker.index);
        let ends = match limits.lifetime.is_zero() {
            true => Moment::NEVER,
            false => self.began + limits.lifetime,
        };
        let pair = Pair {
            client: &self.client,
            instance: &instance,
            buffers: &worker.buffers,
            pipes: &worker.pipes,
            limits: Limits {
                idle: limits.idle,
                ends,
                drain: limits.drain,
                grounds: [&grounds[0], &grounds[1]],
            },
        };
        let up = [&listener_stats.received, &route_stats.received];
        let down = [&listener_stats.sent, &route_stats.sent];
        let closed = pair.carry(ahead, up, down).await;
        match closed {
            Closed::Done | Closed::Idle => {}
            // What was cut must not look whole.
            _ => {
                self.client.abort_on_close();
                instance.abort_on_close();
            }
        }
        drop(occupied);
        let outcome = Outcome {
            route: Some(route),
            upstream: Some(upstream),
            attempts,
            connect: took,
        };
        self.record(closed, &outcome);
    }

    fn record(&self, closed: Closed, outcome: &Outcome) {
        let route = outcome.route.map(|number| &self.stream().routes[number]);
        let worker = &self.worker;
        if let Some(route) = route {
            route.stats.of(worker.index).ended(closed);
        }
        if matches!(closed, Closed::Idle | Closed::Lifetime) {
            self.table.stats.of(worker.index).timed_out.bump(1);
        }
        let Some(logger) = &worker.logger else {
            return;
        };
        logger.push(Record::Connection(Box::new(ConnectionRecord {
            at: SystemTime::now(),
            duration: worker.now().since(self.began),
            connect: outcome.connect,
            protocol: "tcp",
            client: self.peer,
            listener: self.table.name.clone(),
            route: route.map(|route| route.name.clone()),
            sni: self.sni.clone(),
            received: self.client.received(),
            sent: self.client.sent(),
            instance: outcome.upstream.as_ref().map(|u| u.answerer.clone()),
            attempts: outcome.attempts,
            ended: closed.as_str(),
        })));
    }
}

/// A connection at an instance, counted until it is dropped. Unlike a request it may outlive every table.
pub(super) struct Occupied(Arc<EndpointStats>);

impl Occupied {
    pub(super) fn begin(stats: Arc<EndpointStats>) -> Self {
        stats.begin();
        Self(stats)
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Whether a connection failed for want of something of ours: ports, descriptors, memory.
fn is_ours(fault: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(fault),
        Some(
            Errno::ADDRNOTAVAIL
                | Errno::AGAIN
                | Errno::MFILE
                | Errno::NFILE
                | Errno::NOBUFS
                | Errno::NOMEM
        )
    )
}

/// The address to connect from: in turn, of those of the instance's family.
pub(crate) fn turn(from: &[IpAddr], to: SocketAddr, turn: usize) -> Option<IpAddr> {
    let usable = || from.iter().filter(|ip| ip.is_ipv4() == to.is_ipv4());
    let count = usable().count();
    usable().nth(turn.checked_rem(count)?).copied()
}
