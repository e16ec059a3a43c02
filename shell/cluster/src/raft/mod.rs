//! The boundary to the consensus library: nothing outside of this module knows which one it is.

mod alone;
mod appends;
mod change;
mod company;
mod disk;
mod drive;
mod entry;
mod found;
mod lead;
mod machine;
mod member;
mod network;
mod propose;
mod read;
mod report;
mod rounds;
mod storage;
mod types;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::{Config, Raft, SnapshotPolicy};
use registry::replication::Vote;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::company::Asked;
use crate::journal::Journal;
use crate::node::{Shared, lock};
use crate::peers::{self, Identity, Listener, Opening};
use crate::queue::Message;
use crate::store::{self, Store};
pub(crate) use alone::{Lone, commit_here};
use company::Company;
use disk::Disk;
pub(crate) use entry::{Batch, Entry, Payload};
use machine::Machine;
pub(crate) use member::INCOMING;
use member::Replica;
use network::Network;
use propose::Proposer;
use rounds::Rounds;
use storage::LogStorage;
#[cfg(test)]
pub(crate) use types::Runtime as Clockwork;
pub(crate) use types::spawn;

/// Where to write took less than this last time, it is not left to another thread: to wake that, and to be woken by it, costs
/// more than such a write.
const QUICK: Duration = Duration::from_micros(500);

/// What a node needs to take part.
pub(crate) struct Parts {
    pub(crate) node: u64,
    pub(crate) shared: Arc<Shared>,
    /// The log and its snapshots; none in memory.
    pub(crate) store: Option<Store>,
    /// What was found there.
    pub(crate) replica: store::Replica,
    pub(crate) messages: UnboundedReceiver<Message>,
    /// Those who want to know whether this node still leads.
    pub(crate) doubts: UnboundedReceiver<oneshot::Sender<bool>>,
    /// What is asked of this node besides commands.
    pub(crate) asked: Asked,
    /// How it comes to belong to a cluster; none for a node that is alone.
    pub(crate) entrance: Option<Entrance>,
    pub(crate) identity: Identity,
}

/// Where the other nodes come in, where they do so by name, and where members of the cluster are that this node joins, if it
/// does not begin one.
pub(crate) struct Entrance {
    pub(crate) listener: Opening,
    pub(crate) address: Box<str>,
    pub(crate) join: Vec<String>,
}

/// Takes part until told to close: the one thread that decides what is in the log, and applies it.
pub(crate) fn run(mut parts: Parts) {
    let shared = Arc::clone(&parts.shared);
    // Should the program find something impossible and panic, the node takes no more part, and says so.
    let _end = End(Arc::clone(&shared));
    let Some(entrance) = parts.entrance.take() else {
        return alone::run(parts);
    };
    let journal = journal(&mut parts);
    let _closing = Closing(Arc::clone(&journal));
    let ended = drive::drive(parts, journal, entrance);
    // Whoever gave it work went with the runtime. A panic there has been reported.
    let disk = lock(&shared.disk_thread).take();
    let _ = disk.map(std::thread::JoinHandle::join);
    if let Err(why) = ended {
        shared.fault(why.to_string());
    }
}

fn journal(parts: &mut Parts) -> Arc<Journal> {
    let replica = std::mem::take(&mut parts.replica);
    Arc::new(Journal::new(parts.store.take(), replica))
}

/// Takes part in a simulation.
#[cfg(test)]
pub(crate) async fn simulated(mut parts: Parts) -> Result<(), String> {
    let entrance = parts.entrance.take().ok_or("a node that is alone")?;
    let journal = journal(&mut parts);
    let disk = Disk::new(&parts.shared, &journal).map_err(|e| e.to_string())?;
    take_part(parts, journal, entrance, disk).await
}

/// What is left to do when a node takes no more part, whatever the reason.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        end(&self.0);
        self.0.lone.close();
    }
}

fn end(shared: &Shared) {
    if std::thread::panicking() {
        let why = "the node has stopped taking part after a fault of the program; restart it";
        shared.fault(why.into());
    }
    shared.queue.close();
    shared.lead.store(0, Relaxed);
    shared.hub.close();
}

