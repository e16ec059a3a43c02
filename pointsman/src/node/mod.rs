//! A running node: the registry, the workers, the checks and the fronts, and what joins them.

mod aside;
mod circuits;
mod cluster;
mod directory;
mod events;
mod explain_aside;
mod explain_filters;
mod explain_http;
mod explain_stream;
mod files;
mod filters;
mod follow;
mod histograms;
mod metrics;
mod metrics_aside;
mod names;
mod project;
pub(crate) mod reach;
mod reloads;
mod session_key;
mod spread;
mod statics;
mod tables;
mod tls;
mod traces;
mod traffic;
pub(crate) mod unfit;
mod verdicts;
mod zookeeper;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ::cluster::{self as replicas, MassLoss};
use anyhow::{Context, bail};
use balance::{Gradient, Outliers, Respread};
use config::{AccessFormat, Config, Durability, LogTarget, Protocol};
use fronts::http::Arrivals;
use health::{Prober, Reports};
use model::{Counter, ServiceKey};
use proxy::{Proxy, Suspect, Transport};
use telemetry::{AccessLog, TraceCounts, TraceExport};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use directory::Local;
use events::Events;
use files::Files;
use names::Names;
use reloads::Reloads;
use tables::Tables;
use tls::Certificates;
use traffic::Picks;
use verdicts::Findings;

/// A running node.
pub(crate) struct Node {
    shared: Arc<Shared>,
    api: SocketAddr,
    api_stop: oneshot::Sender<()>,
    api_task: JoinHandle<()>,
    tasks: Vec<JoinHandle<()>>,
    access_log: Option<AccessLog>,
    traces: Option<TraceExport>,
    zookeeper: Option<fronts::zookeeper::Front>,
}

/// What the node's parts share.
pub(crate) struct Shared {
    pub(crate) registry: replicas::Node,
    pub(crate) proxy: Proxy,
    prober: Prober,
    findings: Findings,
    tables: Mutex<Tables>,
    certificates: Mutex<Certificates>,
    bound: Mutex<BTreeMap<Arc<str>, (Transport, SocketAddr)>>,
    names: Names,
    events: Events,
    reloads: Reloads,
    /// Who comes to the API.
    arrivals: Arc<Arrivals>,
    picks: Picks,
    lost_records: Arc<Counter>,
    trace_counts: Arc<TraceCounts>,
    guests: spread::Guests,
    /// Set once ZooKeeper's clients are served.
    zookeeper: OnceLock<zookeeper::Watched>,
    /// What the handshakes of its clients go by.
    zookeeper_tls: watch::Sender<Option<Arc<rustls::ServerConfig>>>,
    /// It takes no more connections.
    stopping: AtomicBool,
    /// Told of every routing table.
    published: watch::Sender<()>,
}

