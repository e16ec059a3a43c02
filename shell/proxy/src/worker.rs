//! What the tasks of one worker share.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use balance::{Balancer, Random, Tried, Unavailable};
use model::{
    EndpointStats, InstanceId, ListenerTable, Moment, RoutingTable, ServiceKey, ServiceTable,
};

use crate::access::Logger;
use crate::buffers::Buffers;
use crate::date::Date;
use crate::l4::{Lasting, Pipes, Upstream, turn};
use crate::pool::Pool;
use crate::rt::{Handle, Reactor};

/// One worker: everything its tasks share, and nothing that another worker touches.
pub(crate) struct Worker {
    /// Its number; picks the shard of every counter it writes.
    pub(crate) index: usize,
    pub(crate) handle: Handle,
    pub(crate) pool: Pool,
    pub(crate) pipes: Pipes,
    pub(crate) lasting: Lasting,
    pub(crate) buffers: Buffers,
    pub(crate) date: Date,
    pub(crate) logger: Option<Logger>,
    pub(crate) suspect: Box<dyn Fn(Suspect)>,
    published: RefCell<Cache<Arc<ArcSwap<RoutingTable>>, Arc<RoutingTable>>>,
    table: RefCell<Rc<Published>>,
    balancers: RefCell<Vec<Option<Slot>>>,
    random: RefCell<Random>,
    draining: Cell<bool>,
    connected: Cell<usize>,
}

/// An endpoint that failed so often that it is passed over for a while: worth a check at once.
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
}

/// What a request holds while it is served: the table it began with, whatever is published meanwhile.
#[derive(Clone)]
pub(crate) struct Snapshot(Rc<Published>);

/// A worker's own reference to a table.
struct Published(Arc<RoutingTable>);

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
        published: Arc<ArcSwap<RoutingTable>>,
        logger: Option<Logger>,
        suspect: Box<dyn Fn(Suspect)>,
    ) -> Self {
        let table = published.load_full();
        Self {
            index,
            handle,
            pool: Pool::default(),
            pipes: Pipes::default(),
            lasting: Lasting::default(),
            buffers: Buffers::new(),
            date: Date::default(),
            logger,
            suspect,
            published: RefCell::new(Cache::new(published)),
            table: RefCell::new(Rc::new(Published(table))),
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
            *table = Rc::new(Published(newest.clone()));
        }
        Snapshot(table.clone())
    }

    /// Chooses an instance for one attempt.
    pub(crate) fn pick(
        &self,
        snapshot: &Snapshot,
        service: usize,
        tried: &Tried,
    ) -> Result<usize, Unavailable> {
        let table = &snapshot.0.0.services[service];
        let mut balancers = self.balancers.borrow_mut();
        if balancers.len() <= service {
            balancers.resize_with(service + 1, || None);
        }
        let slot = match &mut balancers[service] {
            Some(slot) if Arc::ptr_eq(&slot.service, table) => slot,
            stale => stale.insert(Slot {
                service: table.clone(),
                balancer: Balancer::new(table, self.draw()),
            }),
        };
        slot.balancer.pick(table, tried, self.now())
    }

    /// The address of ours to connect to an instance from; `None`: the kernel's choice.
    pub(crate) fn connect_from(&self, service: &ServiceTable, to: SocketAddr) -> Option<IpAddr> {
        self.connected.set(self.connected.get().wrapping_add(1));
        turn(&service.connect_from, to, self.connected.get())
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

    /// Whether connections should end as soon as their present request is served.
    pub(crate) fn draining(&self) -> bool {
        self.draining.get()
    }

    /// From now on connections end after their present request; idle ones end at once.
    pub(crate) fn drain(&self) {
        self.draining.set(true);
        self.pool.clear();
        self.handle.wake_all();
    }

    /// An endpoint that was chosen a while ago failed.
    pub(crate) fn upstream_failed(&self, upstream: &Upstream) {
        let snapshot = self.snapshot();
        if let Some((service, endpoint)) = upstream.find(&snapshot) {
            self.attempt_failed(snapshot.service(service), endpoint);
        }
    }

    /// An attempt at an endpoint failed: counts it, and passes the endpoint over when it was one too many.
    pub(crate) fn attempt_failed(&self, service: &ServiceTable, endpoint: usize) {
        let endpoint = &service.endpoints[endpoint];
        let in_a_row = endpoint.stats.failed();
        if service.shun_after == 0 || in_a_row < service.shun_after {
            return;
        }
        let now = self.now();
        let already = endpoint.stats.shunned_until() > now.as_nanos();
        endpoint.stats.shun((now + service.shun_for).as_nanos());
        if !already {
            (self.suspect)(Suspect {
                service: service.key.clone(),
                instance: endpoint.id.clone(),
            });
        }
    }
}

/// Work in flight at an endpoint, from the pick until it is dropped.
pub(crate) struct InFlight<'a>(&'a EndpointStats);

impl<'a> InFlight<'a> {
    pub(crate) fn begin(stats: &'a EndpointStats) -> Self {
        stats.begin();
        Self(stats)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
