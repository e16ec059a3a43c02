//! The boundary to the consensus library: nothing outside of this module knows which one it is.

mod change;
mod company;
mod disk;
mod entry;
mod found;
mod lead;
mod machine;
mod member;
mod network;
mod propose;
mod read;
mod report;
mod storage;
mod types;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use openraft::{Config, Raft, ServerState, SnapshotPolicy};
use registry::replication::{Member, Membership};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::company::Asked;
use crate::journal::Journal;
use crate::node::Shared;
use crate::peers::{self, Identity};
use crate::queue::Message;
use company::Company;
use disk::Disk;
pub(crate) use entry::{Batch, Entry, Payload};
use machine::Machine;
pub(crate) use member::INCOMING;
use member::Replica;
use network::Network;
use propose::Proposer;
use storage::LogStorage;

/// What a node needs to take part.
pub(crate) struct Parts {
    pub(crate) node: u64,
    pub(crate) shared: Arc<Shared>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) messages: UnboundedReceiver<Message>,
    /// Those who want to know whether this node still leads.
    pub(crate) doubts: UnboundedReceiver<oneshot::Sender<bool>>,
    /// What is asked of this node besides commands.
    pub(crate) asked: Asked,
    /// How it comes to belong to a cluster; none for a node that is alone.
    pub(crate) entrance: Option<Entrance>,
    pub(crate) identity: Identity,
    /// Where the other nodes come in; none for a node that is alone.
    pub(crate) listener: Option<std::net::TcpListener>,
}

/// Where others reach a node, and where members of the cluster are that it joins, if it does not begin one.
pub(crate) struct Entrance {
    pub(crate) address: Box<str>,
    pub(crate) join: Vec<String>,
}

/// Takes part until told to close: the one thread that decides what is in the log, and applies it.
///
/// Everything of the library runs on this thread, so that what it tells itself costs no wakeup. Alone, the runtime has
/// timers and no sockets, and so waits on a condition variable.
pub(crate) fn run(parts: Parts) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    match parts.listener {
        Some(_) => runtime.enable_all(),
        None => runtime.enable_time(),
    };
    let (shared, journal) = (Arc::clone(&parts.shared), Arc::clone(&parts.journal));
    // Should the library find something impossible and panic, the node takes no more part, and says so.
    let _end = End(Arc::clone(&shared), Arc::clone(&journal));
    let ended = match runtime.build() {
        Ok(runtime) => runtime.block_on(take_part(parts)),
        Err(e) => Err(e.to_string()),
    };
    if let Err(why) = ended {
        shared.fault(why);
    }
}

/// What is left to do when a node takes no more part, whatever the reason.
struct End(Arc<Shared>, Arc<Journal>);

impl Drop for End {
    fn drop(&mut self) {
        let Self(shared, journal) = self;
        if std::thread::panicking() {
            let why = "the node has stopped taking part after a fault of the program; restart it";
            shared.fault(why.into());
        }
        shared.queue.close();
        shared.lead.store(0, Relaxed);
        journal.close();
        shared.hub.close();
    }
}

/// Times in milliseconds.
fn config(alone: bool) -> Config {
    let config = Config {
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        // A batch of each node is under way at a time.
        api_channel_size: Some(64),
        notification_channel_size: Some(256),
        state_machine_channel_size: Some(16),
        api_batch_capacity: 64,
        enable_pre_vote: Some(true),
        ..Config::default()
    };
    match alone {
        // There is nobody to send any to, and nobody else to elect; but a node at rest wakes up five times as often.
        true => Config {
            heartbeat_interval: 1_000,
            election_timeout_min: 3_000,
            election_timeout_max: 6_000,
            ..config
        },
        // A leader that is frozen or cut off is followed by another within a second. One that is gone, at once.
        false => Config {
            heartbeat_interval: 75,
            election_timeout_min: 300,
            election_timeout_max: 600,
            install_snapshot_timeout: 600_000,
            ..config
        },
    }
}

