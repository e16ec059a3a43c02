use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use model::{InstanceId, Revision, ServiceKey};
use registry::tree::TreeCommand;
use registry::{
    Applied, Change, Command, Committed, History, Record, Registration, Registry, Reply,
};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::log::{AppendError, Frame};
use crate::node::{Recovery, Shared, State, lock, secret};
use crate::queue::{Answer, Job, Message};
use crate::snapshot;
use crate::storage::Disk;
use crate::store::{self, Recovered, Store};
use crate::{Durability, OpenError, Options, SubmitError};

/// Commands applied before readers have their turn.
const APPLY_STEP: usize = 256;
/// Messages taken from the queue at a time.
const TAKE: usize = 4_096;

/// Reads what is on disk, if that is where the registry is kept.
pub(crate) fn recover(options: &Options) -> Result<Recovered, OpenError> {
    match &options.durability {
        Durability::Memory => Ok(Recovered {
            registry: Registry::default(),
            history: History::new(Revision::default(), options.history),
            store: None,
            report: Recovery::default(),
        }),
        Durability::Disk(path) => {
            let disk = Arc::new(Disk::open(path)?);
            store::recover(disk, options, Box::new(secret))
        }
    }
}

/// The one thread that changes the registry: takes everything queued, makes it durable with one write and one
/// sync, applies it in order, and answers.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    store: Option<Store>,
    frame: Frame,
    snapshot: Option<Snapshot>,
}

/// A snapshot being written.
struct Snapshot {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// What became of a snapshot.
#[derive(Debug)]
pub(crate) struct SnapshotDone {
    revision: Revision,
    took: Duration,
    /// Its length.
    result: Result<u64, String>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, store: Option<Store>) -> Self {
        Self {
            shared,
            store,
            frame: Frame::default(),
            snapshot: None,
        }
    }

    /// Runs until told to close, or until nobody is left who could tell.
    pub(crate) fn run(mut self, mut messages: UnboundedReceiver<Message>) {
        let mut taken = Vec::with_capacity(TAKE);
        let mut closing = false;
        while !closing && messages.blocking_recv_many(&mut taken, TAKE) > 0 {
            let mut batch = Vec::new();
            self.frame.clear();
            for message in taken.drain(..) {
                match message {
                    Message::Work(job) => {
                        if !self.frame.has_room(job.records.len()) {
                            self.commit(std::mem::take(&mut batch));
                            self.frame.clear();
                        }
                        self.frame.add(&job.records, job.commands.len());
                        batch.push(job);
                    }
                    Message::Snapshot(done) => self.snapshot_done(&done),
                    Message::Close => closing = true,
                }
            }
            if !batch.is_empty() {
                self.commit(batch);
            }
            self.snapshot_if_due();
        }
        if let Some(snapshot) = self.snapshot.take() {
            snapshot.stop.store(true, Relaxed);
            let _ = snapshot.thread.join();
        }
        self.shared.hub.close();
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        if let Some(store) = &mut self.store {
            let began = Instant::now();
            let appended = store.append(&mut self.frame);
            self.shared.counters.synced(began.elapsed());
            if let Err(error) = appended {
                return self.refuse(jobs, error);
            }
            self.shared.counters.log_bytes.add(self.frame.len());
            self.healthy();
        }
        let records = jobs.iter().map(|job| job.commands.len() as u64).sum();
        self.shared.counters.batches.add(1);
        self.shared.counters.records.add(records);
        self.apply(jobs);
    }

    fn refuse(&self, jobs: Vec<Job>, error: AppendError) {
        let (why, error) = match error {
            AppendError::NotWritten(why) => {
                let why: Arc<str> = why.into();
                (Arc::clone(&why), SubmitError::NotWritten(why))
            }
            AppendError::Broken(why) => {
                let why: Arc<str> = why.into();
                (Arc::clone(&why), SubmitError::ReadOnly(why))
            }
        };
        *lock(&self.shared.fault) = Some(why);
        for job in jobs {
            self.shared
                .counters
                .not_written
                .add(job.commands.len() as u64);
            match job.answer {
                // Nobody may be waiting any more.
                Answer::Waiting(answer) => drop(answer.send(Err(error.clone()))),
                Answer::Called(done) => done(&self.shared.state().registry, None),
            }
        }
        if let Some(observer) = self.shared.observer() {
            observer.settled();
        }
    }

    fn healthy(&self) {
        let mut fault = lock(&self.shared.fault);
        if fault.is_some() {
            *fault = None;
        }
    }

