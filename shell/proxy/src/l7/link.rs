//! Connections to instances that carry many requests at a time, shared by all requests of a worker.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::h1::MethodKind;
use http::h2::{Connection, Event, Head, Settings};
use model::{Endpoint, EndpointStats, ServiceTable};
use rustls::ClientConfig;

use super::carrier::{Gone, Peer, carry};
use super::respond::LIMITS;
use crate::pool;
use crate::rt::{Mux, Sock, TaskId};
use crate::tls::made_now;
use crate::worker::Worker;

/// Requests that we put on one connection, whatever the instance takes: what most servers take, and what a connection that
/// breaks takes with it.
const MOST_STREAMS: u32 = 100;

/// Connections to one instance that begin anything: room for 6,400 requests at a time, and 64 at an instance that takes one per connection.
const MOST_LINKS: usize = 64;

/// What an instance may send of an answer ahead of its client: a round trip of 1 ms is filled at half a Gbit/s, and a
/// thousand answers that wait for their clients take no more than 64 MiB.
const WINDOW: u32 = 65_535;

/// How long an instance has to say that it speaks HTTP/2, and to end a head that it has begun, at the least.
const PATIENCE: Duration = Duration::from_secs(5);

/// The connections of a worker, by the instances they lead to.
#[derive(Default)]
pub(crate) struct Links(RefCell<BTreeMap<Key, Site>>);

/// An address, and which instance is there: where its statistics are.
type Key = (pool::Key, usize);

fn key(endpoint: &Endpoint) -> Key {
    let instance = Arc::as_ptr(&endpoint.stats).addr();
    (pool::key(endpoint.address), instance)
}

/// What there is of an instance.
#[derive(Default)]
struct Site {
    links: Vec<Rc<Link>>,
    /// Whether a connection is being made.
    connecting: bool,
    /// How often that came to nothing, and why the last time.
    failed: (u64, Option<Cause>),
    /// Who waits, by their turns.
    waiting: BTreeMap<u64, TaskId>,
    turns: u64,
    /// Whether the instance, when it was asked last, agreed on HTTP/1.1 only.
    older: bool,
}

/// A connection.
struct Link {
    mux: Rc<Mux>,
    /// Kept, so that no other has its place in memory meanwhile.
    _instance: Arc<EndpointStats>,
    /// What its TLS was made with.
    config: Option<Arc<ClientConfig>>,
}

/// How a request gets to an instance.
pub(super) enum Way {
    /// On this stream. True if the connection was there before.
    Stream(Sock, bool),
    /// On a connection that is to be made.
    Connect(Connecting),
    /// In HTTP/1.1, most likely.
    Older,
}

/// Why there is no way.
pub(super) enum NoWay {
    /// The connection that was waited for could not be made.
    Failed(Cause),
    /// There was no room in time.
    Full,
    ClientLeft,
}

/// Why a connection failed, for all who waited for it.
#[derive(Clone, Copy)]
pub(super) struct Cause(io::ErrorKind, Option<i32>);

impl From<Cause> for io::Error {
    fn from(Cause(kind, number): Cause) -> Self {
        // With its number, it can still be told whether it was our own fault.
        number.map_or_else(|| kind.into(), Self::from_raw_os_error)
    }
}

/// A request as it is put on a stream.
pub(super) struct Ask<'a> {
    pub(super) block: &'a [u8],
    pub(super) method: MethodKind,
    /// Whether nothing follows the head.
    pub(super) end: bool,
}

impl Links {
    /// Finds a way for a request, waiting for up to the task's deadline for a connection, or for room on one, and no longer than
    /// its client does.
    pub(super) async fn way(
        worker: &Rc<Worker>,
        service: &ServiceTable,
        endpoint: &Endpoint,
        ask: &Ask<'_>,
        client: Option<&Sock>,
    ) -> Result<Way, NoWay> {
        let (links, key) = (&worker.links, key(endpoint));
        let failed = links.with(key, |site| site.failed.0);
        let mut turn = None;
        loop {
            if let Some(way) = links.look(worker, service, ask, key) {
                return Ok(way);
            }
            let (times, why) = links.with(key, |site| site.failed);
            if let Some(why) = why.filter(|_| times != failed) {
                return Err(NoWay::Failed(why));
            }
            let turn = turn.get_or_insert_with(|| Turn::new(worker, key));
            turn.wait(client).await?;
        }
    }

