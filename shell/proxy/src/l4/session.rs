//! One client's connection: which service gets it, which instance, and what became of it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use balance::{Context, Excess, Held, Unit};
use model::stream::{Arrival, find};
use model::{
    Closed, ListenerStats, ListenerTable, Moment, ServiceTable, Speaks, Stream, StreamRoute,
    TcpLimits,
};
use telemetry::{ConnectionRecord, Record};
use wire::client_hello::ClientHello;

use super::carry::{End, Limits, Pair};
use super::gate::{Admitted, Gate};
use super::lasting::{Standing, Upstream};
use super::preface::{self, Introduced, NoPreface, introduced};
use crate::inbox::Open;
use crate::rt::Sock;
use crate::tls::to_instance;
use crate::worker::{Worker, source_key};

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
    /// How it was introduced, until the instance has been told.
    introduced: Option<Box<Introduced>>,
    outcome: Outcome,
    /// Whether it was counted as accepted, and not yet as closed.
    open: bool,
}

/// What became of a connection so far.
#[derive(Default)]
struct Outcome {
    route: Option<usize>,
    upstream: Option<Rc<Upstream>>,
    attempts: u8,
    /// From the beginning until there was an instance.
    connect: Duration,
    /// How long the instance's machine may be silent.
    silence: Duration,
    /// Counted at its source for as long as this lives; `None` where nothing is limited.
    admitted: Option<Admitted>,
    /// Counted at the instance for as long as this lives.
    held: Option<Held>,
}

/// Serves one connection until it ends. `None`: its listener was taken away while it waited to be accepted.
pub(crate) fn serve(
    worker: Rc<Worker>,
    open: Open,
    client: Sock,
    peer: SocketAddr,
    listener: usize,
) -> Option<impl Future<Output = ()>> {
    let table = worker.snapshot().listener(listener)?.clone();
    let mut session = Session {
        began: worker.now(),
        worker,
        table,
        client,
        peer,
        listener,
        ahead: Vec::new(),
        sni: None,
        introduced: None,
        outcome: Outcome::default(),
        open: false,
    };
    // The arguments of an `async fn` would stay beside what is made of them, for as long as a connection lasts.
    Some(async move {
        session.stats().accepted.bump(1);
        session.open = true;
        // Boxed: what finding an instance takes must not stay either.
        let closed = match Box::pin(session.begin(&open)).await {
            Ok(instance) => session.last(&instance).await,
            Err(closed) => {
                // No end in order: the client would take it for an answer of nothing.
                session.client.abort_on_close();
                closed
            }
        };
        session.end(closed);
    })
}

/// What still lasts when the process ends is cut off, and has its line in the log as any other.
impl Drop for Session {
    fn drop(&mut self) {
        if self.open {
            self.end(Closed::Drained);
        }
    }
}

