//! Who leads, and what depends on it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use model::{InstanceId, ServiceKey};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::TransferLeaderRequest;
use openraft::{Instant, Raft, ReadPolicy, ServerState};
use registry::replication::{Member, Request};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::disk::Disk;
use super::machine::Machine;
use super::network::{Network, Use};
use super::types::spawn;
use super::types::{Types, membership, raft_vote};
use crate::journal::Journal;
use crate::node::{Progress, Shared, lock};
use crate::peers::Transport;

/// Renewals are sent to the leader this often, all that came meanwhile in one message.
const RENEW: Duration = Duration::from_millis(200);
/// The most renewals in one message: half a megabyte of names.
const MOST_RENEWED: usize = 8_192;
/// How long the leader may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it takes to be sure that nobody listens where the leader was.
const LOOK: Duration = Duration::from_millis(100);
/// How often is looked.
const LOOKS: usize = 20;
/// What the next in line waits for the one before to take the lead.
const TURN: Duration = Duration::from_millis(80);

/// Notes who leads, for those who ask on other threads.
pub(super) async fn follow(node: u64, raft: Raft<Types, Machine>, shared: Arc<Shared>) {
    let mut metrics = raft.server_metrics();
    loop {
        let leads_in = {
            let now = metrics.borrow_and_update();
            let leads = now.state == ServerState::Leader && now.current_leader == Some(node);
            let term = now.vote.leader_id.term;
            let mut known = lock(&shared.known);
            known.term = term;
            known.leader = now.current_leader;
            known.membership = membership(now.membership_config.membership());
            // Those of a node that is being taken in are not known to it yet.
            if !known.membership.nodes.is_empty() {
                let format = known.membership.format().min(shared.company.format);
                shared.queue.write_format(format);
            }
            let leader = now
                .current_leader
                .and_then(|id| known.membership.nodes.get(&id));
            let name = leader
                .map(|member| &*member.name)
                .filter(|name| !name.is_empty());
            if known.leader_name.as_deref() != name {
                known.leader_name = name.map(Into::into);
            }
            if leads { term } else { 0 }
        };
        shared.lead_in(leads_in);
        if metrics.changed().await.is_err() {
            // Not because it was told to: then this has ended before.
            if shared.fault_text().is_none() {
                shared.fault("the node takes no more part in the cluster: restart it".into());
            }
            return;
        }
    }
}

/// Answers whether this node still leads, by asking a majority.
pub(super) async fn prove(
    raft: Raft<Types, Machine>,
    shared: Arc<Shared>,
    mut asked: UnboundedReceiver<oneshot::Sender<bool>>,
) {
    while let Some(answer) = asked.recv().await {
        if shared.company.resigns.load(Relaxed) {
            let _ = answer.send(false);
            continue;
        }
        let raft = raft.clone();
        spawn(async move {
            let proof = raft.ensure_linearizable(ReadPolicy::ReadIndex);
            let proven = timeout(Duration::from_secs(2), proof).await;
            let _ = answer.send(matches!(proven, Ok(Ok(_))));
        });
    }
}

/// Sees to it that a node whose disk takes nothing leads nobody: without its clock it sends no heartbeats and wants no votes.
///
/// Nor does that clock tick on while the library waits for a vote to be written: what it is told meanwhile waits in a
/// queue that has an end.
pub(super) async fn resign(raft: Raft<Types, Machine>, disk: Disk) {
    let mut stalled = false;
    loop {
        sleep(LOOK).await;
        if stalled != disk.is_stalled() {
            stalled = !stalled;
            raft.runtime_config().tick(!stalled);
            // A majority that is asked whether this node leads would take that for a sign of life, and wait on for it.
            disk.shared.company.resigns.store(stalled, Relaxed);
        }
    }
}

