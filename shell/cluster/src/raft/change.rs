//! Who belongs to the cluster, and who leads it: changes at run time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::{InstanceId, ServiceKey};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{ChangeMembers, Instant as _, Raft, ServerState};
use registry::replication::{Change, Member, Membership, Request, Response};
use tokio::time::{Instant, sleep, timeout};

use super::found;
use super::machine::Machine;
use super::network::{Network, Use};
use super::types::{Types, membership};
use crate::ChangeError;
use crate::node::Shared;
use crate::node_number;

/// How long a leader is looked for who does it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a change waits for the one before it: a node that is just joining, or what is noted of one that has.
const QUEUE: Duration = Duration::from_secs(10);
/// How long the leader may take.
const ANSWER: Duration = Duration::from_secs(100);
/// How long a majority may take to agree on it.
const AGREEMENT: Duration = Duration::from_secs(10);
/// How long a new node may take to get what the others have, until it stays an observer for now.
const CATCH_UP: Duration = Duration::from_secs(60);
/// Whoever lacks no more than this has what the others have: some batches are always under way.
const NEAR: u64 = 200;
/// How often is looked whether a change was left half made.
const LOOK: Duration = Duration::from_secs(1);
/// A node that was heard of no longer ago answers.
const HEARD: Duration = Duration::from_secs(2);
/// How long a new leader may take to hear of the others: some heartbeats, on a busy machine.
const FIRST_HEARD: Duration = Duration::from_secs(1);
/// How long a node that is to lead has until it is told again: it needs the last entries first.
const TURN: Duration = Duration::from_millis(30);
/// How often it is told until another one is.
const TURNS: u32 = 15;
/// How long until whoever has taken the lead is heard of.
const SUCCESSION: Duration = Duration::from_secs(2);

/// Changes who belongs to the cluster, one change at a time.
#[derive(Clone)]
pub(super) struct Changes {
    pub(super) node: u64,
    pub(super) raft: Raft<Types, Machine>,
    pub(super) network: Network,
    pub(super) shared: Arc<Shared>,
    pub(super) busy: Arc<tokio::sync::Mutex<()>>,
}

/// How far a node is, and how long ago it was heard of.
type Follower = (u64, Option<Duration>);

fn refused(why: impl Into<Box<str>>) -> ChangeError {
    ChangeError {
        passing: false,
        why: why.into(),
    }
}

fn later(why: impl Into<Box<str>>) -> ChangeError {
    ChangeError {
        passing: true,
        why: why.into(),
    }
}

impl Changes {
    /// Has it done by whoever leads.
    pub(super) async fn pass_on(&self, change: Change) -> Result<Box<str>, ChangeError> {
        let given_up = Instant::now() + PATIENCE;
        loop {
            let done = match self.leads() {
                true => self.make(change.clone()).await,
                false => self.ask_leader(&change).await,
            };
            match done {
                Err(e) if e.passing && Instant::now() < given_up => sleep(TURN).await,
                done => return done,
            }
        }
    }

    /// Has instances looked at by whoever leads.
    pub(super) async fn suspect(&self, instances: Vec<(ServiceKey, InstanceId)>) {
        if let Some((leader, member)) = self.other_leader() {
            let link = self.network.link(leader, &member, Use::Questions);
            // Somebody else may lead by then, and looks at everything anew.
            let _ = link.ask(Request::Suspect(instances), SUCCESSION).await;
        }
    }

