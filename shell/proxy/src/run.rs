//! A worker's life: its thread, its orders, its housekeeping.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use model::{Counter, RoutingTable};
use telemetry::{AccessRecord, ConnectionRecord, Record};

use crate::Options;
use crate::access::Logger;
use crate::bind::Transport;
use crate::inbox::{Ear, Fleet, Order};
use crate::l4::serve_udp;
use crate::listen::{accept_all, serve};
use crate::rt::{Bell, Executor, Handle, Listener, Network, Reactor, Sock, UdpSock};
use crate::verify::Verifier;
use crate::worker::{Common, Suspect, Worker};

/// How often unused connections are looked through and the access log is handed over.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// Starts the thread of the worker with number `index`.
pub(crate) fn spawn(
    index: usize,
    options: &Options,
    common: Common,
    fleet: Arc<Fleet>,
) -> io::Result<JoinHandle<io::Result<()>>> {
    let log = options.access_log.clone();
    let lost = options.lost_records.clone();
    let (traces, lost_traces) = (options.traces.clone(), options.lost_traces.clone());
    let suspects = options.suspects.clone();
    let seed = options.seed.wrapping_add(index as u64 + 1);
    std::thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || {
            let executor = Executor::new(Reactor::on_kernel()?);
            let logger = log.map(|to| Logger::new(to, lost));
            let tracer = traces.map(|to| Logger::new(to, lost_traces));
            let loggers = (logger, tracer);
            let suspect = Box::new(move |suspect| suspects(suspect));
            let worker = Worker::new(index, seed, executor.handle(), common, loggers, suspect);
            run(&executor, &Rc::new(worker), fleet)
        })
}

fn run(executor: &Executor, worker: &Rc<Worker>, fleet: Arc<Fleet>) -> io::Result<()> {
    let bell = Bell::new(worker.reactor(), fleet.bell(worker.index)?)?;
    worker.handle.spawn(keep_house(worker.clone()));
    worker.handle.spawn(obey(worker.clone(), fleet, bell));
    let outcome = executor.run();
    worker.flush_records();
    outcome
}

async fn keep_house(worker: Rc<Worker>) {
    loop {
        worker.reactor().sleep(HOUSEKEEPING).await;
        worker.pool.sweep(worker.now());
        worker.links.sweep();
        worker.flush_records();
    }
}

/// Where connections are accepted for which listener, and what stops that.
type Listening = BTreeMap<Ear, Rc<Cell<bool>>>;

async fn obey(worker: Rc<Worker>, fleet: Arc<Fleet>, bell: Bell) {
    let listening: RefCell<Listening> = RefCell::default();
    loop {
        for order in fleet.orders(worker.index) {
            carry_out(order, &worker, &fleet, &mut listening.borrow_mut());
        }
        worker.review();
        bell.rung().await;
    }
}

fn carry_out(order: Order, worker: &Rc<Worker>, fleet: &Arc<Fleet>, listening: &mut Listening) {
    match order {
        Order::Listen(ear, socket) => {
            let closing = Rc::new(Cell::new(false));
            listening.insert(ear, closing.clone());
            // The kernel can only refuse to watch it for want of memory; then there is nobody to serve either.
            let _ = listen(ear, socket, worker, fleet.clone(), closing);
        }
        Order::Unlisten(ear) => {
            if let Some(closing) = listening.remove(&ear) {
                closing.set(true);
                worker.handle.wake_all();
            }
        }
        Order::Adopt(number, fd, peer, open) => {
            let sock = Sock::from_accepted(worker.reactor(), fd);
            serve(worker, open, sock, peer, number);
        }
        Order::GiveUp(surplus) => {
            let lasting = &worker.lasting;
            lasting.give_up(&surplus, &worker.handle, worker.now());
        }
        Order::Drain => worker.drain(),
        Order::Stop => worker.stop(),
    }
}