/// Sends renewals on to the leader.
pub(super) async fn renew(node: u64, network: Network, shared: Arc<Shared>) {
    let mut heard = shared.now();
    loop {
        sleep(RENEW).await;
        let leader = {
            let known = lock(&shared.known);
            let leader = known.leader.filter(|leader| *leader != node);
            leader.and_then(|id| Some((id, known.membership.nodes.get(&id)?.clone())))
        };
        let now = shared.now();
        let Some((leader, member)) = leader else {
            continue;
        };
        let renewed: Vec<(ServiceKey, InstanceId)> = lock(&shared.renewals).drain().collect();
        let sessions: Vec<u64> = {
            let clock = lock(&shared.sessions);
            let heard = clock.heard_since(heard);
            heard.into_iter().map(|id| id.0 as u64).collect()
        };
        if renewed.is_empty() && sessions.is_empty() {
            heard = now;
            continue;
        }
        let link = network.link(leader, &member, Use::Questions);
        // What the leader has not heard of goes to the next, or to this one when it is back.
        for instances in renewed.chunks(MOST_RENEWED) {
            let request = Request::Renew {
                instances: instances.to_vec(),
                sessions: Vec::new(),
            };
            if link.ask(request, PATIENCE).await.is_err() {
                lock(&shared.renewals).extend(instances.iter().cloned());
            }
        }
        let mut told = true;
        for sessions in sessions.chunks(MOST_RENEWED) {
            let request = Request::Renew {
                instances: Vec::new(),
                sessions: sessions.to_vec(),
            };
            told &= link.ask(request, PATIENCE).await.is_ok();
        }
        if told {
            heard = now;
        }
    }
}

/// Sees to it that a leader that is gone is followed by another at once.
///
/// A connection that ends says nothing for certain; but where nobody listens any more, there is no leader. The followers
/// then take their turns, in the order of their numbers, each without asking whether the others have heard of the leader
/// lately, for they have.
pub(super) async fn succeed(
    node: u64,
    raft: Raft<Types, Machine>,
    journal: Arc<Journal>,
    shared: Arc<Shared>,
    transport: Arc<dyn Transport>,
    mut lost: UnboundedReceiver<u64>,
) {
    while let Some(gone) = lost.recv().await {
        let (leader, members) = {
            let known = lock(&shared.known);
            (known.leader, known.membership.clone())
        };
        let Some(member) = members.nodes.get(&gone).filter(|_| leader == Some(gone)) else {
            continue;
        };
        if listens(&*transport, member).await {
            continue;
        }
        let mut voters: Vec<u64> = members.voters.iter().flatten().copied().collect();
        voters.retain(|voter| *voter != gone);
        voters.sort_unstable();
        voters.dedup();
        let Some(turn) = voters.iter().position(|voter| *voter == node) else {
            continue;
        };
        sleep(TURN * turn as u32).await;
        // One more try than those before: two that try at the same pace stand in each other's way for ever.
        for _ in 0..=turn {
            if lock(&shared.known)
                .leader
                .is_some_and(|leader| leader != gone)
            {
                break;
            }
            match journal.vote() {
                Some(vote) if vote.node == gone => {
                    let rpc = TransferLeaderRequest::new(raft_vote(vote), node, None);
                    let _ = raft.handle_transfer_leader(rpc).await;
                }
                // Somebody has tried, and lacks what others have.
                _ => drop(raft.trigger().elect(false).await),
            }
            sleep(TURN * voters.len() as u32).await;
        }
        // More than one connection has ended with it.
        while lost.try_recv().is_ok() {}
    }
}

/// Whether anybody takes connections there, and keeps them: a process that ends may still have its port for a moment.
async fn listens(transport: &dyn Transport, member: &Member) -> bool {
    for _ in 0..LOOKS {
        let connected = timeout(LOOK, transport.connect(&member.address)).await;
        let mut stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(e)) => return e.kind() != std::io::ErrorKind::ConnectionRefused,
            // Slow, or cut off: the election's own patience decides.
            Err(_) => return true,
        };
        // Whoever lives waits for a greeting.
        if timeout(LOOK, stream.read(&mut [0])).await.is_err() {
            return true;
        }
    }
    true
}

/// How far the others are, as the leader knows it.
pub(super) fn progress(raft: &Raft<Types, Machine>) -> Progress {
    let metrics = raft.metrics();
    Progress(Box::new(move || {
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.iter().flatten();
        let heard = metrics.heartbeat.as_ref();
        let nodes = matched
            .map(|(id, last)| {
                let heard = heard.and_then(|heard| heard.get(id)?.as_ref());
                let millis = heard.map(|at| at.elapsed().as_millis() as u64);
                (*id, (last.as_ref().map_or(0, |last| last.index), millis))
            })
            .collect();
        let majority = metrics.last_quorum_acked.as_ref();
        (nodes, majority.map(|at| at.elapsed().as_millis() as u64))
    }))
}
