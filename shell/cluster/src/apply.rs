//! What is committed, applied to the registry.

use std::sync::Arc;

use model::{InstanceId, Revision, ServiceKey};
use registry::replication::EntryId;
use registry::tree::TreeCommand;
use registry::{Applied, Change, Command, Committed, Record, Registration, Registry, Reply};

use crate::node::{Shared, State, lock};
use crate::queue::{Answer, Job};

/// Commands applied before readers have their turn.
const APPLY_STEP: usize = 256;

/// Changes the registry, on the one thread that may, and tells everybody.
pub(crate) struct Applier {
    shared: Arc<Shared>,
}

impl Applier {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Applies a batch, and answers those who wait for it.
    pub(crate) fn apply(&self, entry: EntryId, jobs: Vec<Job>) {
        let records = jobs.iter().map(|job| job.commands.len() as u64).sum();
        self.shared.counters.batches.add(1);
        self.shared.counters.records.add(records);
        let mut touched = Touched::default();
        let mut answers = Vec::with_capacity(jobs.len());
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            let mut state = self.shared.state_mut();
            state.origin.entry = entry;
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
                    Answer::Nobody => {}
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