impl Shared {
    /// Waits until there is a service: who looks at them time and again has nothing to wake up for before.
    async fn any_service(&self) {
        let mut published = self.published.subscribe();
        loop {
            let any = !self.tables().services().is_empty();
            if any || published.changed().await.is_err() {
                return;
            }
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn certificates(&self) -> MutexGuard<'_, Certificates> {
        self.certificates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The listeners and where they are bound.
    pub(crate) fn bound(&self) -> BTreeMap<Arc<str>, SocketAddr> {
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let addresses = bound.iter().map(|(name, (_, at))| (name.clone(), *at));
        addresses.collect()
    }
}

/// What became of a reload.
pub(crate) struct Reconfigured {
    /// Whether the configuration is another than at the last reload.
    pub(crate) changed: bool,
    /// What has changed since then and holds now; and what differs from what runs and will hold after the next start.
    pub(crate) changes: Vec<config::Change>,
}

impl Node {
    /// Starts everything; when this returns, the node serves.
    pub(crate) async fn start(config: Config) -> anyhow::Result<Self> {
        let config = Arc::new(config);
        // First what can fail for want of something outside, so that nothing has happened when it does.
        let api = listen(config.api.bind).context("the API cannot be served")?;
        let zookeeper = zookeeper::bind(&config).context("ZooKeeper's clients cannot be served")?;
        let certificates = Certificates::at(&config.node.data_dir).follow(&config)?;
        let files = Files::default().follow(&config)?;
        let registry = open_registry(&config)?;
        let session_key = session_key::session_key(&config)?;
        let lost_records = Arc::new(Counter::default());
        let access_log = open_access_log(&config, &lost_records)?;
        let trace_counts = Arc::default();
        let traces = traces::start(&config, &trace_counts)?;
        let (suspects, suspected) = mpsc::channel(1_024);
        let workers = config.node.workers.map_or_else(cores, usize::from);
        let proxy = Proxy::start(&proxy::Options {
            workers,
            seed: fastrand::u64(..),
            access_log: access_log.as_ref().map(AccessLog::sender),
            lost_records: lost_records.clone(),
            traces: traces.as_ref().map(TraceExport::sender),
            lost_traces: trace_counts.overflowed.clone(),
            // A full queue means that many others are being probed at once: this one's turn comes anyway.
            suspects: Arc::new(move |suspect| drop(suspects.try_send(suspect))),
        });
        let proxy = proxy.context("cannot start the workers")?;
        let (prober, reports) = Prober::start(fastrand::u64(..));
        let shared = Arc::new(Shared {
            registry,
            proxy,
            prober,
            findings: Findings::default(),
            tables: Mutex::new(Tables::new(workers, &session_key, &config, files)),
            certificates: Mutex::new(certificates),
            bound: Mutex::default(),
            names: Names::default(),
            events: Events::start().context("cannot start a thread")?,
            reloads: Reloads::new(&config),
            arrivals: Arc::default(),
            picks: Picks::default(),
            lost_records,
            trace_counts,
            guests: spread::Guests::new(&config),
            zookeeper: OnceLock::new(),
            zookeeper_tls: watch::Sender::default(),
            stopping: AtomicBool::new(false),
            published: watch::Sender::default(),
        });
        shared.publish_tls(&shared.certificates(), None);
        let registering = cluster::register_statics(&shared, &config).await?;
        let mut tasks = spawn_tasks(&shared, reports, suspected);
        shared.bind_listeners(&config)?;
        let api_address = api.local_addr()?;
        let (api_stop, stopped) = oneshot::channel();
        let api_task = serve_api(api, &shared, &config, stopped);
        let zookeeper = zookeeper.map(|bound| zookeeper::start(bound, &shared, &config));
        let (zookeeper, projecting) = zookeeper.transpose()?.unzip();
        tasks.extend(registering.into_iter().chain(projecting));
        Ok(Self {
            shared,
            api: api_address,
            api_stop,
            api_task,
            tasks,
            access_log,
            traces,
            zookeeper,
        })
    }

    /// Where ZooKeeper's clients are served by TLS, if they are.
    pub(crate) fn zookeeper_tls(&self) -> Option<SocketAddr> {
        let front = self.zookeeper.as_ref();
        front.and_then(fronts::zookeeper::Front::secure_address)
    }

    /// Where ZooKeeper's clients are served, if they are.
    pub(crate) fn zookeeper(&self) -> Option<SocketAddr> {
        self.zookeeper
            .as_ref()
            .map(fronts::zookeeper::Front::address)
    }

    /// Where the API is.
    pub(crate) fn api(&self) -> SocketAddr {
        self.api
    }

    /// What its parts share.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Opens log files again, for log rotation.
    pub(crate) fn reopen_logs(&self) {
        if let Some(log) = &self.access_log {
            log.reopen();
        }
    }

    /// A reload is over, whether the new configuration could be read and taken over or not.
    pub(crate) fn count_reload(&self, done: bool) {
        self.shared.reloads.count(done);
    }

    /// Takes over a new configuration, without interrupting anything.
    pub(crate) async fn reconfigure(&self, new: Config) -> anyhow::Result<Reconfigured> {
        let (old, old_files) = {
            let tables = self.shared.tables();
            (tables.config().clone(), tables.files().clone())
        };
        let mut changes = config::diff(&old, &new);
        let changed = !changes.is_empty();
        changes.retain(|change| !change.restart);
        changes.extend(self.shared.reloads.pending(&new));
        if changed {
            self.take_over(Arc::new(new), old, old_files).await?;
        }
        Ok(Reconfigured { changed, changes })
    }

    async fn take_over(
        &self,
        new: Arc<Config>,
        old: Arc<Config>,
        old_files: Files,
    ) -> anyhow::Result<()> {
        // Before anything says that TLS is spoken; what was needed before is there as long as the next change.
        let certificates = self.shared.certificates().follow(&new)?;
        let files = old_files.follow(&new)?;
        // Who is to be sent requests is there before the first of them comes, and who was is until the last one has come.
        self.shared.add_statics(&new).await?;
        let before = {
            let mut held = self.shared.certificates();
            let before = std::mem::replace(&mut *held, certificates);
            self.shared.publish_tls(&held, Some(&before));
            for note in held.missing_notes() {
                eprintln!("pointsman: {note}");
            }
            before
        };
        // Bound before anything else: an address that is taken must leave everything as it was.
        self.shared.configure(&new, files);
        if let Err(fault) = self.shared.bind_listeners(&new) {
            self.shared.configure(&old, old_files);
            self.shared.publish_tls(&before, None);
            *self.shared.certificates() = before;
            self.shared.refresh_all();
            self.shared.sync_statics(&old).await?;
            return Err(fault);
        }
        self.shared.refresh_all();
        self.shared.remove_statics(&new).await?;
        self.shared.sync_checks(&old, &new).await?;
        self.shared.refresh_all();
        self.shared.reloads.took(&new);
        Ok(())
    }

    /// Stops: no new connections, requests in progress finish within the drain timeout, the registry's
    /// last writes reach the disk. Returns how many connections were cut off.
    pub(crate) async fn stop(self) -> anyhow::Result<usize> {
        let patience = self.shared.tables().config().node.drain_timeout;
        self.shared.stopping.store(true, Relaxed);
        // While it still serves: whoever writes through this node does not notice.
        self.shared.registry.hand_over().await;
        let shared = self.shared.clone();
        let cut = tokio::task::spawn_blocking(move || shared.proxy.drain(patience)).await??;
        // The API goes on while the workers drain: clients that leave must be able to say so.
        let _ = self.api_stop.send(());
        self.api_task.await?;
        drop(self.zookeeper);
        for task in &self.tasks {
            task.abort();
        }
        let shared = self.shared;
        let traces = self
            .traces
            .map(|traces| tokio::task::spawn_blocking(move || traces.finish(traces::PATIENCE)));
        tokio::task::spawn_blocking(move || shared.registry.shutdown()).await?;
        if let Some(traces) = traces {
            traces.await?;
        }
        if let Some(log) = self.access_log {
            tokio::task::spawn_blocking(move || log.finish()).await?;
        }
        Ok(cut)
    }
}

impl Shared {
    /// Opens the listeners that are new, moves those whose address changed, closes those that are gone.
    fn bind_listeners(&self, config: &Config) -> anyhow::Result<()> {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let mut opened = Vec::new();
        let mut faults = Vec::new();
        for (name, listener) in &config.listener {
            let transport = match listener.protocol {
                Protocol::Udp => Transport::Udp,
                Protocol::Http | Protocol::Https | Protocol::Tcp => Transport::Tcp,
            };
            let asked = |(carries, at): &(Transport, SocketAddr)| {
                let port = [0, at.port()].contains(&listener.bind.port());
                *carries == transport && at.ip() == listener.bind.ip() && port
            };
            if bound.get(name).is_some_and(asked) {
                continue;
            }
            let number = self
                .tables()
                .number(name)
                .context("every listener has a number")?;
            match self.proxy.listen(transport, number, listener.bind) {
                Ok(address) => opened.push((name.clone(), number, (transport, address))),
                Err(fault) => faults.push(format!("listener {name}: {fault}")),
            }
        }
        if !faults.is_empty() {
            for (_, number, (transport, address)) in opened {
                self.proxy.unlisten(transport, number, address);
            }
            bail!("{}", faults.join("\n"));
        }
        let opened: BTreeMap<_, _> = opened.into_iter().map(|(n, _, a)| (n, a)).collect();
        for (name, (transport, address)) in bound.clone() {
            let moved = opened.contains_key(&name);
            if moved || !config.listener.contains_key(&name) {
                let number = self
                    .tables()
                    .number(&name)
                    .context("every listener has a number")?;
                self.proxy.unlisten(transport, number, address);
                bound.remove(&name);
            }
        }
        bound.extend(opened);
        Ok(())
    }
}

/// A whole fleet connects at once after its network was away. Whoever finds the queue full tries again after a second,
/// then three, then seven; the 128 places that are usual were measured to be too few for 500 clients. The kernel cuts it to
/// `net.core.somaxconn`.
const API_BACKLOG: u32 = 4_096;

fn listen(address: SocketAddr) -> Result<TcpListener, proxy::BindError> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let listening = socket.and_then(|socket| {
        // Connections of an earlier process in TIME_WAIT must not keep us from starting.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(API_BACKLOG)
    });
    listening.map_err(|cause| proxy::BindError { address, cause })
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Where the registry is kept, and with whom.
pub(crate) fn registry_options(config: &Config) -> anyhow::Result<replicas::Options> {
    let durability = match config.node.durability {
        Durability::Disk => replicas::Durability::Disk(config.node.data_dir.clone()),
        Durability::Memory => replicas::Durability::Memory,
    };
    let mut options = replicas::Options::new(durability);
    options.cluster = cluster::options(config)?;
    options.snapshot_after = config.registry.snapshot_bytes.0;
    // What a snapshot makes unneeded is removed by whole segments.
    options.segment_size = options.segment_size.min(options.snapshot_after);
    Ok(options)
}

fn open_registry(config: &Config) -> anyhow::Result<replicas::Node> {
    let mut options = registry_options(config)?;
    let guard = &config.guard;
    options.mass_loss = MassLoss {
        share: f64::from(guard.max_loss.0) / 100.0,
        global_share: f64::from(guard.max_loss_global.0) / 100.0,
        free: guard.free_losses,
        window: guard.window,
        hold: guard.hold,
    };
    let registry =
        replicas::Node::open(&options).with_context(|| match &config.node.durability {
            Durability::Disk => format!(
                "the registry in {} cannot be used",
                config.node.data_dir.display()
            ),
            Durability::Memory => "the registry cannot be used".into(),
        })?;
    for note in &registry.recovery().notes {
        eprintln!("pointsman: {note}");
    }
    Ok(registry)
}

fn open_access_log(config: &Config, lost: &Arc<Counter>) -> anyhow::Result<Option<AccessLog>> {
    let format = match config.log.access.format {
        AccessFormat::Off => return Ok(None),
        AccessFormat::Json => telemetry::Format::Json,
        AccessFormat::Combined => telemetry::Format::Combined,
        AccessFormat::Extended => telemetry::Format::Extended,
    };
    let target = match &config.log.access.path {
        LogTarget::Stdout => telemetry::Target::Stdout,
        LogTarget::File(path) => telemetry::Target::File(path.clone()),
    };
    Ok(Some(AccessLog::start(format, target, lost.clone())?))
}

fn serve_api(
    listener: TcpListener,
    shared: &Arc<Shared>,
    config: &Config,
    stopped: oneshot::Receiver<()>,
) -> JoinHandle<()> {
    let options = fronts::http::Options {
        names: reach::names(config, config.api.bind),
        default_lease: model::Lease {
            ttl: config.registry.lease_ttl,
            grace: config.registry.lease_grace,
        },
        max_body: config.api.max_body.0 as usize,
        max_connections: config.api.max_connections as usize,
        arrivals: shared.arrivals.clone(),
        ..fronts::http::Options::default()
    };
    let backend = fronts::http::Backend {
        directory: Arc::new(Local(shared.clone())),
        traffic: shared.clone(),
        watchers: shared.guests.watchers.clone(),
    };
    tokio::spawn(async move {
        let stopped = async {
            let _ = stopped.await;
        };
        fronts::http::serve(listener, backend, options, stopped).await;
    })
}

/// Makes all tables, and spawns what keeps them true and everything else that goes on in the background.
fn spawn_tasks(
    shared: &Arc<Shared>,
    reports: Reports,
    suspected: mpsc::Receiver<Suspect>,
) -> Vec<JoinHandle<()>> {
    let seen = shared.registry.revision();
    shared.refresh_all();
    let fresh = shared.clone();
    vec![
        tokio::spawn(follow::follow(shared.clone(), seen)),
        tokio::spawn(verdicts::take(shared.clone(), reports)),
        tokio::spawn(hurry_checks(shared.clone(), suspected)),
        tokio::spawn(confirm_losses(shared.clone())),
        tokio::spawn(compare_instances(shared.clone())),
        tokio::spawn(respread_connections(shared.clone())),
        tokio::spawn(find_limits(shared.clone())),
        tokio::spawn(tls::watch(shared.clone())),
        tokio::spawn(cluster::tell_notes(shared.clone())),
        tokio::spawn(verdicts::mind_leader(shared.clone())),
        tokio::spawn(cluster::hurry_suspected(shared.clone())),
        tokio::spawn(shared.clone().spread_clients()),
        tokio::spawn(files::watch(shared.clone())),
        tokio::spawn(events::watch(shared.clone())),
        tokio::spawn(async move {
            let changed = || fresh.refresh_all();
            fresh.names.keep_fresh(changed, &fresh.events).await;
        }),
    ]
}

/// What a worker saw failing is probed at once.
async fn hurry_checks(shared: Arc<Shared>, mut suspected: mpsc::Receiver<Suspect>) {
    while let Some(suspect) = suspected.recv().await {
        shared.prober.hurry(&suspect.service, &suspect.instance);
    }
}

/// Compares the instances of each service with each other, and ejects who is far from what is usual.
async fn compare_instances(shared: Arc<Shared>) {
    let mut outliers: BTreeMap<ServiceKey, Outliers> = BTreeMap::new();
    // Services come at any time; their first comparison is soon enough then.
    let longest = Duration::from_millis(500);
    loop {
        shared.any_service().await;
        let now = proxy::now();
        let services = shared.tables().services().to_vec();
        for service in &services {
            let outliers = outliers.entry(service.key.clone()).or_default();
            for outlier in outliers.handle_timeout(service, now) {
                let instance = &service.endpoints[outlier.endpoint].id;
                shared.prober.hurry(&service.key, instance);
            }
        }
        let next = outliers.values().map(Outliers::next_deadline).min();
        let pause = next.map_or(longest, |next| next.since(proxy::now()));
        tokio::time::sleep(pause.clamp(Duration::from_millis(10), longest)).await;
    }
}

/// Closes long connections where there are more of them than there should be.
async fn respread_connections(shared: Arc<Shared>) {
    let mut spreads: Vec<Respread> = Vec::new();
    loop {
        shared.any_service().await;
        let now = proxy::now();
        // A service keeps its number for good.
        let services = shared.tables().services().to_vec();
        spreads.resize_with(services.len(), Respread::default);
        for (number, (service, spread)) in services.iter().zip(&mut spreads).enumerate() {
            for surplus in spread.handle_timeout(service, now) {
                let endpoint = &service.endpoints[surplus.endpoint];
                let respreading = &service.balancing.respreading;
                let proxy = &shared.proxy;
                proxy.give_up(number, endpoint, surplus.connections, respreading);
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Finds out how many requests services take at a time, and tells of those that are left alone.
async fn find_limits(shared: Arc<Shared>) {
    let mut gradients: Vec<Gradient> = Vec::new();
    let mut circuits = circuits::Circuits::default();
    loop {
        shared.any_service().await;
        let now = proxy::now();
        // A service keeps its number for good.
        let services = shared.tables().services().to_vec();
        gradients.resize_with(services.len(), Gradient::default);
        for (service, gradient) in services.iter().zip(&mut gradients) {
            gradient.handle_timeout(service, now);
        }
        for note in circuits.notes(&services) {
            eprintln!("pointsman: {note}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The mass-loss guard wants to know of instances whether they are really gone.
async fn confirm_losses(shared: Arc<Shared>) {
    let Some(mut probes) = shared.registry.probe_requests() else {
        return;
    };
    while let Some(probe) = probes.recv().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            let instance = &probe.record.instance;
            let alive = Prober::accepts(&instance.host, instance.port.get()).await;
            shared
                .registry
                .probe_result(&probe.key, &instance.id, alive);
        });
    }
}
