//! How a node whose data directory is empty comes to belong to a cluster: it begins one with others whose directories are
//! empty, or it is taken in.
//!
//! An empty directory may be the first, or one in place of another that was lost, whose promises nobody knows any more. So
//! a cluster is begun by one node only, the first by name, once all others have said that they are empty too; and every
//! member is known by its directory, so that nobody takes one with another for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use openraft::Raft;
use registry::replication::{Change, EntryId, Member, Membership, Request, Response, Standing};
use tokio::time::{Instant, sleep};

use super::machine::Machine;
use super::network::Network;
use super::types::Types;
use crate::node::Shared;
use crate::node_number;

/// How often the others are asked.
const AGAIN: Duration = Duration::from_millis(250);
/// How often this node looks whether it belongs to a cluster.
const LOOK: Duration = Duration::from_millis(10);
/// How long they may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long being taken in may take.
const ADMISSION: Duration = Duration::from_secs(30);

/// A node that does not belong to a cluster yet.
pub(super) struct Newcomer {
    pub(super) node: u64,
    pub(super) raft: Raft<Types, Machine>,
    pub(super) network: Network,
    pub(super) shared: Arc<Shared>,
    /// Where others reach it.
    pub(super) address: Box<str>,
    /// Where members of the cluster are that is to be joined, if it is not to begin one.
    pub(super) join: Vec<String>,
}

/// Who belongs to a cluster, by the one of its nodes that knows best.
pub(super) struct Newest<'a> {
    pub(super) since: EntryId,
    pub(super) members: &'a Membership,
}

impl<'a> Newest<'a> {
    pub(super) fn of(standings: impl Iterator<Item = &'a Standing>) -> Option<Self> {
        let known = standings.filter_map(|standing| standing.membership.as_ref());
        let newest = known.max_by_key(|(since, _)| *since);
        newest.map(|(since, members)| Self {
            since: *since,
            members,
        })
    }
}

/// What nodes say of themselves, or why they do not, by where they are.
type Standings = Vec<(Box<str>, Result<Standing, String>)>;

/// Asks nodes who they are; by their numbers, or zero for whoever is there, and their addresses.
pub(super) async fn ask_all<'a>(
    network: &Network,
    nodes: impl Iterator<Item = (u64, &'a str)>,
) -> Standings {
    let asked = nodes.map(async |(node, address)| {
        let standing = who(network, node, address).await;
        (address.into(), standing)
    });
    join_all(asked).await
}

/// Asks a node who it is.
pub(super) async fn who(network: &Network, node: u64, address: &str) -> Result<Standing, String> {
    let link = network.any_disk(node, address);
    match link.ask(Request::Who, PATIENCE).await {
        Ok(Response::Standing(standing)) => Ok(*standing),
        Ok(Response::Refused { why, .. }) => Err(why.into()),
        Ok(other) => Err(format!("an answer to another question: {other:?}")),
        Err(e) => Err(e.to_string()),
    }
}

/// Who this node is.
pub(super) async fn standing(raft: &Raft<Types, Machine>, shared: &Shared) -> Standing {
    let begun = raft.is_initialized().await.unwrap_or(true);
    let membership = {
        let origin = &shared.state().origin;
        let known = !origin.membership.voters.is_empty();
        known.then(|| (origin.since, origin.membership.clone()))
    };
    let company = &shared.company;
    Standing {
        name: company.name.clone(),
        disk: company.disk,
        blank: !begun,
        founders: company.peers.keys().map(|name| (&**name).into()).collect(),
        membership,
        format: company.format,
    }
}

impl Newcomer {
    /// Runs until this node belongs to a cluster.
    pub(super) async fn run(self) {
        while !self.belongs().await {
            let trouble = self.try_to_belong().await;
            self.shared.company.set_trouble(trouble.as_deref());
            let asked = Instant::now();
            while asked.elapsed() < AGAIN && !self.belongs().await {
                sleep(LOOK).await;
            }
        }
        self.shared.company.set_trouble(None);
    }

    async fn belongs(&self) -> bool {
        matches!(self.raft.is_initialized().await, Ok(true))
    }