    /// A way that there is now.
    fn look(
        &self,
        worker: &Rc<Worker>,
        service: &ServiceTable,
        ask: &Ask<'_>,
        key: Key,
    ) -> Option<Way> {
        let mut sites = self.0.borrow_mut();
        let site = sites.entry(key).or_default();
        let config = made_now(worker, service);
        for link in &site.links {
            if link.config.as_ref().map(Arc::as_ptr) != config.as_ref().map(Arc::as_ptr) {
                // Made with certificates that are no longer ours.
                link.mux.retire();
            } else if let Some(stream) = link.mux.ask(ask.block, ask.method, ask.end) {
                return Some(Way::Stream(stream, true));
            }
        }
        let asking = |link: &Rc<Link>| {
            let machine = link.mux.machine();
            !machine.is_settled() && !machine.is_leaving()
        };
        if site.older {
            return Some(Way::Older);
        }
        let beginning = |link: &&Rc<Link>| !link.mux.machine().is_leaving();
        let crowd = site.links.iter().filter(beginning).count() >= MOST_LINKS;
        // One after the other: what one has room for need not be known twice.
        if site.connecting || crowd || site.links.iter().any(asking) {
            return None;
        }
        site.connecting = true;
        Some(Way::Connect(Connecting {
            worker: worker.clone(),
            key,
            outcome: None,
        }))
    }

    fn with<T>(&self, key: Key, what: impl FnOnce(&mut Site) -> T) -> T {
        what(self.0.borrow_mut().entry(key).or_default())
    }

    /// Wakes as many of those who wait as there may be something for, the first ones first.
    fn call(&self, worker: &Worker, key: Key) {
        self.with(key, |site| {
            let room: usize = site
                .links
                .iter()
                .map(|link| link.mux.machine().vacancies())
                .sum();
            // One more makes a connection, if it may.
            for task in site.waiting.values().take(room + 1) {
                worker.reactor().wake(*task);
            }
        });
    }

    /// The connection is over.
    fn remove(&self, worker: &Worker, key: Key, link: &Rc<Link>) {
        let mut sites = self.0.borrow_mut();
        let Some(site) = sites.get_mut(&key) else {
            return;
        };
        site.links.retain(|other| !Rc::ptr_eq(other, link));
        drop(sites);
        self.call(worker, key);
    }

    /// Forgets instances to which there is nothing.
    pub(crate) fn sweep(&self) {
        let used =
            |site: &Site| site.connecting || !site.links.is_empty() || !site.waiting.is_empty();
        self.0.borrow_mut().retain(|_, site| used(site));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.borrow().values().map(|site| site.links.len()).sum()
    }

    /// All end with their last answers.
    pub(crate) fn retire(&self) {
        for site in self.0.borrow().values() {
            for link in &site.links {
                link.mux.retire();
            }
        }
    }
}

/// A place in the line for a connection.
struct Turn {
    worker: Rc<Worker>,
    key: Key,
    number: u64,
}

impl Turn {
    fn new(worker: &Rc<Worker>, key: Key) -> Self {
        let number = worker.links.with(key, |site| {
            site.turns += 1;
            site.waiting.insert(site.turns, worker.reactor().current());
            for link in &site.links {
                link.mux.set_crowded(true);
            }
            site.turns
        });
        Self {
            worker: worker.clone(),
            key,
            number,
        }
    }