    fn apply(&self, jobs: Vec<Job>) {
        let mut touched = Touched::default();
        let mut answers = Vec::with_capacity(jobs.len());
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            let mut state = self.shared.state_mut();
            let mut applied = 0;
            while applied < APPLY_STEP
                && let Some(job) = jobs.next()
            {
                applied += job.commands.len();
                let mut committed = Vec::with_capacity(job.commands.len());
                for command in &job.commands {
                    let revision = state.registry.revision().next();
                    let applied = state.registry.apply(revision, command);
                    match command {
                        Command::Tree(command) => self.follow_tree(command, &applied, &state),
                        _ => touched.add(command, &applied, &state.registry),
                    }
                    let Applied { reply, events, .. } = applied;
                    state.history.extend(events);
                    committed.push(Committed { revision, reply });
                }
                match job.answer {
                    Answer::Called(done) => done(&state.registry, committed.first()),
                    Answer::Waiting(answer) => answers.push((answer, committed)),
                }
            }
        }
        if let Some(observer) = self.shared.observer() {
            observer.settled();
        }
        // What only changed the tree has been told to its observer.
        if touched.any {
            self.follow(&touched);
            self.shared.hub.publish(touched.services, touched.revision);
        }
        for (answer, committed) in answers {
            let _ = answer.send(Ok(committed));
        }
    }

    /// Tells what a command did to the tree, before anybody can see it.
    fn follow_tree(&self, command: &TreeCommand, applied: &Applied, state: &State) {
        let observer = self.shared.observer();
        match command {
            TreeCommand::Open {
                session, timeout, ..
            } => {
                let now = self.shared.now();
                lock(&self.shared.sessions).opened(*session, *timeout, now);
                self.shared.session_work.notify_one();
            }
            TreeCommand::Close { session } => {
                lock(&self.shared.sessions).closed(*session);
            }
            _ => {}
        }
        let Some(observer) = observer else { return };
        if !applied.tree.is_empty() {
            observer.changed(state.registry.tree(), &applied.tree);
        }
        if let TreeCommand::Close { session } = command {
            observer.session_closed(*session);
        }
    }

    fn follow(&self, touched: &Touched) {
        let shared = &self.shared;
        for step in touched.instances.chunks(APPLY_STEP) {
            let mut leases = lock(&shared.leases);
            let now = shared.now();
            for (key, id, record) in step {
                leases.follow(key, id, record.as_deref(), now);
            }
        }
    }

    fn snapshot_if_due(&mut self) {
        let Some(store) = &mut self.store else { return };
        if self.snapshot.is_some() || !store.snapshot_due() {
            return;
        }
        let registry = self.shared.state().registry.clone();
        let storage = Arc::clone(&store.storage);
        let queue = self.shared.queue.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let write = move || {
            let began = Instant::now();
            let revision = registry.revision();
            let written = snapshot::write(&*storage, &registry, || stopping.load(Relaxed));
            // What has changed since was kept for this; give it back before anything waits.
            drop(registry);
            queue.tell(Message::Snapshot(SnapshotDone {
                revision,
                took: began.elapsed(),
                result: written.map_err(|e| e.to_string()),
            }));
        };
        match std::thread::Builder::new()
            .name("snapshot".into())
            .spawn(write)
        {
            Ok(thread) => self.snapshot = Some(Snapshot { stop, thread }),
            Err(e) => self.fault(format!("no snapshot: no thread for it: {e}")),
        }
    }

    fn snapshot_done(&mut self, done: &SnapshotDone) {
        self.snapshot = None;
        let Some(store) = &mut self.store else { return };
        match &done.result {
            Ok(len) => {
                self.shared
                    .counters
                    .snapshot(done.revision, *len, done.took);
                if let Err(e) = store.snapshot_written(done.revision, *len) {
                    self.fault(format!(
                        "removing what a snapshot made unneeded failed: {e}"
                    ));
                }
            }
            // Tried again once the log has grown as much once more.
            Err(e) => self.fault(format!("writing a snapshot failed: {e}")),
        }
    }

    fn fault(&self, why: String) {
        *lock(&self.shared.fault) = Some(why.into());
    }
}

/// What a batch changed, for the leases and the watchers.
#[derive(Default)]
struct Touched {
    /// Whether there was any command about instances.
    any: bool,
    revision: Revision,
    /// With repetitions.
    services: Vec<Arc<ServiceKey>>,
    /// Instances and their records afterwards; `None` once removed.
    instances: Vec<(Arc<ServiceKey>, InstanceId, Option<Arc<Record>>)>,
}

impl Touched {
    fn add(&mut self, command: &Command, applied: &Applied, registry: &Registry) {
        self.any = true;
        self.revision = registry.revision();
        for event in &applied.events {
            let record = (event.change != Change::Removed).then(|| Arc::clone(&event.record));
            self.services.push(Arc::clone(&event.key));
            self.instances
                .push((Arc::clone(&event.key), event.id.clone(), record));
        }
        // Nothing that watchers could see, but the lease is renewed.
        if let (Command::Register { key, .. }, Reply::Registered(Registration::Unchanged, record)) =
            (command, &applied.reply)
            && let Some(service) = registry.service(key)
        {
            let (id, record) = (record.instance.id.clone(), Some(Arc::clone(record)));
            self.instances.push((Arc::clone(&service.key), id, record));
        }
    }
}
