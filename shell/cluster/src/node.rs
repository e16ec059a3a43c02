use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;

use model::{InstanceId, Moment, Revision, ServiceKey};
use registry::leases::{Batch, Renewal, Seed};
use registry::replication::{Membership, Origin};
use registry::tree::{Observer, Pulse, SessionClock, SessionId};
use registry::{
    Command, Committed, Compacted, Event, Heartbeat, History, Leases, MAX_BATCH, Record,
    Registration, Registry, Reply, Service, Verdict,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::company::Company;
use crate::ground::{Ground, Work};
use crate::hub::Hub;
use crate::journal::Written;
use crate::log::AppendError;
use crate::peers::Identity;
use crate::pending::Pending;
use crate::queue::{Answer, Job, Message, Queue};
use crate::stats::Counters;
use crate::store::{self, Recovered};
use crate::{
    ClusterOptions, Done, OpenError, Options, ServiceWatch, Stats, SubmitError, keeper, member,
    raft, sessions,
};

/// Probes that may wait to be taken. What does not fit is not probed: its hold runs out instead.
const PROBE_QUEUE: usize = 4_096;

/// A running node. Clones are handles to the same node; it stops when the last one is dropped, or at
/// [`Node::shutdown`].
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

/// The mass-loss guard wants to know whether this instance is alive: answer with [`Node::probe_result`].
#[derive(Clone, Debug)]
pub struct Probe {
    /// The service.
    pub key: Arc<ServiceKey>,
    /// The instance as it is registered.
    pub record: Arc<Record>,
}

/// What a node found on disk when it started.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// The revision of the snapshot it began with; zero if there was none.
    pub snapshot: Revision,
    /// How many commands it read from the log after that.
    pub records: u64,
    /// Lines for the log: what was cut off or passed over, and why.
    pub notes: Vec<String>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    recovery: Recovery,
    probes: Mutex<Option<mpsc::Receiver<Probe>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the node's threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: RwLock<State>,
    pub(crate) leases: Mutex<Leases>,
    lease_seed: Seed,
    /// The keeper of the leases has something to do.
    pub(crate) lease_work: Condvar,
    pub(crate) queue: Queue,
    pub(crate) hub: Arc<Hub>,
    pub(crate) counters: Counters,
    pub(crate) fault: Mutex<Option<Arc<str>>>,
    /// The sessions of the tree. To be locked after the state, by whoever needs both.
    pub(crate) sessions: Mutex<SessionClock>,
    /// The sessions' thread has something new to wait for.
    pub(crate) session_work: Condvar,
    observer: OnceLock<Watcher>,
    pub(crate) node: u64,
    pub(crate) closing: AtomicBool,
    /// What the last snapshot stands for.
    pub(crate) latest_snapshot: Mutex<Option<(Origin, Revision)>>,
    /// The log has grown so much that it is time for a snapshot.
    pub(crate) snapshot_due: Notify,
    /// Entries up to this index are in the snapshot before the last.
    pub(crate) purge_upto: AtomicU64,
    pub(crate) purge_due: Notify,
    /// The batch that is under way.
    pub(crate) pending: Pending,
    /// The log of a node that is alone.
    pub(crate) lone: raft::Lone,
    /// The term that this node leads in; zero while it does not.
    pub(crate) lead: AtomicU64,
    /// Whether there are no other nodes.
    pub(crate) alone: bool,
    pub(crate) known: Mutex<Known>,
    /// Renewals to be sent to the leader.
    pub(crate) renewals: Mutex<HashSet<(ServiceKey, InstanceId)>>,
    /// What it keeps as one among others.
    pub(crate) company: Company,
    doubts: mpsc::UnboundedSender<oneshot::Sender<bool>>,
    /// When and why the last connection of another node was refused.
    pub(crate) peer_refused: Mutex<Option<(Moment, Box<str>)>>,
    /// How far the others are, asked of the leader.
    pub(crate) progress: OnceLock<Progress>,
    started: Instant,
    pub(crate) work: Work,
    /// The thread that writes the log of one among others: the files are its own until it has ended.
    pub(crate) disk_thread: Mutex<Option<JoinHandle<()>>>,
}