    /// Waits until there may be something, or nobody wants it.
    async fn wait(&self, client: Option<&Sock>) -> Result<(), NoWay> {
        let mut woken = false;
        poll_fn(|_| {
            if client.is_some_and(Sock::is_hung_up) {
                return Poll::Ready(Err(NoWay::ClientLeft));
            }
            if self.worker.reactor().timed_out() {
                return Poll::Ready(Err(NoWay::Full));
            }
            if std::mem::replace(&mut woken, true) {
                return Poll::Ready(Ok(()));
            }
            if let Some(client) = client {
                client.wake_current_if_it_lasts();
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let crowded = self.worker.links.with(self.key, |site| {
            site.waiting.remove(&self.number);
            let crowded = !site.waiting.is_empty();
            if !crowded {
                for link in &site.links {
                    link.mux.set_crowded(false);
                }
            }
            crowded
        });
        // Whoever was woken and leaves with something else passes it on.
        if crowded {
            self.worker.links.call(&self.worker, self.key);
        }
    }
}

/// A connection that is being made. Dropped before it is there, it is given up.
pub(super) struct Connecting {
    worker: Rc<Worker>,
    key: Key,
    outcome: Option<Cause>,
}

impl Connecting {
    /// It could not be made.
    pub(super) fn failed(mut self, fault: &io::Error) {
        self.outcome = Some(Cause(fault.kind(), fault.raw_os_error()));
    }

    /// The instance speaks HTTP/1.1 only.
    pub(super) fn found_older(self) {
        let links = &self.worker.links;
        links.with(self.key, |site| site.older = true);
    }

    /// It is there; the first request on it is this one.
    pub(super) fn made(
        self,
        sock: Sock,
        service: &ServiceTable,
        endpoint: &Endpoint,
        ask: &Ask<'_>,
    ) -> Option<Sock> {
        join(&self.worker, sock, (service, endpoint), ask)
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        let links = &self.worker.links;
        links.with(self.key, |site| {
            site.connecting = false;
            if self.outcome.is_some() {
                site.failed = (site.failed.0 + 1, self.outcome);
                for task in site.waiting.values() {
                    self.worker.reactor().wake(*task);
                }
            }
        });
        links.call(&self.worker, self.key);
    }
}

/// A new connection is one of the worker's from here on; its first request is this one.
pub(super) fn join(
    worker: &Rc<Worker>,
    sock: Sock,
    (service, endpoint): (&ServiceTable, &Endpoint),
    ask: &Ask<'_>,
) -> Option<Sock> {
    let key = key(endpoint);
    let config = sock.made_with();
    let settings = Settings {
        max_streams: MOST_STREAMS,
        stream_window: WINDOW,
        // As much as all of them: else slow clients of some answers would stop those of all.
        connection_window: MOST_STREAMS * WINDOW,
        limits: LIMITS,
        idle: service.keep_alive,
        request_head: service.connect_timeout.max(PATIENCE),
    };
    let mux = Mux::new(&sock, Connection::client(settings, worker.now()));
    let link = Rc::new(Link {
        mux,
        _instance: endpoint.stats.clone(),
        config,
    });
    let stream = link.mux.ask(ask.block, ask.method, ask.end);
    let far = Far {
        worker: worker.clone(),
        sock,
        held: RefCell::default(),
        link: link.clone(),
        key,
        patience: service.peer_timeout,
        seen: Cell::new(0),
    };
    worker.links.with(key, |site| {
        site.older = false;
        site.links.push(link.clone());
        let crowded = !site.waiting.is_empty();
        link.mux.set_crowded(crowded);
    });
    let task = worker.handle.spawn(serve(far));
    link.mux.give_to(task);
    stream
}

async fn serve(far: Far) {
    let mux = far.link.mux.clone();
    let gone = carry(&far, &mux).await;
    // Nobody is to begin anything on it any more.
    far.worker.links.remove(&far.worker, far.key, &far.link);
    mux.close();
    if let Err(Gone::Slow) = gone {
        far.sock.abort_on_close();
    }
}

/// An instance at the other end of a connection.
struct Far {
    worker: Rc<Worker>,
    sock: Sock,
    held: RefCell<Vec<u8>>,
    link: Rc<Link>,
    key: Key,
    patience: Duration,
    /// Vacancies that those who wait were told of.
    seen: Cell<usize>,
}

impl Peer for Far {
    fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    fn sock(&self) -> &Sock {
        &self.sock
    }

    fn held(&self) -> &RefCell<Vec<u8>> {
        &self.held
    }

    fn is_ending(&self) -> bool {
        self.worker.draining()
    }

    fn end(&self, machine: &mut Connection) {
        machine.retire();
    }

    fn patience(&self) -> (Duration, u32) {
        (self.patience, 1)
    }

    fn hear(&self, mux: &Rc<Mux>, event: Event, _: &mut Head) {
        mux.tell(event);
    }

    fn rest(&self, mux: &Mux) {
        let (vacancies, leaving) = {
            let machine = mux.machine();
            (machine.vacancies(), machine.is_leaving())
        };
        // A connection that leaves makes room for another.
        let room = if leaving { usize::MAX } else { vacancies };
        if room > self.seen.replace(room) {
            self.worker.links.call(&self.worker, self.key);
        }
    }
}
