//! What is committed, applied to the registry.

use std::sync::Arc;

use model::{InstanceId, Revision, ServiceKey};
use registry::replication::{EntryId, Membership, Origin, commands};
use registry::tree::{NOWHERE, TreeCommand};
use registry::{
    Applied, Change, Command, Committed, DecodeError, Record, Registration, Registry, Reply,
};

use crate::member::LONE_NODE;
use crate::node::{Shared, State, lock};
use crate::queue::{Answer, Job};
use crate::raft::{Batch, Entry, Payload};

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

    /// Applies an entry, and answers those who wait for it here. A batch that was applied before is passed over: it was
    /// sent again, for the answer had been lost.
    pub(crate) fn apply(&self, entry: &Entry) -> Result<(), DecodeError> {
        match &entry.payload {
            Payload::Blank => self.shared.state_mut().origin.entry = entry.id(),
            Payload::Membership(membership) => self.apply_membership(entry.id(), membership),
            Payload::Batch(batch) => {
                let waiting = self.shared.pending.take(batch.proposer);
                if !self.proceed(entry.id(), batch) {
                    return Ok(());
                }
                match waiting {
                    // Those who wait for the batch are told when this returns.
                    Some(mut waiting) => {
                        let jobs = std::mem::take(&mut waiting.jobs);
                        self.apply_jobs(batch.node, jobs);
                    }
                    None => {
                        let jobs = vec![Job::of_nobody(commands(&batch.records)?)];
                        self.apply_jobs(batch.node, jobs);
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes who belongs to the cluster.
    pub(crate) fn apply_membership(&self, id: EntryId, membership: &Membership) {
        let origin = &mut self.shared.state_mut().origin;
        (origin.entry, origin.since) = (id, id);
        origin.membership.clone_from(membership);
    }

    /// Applies a batch of these jobs, which nobody else can have seen.
    pub(crate) fn apply_own(&self, id: EntryId, batch: &Batch, jobs: Vec<Job>) {
        if self.proceed(id, batch) {
            self.apply_jobs(batch.node, jobs);
        }
    }

    /// Notes that this entry is applied; false if its batch was before.
    fn proceed(&self, id: EntryId, batch: &Batch) -> bool {
        let origin = &mut self.shared.state_mut().origin;
        origin.entry = id;
        let new = batch.proposer.is_after(origin.proposed.get(&batch.node));
        if new {
            origin.proposed.insert(batch.node, batch.proposer);
        }
        new
    }

    fn apply_jobs(&self, node: u64, jobs: Vec<Job>) {
        let node = place(node);
        let records = jobs.iter().map(|job| job.commands.len() as u64).sum();
        self.shared.counters.batches.add(1);
        self.shared.counters.records.add(records);
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
                    let applied = state.registry.apply_from(node, revision, command);
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

    /// Puts another registry in place of this one: a snapshot came from the leader.
    pub(crate) fn replace(&self, registry: Registry, origin: Origin) {
        let shared = &self.shared;
        let revision = registry.revision();
        let mut touched = Touched {
            any: true,
            revision,
            ..Touched::default()
        };
        {
            let mut state = shared.state_mut();
            for service in state.registry.services().chain(registry.services()) {
                touched.services.push(Arc::clone(&service.key));
            }
            for service in state.registry.services() {
                let gone = service.instances().map(|record| &record.instance.id);
                let gone = gone.filter(|id| registry.instance(&service.key, id).is_none());
                let gone = gone.map(|id| (Arc::clone(&service.key), id.clone(), None));
                touched.instances.extend(gone);
            }
            for service in registry.services() {
                let there = service.instances().map(|record| {
                    let id = record.instance.id.clone();
                    (Arc::clone(&service.key), id, Some(Arc::clone(record)))
                });
                touched.instances.extend(there);
            }
            state.history.begin_anew(revision);
            state.registry = registry;
            state.origin = origin;
            let now = shared.now();
            lock(&shared.sessions).begin_anew(state.registry.tree().sessions(), now);
        }
        self.follow(&touched);
        shared.hub.publish(touched.services, revision);
        if let Some(observer) = shared.observer() {
            observer.replaced();
            observer.settled();
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
            TreeCommand::Move { session } => {
                let now = self.shared.now();
                if let Some(pulse) = lock(&self.shared.sessions).pulse(*session) {
                    pulse.beat(now);
                }
            }
            _ => {}
        }
        let Some(observer) = observer else { return };
        if let TreeCommand::Move { session } = command {
            observer.session_moved(*session);
        }
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

/// The node that commands were given to, as the registry should know it: where there is one only, it is no matter which.
pub(crate) fn place(node: u64) -> u64 {
    match node {
        LONE_NODE => NOWHERE,
        several => several,
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
