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
use registry::replication::{Member, Origin};
use tokio::sync::oneshot;

use super::rounds::Rounds;
use super::types::{Stored, Term, Types, log_id, raft_membership};
use crate::apply::Applier;
use crate::ground::Work;
use crate::journal::Journal;
use crate::node::{Shared, lock};
use crate::snapshot;
use crate::storage::Storage;

/// How long until a snapshot that the leader has sent is tried to be written again.
const TRY_AGAIN: Duration = Duration::from_millis(500);

type Meta = SnapshotMeta<Term, u64, Member>;
pub(super) type Snapshot = openraft::Snapshot<Term, u64, Member, SnapshotFile>;

/// Applies what is committed.
pub(super) struct Machine {
    shared: Arc<Shared>,
    journal: Arc<Journal>,
    applier: Applier,
    rounds: Rounds,
}

/// A snapshot that there is.
#[derive(Debug)]
pub(super) enum SnapshotFile {
    /// On our disk, if we have one; by its revision.
    Ours(Revision),
    /// What the leader has sent.
    Received(Box<(Registry, Origin)>),
}

impl Machine {
    pub(super) fn new(shared: &Arc<Shared>, journal: &Arc<Journal>, rounds: Rounds) -> Self {
        Self {
            shared: Arc::clone(shared),
            journal: Arc::clone(journal),
            applier: Applier::new(Arc::clone(shared)),
            rounds,
        }
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
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            self.applier.apply(&entry).map_err(io::Error::other)?;
            self.journal.applied(&entry);
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        self.rounds.over();
        if self.journal.snapshot_due() {
            self.shared.snapshot_due.notify_one();
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let state = self.shared.state();
        let mut origin = state.origin.clone();
        (origin.position, origin.vote) = self.journal.position(origin.entry);
        Builder {
            registry: Some(state.registry.clone()),
            origin,
            shared: Arc::clone(&self.shared),
            journal: Arc::clone(&self.journal),
        }
    }

    async fn install_snapshot(&mut self, _: &Meta, snapshot: SnapshotFile) -> io::Result<()> {
        let SnapshotFile::Received(received) = snapshot else {
            // What is on disk was read when the node started.
            return Ok(());
        };
        let (registry, mut origin) = *received;
        // Its place is in our log, and the vote our own.
        (origin.position, origin.vote) = self.journal.position(origin.entry);
        let builder = || Builder {
            registry: Some(registry.clone()),
            origin: origin.clone(),
            shared: Arc::clone(&self.shared),
            journal: Arc::clone(&self.journal),
        };
        // The library gives up a node that cannot, and a disk that is full has room again one day.
        while let Err(e) = builder().write().await {
            let fault = format!("writing a snapshot from the leader failed: {e}");
            self.shared.fault(fault);
            tokio::time::sleep(TRY_AGAIN).await;
        }
        self.shared.healthy();
        self.applier.replace(registry, origin);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let latest = lock(&self.shared.latest_snapshot);
        Ok(latest
            .as_ref()
            .map(|(origin, revision)| snapshot_of(origin, *revision)))
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

    /// Never fails: the library gives up a node whose snapshots do. What could not be written is noted as a fault, and
    /// tried again once the log has grown as much once more.
    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        if let Err(e) = self.write().await {
            self.shared.fault(format!("writing a snapshot failed: {e}"));
        }
        let latest = lock(&self.shared.latest_snapshot).clone();
        let (origin, revision) = latest.unwrap_or_default();
        Ok(snapshot_of(&origin, revision))
    }
}

impl Builder {
    /// Writes the snapshot, if there is a disk, on a thread of its own.
    async fn write(&mut self) -> io::Result<()> {
        let (Some(storage), Some(registry)) = (self.journal.storage(), self.registry.take()) else {
            return Ok(());
        };
        let (told, written) = oneshot::channel();
        let (shared, journal) = (Arc::clone(&self.shared), Arc::clone(&self.journal));
        let origin = self.origin.clone();
        let write = move || {
            let written = write_snapshot(&shared, &*storage, registry, &origin);
            let _ = told.send(written.map(|(revision, len)| {
                let position = origin.position;
                let before = lock(&shared.latest_snapshot).replace((origin, revision));
                if let Some((before, _)) = before {
                    // Followers that lack more than this get the snapshot.
                    shared.purge_upto.store(before.entry.index, Relaxed);
                    shared.purge_due.notify_one();
                }
                if let Err(e) = journal.snapshot_written(revision, position, len) {
                    shared.fault(format!(
                        "removing what a snapshot made unneeded failed: {e}"
                    ));
                }
            }));
        };
        match &self.shared.work {
            Work::Threads => {
                let thread = std::thread::Builder::new().name("snapshot".into());
                thread.spawn(write)?;
            }
            #[cfg(test)]
            Work::Later(wait) => {
                tokio::time::sleep(wait()).await;
                write();
            }
        }
        written.await.map_err(io::Error::other)?
    }
}

/// Writes a snapshot of what the registry was, unless the node is closed first; returns its revision and its length.
pub(super) fn write_snapshot(
    shared: &Shared,
    storage: &dyn Storage,
    registry: Registry,
    origin: &Origin,
) -> io::Result<(Revision, u64)> {
    let began = Instant::now();
    let revision = registry.revision();
    let stop = || shared.closing.load(Relaxed);
    let written = snapshot::write(storage, &registry, origin, stop);
    // What has changed since was kept for this; give it back before anything waits.
    drop(registry);
    let len = written?;
    shared.counters.snapshot(revision, len, began.elapsed());
    Ok((revision, len))
}

pub(super) fn snapshot_of(origin: &Origin, revision: Revision) -> Snapshot {
    Snapshot {
        meta: Meta {
            last_log_id: applied(origin),
            last_membership: stored(origin),
        },
        snapshot: SnapshotFile::Ours(revision),
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
