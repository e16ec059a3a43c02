//! The registry as the library's state machine.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use model::Revision;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{LogId, SnapshotMeta, StoredMembership};
use registry::Registry;
use registry::replication::Origin;
use tokio::sync::oneshot;

use super::types::{Stored, Term, Types, log_id, raft_membership};
use super::{Entry, Payload};
use crate::apply::Applier;
use crate::journal::Journal;
use crate::node::{Shared, lock};
use crate::snapshot;

type Meta = SnapshotMeta<Term, u64, registry::replication::Member>;
type Snapshot = openraft::Snapshot<Term, u64, registry::replication::Member, SnapshotFile>;

/// Applies what is committed.
pub(super) struct Machine {
    shared: Arc<Shared>,
    journal: Arc<Journal>,
    applier: Applier,
}

/// A snapshot that there is.
#[derive(Clone, Debug)]
pub(super) struct SnapshotFile;

impl Machine {
    pub(super) fn new(shared: &Arc<Shared>, journal: &Arc<Journal>) -> Self {
        Self {
            shared: Arc::clone(shared),
            journal: Arc::clone(journal),
            applier: Applier::new(Arc::clone(shared)),
        }
    }

    fn apply_entry(&self, entry: &Entry) -> io::Result<()> {
        let id = entry.id();
        match &entry.payload {
            Payload::Blank => self.shared.state_mut().origin.entry = id,
            Payload::Membership(membership) => {
                let origin = &mut self.shared.state_mut().origin;
                origin.entry = id;
                origin.since = id;
                origin.membership.clone_from(membership);
            }
            Payload::Batch(batch) => batch
                .hand_over(|jobs| self.applier.apply(id, jobs))
                .map_err(io::Error::other)?,
        }
        Ok(())
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId<Term>>, Stored)> {
        let state = self.shared.state();
        Ok((applied(&state.origin), stored(&state.origin)))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + Send,
    {
        let mut last = 0;
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            self.apply_entry(&entry)?;
            last = entry.index;
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        self.journal.applied(last);
        if self.journal.snapshot_due() {
            self.shared.snapshot_due.notify_one();
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let state = self.shared.state();
        let mut origin = state.origin.clone();
        (origin.position, origin.vote) = self.journal.position(Some(origin.entry));
        Builder {
            registry: Some(state.registry.clone()),
            origin,
            shared: Arc::clone(&self.shared),
            journal: Arc::clone(&self.journal),
        }
    }

    async fn install_snapshot(&mut self, _: &Meta, _: SnapshotFile) -> io::Result<()> {
        Err(io::Error::other("a cluster of one gets no snapshots"))
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let latest = lock(&self.shared.latest_snapshot);
        Ok(latest.as_ref().map(snapshot_of))
    }
}

/// Writes a snapshot of the registry as it was.
pub(super) struct Builder {
    registry: Option<Registry>,
    origin: Origin,
    shared: Arc<Shared>,
    journal: Arc<Journal>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotFile;

    /// Never fails: the library gives up a node whose snapshots do. What could not be written is counted as a fault, and
    /// tried again once the log has grown as much once more.
    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        if let Some(storage) = self.journal.storage()
            && let Some(registry) = self.registry.take()
        {
            let began = Instant::now();
            let (told, written) = oneshot::channel();
            let (shared, origin) = (Arc::clone(&self.shared), self.origin.clone());
            let revision = registry.revision();
            let write = move || {
                let stop = || shared.closing.load(Relaxed);
                let written = snapshot::write(&*storage, &registry, &origin, stop);
                // What has changed since was kept for this; give it back before anything waits.
                drop(registry);
                let _ = told.send(written);
            };
            let spawned = std::thread::Builder::new()
                .name("snapshot".into())
                .spawn(write);
            let result = match spawned {
                Ok(_) => written
                    .await
                    .unwrap_or_else(|_| Err(io::Error::other("it was abandoned"))),
                Err(e) => Err(e),
            };
            self.written(revision, began.elapsed(), result);
        }
        let latest = lock(&self.shared.latest_snapshot).clone();
        Ok(snapshot_of(&latest.unwrap_or_default()))
    }
}

impl Builder {
    fn written(&self, revision: Revision, took: Duration, result: io::Result<u64>) {
        let shared = &self.shared;
        match result {
            Ok(len) => {
                shared.counters.snapshot(revision, len, took);
                *lock(&shared.latest_snapshot) = Some(self.origin.clone());
                let tidied = self
                    .journal
                    .snapshot_written(revision, self.origin.position, len);
                if let Err(e) = tidied {
                    shared.fault(format!(
                        "removing what a snapshot made unneeded failed: {e}"
                    ));
                }
            }
            Err(e) => {
                shared.fault(format!("writing a snapshot failed: {e}"));
            }
        }
    }
}

fn snapshot_of(origin: &Origin) -> Snapshot {
    Snapshot {
        meta: Meta {
            last_log_id: applied(origin),
            last_membership: stored(origin),
        },
        snapshot: SnapshotFile,
    }
}

/// The last entry applied; none before there was any.
fn applied(origin: &Origin) -> Option<LogId<Term>> {
    (!origin.membership.voters.is_empty()).then(|| log_id(origin.entry))
}

fn stored(origin: &Origin) -> Stored {
    match origin.membership.voters.is_empty() {
        true => Stored::default(),
        false => StoredMembership::new(
            Some(log_id(origin.since)),
            raft_membership(&origin.membership),
        ),
    }
}
