//! Clients' long connections are spread over the nodes of a cluster.
//!
//! A node that restarts, or joins, finds them at the others, and they stay there. So a node that has more than its share,
//! C·w_i / Σw, closes what it has too many at a bounded rate, and whoever comes back comes to another. Every node decides
//! for itself, by the figures that all tell each other, and nobody leads: what one has too many, it alone can close.

use std::collections::VecDeque;
use std::time::Duration;

use model::Moment;

use crate::share::{BEGINS, ENDS, Share};

/// From one look to the next.
const INTERVAL: Duration = Duration::from_secs(1);

/// Nothing is moved until the nodes, their weights and their leader have been the same for so long. A node that restarts is
/// away for less, so that all of a rolling restart is one storm, and nothing is moved that would be moved again.
const QUIET: Duration = Duration::from_secs(10);

/// Nor while clients come or go in crowds, so many of all in a second: they may be those of a node that has just died, whose last
/// figure still counts.
const CROWD: f64 = 0.03;

/// Figures that are older say nothing. They come once a second, and over two hops.
const OLD: Duration = Duration::from_secs(4);

/// The part of its connections that a node closes in a second, at most; but one.
const RATE: f64 = 0.01;

/// Less than so many connections too many, or too few, are no load, and moving them no relief.
const LEAST: f64 = 8.0;

/// So many seconds' worth of connections may be missing that were there in the last so many looks. Clients that do not find
/// another node, or wait for long, are not followed by more.
const MISSING: f64 = 3.0;
const REMEMBERED: usize = 30;

/// What a node serves of one kind of long connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// The node's number.
    pub node: u64,
    /// Drawn when it started: a node that starts anew has lost what it had, however soon it is back.
    pub run: u64,
    /// How many it serves.
    pub connections: u64,
    /// Its part of all of them is as its weight is to those of all.
    pub weight: u16,
    /// How old the figure is.
    pub age: Duration,
}

/// What a node is to do until the next look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// So many connections are to be closed that belong to another node by name.
    pub home: u64,
    /// A connection is to be closed for each of these nodes, which have most room, best in their favour.
    pub away: Vec<u64>,
    /// Who comes from one of these nodes, which give some up, is to be passed on, once: this node has its share, and another
    /// has not.
    pub passed: Vec<u64>,
}

/// How one kind of connections is spread, as one node sees it: a state machine.
#[derive(Debug, Default)]
pub struct Spread {
    next: Moment,
    known: Known,
    changed: Moment,
    /// How many connections there were at the last looks.
    totals: VecDeque<f64>,
    moving: bool,
    /// What this node may close by now, in connections; of those with a home elsewhere, and of the others.
    allowed: [f64; 2],
}

/// What must not change while connections are moved.
#[derive(Debug, Default, PartialEq, Eq)]
struct Known {
    leader: Option<u64>,
    /// By number, run and weight.
    nodes: Vec<(u64, u64, u16)>,
}

impl Spread {
    /// When [`Spread::handle_timeout`] is due.
    pub const fn next_deadline(&self) -> Moment {
        self.next
    }

    /// A look at what the nodes serve, if one is due: this one is `own`, and `misplaced` of its connections belong to another
    /// by name.
    pub fn handle_timeout(
        &mut self,
        (own, leader): (u64, Option<u64>),
        served: &[Served],
        misplaced: u64,
        now: Moment,
    ) -> Option<Orders> {
        // A deadline further away than it can be comes from a clock that stepped back.
        if now < self.next && self.next <= now + INTERVAL {
            return None;
        }
        self.next = now + INTERVAL;
        let mut fresh: Vec<Served> = served.iter().copied().filter(|s| s.age <= OLD).collect();
        fresh.sort_unstable_by_key(|s| s.node);
        fresh.dedup_by_key(|s| s.node);
        self.see(leader, &fresh, now);
        let parts = self.parts(&fresh);
        let share = parts.iter().find(|(node, _)| *node == own);
        let (Some((_, share)), false) = (share, self.is_stormy(now)) else {
            self.moving = false;
            self.allowed = [0.0; 2];
            return Some(Orders::default());
        };
        self.turn(&parts);
        let home = self.homewards(misplaced, share.open);
        let away = match home {
            0 => self.away(&parts, *share),
            // One rate holds for both.
            _ => Vec::new(),
        };
        let passed = self.passed(own, &parts);
        Some(Orders { home, away, passed })
    }