/// Closes the files of a node among others.
struct Closing(Arc<Journal>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Times in milliseconds.
fn config() -> Config {
    Config {
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        // A batch of each node is under way at a time.
        api_channel_size: Some(64),
        // The library tells itself things by it, and would wait for itself for ever if it were full.
        notification_channel_size: Some(65_536),
        state_machine_channel_size: Some(16),
        api_batch_capacity: 64,
        enable_pre_vote: Some(true),
        // A leader that is frozen or cut off is followed by another within a second: a follower waits for as long as the
        // longest of these to hear of it, and then for one between them. One that is gone is followed at once. One that does not
        // hear them falls silent first (`network::OWED`).
        heartbeat_interval: 75,
        election_timeout_min: 300,
        election_timeout_max: 450,
        install_snapshot_timeout: 600_000,
        // A node whose disk was set back (an old copy of a virtual machine, or a disk that lost what it had synced) is filled again, as
        // one that is new would be. Otherwise the leader takes it for a fault of its own.
        allow_log_reversion: Some(true),
        ..Config::default()
    }
}

async fn take_part(
    parts: Parts,
    journal: Arc<Journal>,
    entrance: Entrance,
    disk: Disk,
) -> Result<(), String> {
    let Parts {
        node,
        shared,
        messages,
        doubts,
        asked,
        identity,
        ..
    } = parts;
    step_down(node, &journal);
    let storage = LogStorage {
        journal: Arc::clone(&journal),
        disk: disk.clone(),
    };
    let config = Arc::new(config().validate().map_err(|e| e.to_string())?);
    let network = Network::new(identity.clone(), Arc::clone(&journal));
    let rounds = Rounds::new(&shared, &journal);
    let machine = Machine::new(&shared, &journal, rounds.clone());
    let raft = Raft::new(node, config, network.clone(), storage, machine).await;
    let raft = raft.map_err(|e| e.to_string())?;
    let _ = shared.progress.set(lead::progress(&raft));
    let mut tasks = vec![
        spawn(take_snapshots(raft.clone(), Arc::clone(&shared))),
        spawn(lead::follow(node, raft.clone(), Arc::clone(&shared))),
        spawn(lead::prove(raft.clone(), Arc::clone(&shared), doubts)),
        spawn(lead::resign(raft.clone(), disk.clone())),
    ];
    let company = Company {
        node,
        raft: raft.clone(),
        network: network.clone(),
        shared: Arc::clone(&shared),
    };
    let changes = company.changes();
    let Entrance {
        listener,
        address,
        join,
    } = entrance;
    tasks.extend(company.tasks(asked, (address, join), &changes));
    let replica = Replica {
        raft: raft.clone(),
        shared: Arc::clone(&shared),
        disk: disk.clone(),
        changes,
        rounds: rounds.clone(),
        incoming: Mutex::default(),
        lost: unbounded_channel().0,
    };
    let listener = listener().map_err(|e| e.to_string())?;
    tasks.extend(meet(node, listener, identity, replica, &network));
    let mut proposer = Proposer::new(node, raft.clone(), shared, disk, network, rounds);
    proposer.run(messages).await;
    tasks.iter().for_each(JoinHandle::abort);
    let _ = raft.shutdown().await;
    drop((raft, proposer));
    // What is to be written is written before the files are closed.
    drop(tasks);
    tokio::task::yield_now().await;
    Ok(())
}

/// Has a node that led when it ended come back as one that has voted for itself, and needs an election.
///
/// The library would lead on in the same term, and take for committed only what it knew to be when it last wrote, until
/// something new is: what it says meanwhile of how far a reader must wait is less than what was acknowledged.
fn step_down(node: u64, journal: &Journal) {
    if let Some(vote) = journal.vote().filter(|v| v.committed && v.node == node) {
        journal.set_vote(Vote {
            committed: false,
            ..vote
        });
    }
}

/// Takes part among others.
fn meet(
    node: u64,
    listener: Box<dyn Listener>,
    identity: Identity,
    mut replica: Replica,
    network: &Network,
) -> Vec<JoinHandle<()>> {
    let (lost, seen) = unbounded_channel();
    replica.lost = lost;
    let (raft, shared) = (replica.raft.clone(), Arc::clone(&replica.shared));
    let journal = Arc::clone(&replica.disk.journal);
    let transport = Arc::clone(&identity.transport);
    vec![
        spawn(peers::serve(listener, identity, Arc::new(replica))),
        spawn(lead::renew(node, network.clone(), Arc::clone(&shared))),
        spawn(lead::succeed(node, raft, journal, shared, transport, seen)),
    ]
}

async fn take_snapshots(raft: Raft<types::Types, Machine>, shared: Arc<Shared>) {
    loop {
        let triggered = tokio::select! {
            biased;
            () = shared.snapshot_due.notified() => raft.trigger().snapshot().await,
            () = shared.purge_due.notified() => {
                raft.trigger().purge_log(shared.purge_upto.load(Relaxed)).await
            }
        };
        if triggered.is_err() {
            return;
        }
    }
}