/// What this node knows of the cluster.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) term: u64,
    pub(crate) leader: Option<u64>,
    pub(crate) leader_name: Option<Arc<str>>,
    pub(crate) membership: Membership,
}

/// Tells what the leader knows.
pub(crate) struct Progress(pub(crate) Box<dyn Fn() -> Followers + Send + Sync>);

/// Of each node its last entry that the leader knows of, and how many milliseconds ago it last answered; and how long
/// ago a majority did.
pub(crate) type Followers = (BTreeMap<u64, (u64, Option<u64>)>, Option<u64>);

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}

struct Watcher(Arc<dyn Observer>);

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watcher")
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) registry: Registry,
    pub(crate) history: History,
    /// The last entry applied, and who belongs to the cluster as of it.
    pub(crate) origin: Origin,
}

impl Node {
    /// Starts a node from what is on its disk. Blocks while it reads: seconds for millions of instances.
    ///
    /// # Errors
    ///
    /// When the directory cannot be used, is used by another node, or holds what a crash cannot explain.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        Self::start(store::open(options)?, options)
    }

    /// Starts a node with what was recovered.
    pub(crate) fn start(recovered: Recovered, options: &Options) -> Result<Self, OpenError> {
        let (node, parts, probes) = Self::prepare(recovered, options, Ground::real())?;
        let (inner, shared) = (&node.inner, &node.inner.shared);
        let (hub, expiring, leases) = (
            Arc::clone(&shared.hub),
            Arc::clone(shared),
            Arc::clone(shared),
        );
        inner.spawn("log", move || raft::run(parts))?;
        inner.spawn("watch", move || hub.run())?;
        inner.spawn("sessions", move || sessions::run(&expiring))?;
        inner.spawn("leases", move || keeper::run(&leases, &probes))?;
        Ok(node)
    }

    /// A node of which nothing runs yet, and what it needs to.
    pub(crate) fn prepare(
        recovered: Recovered,
        options: &Options,
        ground: Ground,
    ) -> Result<(Self, raft::Parts, mpsc::Sender<Probe>), OpenError> {
        let started = Instant::now();
        let (queue, messages) = Queue::new(options.queue_bytes, options.queue_wait);
        let replica = recovered.replica;
        let cluster = options.cluster.as_ref();
        let storage = recovered.store.as_ref().map(|store| &*store.storage);
        let (member, origin) = member::identity(&replica, cluster, storage)?;
        let node = member.node;
        let entrance = cluster.map(|cluster| entrance(cluster, &ground));
        let entrance = entrance.transpose()?;
        let (doubts, doubted) = mpsc::unbounded_channel();
        let (company, asked) = Company::new(options, member.disk);
        let format = company.format;
        if cluster.is_some() && !origin.membership.nodes.is_empty() {
            queue.write_format(origin.membership.format().min(format));
        }
        let state = State {
            registry: recovered.registry,
            history: recovered.history,
            origin,
        };
        let shared = Shared {
            node,
            alone: cluster.is_none(),
            latest_snapshot: Mutex::new(replica.found.clone()),
            started,
            work: ground.work,
            ..Shared::new(state, options, queue, (doubts, company))
        };
        let shared = Arc::new(shared);
        let (probe_sender, probes) = mpsc::channel(PROBE_QUEUE);
        let inner = Inner {
            shared: Arc::clone(&shared),
            recovery: recovered.report,
            probes: Mutex::new(Some(probes)),
            threads: Mutex::default(),
        };
        let parts = raft::Parts {
            node,
            shared: Arc::clone(&shared),
            store: recovered.store,
            replica,
            messages,
            doubts: doubted,
            asked,
            entrance,
            identity: Identity {
                cluster: cluster.map_or("", |c| &c.name).into(),
                token: cluster.map_or("", |c| &c.token).into(),
                node,
                disk: member.disk,
                format,
                tls: cluster.and_then(|c| c.tls.clone()),
                transport: ground.transport,
            },
        };
        let node = Self {
            inner: Arc::new(inner),
        };
        Ok((node, parts, probe_sender))
    }

    /// Commits a command: when this returns, it is on disk and applied. Dropping the future leaves open
    /// whether it happens.
    ///
    /// A registration of what is registered already renews the lease and is not written. To be awaited on a tokio
    /// runtime with timers.
    ///
    /// # Errors
    ///
    /// See [`SubmitError`].
    pub async fn submit(&self, command: Command) -> Result<Committed, SubmitError> {
        if let Some(same) = self.renewed_by(&command) {
            return Ok(same);
        }
        let answers = self.commit(vec![command]).await?;
        answers.into_iter().next().ok_or(SubmitError::Closed)
    }

    /// Commits commands from the front of these on and in that order, as long as there is room: each one's `Done` is called
    /// with the answer, before anybody can read what it did. Those that it took are gone from `commands`, and are applied
    /// before whatever this thread hands over later.
    ///
    /// Nobody waits for that, unless the caller `may_wait`: then a node which is alone commits them on this thread, if the
    /// disk was quick last time. Not to be called while reading.
    ///
    /// # Errors
    ///
    /// Why the command that is the first now was not taken. [`SubmitError::Overloaded`] passes.
    pub fn submit_with(
        &self,
        commands: &mut VecDeque<(Command, Done)>,
        may_wait: bool,
    ) -> Result<(), SubmitError> {
        let shared = &self.inner.shared;
        // What this thread gave to the log's thread before comes first.
        let here = may_wait && shared.queue.is_idle();
        let (mut jobs, refused) = shared.queue.admit_some(commands);
        if here {
            jobs = raft::commit_here(shared, jobs);
        }
        if !jobs.is_empty() {
            shared.queue.tell(Message::Work(jobs));
        }
        refused
    }

    /// Names who sees the tree's changes as they happen; the first one named stays.
    pub fn observe_tree(&self, observer: Arc<dyn Observer>) {
        let _ = self.inner.shared.observer.set(Watcher(observer));
    }

    /// Where to say that something was heard of a session's client. May be called while reading the registry.
    pub fn pulse(&self, session: SessionId) -> Option<Pulse> {
        lock(&self.inner.shared.sessions).pulse(session)
    }

    /// The node's clock, which sessions live by.
    pub fn now(&self) -> Moment {
        self.inner.shared.now()
    }

    /// Commits commands one after another, with nothing in between, in one write; 4 MiB of them at most. The answers are in
    /// their order.
    ///
    /// # Errors
    ///
    /// See [`SubmitError`]; then none of them was committed.
    pub async fn submit_batch(
        &self,
        commands: Vec<Command>,
    ) -> Result<Vec<Committed>, SubmitError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        self.commit(commands).await
    }

    /// What active checks found out; reasons are shortened. Verdicts on instances that are gone or have moved are passed over.
    ///
    /// # Errors
    ///
    /// See [`SubmitError`]; then the later ones of a large batch may be missing.
    pub async fn verdicts(&self, mut verdicts: Vec<Verdict>) -> Result<(), SubmitError> {
        for reason in verdicts.iter_mut().filter_map(|v| v.reason.as_mut()) {
            *reason = Verdict::shorten(reason).into();
        }
        while !verdicts.is_empty() {
            let rest = verdicts.split_off(verdicts.len().min(MAX_BATCH));
            self.commit(vec![Command::SetHealth(verdicts)]).await?;
            verdicts = rest;
        }
        Ok(())
    }

    /// Renews leases, in memory; the answers are in the order of the questions.
    pub fn heartbeat(&self, instances: &[(ServiceKey, InstanceId)]) -> Vec<Heartbeat> {
        let shared = &self.inner.shared;
        let found = shared.renew(instances);
        if !shared.leads() {
            // What holds here, the leader is to know of.
            let known = found.iter().zip(instances);
            let known = known.filter(|(renewal, _)| **renewal != Renewal::NotFound);
            lock(&shared.renewals).extend(known.map(|(_, instance)| instance.clone()));
        }
        let renewed = found.iter().filter(|r| **r != Renewal::NotFound).count();
        shared.counters.heartbeats.add(renewed as u64);
        let answer = |(renewal, (key, id)): (Renewal, &(ServiceKey, InstanceId))| match renewal {
            Renewal::Renewed => Heartbeat::Renewed,
            Renewal::Woken => Heartbeat::Woken,
            Renewal::NotFound => {
                let persistent = |r: &Registry| {
                    r.instance(key, id)
                        .is_some_and(|record| record.instance.lease.is_none())
                };
                match self.read(persistent) {
                    true => Heartbeat::Persistent,
                    false => Heartbeat::NotFound,
                }
            }
        };
        found.into_iter().zip(instances).map(answer).collect()
    }

    /// Reads the registry. Commands wait meanwhile: look up, clone what is shared, and leave; and call
    /// nothing of the node in between, or the two wait for each other.
    pub fn read<R>(&self, read: impl FnOnce(&Registry) -> R) -> R {
        read(&self.inner.shared.state().registry)
    }

    /// A service as it is now; what is returned does not change any more.
    pub fn service(&self, key: &ServiceKey) -> Option<Arc<Service>> {
        self.read(|registry| registry.service(key).cloned())
    }

    /// The last command applied.
    pub fn revision(&self) -> Revision {
        self.read(Registry::revision)
    }

    /// Tells the revision after every change of anything; a receiver that is slow sees the latest.
    /// Not told of a shutdown; [`Node::watch`] is.
    pub fn changes(&self) -> watch::Receiver<Revision> {
        self.inner.shared.hub.watch_all()
    }

    /// A wait for changes of one service. Changes of others do not wake it.
    pub fn watch(&self, key: &ServiceKey) -> ServiceWatch {
        self.inner.shared.hub.watch(key, self.revision())
    }

    /// Every event after `revision`, of one service or of all.
    ///
    /// # Errors
    ///
    /// [`Compacted`] when some of them are no longer kept: read the state instead.
    pub fn events_since(
        &self,
        revision: Revision,
        key: Option<&ServiceKey>,
    ) -> Result<Vec<Event>, Compacted> {
        self.inner.shared.state().history.since(revision, key)
    }

    /// The probes that the mass-loss guard asks for; the first caller has them all, later ones get `None`.
    pub fn probe_requests(&self) -> Option<mpsc::Receiver<Probe>> {
        lock(&self.inner.probes).take()
    }

    /// The answer to a [`Probe`].
    pub fn probe_result(&self, key: &ServiceKey, id: &InstanceId, alive: bool) {
        let shared = &self.inner.shared;
        lock(&shared.leases).probed(key, id, alive, shared.now());
        shared.lease_work.notify_one();
    }

    /// What was found on disk at the start.
    pub fn recovery(&self) -> &Recovery {
        &self.inner.recovery
    }

    /// Numbers for metrics.
    pub fn stats(&self) -> Stats {
        let shared = &self.inner.shared;
        let mut stats = shared.counters.read();
        {
            let registry = &shared.state().registry;
            stats.revision = registry.revision();
            stats.services = registry.service_count() as u64;
            stats.instances = registry.counts().total().into();
        }
        {
            let leases = lock(&shared.leases);
            stats.leases = leases.len() as u64;
            stats.held = leases.held() as u64;
        }
        stats.watched_services = shared.hub.watched_services() as u64;
        stats.fault = lock(&shared.fault).as_deref().map(Into::into);
        stats
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// Which of several nodes this is; none if there is only one.
    pub fn number(&self) -> Option<u64> {
        (!self.inner.shared.alone).then_some(self.inner.shared.node)
    }

    /// Whether this node leads; that of a cluster of one does.
    pub fn leads(&self) -> bool {
        self.inner.shared.leads()
    }

    /// Commits what is waiting, then stops. Blocks until the last of it is on disk and the directory is free for
    /// another node. Reads go on.
    pub fn shutdown(&self) {
        self.inner.stop();
    }

    async fn commit(&self, commands: Vec<Command>) -> Result<Vec<Committed>, SubmitError> {
        let shared = &self.inner.shared;
        let answer = shared.queue.submit(commands).await;
        if matches!(answer, Err(SubmitError::Overloaded)) {
            shared.counters.overloaded.add(1);
        }
        answer
    }

    /// The answer to a registration that changes nothing, if this is one and its lease holds.
    fn renewed_by(&self, command: &Command) -> Option<Committed> {
        let Command::Register { key, instance, .. } = command else {
            return None;
        };
        let shared = &self.inner.shared;
        // One look at the leases saves most registrations, which are new, the longer one at the registry.
        if instance.lease.is_some() && !lock(&shared.leases).holds(key, &instance.id) {
            return None;
        }
        let (revision, record) = {
            let registry = &shared.state().registry;
            let same = registry.is_same(key, instance);
            let record = registry.instance(key, &instance.id).filter(|_| same)?;
            (registry.revision(), Arc::clone(record))
        };
        let holds = record.instance.lease.is_none()
            || lock(&shared.leases).renew(key, &instance.id, shared.now()) == Renewal::Renewed;
        if holds && instance.lease.is_some() && !shared.leads() {
            lock(&shared.renewals).insert((key.clone(), instance.id.clone()));
        }
        holds.then_some(Committed {
            revision,
            reply: Reply::Registered(Registration::Unchanged, record),
        })
    }
}

