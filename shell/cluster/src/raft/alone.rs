//! A cluster of one: what is on its disk is committed, for there is nobody to ask.
//!
//! Log, snapshots, and how they are applied are those of any other node; but for a node to agree with itself would cost
//! it a dozen messages between tasks for each batch, which is more than writing the batch does.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use model::Moment;
use registry::replication::{Body, EntryId, Member, Membership, Proposer, Record, Vote};

use super::machine::write_snapshot;
use super::propose::batch_of;
use super::{Batch, Parts, QUICK};
use crate::SubmitError;
use crate::apply::Applier;
use crate::intake::Intake;
use crate::journal::Written;
use crate::log::Frame;
use crate::member::LONE_NODE;
use crate::node::{Shared, lock, secret};
use crate::queue::{Job, Message, batches};
use crate::store::Store;

/// What a write must take, until it is waited for others who write at the same time.
const WORTH_WAITING: Duration = Duration::from_micros(50);

/// The log of a node that is alone: whoever has locked it may write.
#[derive(Default)]
pub(crate) struct Lone {
    /// None before the node has started, and after it has stopped.
    log: Mutex<Option<Alone>>,
    /// When a thread that serves clients began to write; zero if none does.
    since: AtomicU64,
}

/// Writes and applies what is queued, until told to close.
pub(super) fn run(parts: Parts) {
    let mut intake = Intake::new(parts.messages);
    let shared = parts.shared;
    let alone = Alone {
        applier: Applier::new(Arc::clone(&shared)),
        number: Proposer {
            run: secret(),
            number: 0,
        },
        last: parts.replica.last,
        lead: Vote {
            term: parts.replica.vote.map_or(0, |vote| vote.term) + 1,
            node: parts.node,
            committed: true,
        },
        lead_written: false,
        begins_with: match parts.replica.membership {
            None => Some(Membership::of_one(parts.node, Member::default())),
            Some(_) => None,
        },
        files: Arc::new(Mutex::new(parts.store)),
        frame: Frame::default(),
        took: Duration::ZERO,
        snapshot: None,
        shared: Arc::clone(&shared),
    };
    alone.take_the_lead();
    *lock(&shared.lone.log) = Some(alone);
    take_part(&shared, &mut intake);
}

fn take_part(shared: &Shared, intake: &mut Intake) {
    let mut closing = false;
    while !closing && intake.blocking_wait() {
        intake.gather(|| {
            let log = lock(&shared.lone.log);
            log.as_ref().is_some_and(|alone| alone.took > WORTH_WAITING)
        });
        let (work, last) = intake.take();
        closing = last;
        // Others may be about to.
        let mut log = lock(&shared.lone.log);
        for jobs in work {
            commit(shared, &mut log, jobs);
        }
    }
}

/// Commits these on the calling thread, if the node is alone, nobody else is at it, and the disk is quick; returns what it
/// has not committed. (Measured with one of ZooKeeper's clients and a disk that takes 80 µs: 65 instead of 99 µs of the
/// processor for a write, medians of five rounds of each by turns.)
pub(crate) fn commit_here(shared: &Shared, jobs: Vec<Job>) -> Vec<Job> {
    let Some(mut here) = Here::begin(shared) else {
        return jobs;
    };
    let (work, _) = batches(std::iter::once(Message::Work(jobs)));
    for jobs in work {
        commit(shared, &mut here.log, jobs);
    }
    Vec::new()
}

fn commit(shared: &Shared, log: &mut Option<Alone>, jobs: Vec<Job>) {
    match log {
        Some(alone) => alone.commit(jobs),
        None => shared.refuse(jobs, &SubmitError::Closed),
    }
}

/// A thread that serves clients, at the log.
struct Here<'a> {
    shared: &'a Shared,
    log: MutexGuard<'a, Option<Alone>>,
}

impl<'a> Here<'a> {
    fn begin(shared: &'a Shared) -> Option<Self> {
        let log = shared.lone.log.try_lock().ok()?;
        log.as_ref().filter(|alone| alone.took < QUICK)?;
        let since = shared.now().since(Moment::ZERO).as_nanos() as u64;
        shared.lone.since.store(since.max(1), Relaxed);
        Some(Self { shared, log })
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.shared.lone.since.store(0, Relaxed);
        // Should the program find something impossible and panic, the node takes no more part, as after a panic of the log's
        // thread.
        if std::thread::panicking() {
            *self.log = None;
            super::end(self.shared);
        }
    }
}

impl Lone {
    /// How long a thread that serves clients has been writing by now, and has heard nothing of them.
    pub(crate) fn deaf_for(&self, now: Moment) -> Duration {
        match self.since.load(Relaxed) {
            0 => Duration::ZERO,
            since => now.since(Moment::from_nanos(since)),
        }
    }

    /// Nothing is written any more.
    pub(super) fn close(&self) {
        drop(lock(&self.log).take());
    }
}