    /// Returns what it waits for.
    async fn try_to_belong(&self) -> Option<String> {
        let company = &self.shared.company;
        let others = company.peers.iter();
        let others = others.filter(|(name, _)| **name != *company.name);
        let others = others.map(|(name, at)| (node_number(name), &**at));
        let others = others.chain(self.join.iter().map(|at| (0, &**at)));
        let standings = ask_all(&self.network, others).await;
        let known = standings
            .iter()
            .filter_map(|(at, s)| Some((at, s.as_ref().ok()?)));
        if let Some(newest) = Newest::of(known.clone().map(|(_, standing)| standing)) {
            let knows = |s: &Standing| s.membership.as_ref().is_some_and(|m| m.0 == newest.since);
            let by = known.clone().find(|(_, standing)| knows(standing));
            return self
                .ask_to_be_taken_in(newest.members, by.map_or("", |(at, _)| at))
                .await;
        }
        let silent: Vec<String> = standings
            .iter()
            .filter_map(|(at, s)| Some(format!("{at} ({})", s.as_ref().err()?)))
            .collect();
        if company.peers.is_empty() {
            return Some(format!(
                "no member of a cluster is found to be taken in by, of [cluster] join; no answer came from {}",
                list(&silent)
            ));
        }
        if !silent.is_empty() {
            return Some(format!(
                "to begin a cluster, all nodes of [cluster] peers must run; no answer came from {}",
                list(&silent)
            ));
        }
        self.begin(&known.map(|(_, standing)| standing).collect::<Vec<_>>())
            .await
    }

    /// All others have answered, and none belongs to a cluster.
    async fn begin(&self, others: &[&Standing]) -> Option<String> {
        let company = &self.shared.company;
        let founders: Vec<Box<str>> = company.peers.keys().map(|n| (&**n).into()).collect();
        for other in others {
            let name = &other.name;
            if !other.blank {
                return Some(format!(
                    "{name} has voted in a cluster before, and this node has never belonged to it: it has lost its data \
                     directory. If the cluster has never worked, empty all of them with `pointsman cluster wipe -c FILE`"
                ));
            }
            if other.founders != founders {
                return Some(format!(
                    "[cluster] peers of {name} names {}, and that of this node {}: make them the same",
                    list(&other.founders),
                    list(&founders)
                ));
            }
        }
        // One of them does, or two would begin two clusters.
        if founders.first().is_some_and(|first| *first != company.name) {
            return None;
        }
        let mut known: BTreeMap<&str, (u64, u8)> = BTreeMap::new();
        known.extend(others.iter().map(|o| (&*o.name, (o.disk, o.format))));
        known.insert(&company.name, (company.disk, company.format));
        let members: BTreeMap<u64, Member> = company
            .peers
            .iter()
            .filter_map(|(name, address)| {
                let (disk, format) = *known.get(&**name)?;
                let member = Member {
                    name: (&**name).into(),
                    address: (&**address).into(),
                    disk,
                    format,
                };
                Some((node_number(name), member))
            })
            .collect();
        if members.len() != company.peers.len() {
            return Some("two entries of [cluster] peers lead to the same node".into());
        }
        let begun = self.raft.initialize(members).await;
        begun.err().map(|e| e.to_string())
    }

    /// There is a cluster.
    async fn ask_to_be_taken_in(&self, members: &Membership, by: &str) -> Option<String> {
        let company = &self.shared.company;
        let name = &company.name;
        if members.has(self.node, company.disk) {
            // It comes by itself.
            return None;
        }
        if members.nodes.contains_key(&self.node) {
            return Some(format!(
                "the data directory of {name} is empty, and the cluster knows it with another one: it has lost that, and with \
                 it what it has promised. Run `pointsman cluster remove {name}` at another node; then this one is taken in as an \
                 observer, and `pointsman cluster promote {name}` makes it a voter again"
            ));
        }
        let change = Change::Add {
            name: name.clone(),
            address: self.address.clone(),
            observer: true,
        };
        let link = self.network.any_disk(0, by);
        match link.ask(Request::Change(change), ADMISSION).await {
            Ok(Response::Said(_) | Response::Done) => None,
            Ok(Response::Refused { why, .. }) => Some(format!("not taken in: {why}")),
            Ok(_) => Some("not taken in: an answer to another question".into()),
            Err(e) => Some(format!("not taken in: {e}")),
        }
    }
}

pub(super) fn list(words: &[impl AsRef<str>]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    words.join(", ")
}
