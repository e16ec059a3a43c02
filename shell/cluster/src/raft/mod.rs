//! The boundary to the consensus library: nothing outside of this module knows which one it is.

mod disk;
mod entry;
mod machine;
mod network;
mod propose;
mod storage;
mod types;

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::{Config, Raft, SnapshotPolicy};
use registry::replication::Member;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::journal::Journal;
use crate::node::Shared;
use crate::queue::Message;
use disk::Disk;
pub(crate) use entry::{Batch, Entry, Payload};
use machine::Machine;
use network::Nobody;
use propose::Proposer;
use storage::LogStorage;

/// What a node needs to take part.
pub(crate) struct Parts {
    pub(crate) node: u64,
    pub(crate) shared: Arc<Shared>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) messages: UnboundedReceiver<Message>,
}

/// Takes part until told to close: the one thread that decides what is in the log, and applies it.
///
/// Everything of the library runs on this thread, so that what it tells itself costs no wakeup. The runtime has timers and
/// no sockets, and so waits on a condition variable.
pub(crate) fn run(parts: Parts) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let (shared, journal) = (Arc::clone(&parts.shared), Arc::clone(&parts.journal));
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(take_part(parts)),
        Err(e) => Err(e.to_string()),
    };
    if let Err(why) = ended {
        shared.fault(why);
    }
    journal.close();
    shared.hub.close();
}

async fn take_part(parts: Parts) -> Result<(), String> {
    let Parts {
        node,
        shared,
        journal,
        messages,
    } = parts;
    let disk = Disk {
        shared: Arc::clone(&shared),
        journal: Arc::clone(&journal),
    };
    let storage = LogStorage {
        journal: Arc::clone(&journal),
        disk: disk.clone(),
    };
    let config = Config {
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        // There is nobody to send any to, and nobody else to elect; but a node at rest wakes up five times as often.
        heartbeat_interval: 1_000,
        election_timeout_min: 3_000,
        election_timeout_max: 6_000,
        // One batch is under way at a time. (Rings of the default sizes take 30 MB.)
        api_channel_size: Some(64),
        notification_channel_size: Some(256),
        state_machine_channel_size: Some(16),
        api_batch_capacity: 64,
        ..Config::default()
    };
    let config = config.validate().map_err(|e| e.to_string())?;
    let machine = Machine::new(&shared, &journal);
    let raft = Raft::new(node, Arc::new(config), Nobody, storage, machine)
        .await
        .map_err(|e| e.to_string())?;
    if raft.is_initialized().await.map_err(|e| e.to_string())? {
        raft.trigger()
            .elect(false)
            .await
            .map_err(|e| e.to_string())?;
    } else {
        let members = BTreeMap::from([(node, Member::default())]);
        raft.initialize(members).await.map_err(|e| e.to_string())?;
    }
    let snapshots = tokio::spawn({
        let (raft, shared) = (raft.clone(), Arc::clone(&shared));
        async move {
            loop {
                shared.snapshot_due.notified().await;
                if raft.trigger().snapshot().await.is_err() {
                    return;
                }
            }
        }
    });
    let proposer = Proposer::new(raft.clone(), shared, disk);
    let ended = proposer.run(messages).await;
    snapshots.abort();
    let _ = raft.shutdown().await;
    ended
}