    fn see(&mut self, leader: Option<u64>, fresh: &[Served], now: Moment) {
        let known = Known {
            leader,
            nodes: fresh.iter().map(|s| (s.node, s.run, s.weight)).collect(),
        };
        let all: u64 = fresh.iter().map(|s| s.connections).sum();
        let (before, all) = (self.total(), all as f64);
        let in_crowds = (all - before).abs() > (before * CROWD).max(LEAST);
        // A clock that stepped back would make it a long storm.
        if self.known != known || in_crowds || now < self.changed {
            self.known = known;
            self.changed = now;
            self.totals.clear();
        }
        self.totals.push_front(all);
        self.totals.truncate(REMEMBERED);
    }

    /// Whether the nodes changed a moment ago, or there is nobody to give anything to, or to say who belongs together.
    fn is_stormy(&self, now: Moment) -> bool {
        self.known.leader.is_none() || self.known.nodes.len() < 2 || now.since(self.changed) < QUIET
    }

    /// All connections there are. Those that are on their way, one or two in a hundred, make all shares seem smaller, and as many more
    /// are closed: not worth to be told of.
    fn total(&self) -> f64 {
        self.totals.front().copied().unwrap_or_default()
    }

    fn parts(&self, fresh: &[Served]) -> Vec<(u64, Share)> {
        let weight: f64 = fresh.iter().map(|s| f64::from(s.weight)).sum();
        if weight == 0.0 {
            return Vec::new();
        }
        let total = self.total();
        let part = |s: &Served| {
            let share = Share {
                open: s.connections as f64,
                target: total * f64::from(s.weight) / weight,
            };
            (s.node, share)
        };
        fresh.iter().map(part).collect()
    }

    fn turn(&mut self, parts: &[(u64, Share)]) {
        let is_off = |times, least| parts.iter().any(|(_, s)| s.is_off(times, least));
        // A node that is to have none is to have none.
        let empties = parts.iter().any(|(_, s)| s.target == 0.0 && s.open > 0.0);
        self.moving = empties
            || match self.moving {
                // With less than two too many, a move helps nobody.
                true => is_off(ENDS, 2.0),
                false => is_off(BEGINS, LEAST),
            };
        if !self.moving {
            self.allowed[1] = 0.0;
        }
    }

    fn homewards(&mut self, misplaced: u64, open: f64) -> u64 {
        if misplaced == 0 {
            self.allowed[0] = 0.0;
            return 0;
        }
        let home = (self.allow(0, open) as u64).min(misplaced);
        self.allowed[0] -= home as f64;
        home
    }

    /// For each connection that is to be closed, the node that then lacks most.
    fn away(&mut self, parts: &[(u64, Share)], own: Share) -> Vec<u64> {
        if !self.moving || own.excess() < 1.0 {
            return Vec::new();
        }
        let missing = self.totals.iter().copied().fold(0.0, f64::max) - self.total();
        if missing > (self.total() * RATE * MISSING).max(LEAST) {
            return Vec::new();
        }
        let most = self.allow(1, own.open).min(own.excess()) as usize;
        let mut lacks: Vec<(f64, u64)> = parts.iter().map(|(n, s)| (s.lack(), *n)).collect();
        let mut away = Vec::with_capacity(most);
        for _ in 0..most {
            let most = lacks.iter_mut().max_by(|a, b| a.0.total_cmp(&b.0));
            let Some((lack, node)) = most.filter(|(lack, _)| *lack > 0.0) else {
                break;
            };
            *lack -= 1.0;
            away.push(*node);
        }
        self.allowed[1] -= away.len() as f64;
        away
    }

    /// What may be closed now, of those with a home elsewhere, or of the others. If each node closes its part of what it has,
    /// all of them close that part of all.
    fn allow(&mut self, which: usize, open: f64) -> f64 {
        let second = (open * RATE).max(1.0);
        let allowed = &mut self.allowed[which];
        *allowed = (*allowed + second).min(second + 1.0);
        *allowed
    }

    /// Clients that cannot be told where to go try their nodes in turn, and in a cluster of five the one that is empty is the
    /// next of every fourth only. Whoever has its share passes them on, or four times as many would have to move.
    fn passed(&self, own: u64, parts: &[(u64, Share)]) -> Vec<u64> {
        let mut own_share = parts.iter().filter(|(node, _)| *node == own);
        let own_lacks = own_share.any(|(_, share)| share.lack() >= 1.0);
        let lacks = |share: &Share| share.lack() >= 1.0 && share.is_off(ENDS, 2.0);
        if !self.moving || own_lacks || !parts.iter().any(|(_, share)| lacks(share)) {
            return Vec::new();
        }
        let gives = |(node, share): &&(u64, Share)| *node != own && share.excess() >= 1.0;
        parts.iter().filter(gives).map(|(node, _)| *node).collect()
    }
}