    /// Whoever else leads.
    fn other_leader(&self) -> Option<(u64, Member)> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership();
        let leader = metrics.current_leader.filter(|id| *id != self.node)?;
        Some((leader, members.get_node(&leader)?.clone()))
    }

    async fn ask_leader(&self, change: &Change) -> Result<Box<str>, ChangeError> {
        let Some((leader, member)) = self.other_leader() else {
            return Err(later(
                "no node leads the cluster at present, so nothing can be changed; see `pointsman cluster status`",
            ));
        };
        let link = self.network.link(leader, &member, Use::Questions);
        match link.ask(Request::Change(change.clone()), ANSWER).await {
            Ok(Response::Said(said)) => Ok(said),
            Ok(Response::Refused { passing, why }) => Err(ChangeError { passing, why }),
            Ok(other) => Err(refused(format!("an answer to another question: {other:?}"))),
            Err(e) => Err(later(format!(
                "the leader, {}, has not answered: {e}",
                member.name
            ))),
        }
    }

    pub(super) fn leads(&self) -> bool {
        self.raft.server_metrics().borrow_watched().state == ServerState::Leader
    }

    /// Does it, where this node leads.
    pub(super) async fn make(&self, change: Change) -> Result<Box<str>, ChangeError> {
        let Ok(_one_at_a_time) = timeout(QUEUE, self.busy.lock()).await else {
            return Err(refused(format!(
                "another change of the cluster has been under way for {QUEUE:?}; try again when it is done"
            )));
        };
        self.finish_begun().await?;
        match change {
            Change::Add {
                name,
                address,
                observer,
            } => self.add(&name, &address, observer).await,
            Change::Remove { name, force } => self.remove(&name, force).await,
            Change::Promote { name } => self.promote(&name).await,
            Change::Transfer { to } => {
                let to = to.as_deref();
                let to = to.map(|to| self.member(to).map(|(id, _)| id)).transpose()?;
                self.hand_over(to).await
            }
        }
    }

    /// Sees to it, while this node leads, that no change stays half made: its leader may have ended in the middle.
    pub(super) async fn tidy_up(self) {
        loop {
            sleep(LOOK).await;
            if self.leads()
                && let Ok(_one_at_a_time) = self.busy.try_lock()
            {
                // If it fails, it is tried again.
                let _ = self.finish_begun().await;
                let _ = self.note_formats().await;
            }
        }
    }

    /// Voters are changed in two steps: from the old ones to both the old and the new, and then to the new.
    async fn finish_begun(&self) -> Result<(), ChangeError> {
        match self.members().voters.len() {
            0 | 1 => Ok(()),
            _ => {
                let to_the_new = ChangeMembers::AddVoterIds(BTreeSet::new());
                agreed(self.raft.change_membership(to_the_new, false)).await
            }
        }
    }

    /// Notes in the membership what members read who have come with another program. It is kept there because whoever leads
    /// next must know it of those, too, that are away.
    async fn note_formats(&self) -> Result<(), ChangeError> {
        let company = &self.shared.company;
        let said = |id: u64, member: &Member| match id == self.node {
            true => Some(company.format),
            false => company.format_of(id, member.disk),
        };
        let mut nodes = self.members().nodes;
        nodes.retain(|id, member| {
            let before = member.format;
            member.format = said(*id, member).unwrap_or(before);
            member.format != before
        });
        match nodes.is_empty() {
            true => Ok(()),
            false => {
                let noted = ChangeMembers::SetNodes(nodes);
                agreed(self.raft.change_membership(noted, true)).await
            }
        }
    }

    async fn add(
        &self,
        name: &str,
        address: &str,
        observer: bool,
    ) -> Result<Box<str>, ChangeError> {
        if name.is_empty() || name.len() > 255 || address.len() > 255 {
            return Err(refused(
                "a name has 1 to 255 bytes, and an address 255 at most",
            ));
        }
        let number = node_number(name);
        let members = self.members();
        let standing = found::who(&self.network, number, address).await;
        let standing = standing.map_err(|e| {
            refused(format!(
                "{name} is not reached at {address}: {e}. Start it first, with [cluster] join = [\"…\"] naming a member"
            ))
        })?;
        if let Some(member) = members.nodes.get(&number) {
            return match () {
                () if *member.name != *name => Err(refused(format!(
                    "{name} and {} have the same number; choose another name",
                    member.name
                ))),
                () if member.disk != standing.disk => Err(refused(format!(
                    "{name} belongs to the cluster with another data directory, which it has lost: `pointsman cluster remove \
                     {name}` first"
                ))),
                () if *member.address != *address => Err(refused(format!(
                    "{name} belongs to the cluster already, at {}: remove it first",
                    member.address
                ))),
                () if observer || members.votes(number) => {
                    Ok(format!("{name} belongs to the cluster already").into())
                }
                () => self.promote(name).await,
            };
        }
        if !standing.blank {
            return Err(refused(format!(
                "{name} has data of its own, which would be lost: if it is not needed, empty the data directory with \
                 `pointsman cluster wipe -c FILE` there"
            )));
        }
        let member = Member {
            name: name.into(),
            address: address.into(),
            disk: standing.disk,
            format: standing.format,
        };
        let added = self.raft.add_learner(number, member, false);
        agreed(added).await?;
        match observer {
            true => Ok(format!("{name} is an observer now").into()),
            false => self.promote(name).await,
        }
    }

    async fn promote(&self, name: &str) -> Result<Box<str>, ChangeError> {
        let (number, _) = self.member(name)?;
        if self.members().votes(number) {
            return Ok(format!("{name} is a voter already").into());
        }
        let given_up = Instant::now() + CATCH_UP;
        while let Some(lacks) = self.lacks(number) {
            if Instant::now() > given_up {
                return Err(refused(format!(
                    "{name} still lacks {lacks}: it stays an observer; try `pointsman cluster promote {name}` later"
                )));
            }
            sleep(TURN).await;
        }
        let voters = ChangeMembers::AddVoterIds(BTreeSet::from([number]));
        agreed(self.raft.change_membership(voters, true)).await?;
        let count = self
            .members()
            .voters
            .iter()
            .flatten()
            .collect::<BTreeSet<_>>()
            .len();
        let survive = (count - 1) / 2;
        Ok(
            format!("{name} is a voter now: one of {count}, which survive the loss of {survive}")
                .into(),
        )
    }

    /// What a node lacks of what the others have, in words.
    fn lacks(&self, number: u64) -> Option<String> {
        let (last, followers) = self.followers();
        match followers.get(&number) {
            Some((at, _)) if last.saturating_sub(*at) <= NEAR => None,
            Some((at, _)) => Some(format!("{} entries", last - at)),
            None => Some("everything".into()),
        }
    }

    async fn remove(&self, name: &str, force: bool) -> Result<Box<str>, ChangeError> {
        let (number, _) = self.member(name)?;
        let members = self.members();
        if !members.votes(number) {
            let observers = ChangeMembers::RemoveNodes(BTreeSet::from([number]));
            agreed(self.raft.change_membership(observers, true)).await?;
            return Ok(format!("{name} does not belong to the cluster any more").into());
        }
        let mut stay: BTreeSet<u64> = members.voters.iter().flatten().copied().collect();
        stay.remove(&number);
        if stay.is_empty() {
            return Err(refused(format!(
                "{name} is the only voter: without it there would be no cluster"
            )));
        }
        let needed = stay.len() / 2 + 1;
        let answer = self
            .heard(|answer| answer.intersection(&stay).count() >= needed)
            .await
            .intersection(&stay)
            .count();
        if answer < needed && !force {
            return Err(refused(format!(
                "of the {} voters that would stay, {answer} answer at present, and {needed} are needed to write anything: bring \
                 them back first, or add another node. (With --force it is tried all the same.)",
                stay.len()
            )));
        }
        if number == self.node {
            self.hand_over(None).await?;
            return Err(later(format!("{name} has handed the lead over first")));
        }
        let voters = ChangeMembers::RemoveVoters(BTreeSet::from([number]));
        agreed(self.raft.change_membership(voters, false)).await?;
        let (count, survive) = (stay.len(), (stay.len() - 1) / 2);
        Ok(format!(
            "{name} does not belong to the cluster any more; {count} voters stay, which survive the loss of {survive}"
        )
        .into())
    }

    /// Lets another node lead. Whoever is furthest of those that answer, if none is named.
    pub(super) async fn hand_over(&self, to: Option<u64>) -> Result<Box<str>, ChangeError> {
        let members = self.members();
        if to == Some(self.node) {
            return Ok("it leads already".into());
        }
        if to.is_some_and(|to| !members.votes(to)) {
            return Err(refused("an observer cannot lead: promote it first"));
        }
        let can = |id: &u64| *id != self.node && members.votes(*id);
        if !members.nodes.keys().any(can) {
            return Err(refused("there is no other voter"));
        }
        let answer = self
            .heard(|answer| match to {
                Some(to) => answer.contains(&to),
                None => answer.iter().any(can),
            })
            .await;
        if to.is_some_and(|to| !answer.contains(&to)) {
            return Err(refused("it does not answer, so it cannot lead"));
        }
        let mut candidates: Vec<u64> = answer.into_iter().filter(can).collect();
        let (_, followers) = self.followers();
        let at = |id: &u64| followers.get(id).map(|(at, _)| *at);
        candidates.sort_by_key(|id| (Some(*id) != to, std::cmp::Reverse(at(id))));
        // Once told to, this node takes no writes any more until another leads: so whoever was asked for, somebody must.
        for candidate in &candidates {
            for _ in 0..TURNS {
                let told = self.raft.trigger().transfer_leader(*candidate).await;
                told.map_err(|e| refused(e.to_string()))?;
                if let Some(leader) = self.successor().await {
                    let name = leader.and_then(|leader| members.nodes.get(&leader));
                    let name = name.map_or("another node", |member| &*member.name);
                    return match to.is_none_or(|to| leader.is_none_or(|leader| leader == to)) {
                        true => Ok(format!("{name} leads now").into()),
                        false => Err(refused(format!("{name} has taken the lead instead"))),
                    };
                }
            }
        }
        Err(refused("no other voter answers that could lead"))
    }

    /// Whoever has taken the lead meanwhile, if this node does not have it any more; none inside if that is not known yet.
    async fn successor(&self) -> Option<Option<u64>> {
        let mut metrics = self.raft.server_metrics();
        let stepped_down = timeout(TURN, async {
            while metrics.borrow_and_update().state == ServerState::Leader {
                metrics.changed().await.ok()?;
            }
            Some(())
        });
        stepped_down.await.ok()??;
        let succeeded = timeout(SUCCESSION, async {
            loop {
                let leader = metrics.borrow_and_update().current_leader;
                if let Some(leader) = leader.filter(|leader| *leader != self.node) {
                    return Some(leader);
                }
                metrics.changed().await.ok()?;
            }
        });
        Some(succeeded.await.ok().flatten())
    }

    fn member(&self, name: &str) -> Result<(u64, Member), ChangeError> {
        let members = self.members();
        let found = members.named(name).map(|(id, member)| (id, member.clone()));
        found.ok_or_else(|| {
            let names: Vec<&str> = members.nodes.values().map(|m| &*m.name).collect();
            refused(format!(
                "there is no node {name}; there are {}",
                found::list(&names)
            ))
        })
    }

    fn members(&self) -> Membership {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        membership(metrics.membership_config.membership())
    }

    /// Who answers, this node among them. If that is not enough it is waited for a moment: whoever has just taken the lead
    /// has heard of nobody yet.
    async fn heard(&self, enough: impl Fn(&BTreeSet<u64>) -> bool) -> BTreeSet<u64> {
        let given_up = Instant::now() + FIRST_HEARD;
        loop {
            let (_, followers) = self.followers();
            let recent = followers.iter().filter(|(_, (_, heard))| is_recent(*heard));
            let mut answer: BTreeSet<u64> = recent.map(|(id, _)| *id).collect();
            answer.insert(self.node);
            if enough(&answer) || Instant::now() > given_up {
                return answer;
            }
            sleep(TURN).await;
        }
    }

    /// The last entry, and how far the others are.
    fn followers(&self) -> (u64, BTreeMap<u64, Follower>) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let heard = metrics.heartbeat.as_ref();
        let matched = metrics.replication.iter().flatten();
        let followers = matched.map(|(id, last)| {
            let heard = heard.and_then(|heard| heard.get(id)?.as_ref());
            let at = last.as_ref().map_or(0, |last| last.index);
            (*id, (at, heard.map(|at| at.elapsed())))
        });
        (metrics.last_log_index.unwrap_or(0), followers.collect())
    }
}

fn is_recent(heard: Option<Duration>) -> bool {
    heard.is_some_and(|heard| heard <= HEARD)
}

/// Waits until a majority has agreed.
async fn agreed<T, E: std::fmt::Display>(
    change: impl Future<Output = Result<T, E>>,
) -> Result<(), ChangeError> {
    match timeout(AGREEMENT, change).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(refused(format!("the cluster has not agreed: {e}"))),
        Err(_) => Err(refused(format!(
            "no majority has agreed within {AGREEMENT:?}; it may still come into effect: see `pointsman cluster status`"
        ))),
    }
}