async fn take_part(parts: Parts) -> Result<(), String> {
    let Parts {
        node,
        shared,
        journal,
        messages,
        doubts,
        asked,
        entrance,
        identity,
        listener,
    } = parts;
    let (disk, thread) = match &listener {
        None => (Disk::alone(&shared, &journal), None),
        Some(_) => {
            let disk = Disk::among_others(&shared, &journal).map_err(|e| e.to_string())?;
            (disk.0, Some(disk.1))
        }
    };
    let storage = LogStorage {
        journal: Arc::clone(&journal),
        disk: disk.clone(),
    };
    let config = config(listener.is_none()).validate();
    let config = Arc::new(config.map_err(|e| e.to_string())?);
    let network = Network::new(identity.clone(), Arc::clone(&journal));
    let machine = Machine::new(&shared, &journal);
    let raft = Raft::new(node, config, network.clone(), storage, machine).await;
    let raft = raft.map_err(|e| e.to_string())?;
    let _ = shared.progress.set(lead::progress(&raft));
    let began = match listener.is_none() {
        true => begin_alone(node, &raft).await,
        false => Ok(()),
    };
    let mut tasks = vec![
        tokio::spawn(take_snapshots(raft.clone(), Arc::clone(&shared))),
        tokio::spawn(lead::follow(node, raft.clone(), Arc::clone(&shared))),
        tokio::spawn(lead::prove(raft.clone(), doubts)),
    ];
    if let (Some(listener), Some(entrance)) = (listener, entrance) {
        let company = Company {
            node,
            raft: raft.clone(),
            network: network.clone(),
            shared: Arc::clone(&shared),
        };
        let changes = company.changes();
        tasks.extend(company.tasks(asked, entrance, &changes));
        let replica = Replica {
            raft: raft.clone(),
            shared: Arc::clone(&shared),
            disk: disk.clone(),
            changes,
            incoming: Mutex::default(),
            lost: unbounded_channel().0,
        };
        tasks.extend(join(node, listener, identity, replica, &network)?);
    }
    let mut proposer = Proposer::new(node, raft.clone(), shared, disk, network);
    let ended = match began {
        Ok(()) => {
            proposer.run(messages).await;
            Ok(())
        }
        Err(e) => Err(e),
    };
    drop(proposer);
    stop(raft, tasks, thread).await;
    ended
}

async fn stop(
    raft: Raft<types::Types, Machine>,
    tasks: Vec<JoinHandle<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
) {
    tasks.iter().for_each(JoinHandle::abort);
    let _ = raft.shutdown().await;
    drop(raft);
    if let Some(thread) = thread {
        // What is to be written is written before the files are closed.
        drop(tasks);
        tokio::task::yield_now().await;
        drop(thread);
    }
}

/// Begins a cluster of one, if there is none yet, and leads it.
async fn begin_alone(node: u64, raft: &Raft<types::Types, Machine>) -> Result<(), String> {
    if !raft.is_initialized().await.map_err(|e| e.to_string())? {
        let membership = Membership::of_one(node, Member::default());
        let begun = raft.initialize(membership.nodes).await;
        begun.map_err(|e| e.to_string())?;
    } else {
        let elected = raft.trigger().elect(false).await;
        elected.map_err(|e| e.to_string())?;
    }
    let leading = raft.wait(None);
    let leading = leading.state(ServerState::Leader, "a cluster of one has a leader");
    leading.await.map_err(|e| e.to_string())?;
    Ok(())
}

/// Takes part among others.
fn join(
    node: u64,
    listener: std::net::TcpListener,
    identity: Identity,
    mut replica: Replica,
    network: &Network,
) -> Result<Vec<JoinHandle<()>>, String> {
    let (lost, seen) = unbounded_channel();
    replica.lost = lost;
    let (raft, shared) = (replica.raft.clone(), Arc::clone(&replica.shared));
    let journal = Arc::clone(&replica.disk.journal);
    let listener = listener
        .set_nonblocking(true)
        .and_then(|()| TcpListener::from_std(listener))
        .map_err(|e| e.to_string())?;
    Ok(vec![
        tokio::spawn(peers::serve(listener, identity, Arc::new(replica))),
        tokio::spawn(lead::renew(node, network.clone(), Arc::clone(&shared))),
        tokio::spawn(lead::succeed(node, raft, journal, shared, seen)),
    ])
}

async fn take_snapshots(raft: Raft<types::Types, Machine>, shared: Arc<Shared>) {
    loop {
        let triggered = tokio::select! {
            () = shared.snapshot_due.notified() => raft.trigger().snapshot().await,
            () = shared.purge_due.notified() => match shared.alone {
                true => continue,
                false => raft.trigger().purge_log(shared.purge_upto.load(Relaxed)).await,
            },
        };
        if triggered.is_err() {
            return;
        }
    }
}
