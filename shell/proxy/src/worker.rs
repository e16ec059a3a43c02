//! What the tasks of one worker share.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache, Guard};
use balance::{Balancer, Context, Hedges, Held, Lease, Outcome, Random, Retries, Unavailable};
use http::h2::Head;
use model::{InstanceId, ListenerTable, Moment, RoutingTable, ServiceKey, ServiceTable};
use telemetry::{AccessRecord, Record};

use crate::access::Logger;
use crate::buffers::Buffers;
use crate::date::Date;
use crate::l4::{Lasting, Pipes, Upstream, is_ours, turn};
use crate::l7::{Links, Waiters};
use crate::pool::Pool;
use crate::rt::{Handle, Reactor, Sock};
use crate::tls::{HandshakeFaults, TlsTable};
use crate::verify::{Known, Verifier};

/// One worker: everything its tasks share, and nothing that another worker touches.
pub(crate) struct Worker {
    /// Its number; picks the shard of every counter it writes.
    pub(crate) index: usize,
    pub(crate) handle: Handle,
    pub(crate) pool: Pool,
    pub(crate) links: Links,
    pub(crate) pipes: Pipes,
    pub(crate) lasting: Lasting,
    pub(crate) waiters: Waiters,
    pub(crate) buffers: Buffers,
    pub(crate) date: Date,
    /// Where heads of requests in HTTP/2 are read to.
    pub(crate) head: RefCell<Head>,
    pub(crate) logger: Option<Logger<Record>>,
    /// Where requests go whose trace is recorded. With one, every request is a part of a trace.
    pub(crate) tracer: Option<Logger<AccessRecord>>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) handshake_faults: Arc<HandshakeFaults>,
    pub(crate) known: Known,
    pub(crate) suspect: Box<dyn Fn(Suspect)>,
    published: RefCell<Cache<Arc<ArcSwap<RoutingTable>>, Arc<RoutingTable>>>,
    table: RefCell<Rc<Shared>>,
    tls: Arc<ArcSwap<TlsTable>>,
    balancers: RefCell<Vec<Option<Slot>>>,
    random: RefCell<Random>,
    draining: Cell<bool>,
    connected: Cell<usize>,
}

/// An endpoint that failed so often that it was ejected: worth a check at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// Its service.
    pub service: ServiceKey,
    /// Its instance.
    pub instance: InstanceId,
}

/// A balancer and the service it was made for.
struct Slot {
    service: Arc<ServiceTable>,
    balancer: Balancer,
    retries: Retries,
    hedges: Hedges,
}

/// What a request holds while it is served: the table it began with, whatever is published meanwhile.
#[derive(Clone)]
pub(crate) struct Snapshot(Rc<Shared>);

/// What all workers share: where the control plane publishes, who verifies passwords, and where failed handshakes are noted.
pub(crate) type Common = (
    Arc<ArcSwap<RoutingTable>>,
    Arc<ArcSwap<TlsTable>>,
    Arc<Verifier>,
    Arc<HandshakeFaults>,
);

/// The access log, and who exports traces.
pub(crate) type Loggers = (Option<Logger<Record>>, Option<Logger<AccessRecord>>);

/// A worker's own reference to a table.
struct Shared(Arc<RoutingTable>);

impl Snapshot {
    pub(crate) fn listener(&self, number: usize) -> Option<&Arc<ListenerTable>> {
        self.0.0.listeners.get(number)?.as_ref()
    }

    pub(crate) fn service(&self, number: usize) -> &ServiceTable {
        &self.0.0.services[number]
    }
}