impl Inner {
    fn spawn(
        &self,
        name: &'static str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), OpenError> {
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(run)
            .map_err(|source| OpenError::Io {
                action: "start the thread",
                path: name.into(),
                source,
            })?;
        lock(&self.threads).push(thread);
        Ok(())
    }

    fn stop(&self) {
        let shared = &self.shared;
        shared.queue.close();
        {
            // Under the lock, or the keeper could look, miss it, and sleep.
            let _leases = lock(&shared.leases);
            shared.closing.store(true, Relaxed);
        }
        shared.lease_work.notify_all();
        drop(lock(&shared.sessions));
        shared.session_work.notify_all();
        for thread in lock(&self.threads).drain(..) {
            // A thread that panicked has said so; there is nothing to add.
            let _ = thread.join();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// What is shared by the threads of a node that is alone, and has just started.
    fn new(
        state: State,
        options: &Options,
        queue: Queue,
        (doubts, company): (mpsc::UnboundedSender<oneshot::Sender<bool>>, Company),
    ) -> Self {
        let mut leases = Leases::new(options.mass_loss, secret(), Moment::ZERO);
        leases.begin_anew(&state.registry, Moment::ZERO);
        let mut sessions = SessionClock::default();
        sessions.begin_anew(state.registry.tree().sessions(), Moment::ZERO);
        Self {
            hub: Arc::new(Hub::new(state.registry.revision())),
            state: RwLock::new(state),
            latest_snapshot: Mutex::default(),
            snapshot_due: Notify::new(),
            purge_upto: AtomicU64::new(0),
            purge_due: Notify::new(),
            pending: Pending::default(),
            lone: raft::Lone::default(),
            lead: AtomicU64::new(0),
            alone: true,
            known: Mutex::default(),
            renewals: Mutex::default(),
            company,
            doubts,
            peer_refused: Mutex::default(),
            progress: OnceLock::new(),
            lease_seed: leases.seed(),
            leases: Mutex::new(leases),
            lease_work: Condvar::new(),
            queue,
            counters: Counters::default(),
            fault: Mutex::default(),
            sessions: Mutex::new(sessions),
            session_work: Condvar::new(),
            observer: OnceLock::new(),
            node: member::LONE_NODE,
            closing: AtomicBool::new(false),
            started: Instant::now(),
            work: Work::Threads,
            disk_thread: Mutex::default(),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment::from_nanos(self.started.elapsed().as_nanos() as u64)
    }

    /// Whether this node leads, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.lead.load(Relaxed) != 0
    }

    /// Whether this node leads, by the word of a majority. Blocks until they have answered.
    pub(crate) fn proves_to_lead(&self) -> bool {
        if self.alone {
            return true;
        }
        self.doubts().blocking_recv().unwrap_or(false)
    }

    /// Asks a majority whether this node still leads.
    pub(crate) fn doubts(&self) -> oneshot::Receiver<bool> {
        let (answer, answered) = oneshot::channel();
        let _ = self.doubts.send(answer);
        answered
    }

    /// Renews leases.
    pub(crate) fn renew(&self, instances: &[(ServiceKey, InstanceId)]) -> Vec<Renewal> {
        let mut found = Vec::with_capacity(instances.len());
        for step in instances.chunks(Batch::MOST) {
            let batch = Batch::new(step, self.lease_seed);
            let now = self.now();
            lock(&self.leases).renew_batch(&batch, now, &mut found);
        }
        if found.contains(&Renewal::Woken) {
            self.lease_work.notify_one();
        }
        found
    }

    /// Something was heard of these sessions' clients.
    pub(crate) fn beat(&self, sessions: &[u64]) {
        let clock = lock(&self.sessions);
        let now = self.now();
        for session in sessions {
            if let Some(pulse) = clock.pulse(SessionId(*session as i64)) {
                pulse.beat(now);
            }
        }
    }

    /// Notes what a write to the log cost, or why there was none.
    pub(crate) fn written(&self, written: Result<Written, AppendError>) -> Result<(), SubmitError> {
        match written {
            Ok(written) => {
                if written.bytes > 0 {
                    self.counters.synced(written.took);
                    self.counters.log_bytes.add(written.bytes);
                    self.healthy();
                }
                Ok(())
            }
            Err(AppendError::NotWritten(why)) => Err(SubmitError::NotWritten(self.fault(why))),
            Err(AppendError::Broken(why)) => Err(SubmitError::ReadOnly(self.fault(why))),
        }
    }

    /// Notes the term that this node leads in; zero if it does not.
    pub(crate) fn lead_in(&self, term: u64) {
        self.lead.store(term, Relaxed);
        // Under the lock, or the keeper could look, miss it, and sleep.
        drop(lock(&self.leases));
        self.lease_work.notify_all();
        drop(lock(&self.sessions));
        self.session_work.notify_all();
    }

    pub(crate) fn fault_text(&self) -> Option<Arc<str>> {
        lock(&self.fault).clone()
    }

    /// Answers jobs that are not going to be committed.
    pub(crate) fn refuse(&self, jobs: Vec<Job>, why: &SubmitError) {
        for job in jobs {
            if matches!(why, SubmitError::NotWritten(_) | SubmitError::ReadOnly(_)) {
                self.counters.not_written.add(job.commands.len() as u64);
            }
            match job.answer {
                // Nobody may be waiting any more.
                Answer::Waiting(answer) => drop(answer.send(Err(why.clone()))),
                Answer::Called(done) => done(&self.state().registry, None),
                Answer::Nobody => {}
            }
        }
        if let Some(observer) = self.observer() {
            observer.settled();
        }
    }

    /// Notes what is wrong with the disk.
    pub(crate) fn fault(&self, why: String) -> Arc<str> {
        let why: Arc<str> = why.into();
        *lock(&self.fault) = Some(Arc::clone(&why));
        why
    }

    pub(crate) fn healthy(&self) {
        let mut fault = lock(&self.fault);
        if fault.is_some() {
            *fault = None;
        }
    }

    pub(crate) fn observer(&self) -> Option<&Arc<dyn Observer>> {
        self.observer.get().map(|Watcher(observer)| observer)
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state_mut(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the other nodes come in, and where members of the cluster are that is joined.
fn entrance(cluster: &ClusterOptions, ground: &Ground) -> Result<raft::Entrance, OpenError> {
    let listener = ground.transport.listen(cluster.bind);
    Ok(raft::Entrance {
        listener: listener.map_err(|source| OpenError::Io {
            action: "listen for the other nodes at",
            path: cluster.bind.to_string(),
            source,
        })?,
        address: (&*cluster.address).into(),
        join: cluster.join.clone(),
    })
}

/// Locks, whatever a panicking thread left behind: every change made under these locks is complete in itself.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number that nobody outside can guess: the standard library keys its hash maps with the operating system's randomness.
#[cfg(not(test))]
pub(crate) fn secret() -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(0)
}

/// In tests, a seed decides.
#[cfg(test)]
pub(crate) fn secret() -> u64 {
    fastrand::u64(..)
}
