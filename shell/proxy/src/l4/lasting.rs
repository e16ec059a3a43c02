//! What connections last on, and how they hear that it is going away.
//!
//! A connection may be a week old, and looks at no routing table in that time. So the worker keeps a list of what
//! its connections depend on: endpoints and listeners. Whenever a table is published, it looks at each of those
//! once, and wakes the connections of those that changed: they then have so much time left as their listener
//! grants.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use model::{Endpoint, EndpointStats, Health, Incarnation, LongConnections, Moment, ServiceTable};
use slab::Slab;
use telemetry::Answerer;

use crate::rt::{Handle, TaskId};
use crate::worker::Snapshot;

/// What the connections of one worker last on.
#[derive(Default)]
pub(crate) struct Lasting {
    endpoints: RefCell<BTreeMap<Place, Rc<Upstream>>>,
    listeners: RefCell<BTreeMap<usize, Rc<Ground>>>,
}

/// Which endpoint: the number of its service, where it is, and which of its lives.
pub(crate) type Place = (usize, SocketAddr, Incarnation);

/// Something that connections last on.
pub(crate) struct Ground {
    /// Since when it is going away; `NEVER` while it stays.
    leaving: Cell<Moment>,
    /// It has lost the role that connections to it are bound to: they have no time left.
    demoted: Cell<bool>,
    tasks: RefCell<Slab<Lodger>>,
}

/// A task that stands on a ground.
struct Lodger {
    task: TaskId,
    /// Since when it has been at rest, and how.
    rest: Cell<(Moment, Rest)>,
    /// It is to end if it is still at rest.
    told: Cell<bool>,
}

/// Whether a connection could be closed without harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rest {
    /// Something is under way, or asked and not answered.
    Busy,
    /// The instance had the last word.
    Answered,
    /// That word was PostgreSQL's "ready, and in no transaction".
    Ready,
}

/// Connections to an endpoint that are to be closed, so that their clients come back elsewhere.
pub(crate) struct Surplus {
    /// The number of the service, and which endpoint.
    pub(crate) place: Place,
    /// How many all workers close together; each takes from it what it does.
    pub(crate) left: AtomicU32,
    /// That many of how many there are.
    pub(crate) share: f64,
    /// How long they have been at rest, and how.
    pub(crate) rest: (Duration, Rest),
}

/// An endpoint with connections.
pub(crate) struct Upstream {
    /// Who it is, for logs.
    pub(crate) answerer: Answerer,
    /// The number of its service.
    number: usize,
    /// What is known of it.
    pub(crate) stats: Arc<EndpointStats>,
    /// Its long connections.
    pub(crate) connections: Arc<LongConnections>,
    /// Its check says that it cannot work.
    critical: Cell<bool>,
    ground: Rc<Ground>,
}

/// A task that hears when a ground goes away, until it is dropped.
pub(crate) struct Standing {
    ground: Rc<Ground>,
    place: usize,
}

impl Lasting {
    /// The endpoint as connections see it.
    pub(crate) fn upstream(
        &self,
        number: usize,
        service: &ServiceTable,
        endpoint: &Endpoint,
    ) -> Rc<Upstream> {
        let place = (number, endpoint.address, endpoint.incarnation);
        let mut endpoints = self.endpoints.borrow_mut();
        let known = endpoints.get(&place);
        // The same place may have another instance by now.
        if let Some(known) = known.filter(|k| Arc::ptr_eq(&k.stats, &endpoint.stats)) {
            return known.clone();
        }
        let new = Rc::new(Upstream {
            answerer: Answerer {
                service: service.key.clone(),
                id: endpoint.id.clone(),
                address: endpoint.address,
            },
            number,
            stats: endpoint.stats.clone(),
            connections: endpoint.connections.clone(),
            critical: Cell::new(endpoint.health == Health::Critical),
            ground: Rc::new(Ground::new()),
        });
        endpoints.insert(place, new.clone());
        new
    }

    /// The listener with this number as connections see it.
    pub(crate) fn listener(&self, number: usize) -> Rc<Ground> {
        let mut listeners = self.listeners.borrow_mut();
        let ground = listeners
            .entry(number)
            .or_insert_with(|| Rc::new(Ground::new()));
        ground.clone()
    }

    /// Looks at a new table: what went away, or came back, wakes those that last on it.
    pub(crate) fn review(&self, table: &Snapshot, handle: &Handle, now: Moment) {
        self.listeners.borrow_mut().retain(|number, ground| {
            ground.turns(table.listener(*number).is_none(), handle, now);
            Rc::strong_count(ground) > 1
        });
        self.endpoints
            .borrow_mut()
            .retain(|(service, ..), upstream| {
                let service = table.service(*service);
                let demoted = service.role.is_some() && upstream.place_in(service).is_none();
                upstream.critical.set(upstream.is_critical_in(service));
                upstream.ground.turns_demoted(demoted, handle);
                upstream.ground.turns(!upstream.stays(service), handle, now);
                Rc::strong_count(&upstream.ground) > 1
            });
    }