impl Worker {
    pub(crate) fn new(
        index: usize,
        seed: u64,
        handle: Handle,
        (published, tls, verifier, handshake_faults): Common,
        (logger, tracer): Loggers,
        suspect: Box<dyn Fn(Suspect)>,
    ) -> Self {
        let table = published.load_full();
        Self {
            index,
            handle,
            pool: Pool::default(),
            links: Links::default(),
            pipes: Pipes::default(),
            lasting: Lasting::default(),
            waiters: Waiters::default(),
            buffers: Buffers::new(),
            date: Date::default(),
            head: RefCell::default(),
            logger,
            tracer,
            verifier,
            handshake_faults,
            known: Known::drawn(),
            suspect,
            published: RefCell::new(Cache::new(published)),
            table: RefCell::new(Rc::new(Shared(table))),
            tls,
            balancers: RefCell::default(),
            random: RefCell::new(Random::new(seed)),
            draining: Cell::new(false),
            connected: Cell::new(0),
        }
    }

    pub(crate) fn reactor(&self) -> &Rc<Reactor> {
        self.handle.reactor()
    }

    pub(crate) fn now(&self) -> Moment {
        self.reactor().now()
    }

    /// The newest table. Costs one load and one comparison while nothing has changed; requests then
    /// share one `Rc`, so that workers do not contend for the table's reference count.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut published = self.published.borrow_mut();
        let newest = published.load();
        let mut table = self.table.borrow_mut();
        if !Arc::ptr_eq(newest, &table.0) {
            *table = Rc::new(Shared(newest.clone()));
        }
        Snapshot(table.clone())
    }

    /// What TLS handshakes go by.
    pub(crate) fn tls(&self) -> Guard<Arc<TlsTable>> {
        self.tls.load()
    }

    /// Chooses an instance for one attempt.
    pub(crate) fn pick<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        service: usize,
        context: &Context,
    ) -> Result<InFlight<'a>, Unavailable> {
        let table = &snapshot.0.0.services[service];
        let mut balancers = self.balancers.borrow_mut();
        if balancers.len() <= service {
            balancers.resize_with(service + 1, || None);
        }
        let slot = balancers[service].get_or_insert_with(|| Slot {
            service: table.clone(),
            balancer: Balancer::new(table, self.index, self.draw()),
            retries: Retries::default(),
            hedges: Hedges::default(),
        });
        if !Arc::ptr_eq(&slot.service, table) {
            slot.service = table.clone();
            slot.balancer.rebuild(table);
        }
        let since = self.now();
        let lease = slot.balancer.pick(table, context, since)?;
        Ok(InFlight {
            worker: self,
            service: table,
            lease: Some(lease),
            since,
        })
    }

    /// Whether a service can bear one more attempt after one that failed.
    pub(crate) fn may_retry(&self, service: &ServiceTable, number: usize) -> bool {
        let (stats, draw) = (service.stats.of(self.index), self.draw());
        let mut balancers = self.balancers.borrow_mut();
        let slot = balancers.get_mut(number).and_then(Option::as_mut);
        let may = |slot: &mut Slot| slot.retries.may(service, stats, draw, self.now());
        slot.is_some_and(may)
    }

    /// What is known of second requests to a service, once something was asked of it.
    pub(crate) fn hedges<T>(&self, number: usize, f: impl FnOnce(&mut Hedges) -> T) -> Option<T> {
        let mut balancers = self.balancers.borrow_mut();
        let slot = balancers.get_mut(number).and_then(Option::as_mut);
        slot.map(|slot| f(&mut slot.hedges))
    }

    /// The address of ours to connect to an instance from; `None`: the kernel's choice.
    pub(crate) fn connect_from(&self, service: &ServiceTable, to: SocketAddr) -> Option<IpAddr> {
        self.connected.set(self.connected.get().wrapping_add(1));
        turn(&service.connect_from, to, self.connected.get())
    }

    /// Connects to an instance as its service wants it, within the task's deadline. When the ports of one address of ours
    /// are all in use towards it, the next may have some.
    pub(crate) async fn connect(&self, service: &ServiceTable, to: SocketAddr) -> io::Result<Sock> {
        let mut others = service.connect_from.len();
        loop {
            let from = self.connect_from(service, to);
            let connected = Sock::connect_from(self.reactor(), to, from).await;
            match connected {
                Err(fault) if others > 1 && is_ours(&fault) => others -= 1,
                connected => return connected,
            }
        }
    }

    /// Tells connections that last on something that has gone, or come back.
    pub(crate) fn review(&self) {
        self.lasting
            .review(&self.snapshot(), &self.handle, self.now());
    }

    /// 64 random bits.
    pub(crate) fn draw(&self) -> u64 {
        self.random.borrow_mut().draw()
    }

    /// Hands over what has gathered for the access log, and of traces.
    pub(crate) fn flush_records(&self) {
        if let Some(logger) = &self.logger {
            logger.flush();
        }
        if let Some(tracer) = &self.tracer {
            tracer.flush();
        }
    }

    /// Whether connections should end as soon as their present request is served.
    pub(crate) fn draining(&self) -> bool {
        self.draining.get()
    }

    /// The same, for whoever looks often.
    pub(crate) const fn stopping(&self) -> &Cell<bool> {
        &self.draining
    }

    /// From now on connections end after their present request; idle ones end at once.
    pub(crate) fn drain(&self) {
        self.draining.set(true);
        self.pool.clear();
        self.links.retire();
        self.handle.wake_all();
    }

    /// Cuts off what is left, and ends.
    pub(crate) fn stop(&self) {
        if let Some(logger) = &self.logger {
            logger.be_patient();
        }
        self.handle.stop();
    }

    /// An endpoint that was chosen a while ago failed.
    pub(crate) fn upstream_failed(&self, upstream: &Upstream) {
        let snapshot = self.snapshot();
        if let Some((number, endpoint)) = upstream.find(&snapshot) {
            let service = snapshot.service(number);
            let ejected = balance::broke(service, endpoint, self.now());
            self.suspect_if(ejected.is_some(), service, endpoint);
        }
    }

    /// The end of an attempt. An endpoint that was ejected because of it is checked at once.
    fn done(&self, service: &ServiceTable, lease: Lease, outcome: Outcome, latency: Duration) {
        let endpoint = lease.endpoint();
        let ejected = lease.done(service, outcome, latency, self.now());
        self.suspect_if(ejected.is_some(), service, endpoint);
    }

    fn suspect_if(&self, ejected: bool, service: &ServiceTable, endpoint: usize) {
        if ejected {
            (self.suspect)(Suspect {
                service: service.key.clone(),
                instance: service.endpoints[endpoint].id.clone(),
            });
        }
    }
}