impl std::fmt::Debug for Lone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lone")
    }
}

struct Alone {
    shared: Arc<Shared>,
    applier: Applier,
    /// None in memory, or once they are closed.
    files: Arc<Mutex<Option<Store>>>,
    frame: Frame,
    /// What the last write took.
    took: Duration,
    /// That this node leads, in a term of its own: written with the first entry of this run.
    lead: Vote,
    lead_written: bool,
    /// Who belongs to the cluster, until the log says so.
    begins_with: Option<Membership>,
    /// The batch that was written last.
    number: Proposer,
    /// The entry that was written last.
    last: Option<EntryId>,
    /// The thread that writes one.
    snapshot: Option<JoinHandle<()>>,
}

impl Alone {
    fn take_the_lead(&self) {
        let membership = match &self.begins_with {
            Some(membership) => membership.clone(),
            None => self.shared.state().origin.membership.clone(),
        };
        {
            let mut known = lock(&self.shared.known);
            known.term = self.lead.term;
            known.leader = Some(self.lead.node);
            known.membership = membership;
        }
        self.shared.lead_in(self.lead.term);
    }

    /// Writes a batch, and applies it; or refuses it, and nothing has happened.
    fn commit(&mut self, jobs: Vec<Job>) {
        self.number.number += 1;
        let mut id = EntryId {
            term: self.lead.term,
            index: self.last.map_or(0, |last| last.index + 1),
        };
        let first = self.begins_with.clone().map(|membership| (id, membership));
        id.index += u64::from(first.is_some());
        // Nobody in particular, also where it was one of several once: sessions that were another's are its own now.
        let batch = batch_of(LONE_NODE, self.number, &jobs);
        if let Err(why) = self.write(first.as_ref(), (id, &batch)) {
            return self.shared.refuse(jobs, &why);
        }
        self.lead_written = true;
        self.last = Some(id);
        if let Some((id, membership)) = first {
            self.begins_with = None;
            self.applier.apply_membership(id, &membership);
        }
        self.applier.apply_own(id, &batch, jobs);
        self.snapshot_if_due();
    }

    /// Makes entries durable.
    fn write(
        &mut self,
        first: Option<&(EntryId, Membership)>,
        (id, batch): (EntryId, &Batch),
    ) -> Result<(), SubmitError> {
        let mut files = lock(&self.files);
        let Some(store) = files.as_mut() else {
            return Ok(());
        };
        self.frame.clear();
        if !self.lead_written {
            self.frame.push(&Record::Vote(self.lead));
        }
        if let Some((id, membership)) = first {
            let body = Body::Membership(membership.clone());
            self.frame.push(&Record::Entry(*id, body));
        }
        let body = Body::Batch(batch.encoded());
        self.frame.push(&Record::Entry(id, body));
        let began = Instant::now();
        let appended = store.append(&mut self.frame);
        self.took = began.elapsed();
        self.shared.written(appended.map(|_| Written {
            took: self.took,
            bytes: self.frame.len(),
        }))
    }

    /// Begins to write a snapshot, if it is time for one and none is being written.
    fn snapshot_if_due(&mut self) {
        if self.snapshot.as_ref().is_some_and(|t| !t.is_finished()) {
            return;
        }
        let mut files = lock(&self.files);
        let Some(store) = files.as_mut() else {
            return;
        };
        if !store.snapshot_due() {
            return;
        }
        let storage = Arc::clone(&store.storage);
        let (registry, mut origin) = {
            let state = self.shared.state();
            (state.registry.clone(), state.origin.clone())
        };
        // All that is in the log is applied.
        (origin.position, origin.vote) = (store.position(), Some(self.lead));
        let (shared, files) = (Arc::clone(&self.shared), Arc::clone(&self.files));
        let write = move || {
            let written = write_snapshot(&shared, &*storage, registry, &origin);
            let kept = written.and_then(|(revision, len)| match lock(&files).as_mut() {
                Some(store) => {
                    store.snapshot_written(revision, origin.position, len)?;
                    store.purge(origin.position)
                }
                None => Ok(()),
            });
            if let Err(e) = kept {
                shared.fault(format!("writing a snapshot failed: {e}"));
            }
        };
        let thread = std::thread::Builder::new().name("snapshot".into());
        match thread.spawn(write) {
            Ok(thread) => self.snapshot = Some(thread),
            Err(e) => drop(self.shared.fault(format!("writing a snapshot failed: {e}"))),
        }
    }
}

impl Drop for Alone {
    /// Closes the files.
    fn drop(&mut self) {
        // It stops soon, for the node is closing; or else it would go on in a directory that is another's.
        if let Some(thread) = self
            .snapshot
            .take()
            .filter(|_| self.shared.closing.load(Relaxed))
        {
            let _ = thread.join();
        }
        *lock(&self.files) = None;
    }
}

#[cfg(test)]
mod tests;