    /// Tells this worker's part of a surplus to end, those first that have been at rest longest.
    pub(crate) fn give_up(&self, surplus: &Surplus, handle: &Handle, now: Moment) {
        let endpoints = self.endpoints.borrow();
        let Some(upstream) = endpoints.get(&surplus.place) else {
            return;
        };
        let lodgers = upstream.ground.tasks.borrow();
        let (rested, how) = surplus.rest;
        let resting = lodgers.iter().filter(|(_, lodger)| {
            let (since, rest) = lodger.rest.get();
            rest >= how && now.since(since) >= rested
        });
        let mut resting: Vec<&Lodger> = resting.map(|(_, lodger)| lodger).collect();
        resting.sort_unstable_by_key(|lodger| lodger.rest.get().0);
        let part = (lodgers.len() as f64 * surplus.share).ceil() as usize;
        for lodger in resting.into_iter().take(part) {
            let one_less = |left: u32| left.checked_sub(1);
            if surplus
                .left
                .fetch_update(Relaxed, Relaxed, one_less)
                .is_err()
            {
                break;
            }
            lodger.told.set(true);
            handle.reactor().wake(lodger.task);
        }
    }
}

impl Upstream {
    fn stays(&self, service: &ServiceTable) -> bool {
        self.place_in(service).is_some_and(|place| {
            let endpoint = &service.endpoints[place];
            endpoint.enabled && !endpoint.drain && endpoint.weight.0 != 0
        })
    }

    fn is_critical_in(&self, service: &ServiceTable) -> bool {
        let place = self.place_in(service);
        place.is_some_and(|place| service.endpoints[place].health == Health::Critical)
    }

    /// Whether its check says that it cannot work.
    pub(crate) fn is_critical(&self) -> bool {
        self.critical.get()
    }

    fn place_in(&self, service: &ServiceTable) -> Option<usize> {
        let id = &self.answerer.id;
        let place = service.endpoints.binary_search_by(|e| e.id.cmp(id)).ok()?;
        let same = Arc::ptr_eq(&service.endpoints[place].stats, &self.stats);
        same.then_some(place)
    }

    /// The number of its service, and its own there, if a table still has it.
    pub(crate) fn find(&self, table: &Snapshot) -> Option<(usize, usize)> {
        let place = self.place_in(table.service(self.number))?;
        Some((self.number, place))
    }

    /// The present task hears when the endpoint goes away.
    pub(crate) fn stand(&self, task: TaskId) -> Standing {
        Standing::on(&self.ground, task)
    }
}

impl Ground {
    fn new() -> Self {
        Self {
            leaving: Cell::new(Moment::NEVER),
            demoted: Cell::new(false),
            tasks: RefCell::default(),
        }
    }

    fn turns(&self, leaving: bool, handle: &Handle, now: Moment) {
        if leaving == (self.leaving.get() != Moment::NEVER) {
            return;
        }
        self.leaving.set(if leaving { now } else { Moment::NEVER });
        self.wake(handle);
    }

    fn turns_demoted(&self, demoted: bool, handle: &Handle) {
        if self.demoted.replace(demoted) != demoted {
            self.wake(handle);
        }
    }

    fn wake(&self, handle: &Handle) {
        for (_, lodger) in self.tasks.borrow().iter() {
            handle.reactor().wake(lodger.task);
        }
    }
}

impl Standing {
    pub(crate) fn on(ground: &Rc<Ground>, task: TaskId) -> Self {
        let lodger = Lodger {
            task,
            rest: Cell::new((Moment::NEVER, Rest::Busy)),
            told: Cell::new(false),
        };
        Self {
            place: ground.tasks.borrow_mut().insert(lodger),
            ground: ground.clone(),
        }
    }

    /// From now on it is at rest, or not. Whatever it was told before was meant for the rest before.
    pub(crate) fn rests(&self, rest: Rest, now: Moment) {
        let lodger = &self.ground.tasks.borrow()[self.place];
        lodger.rest.set((now, rest));
        lodger.told.set(false);
    }

    /// Whether it is to end, having been at rest.
    pub(crate) fn is_told(&self) -> bool {
        self.ground.tasks.borrow()[self.place].told.get()
    }

    /// When work on it ends, if it may go on for `grace` once the ground goes away; `NEVER` while it stays. Writes on what
    /// is no longer the primary would fail or be lost: there is no grace for them.
    pub(crate) fn ends(&self, grace: Duration) -> Moment {
        match self.ground.demoted.get() {
            true => Moment::ZERO,
            false => self.ground.leaving.get() + grace,
        }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.ground.tasks.borrow_mut().remove(self.place);
    }
}