/// What the policies that go by keys take for a client's address.
pub fn source_key(secret: [u64; 2], source: IpAddr) -> u64 {
    match source.to_canonical() {
        IpAddr::V4(ip) => balance::key(secret, &ip.octets()),
        IpAddr::V6(ip) => balance::key(secret, &ip.octets()),
    }
}

/// Work in flight at an endpoint, from the pick to [`InFlight::done`]. Dropped before, it was cancelled.
pub(crate) struct InFlight<'a> {
    worker: &'a Worker,
    service: &'a ServiceTable,
    lease: Option<Lease>,
    since: Moment,
}

impl InFlight<'_> {
    /// The number of the endpoint.
    pub(crate) fn endpoint(&self) -> usize {
        self.lease.as_ref().map_or(0, Lease::endpoint)
    }

    /// When it was chosen.
    pub(crate) const fn since(&self) -> Moment {
        self.since
    }

    /// The instance says how many requests it is at work on.
    pub(crate) fn reported(&self, in_flight: f32) {
        if let Some(lease) = &self.lease {
            lease.reported(self.service, in_flight);
        }
    }

    /// What came of it, and when the instance was heard of first.
    pub(crate) fn done(mut self, outcome: Outcome, heard: Moment) {
        if let Some(lease) = self.lease.take() {
            let latency = heard.since(self.since);
            self.worker.done(self.service, lease, outcome, latency);
        }
    }

    /// The connection stands: it counts until it is dropped, whatever becomes of the table.
    pub(crate) fn stands(mut self) -> Option<Held> {
        Some(self.lease.take()?.stands(self.service))
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            let latency = self.worker.now().since(self.since);
            let cancelled = Outcome::Cancelled;
            self.worker.done(self.service, lease, cancelled, latency);
        }
    }
}
