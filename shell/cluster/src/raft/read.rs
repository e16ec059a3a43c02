//! What a reader may rely on: how old this node's copy may be, and when it has all that there was.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use model::Moment;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Instant as _, Raft, ReadPolicy, ServerState};
use registry::replication::{Member, Request, Response};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep, timeout};

use super::found::{self, Newest};
use super::machine::Machine;
use super::network::{Network, Use};
use super::types::Types;
use crate::company::Confirm;
use crate::node::{Shared, lock};

/// How often the age of this node's copy is measured: about as often as the leader is heard of.
const MEASURE: Duration = Duration::from_millis(100);
/// How long the leader may take to say how far it is, and this node to get there: another may lead by then.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long until a leader is looked for again.
const TRY_AGAIN: Duration = Duration::from_millis(20);
/// How many measurements fail until the others are asked whether this node still belongs to them.
const DOUBT: u32 = 10;

/// Asks how far what is committed is.
#[derive(Clone)]
pub(super) struct Reads {
    pub(super) raft: Raft<Types, Machine>,
    pub(super) network: Network,
    pub(super) shared: Arc<Shared>,
}

/// Why it is not known how far that is.
enum Unknown {
    /// Nobody is known to lead, or whoever does has not answered.
    NoAnswer,
    /// The leader does not know this node.
    Stranger(Box<str>),
}

/// How far what is committed is, where the leader is: the last entry, and how long ago that was sure to be all there was.
///
/// With `prove`, a majority confirms first that it leads. Otherwise it goes by when one has done so last; then nobody else can
/// have led.
pub(super) async fn reach(
    raft: &Raft<Types, Machine>,
    shared: &Shared,
    prove: bool,
) -> Result<(u64, Duration), Box<str>> {
    if shared.company.resigns.load(Relaxed) {
        return Err("the disk of this node takes nothing, and another is to lead".into());
    }
    // Before the entry is looked at: what was committed by then is up to that entry.
    let (acknowledged, sole) = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        let acknowledged = metrics.last_quorum_acked.as_ref().map(|at| at.elapsed());
        (acknowledged, voters == BTreeSet::from([metrics.id]))
    };
    let policy = match prove {
        true => ReadPolicy::ReadIndex,
        false => ReadPolicy::LeaseRead,
    };
    let read = timeout(PATIENCE, raft.get_read_linearizer(policy)).await;
    let read = read.map_err(|_| Box::from("no majority has answered in time"))?;
    let read = read.map_err(|e| e.to_string())?;
    let age = match (prove || sole, acknowledged) {
        (true, _) => Duration::ZERO,
        (false, Some(age)) => age,
        (false, None) => return Err("no majority has answered yet".into()),
    };
    Ok((read.read_log_id().index(), age))
}

impl Reads {
    /// Answers those who want to read what was acknowledged before they asked: all that wait, by one question.
    pub(super) async fn confirm(self, mut asked: UnboundedReceiver<Confirm>) {
        let mut waiting: Vec<Confirm> = Vec::new();
        loop {
            if waiting.is_empty() {
                match asked.recv().await {
                    Some(first) => waiting.push(first),
                    None => return,
                }
            }
            // Whoever comes later is answered by the next question: this one may have been answered before they came.
            while let Ok(next) = asked.try_recv() {
                waiting.push(next);
            }
            if self.catch_up(true).await.is_ok() {
                for confirm in waiting.drain(..) {
                    let _ = confirm.send(());
                }
                continue;
            }
            // They have their own patience.
            waiting.retain(|confirm| !confirm.is_closed());
            sleep(TRY_AGAIN).await;
        }
    }

    /// Keeps up how old this node's copy may be.
    pub(super) async fn measure(self) {
        let mut failed = 0;
        loop {
            match self.catch_up(false).await {
                Ok(()) => {
                    failed = 0;
                    self.shared.company.set_trouble(None);
                }
                Err(Unknown::Stranger(why)) => self.is_out(&why),
                Err(Unknown::NoAnswer) => {
                    failed += 1;
                    if failed % DOUBT == 0 {
                        self.look_around().await;
                    }
                }
            }
            sleep(MEASURE).await;
        }
    }

    /// Asks how far what is committed is, and waits until it is applied here.
    async fn catch_up(&self, prove: bool) -> Result<(), Unknown> {
        let asked = self.shared.now();
        let (index, age) = self.ask(prove).await?;
        let wait = self.raft.wait(Some(PATIENCE));
        let applied = wait.applied_index_at_least(Some(index), "a read").await;
        applied.map_err(|_| Unknown::NoAnswer)?;
        let then = asked.since(Moment::ZERO).saturating_sub(age);
        let then = Moment::from_nanos(then.as_nanos() as u64);
        self.shared.company.is_fresh_as_of(then);
        Ok(())
    }

    async fn ask(&self, prove: bool) -> Result<(u64, Duration), Unknown> {
        let (state, leader) = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            let members = metrics.membership_config.membership();
            let leader = metrics.current_leader;
            let leader = leader.and_then(|id| Some((id, members.get_node(&id)?.clone())));
            (metrics.state, leader)
        };
        if state == ServerState::Leader {
            let reached = reach(&self.raft, &self.shared, prove).await;
            return reached.map_err(|_| Unknown::NoAnswer);
        }
        let leader: Option<(u64, Member)> = leader.filter(|(id, _)| *id != self.shared.node);
        let (leader, member) = leader.ok_or(Unknown::NoAnswer)?;
        let link = self.network.link(leader, &member, Use::Questions);
        let asked = self.shared.now();
        // Those who wait to read wait for no more than that.
        let crowds = &self.shared.company.crowds;
        let crowd = (!prove).then(|| crowds.to_tell(asked)).flatten();
        match link.ask(Request::Reach { prove, crowd }, PATIENCE).await {
            Ok(Response::Reached { index, age, crowds }) => {
                self.shared.note_crowds(asked, crowds);
                Ok((index, Duration::from_millis(age)))
            }
            Ok(Response::Refused {
                passing: false,
                why,
            }) => Err(Unknown::Stranger(why)),
            _ => Err(Unknown::NoAnswer),
        }
    }

    /// Asks the others whether this node still belongs to them: a leader does not tell those that it does not know.
    async fn look_around(&self) {
        let (since, members) = {
            let state = self.shared.state();
            (state.origin.since, state.origin.membership.clone())
        };
        let others = members
            .nodes
            .iter()
            .filter(|(id, _)| **id != self.shared.node);
        let others = others.map(|(id, member)| (*id, &*member.address));
        let standings = found::ask_all(&self.network, others).await;
        let newest = Newest::of(standings.iter().filter_map(|(_, s)| s.as_ref().ok()));
        let disk = self.shared.company.disk;
        let Some(newest) = newest.filter(|newest| newest.since > since) else {
            return;
        };
        if !newest.members.has(self.shared.node, disk) {
            self.is_out(&no_member(&self.shared.company.name));
        }
    }

    fn is_out(&self, why: &str) {
        self.shared.company.is_stale();
        self.shared.company.set_trouble(Some(why));
    }
}

/// What a node is told that was removed, or has lost its data directory.
pub(super) fn no_member(name: &str) -> String {
    format!(
        "{name} does not belong to the cluster any more: what it has is out of date. Stop it; to take it in again, empty its \
         data directory with `pointsman cluster wipe -c FILE`, and start it"
    )
}

/// Whether this node may be answered: the leader knows it.
pub(super) fn knows(shared: &Shared, node: u64, disk: u64) -> bool {
    lock(&shared.known).membership.has(node, disk)
}
