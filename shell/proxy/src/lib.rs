//! The data plane: worker threads that carry requests from clients to instances.
//!
//! One thread a core, shared nothing. The control plane publishes a [`RoutingTable`]; workers read it
//! and write statistics; nothing else passes between them on a request's way.

#![warn(missing_docs)]

mod access;
mod bind;
mod buffers;
mod date;
mod inbox;
mod l4;
mod l7;
mod listen;
mod pool;
pub mod rt;
mod run;
mod tls;
mod verify;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use l4::{Rest, Surplus};
use model::{Counter, Endpoint, Moment, Respreading, RoutingTable};
use telemetry::{AccessRecord, Record};

pub use bind::{BindError, Transport};
pub use l7::{hash_key, split_key};
pub use run::{Simulated, simulate};
pub use tls::{HandshakeFault, InstanceTls, TlsTable};
pub use worker::{Suspect, source_key};

use inbox::{Fleet, Order};
use tls::HandshakeFaults;

/// What a proxy is started with.
pub struct Options {
    /// Worker threads; at least 1.
    pub workers: usize,
    /// Decides every random choice.
    pub seed: u64,
    /// Where batches of access records go.
    pub access_log: Option<SyncSender<Vec<Record>>>,
    /// Counts access records that were lost because nobody took them in time.
    pub lost_records: Arc<Counter>,
    /// Where batches of requests go whose traces are recorded. With it, every request is a part of a trace.
    pub traces: Option<SyncSender<Vec<AccessRecord>>>,
    /// Counts requests that should have been recorded and were lost because nobody took them in time.
    pub lost_traces: Arc<Counter>,
    /// Hears of endpoints that keep failing. Called on a worker's thread: it must not wait.
    pub suspects: Arc<dyn Fn(Suspect) + Send + Sync>,
}

/// The running workers.
pub struct Proxy {
    published: Arc<ArcSwap<RoutingTable>>,
    tls: Arc<ArcSwap<TlsTable>>,
    fleet: Arc<Fleet>,
    handshake_faults: Arc<HandshakeFaults>,
    /// Where it listens.
    bound: Mutex<Vec<(Transport, SocketAddr)>>,
    threads: Mutex<Vec<JoinHandle<io::Result<()>>>>,
}

impl Proxy {
    /// Starts the workers, with an empty table and no listeners.
    ///
    /// # Errors
    /// When the kernel refuses a thread or an epoll instance.
    pub fn start(options: &Options) -> io::Result<Self> {
        let published = Arc::new(ArcSwap::from_pointee(RoutingTable::default()));
        let tls = Arc::new(ArcSwap::from_pointee(TlsTable::default()));
        let fleet = Arc::new(Fleet::new(options.workers)?);
        let verifier = Arc::new(verify::Verifier::new(options.workers));
        let handshake_faults = Arc::<HandshakeFaults>::default();
        let threads = (0..options.workers)
            .map(|index| {
                let common = (
                    published.clone(),
                    tls.clone(),
                    verifier.clone(),
                    handshake_faults.clone(),
                );
                run::spawn(index, options, common, fleet.clone())
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            published,
            tls,
            fleet,
            handshake_faults,
            bound: Mutex::default(),
            threads: Mutex::new(threads),
        })
    }

    /// Every request that begins from now on is served by `table`.
    pub fn publish(&self, table: Arc<RoutingTable>) {
        self.published.store(table);
        // A connection that lasts looks at no table: its worker has to be told that its instance is gone.
        self.fleet.ring_all();
    }

    /// Every TLS handshake that begins from now on goes by `table`.
    pub fn publish_tls(&self, table: TlsTable) {
        self.tls.store(Arc::new(table));
    }

    /// The table that requests are served by.
    pub fn table(&self) -> Arc<RoutingTable> {
        self.published.load_full()
    }

    /// Accepts connections, or receives packets, at `address` for the table's listener `number`. Returns the address
    /// bound: with port 0, the kernel chose one. An address at which another of its listeners listens is shared with
    /// that one until it leaves.
    ///
    /// # Errors
    /// When the address cannot be bound; the error says why and what to do.
    pub fn listen(
        &self,
        transport: Transport,
        number: usize,
        address: SocketAddr,
    ) -> Result<SocketAddr, BindError> {
        let mut bound = self.bound();
        let own = bound.iter().filter(|(t, _)| *t == transport);
        let own: Vec<_> = own.map(|(_, address)| *address).collect();
        let (address, sockets) = bind::bind(transport, address, self.fleet.len(), &own)?;
        bound.push((transport, address));
        for (worker, socket) in sockets.into_iter().enumerate() {
            let order = Order::Listen((transport, number, address), socket);
            self.fleet.order(worker, order);
        }
        Ok(address)
    }

    /// Accepts and receives nothing more at `address`, as [`Proxy::listen`] returned it, for listener `number`;
    /// connections there are go on.
    pub fn unlisten(&self, transport: Transport, number: usize, address: SocketAddr) {
        let mut bound = self.bound();
        if let Some(place) = bound.iter().position(|b| *b == (transport, address)) {
            bound.swap_remove(place);
        }
        self.fleet
            .order_all(|| Order::Unlisten((transport, number, address)));
    }

    fn bound(&self) -> MutexGuard<'_, Vec<(Transport, SocketAddr)>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes `connections` of the long ones at an endpoint of the table's service `number`: such as have been at rest
    /// for as long as the service wants. There may not be as many.
    pub fn give_up(&self, number: usize, endpoint: &Endpoint, connections: u32, how: &Respreading) {
        let open = endpoint.connections.open().max(1);
        let surplus = Arc::new(Surplus {
            place: (number, endpoint.address, endpoint.incarnation),
            left: AtomicU32::new(connections),
            share: f64::from(connections) / f64::from(open),
            rest: match how.transactions {
                true => (how.rest, Rest::Ready),
                false => (how.rest, Rest::Answered),
            },
        });
        self.fleet.order_all(|| Order::GiveUp(surplus.clone()));
    }

    /// Open client connections of each worker.
    pub fn connections(&self) -> Vec<usize> {
        self.fleet.loads()
    }

    /// Connections that were accepted by one worker and handed to a less busy one.
    pub fn handed_over(&self) -> u64 {
        self.fleet.handed_over.value()
    }

    /// Clients' TLS handshakes that have failed since it was asked last: at most one of each listener. Those that merely left
    /// are not among them.
    pub fn handshake_faults(&self) -> Vec<HandshakeFault> {
        self.handshake_faults.take()
    }

    /// How many times a listener has rested because there were too few descriptors, or the kernel accepted nothing.
    pub fn rests(&self) -> u64 {
        self.fleet.rests.value()
    }

    /// How many descriptors of this process's are in use, or more; the limit may have been reached.
    pub fn descriptors_in_use(&self) -> u64 {
        self.fleet.descriptors_in_use()
    }

    /// Stops accepting, lets every request in progress finish, ends when all have or after `patience`.
    /// Returns how many connections were cut off.
    ///
    /// # Errors
    /// When a worker ended with an error before.
    pub fn drain(&self, patience: Duration) -> io::Result<usize> {
        self.fleet.order_all(|| Order::Drain);
        let deadline = Instant::now() + patience;
        let open = || self.connections().iter().sum::<usize>();
        while open() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let cut = open();
        self.fleet.order_all(|| Order::Stop);
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let outcome = thread.join();
            outcome.unwrap_or_else(|_| Err(io::Error::other("a worker thread panicked")))?;
        }
        Ok(cut)
    }
}

/// The time on the workers' clock.
pub fn now() -> Moment {
    rt::now()
}
