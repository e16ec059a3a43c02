//! The clients that nodes serve, by what they tell each other: each tells the leader once a second, along with a question that it
//! asks anyway, and is told of the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::Moment;
use registry::replication::{Crowd, Heard, Member};

use crate::Node;
use crate::node::{Shared, lock};

/// How often a node tells.
const TELL: Duration = Duration::from_secs(1);
/// What is older says nothing about now, and is passed on to nobody.
const OLD: Duration = Duration::from_secs(10);

/// A node of the cluster, and whom it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its number.
    pub node: u64,
    /// Its name.
    pub name: Box<str>,
    /// How old what it has said is; zero for this node.
    pub age: Duration,
    /// What it has said.
    pub crowd: Crowd,
}

/// What is known of the nodes' clients.
#[derive(Debug, Default)]
pub(crate) struct Crowds(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    own: Option<Crowd>,
    /// When this node has told of it.
    told: Option<Moment>,
    /// Of the others, and the moment that it is from.
    others: BTreeMap<u64, (Moment, Crowd)>,
}

impl Crowds {
    /// What the leader is to be told now, if it is time.
    pub(crate) fn to_tell(&self, now: Moment) -> Option<Crowd> {
        let mut known = lock(&self.0);
        if known.told.is_some_and(|told| now.since(told) < TELL) {
            return None;
        }
        known.told = Some(now);
        known.own.clone()
    }

    /// Notes what a node has said at `then`.
    pub(crate) fn note(&self, node: u64, then: Moment, crowd: Crowd) {
        let mut known = lock(&self.0);
        let newer = |(at, _): &(Moment, Crowd)| *at > then;
        if !known.others.get(&node).is_some_and(newer) {
            known.others.insert(node, (then, crowd));
        }
    }

    /// What a node is told of the others by this one, `own`.
    pub(crate) fn heard(&self, own: u64, asker: u64, now: Moment) -> Vec<Heard> {
        let mut known = lock(&self.0);
        known.others.retain(|_, (then, _)| now.since(*then) <= OLD);
        let others = known.others.iter().map(|(node, (then, crowd))| Heard {
            node: *node,
            // Rounded up: nothing may seem younger than it is.
            age: now.since(*then).as_micros().div_ceil(1_000) as u64,
            crowd: crowd.clone(),
        });
        let own = known.own.iter().map(|crowd| Heard {
            node: own,
            age: 0,
            crowd: crowd.clone(),
        });
        own.chain(others)
            .filter(|heard| heard.node != asker)
            .collect()
    }
}

impl Shared {
    /// Notes what the leader has said of the others, when it was asked at `asked`.
    pub(crate) fn note_crowds(&self, asked: Moment, crowds: Vec<Heard>) {
        for Heard { node, age, crowd } in crowds {
            let age = Duration::from_millis(age).min(OLD);
            let then = asked.since(Moment::ZERO).saturating_sub(age);
            if node != self.node {
                self.company.crowds.note(node, Moment::ZERO + then, crowd);
            }
        }
    }
}

impl Node {
    /// Says whom this node serves, for the others to know; to be said again whenever it changes.
    pub fn set_crowd(&self, crowd: Crowd) {
        lock(&self.shared().company.crowds.0).own = Some(crowd);
    }

    /// The nodes of the cluster that were heard of in the last ten seconds, and whom they serve, by their numbers; this one too,
    /// if it has said so. None if this node is alone.
    pub fn neighbours(&self) -> Vec<Neighbour> {
        let shared = self.shared();
        if shared.alone {
            return Vec::new();
        }
        let now = shared.now();
        let heard = shared.company.crowds.heard(shared.node, 0, now);
        let members = lock(&shared.known).membership.clone();
        let named = |heard: Heard| {
            let member: &Member = members.nodes.get(&heard.node)?;
            Some(Neighbour {
                node: heard.node,
                name: member.name.clone(),
                age: Duration::from_millis(heard.age),
                crowd: heard.crowd,
            })
        };
        let mut neighbours: Vec<Neighbour> = heard.into_iter().filter_map(named).collect();
        neighbours.sort_unstable_by_key(|neighbour| neighbour.node);
        neighbours
    }

    /// What this node is called; empty if it is alone.
    pub fn name(&self) -> &str {
        &self.shared().company.name
    }

    /// The number of the node that leads, as far as this one knows.
    pub fn led_by(&self) -> Option<u64> {
        let shared: &Arc<Shared> = self.shared();
        lock(&shared.known).leader
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd(run: u64) -> Crowd {
        Crowd {
            run,
            weight: 100,
            ..Crowd::default()
        }
    }

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_node_tells_once_a_second_once_it_has_something_to_tell() {
        let crowds = Crowds::default();
        assert_eq!(crowds.to_tell(at(1)), None);
        lock(&crowds.0).own = Some(crowd(3));
        assert_eq!(crowds.to_tell(at(2)), Some(crowd(3)));
        assert_eq!(crowds.to_tell(at(2) + TELL / 2), None);
        assert_eq!(crowds.to_tell(at(3)), Some(crowd(3)));
    }

    #[test]
    fn what_is_told_on_has_its_age_and_what_is_too_old_is_not() {
        let crowds = Crowds::default();
        lock(&crowds.0).own = Some(crowd(1));
        crowds.note(2, at(20), crowd(2));
        crowds.note(3, at(15), crowd(3));
        // What came late is older than what is known.
        crowds.note(3, at(12), crowd(4));
        let heard = crowds.heard(1, 2, at(22));
        let ages: Vec<(u64, u64)> = heard.iter().map(|h| (h.node, h.age)).collect();
        assert_eq!(ages, [(1, 0), (3, 7_000)]);
        assert_eq!(heard[1].crowd, crowd(3));
        assert_eq!(crowds.heard(1, 3, at(26)).len(), 2);
        assert_eq!(crowds.heard(1, 0, at(40)).len(), 1);
    }
}