/// The two connections of one that lasts, until it is known to have ended in order: what was cut must not look whole.
struct Cut<'a>(Option<[&'a Sock; 2]>);

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        for sock in self.0.iter().flatten() {
            sock.abort_on_close();
        }
    }
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

    fn stats(&self) -> &ListenerStats {
        self.table.stats.of(self.worker.index)
    }

    /// Finds the connection an instance.
    async fn begin(&mut self, open: &Open) -> Result<Sock, Closed> {
        let hello = match self.preface().await {
            Ok(hello) => hello,
            Err(NoPreface::Left) => return Err(Closed::ClientReset),
            Err(NoPreface::Late) => return Err(Closed::Idle),
            Err(NoPreface::Garbage) => return Err(self.refuse()),
            Err(NoPreface::Handshake(late)) => {
                self.stats().handshakes_failed.bump(1);
                return Err(match late {
                    true => Closed::Idle,
                    false => Closed::Refused,
                });
            }
        };
        let Ok(admitted) = self.admit(open) else {
            return Err(self.refuse());
        };
        self.outcome.admitted = admitted;
        self.outcome.route = self.route(&hello);
        self.sni = hello.server_name;
        let route = self.outcome.route.ok_or(Closed::Unavailable)?;
        self.reach(route).await
    }

    /// Reads what stands before the connection's own bytes, as far as that is needed.
    async fn preface(&mut self) -> Result<ClientHello, NoPreface> {
        let asks = |route: &StreamRoute| route.matches.asks_for_hello();
        let hello = self.stream().routes.iter().any(asks);
        let deadline = self.began + self.stream().limits.hello;
        let (worker, client, ahead) = (&*self.worker, &self.client, &mut self.ahead);
        let mut introduced =
            introduced(worker, client, self.peer, &self.table, ahead, deadline).await?;
        self.peer = introduced.client;
        let hello = match (self.table.tls, hello) {
            (true, _) => {
                worker.reactor().set_deadline(deadline);
                let ahead = std::mem::take(&mut self.ahead);
                let (client, from) = (&mut self.client, self.peer);
                let secured =
                    preface::secure(&self.worker, &self.table, client, from, ahead).await?;
                introduced.secured(&secured);
                ClientHello {
                    server_name: secured.server_name,
                    alpn: secured.alpn.into_iter().collect(),
                }
            }
            (false, true) => preface::hello(worker, client, ahead, deadline).await?,
            (false, false) => ClientHello::default(),
        };
        self.introduced = Some(Box::new(introduced));
        Ok(hello)
    }

    fn refuse(&self) -> Closed {
        self.stats().refused.bump(1);
        Closed::Refused
    }

    fn admit(&self, open: &Open) -> Result<Option<Admitted>, Excess> {
        let (limits, now) = (&self.stream().limits, self.worker.now());
        let stats = &self.table.stats;
        let most = u64::from(limits.max_connections);
        // This one is counted already.
        if most != 0 && stats.total(|s| &s.accepted) - stats.total(|s| &s.closed) > most {
            return Err(Excess::Open);
        }
        let source = self.peer.ip();
        Gate::admit(open.fleet(), self.listener, source, &limits.sources, now)
    }

    fn route(&self, hello: &ClientHello) -> Option<usize> {
        let alpn: Vec<&[u8]> = hello.alpn.iter().map(|name| &**name).collect();
        let arrival = Arrival {
            source: self.peer.ip(),
            sni: hello.server_name.as_deref(),
            alpn: &alpn,
        };
        find(&self.stream().routes, &arrival)
    }

    /// Attempts at instances until one accepts.
    async fn reach(&mut self, route: usize) -> Result<Sock, Closed> {
        let worker = self.worker.clone();
        let snapshot = worker.snapshot();
        let number = self.stream().routes[route].service;
        let service = snapshot.service(number);
        let stats = service.stats.of(worker.index);
        stats.requests.bump(1);
        let mut context = Context {
            unit: Unit::Connection,
            key: source_key(service.balancing.hash_secret, self.peer.ip()),
            ..Context::default()
        };
        loop {
            // Counted from the attempt on: whoever picks next should see it.
            let Ok(in_flight) = worker.pick(&snapshot, number, &context) else {
                stats
                    .unavailable
                    .bump(u64::from(self.outcome.attempts == 0));
                return Err(Closed::Unavailable);
            };
            let chosen = in_flight.endpoint();
            context.tried.add(chosen);
            let endpoint = &service.endpoints[chosen];
            self.outcome.attempts += 1;
            let connected = self.connect(endpoint.address, service).await;
            match connected {
                Ok(instance) => {
                    if !service.tls
                        && let Some(header) = self.header(service)
                    {
                        self.ahead.splice(..0, header);
                    }
                    self.introduced = None;
                    endpoint.stats.connected(true);
                    let upstream = worker.lasting.upstream(number, service, endpoint);
                    self.outcome.upstream = Some(upstream);
                    self.outcome.held = in_flight.stands();
                    self.outcome.silence = service.peer_timeout;
                    self.outcome.connect = worker.now().since(self.began);
                    return Ok(instance);
                }
                Err(_) if self.client.is_hung_up() => return Err(Closed::ClientReset),
                // Our own want of ports or descriptors says nothing of the instance.
                Err(fault) if is_ours(&fault) => {}
                Err(_) => {
                    endpoint.stats.connected(false);
                    in_flight.done(balance::Outcome::Unreachable, worker.now());
                }
            }
            if self.outcome.attempts > service.retries || !worker.may_retry(service, number) {
                return Err(Closed::Unavailable);
            }
            stats.retries.bump(1);
        }
    }

    /// The header that the instance expects before everything else.
    fn header(&self, service: &ServiceTable) -> Option<Vec<u8>> {
        let version = service.send_proxy?;
        let mut introduced = self.introduced.as_deref()?.clone();
        let tlvs = &mut introduced.tlvs;
        if tlvs.authority.is_none() {
            tlvs.authority.clone_from(&self.sni);
        }
        // Who passes it on keeps its name; whoever is first gives it one.
        let named = || {
            Box::from(
                [self.worker.draw(), self.worker.draw()]
                    .map(u64::to_be_bytes)
                    .concat(),
            )
        };
        tlvs.unique_id.get_or_insert_with(named);
        Some(preface::header(version, &self.client, &introduced))
    }

    async fn connect(&self, to: SocketAddr, service: &ServiceTable) -> io::Result<Sock> {
        let reactor = self.worker.reactor();
        reactor.set_timeout(service.connect_timeout);
        let mut instance = self.worker.connect(service, to).await?;
        if service.tls {
            // In clear text, as HAProxy and nginx expect it. A new connection has room for it.
            let header = self.header(service).unwrap_or_default();
            if instance.try_send(&header)? < header.len() {
                return Err(io::ErrorKind::WriteZero.into());
            }
            to_instance(&self.worker, service, &mut instance, to, false).await?;
        }
        Ok(instance)
    }

    /// Carries bytes until the connection ends.
    async fn last(&mut self, instance: &Sock) -> Closed {
        let ahead = std::mem::take(&mut self.ahead);
        let (Some(route), Some(upstream)) = (self.outcome.route, &self.outcome.upstream) else {
            unreachable!("a connection to an instance came by a route");
        };
        let worker = &self.worker;
        let task = worker.reactor().current();
        let grounds = [
            upstream.stand(task),
            Standing::on(&worker.lasting.listener(self.listener), task),
        ];
        let limits = &self.stream().limits;
        let ends = match limits.lifetime.is_zero() {
            true => Moment::NEVER,
            false => self.began + limits.lifetime,
        };
        let (listener, route) = (self.stats(), &self.stream().routes[route].stats);
        let route = route.of(worker.index);
        let pair = Pair {
            client: &self.client,
            instance,
            buffers: &worker.buffers,
            pipes: &worker.pipes,
            counts: [
                &[&listener.received, &route.received],
                &[&listener.sent, &route.sent],
            ],
            limits: Limits {
                idle: limits.idle,
                silence: [self.table.peer_timeout, self.outcome.silence],
                ends,
                drain: limits.drain,
                grounds: &grounds,
                stopping: worker.stopping(),
            },
            websocket: false,
            parts: &|why| {
                if why == Closed::Moved {
                    upstream.connections.moved.add(1);
                }
            },
        };
        let mut cut = Cut(Some([&self.client, instance]));
        let End { why, told } = pair.carry([ahead, Vec::new()]).await;
        if told || matches!(why, Closed::Idle | Closed::Moved) {
            cut.0 = None;
        }
        why
    }

    fn end(&mut self, closed: Closed) {
        self.open = false;
        self.record(closed);
        self.stats().closed.bump(1);
    }

    fn record(&self, closed: Closed) {
        let outcome = &self.outcome;
        let route = outcome.route.map(|number| &self.stream().routes[number]);
        let worker = &self.worker;
        if let Some(route) = route {
            route.stats.of(worker.index).ended(closed);
        }
        if matches!(closed, Closed::Idle | Closed::Lifetime) {
            self.stats().timed_out.bump(1);
        }
        let Some(logger) = &worker.logger else {
            return;
        };
        logger.push(Record::Connection(ConnectionRecord {
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
        }));
    }
}

/// Whether a connection failed for want of something of ours: ports, descriptors, memory.
pub(crate) fn is_ours(fault: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(fault),
        Some(
            Errno::ADDRNOTAVAIL
                | Errno::ADDRINUSE
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