fn listen(
    (transport, number, address): Ear,
    socket: OwnedFd,
    worker: &Rc<Worker>,
    fleet: Arc<Fleet>,
    closing: Rc<Cell<bool>>,
) -> io::Result<()> {
    let (reactor, handle) = (worker.reactor(), &worker.handle);
    let worker = worker.clone();
    match transport {
        Transport::Tcp => {
            let listener = Listener::from_kernel(reactor, socket)?;
            handle.spawn(accept_all(worker, fleet, listener, number, closing));
        }
        Transport::Udp => {
            let sock = UdpSock::from_kernel(reactor, socket)?;
            handle.spawn(serve_udp(worker, fleet, sock, address, number, closing));
        }
    }
    Ok(())
}

/// A proxy of one worker on a simulated network.
pub struct Simulated {
    /// Runs the proxy together with whatever else is spawned on it: clients, instances.
    pub executor: Executor,
    worker: Rc<Worker>,
    published: Arc<ArcSwap<RoutingTable>>,
    closing: Vec<Rc<Cell<bool>>>,
    suspects: Rc<RefCell<Vec<Suspect>>>,
    records: std::sync::mpsc::Receiver<Vec<Record>>,
}

/// Starts a proxy of one worker on `network`, accepting at `listeners` (in the table's numbering).
///
/// # Panics
/// When two listeners have the same address.
pub fn simulate(
    network: Network,
    seed: u64,
    table: RoutingTable,
    listeners: &[SocketAddr],
) -> Simulated {
    let executor = Executor::new(Reactor::on_network(network));
    let published = Arc::new(ArcSwap::from_pointee(table));
    let (to, records) = std::sync::mpsc::sync_channel(65_536);
    let logger = Logger::new(to, Arc::new(Counter::default()));
    let suspects: Rc<RefCell<Vec<Suspect>>> = Rc::default();
    let heard = suspects.clone();
    let suspect = Box::new(move |suspect| heard.borrow_mut().push(suspect));
    let handle: Handle = executor.handle();
    let worker = Rc::new(Worker::new(
        0,
        seed,
        handle,
        (
            published.clone(),
            Arc::default(),
            Arc::new(Verifier::new(1)),
            Arc::default(),
        ),
        (Some(logger), None),
        suspect,
    ));
    let fleet = Arc::new(Fleet::new(1).expect("an eventfd can be had"));
    worker.handle.spawn(keep_house(worker.clone()));
    let listen = |(number, &address): (usize, &SocketAddr)| {
        let listener = Listener::on_network(worker.reactor(), address);
        let closing = Rc::new(Cell::new(false));
        let task = accept_all(
            worker.clone(),
            fleet.clone(),
            listener,
            number,
            closing.clone(),
        );
        worker.handle.spawn(task);
        closing
    };
    let closing = listeners.iter().enumerate().map(listen).collect();
    Simulated {
        executor,
        worker,
        published,
        closing,
        suspects,
        records,
    }
}

impl Simulated {
    /// Lets connections end after their present request.
    pub fn drain(&self) {
        self.worker.drain();
    }

    /// Every request that begins from now on is served by `table`.
    pub fn publish(&self, table: RoutingTable) {
        self.published.store(Arc::new(table));
        self.worker.review();
    }

    /// Accepts no more connections for listener `number`.
    pub fn unlisten(&self, number: usize) {
        self.closing[number].set(true);
        self.worker.handle.wake_all();
    }

    /// Endpoints reported as failing, in order.
    pub fn suspects(&self) -> Vec<Suspect> {
        self.suspects.borrow().clone()
    }

    /// What the access log got of requests.
    pub fn records(&self) -> Vec<AccessRecord> {
        let requests = self.logged().filter_map(|record| match record {
            Record::Request(record) => Some(record),
            Record::Connection(_) => None,
        });
        requests.collect()
    }

    /// What the access log got of TCP connections.
    pub fn connections(&self) -> Vec<ConnectionRecord> {
        let connections = self.logged().filter_map(|record| match record {
            Record::Request(_) => None,
            Record::Connection(record) => Some(record),
        });
        connections.collect()
    }

    fn logged(&self) -> impl Iterator<Item = Record> {
        if let Some(logger) = &self.worker.logger {
            logger.flush();
        }
        self.records.try_iter().flatten()
    }

    /// Unused connections to instances.
    pub fn pooled(&self) -> usize {
        self.worker.pool.len() + self.worker.links.len()
    }
}
