//! Rules that count what is in flight.

use std::collections::BTreeSet;

use super::counting::Counting;
use super::turns::{Deadlines, Smooth};
use super::{Ending, Member, Rule, Sight};
use crate::balance::draw::Draw;

/// nginx's least_conn: the fewest per weight of all; smooth round robin among those.
#[derive(Debug, Default)]
pub(super) struct LeastConn {
    counting: Counting,
    ties: Smooth,
}

impl Rule for LeastConn {
    fn members(&mut self, members: &[Member], now: u64) {
        self.counting.members(members);
        self.ties.members(members, now);
    }

    fn pick(&mut self, _job: u32, _sight: &Sight<'_>, _now: u64) -> Option<usize> {
        let counting = &self.counting;
        let mut best = counting.members.first()?;
        for member in &counting.members[1..] {
            if counting.less(member, best) {
                best = member;
            }
        }
        let server = self.ties.turn(|m| !counting.less(best, m))?;
        self.counting.begin(server);
        Some(server)
    }

    fn done(&mut self, _job: u32, server: usize, _ending: &Ending, _now: u64) {
        self.counting.end(server);
    }
}

/// HAProxy's leastconn: a tree by (in flight + 1) / weight, where idle ones come first; equal ones in the order in which
/// they got there.
#[derive(Debug, Default)]
pub(super) struct Tree {
    counting: Counting,
    tree: BTreeSet<(u64, u64, usize)>,
    places: Vec<Option<(u64, u64)>>,
    weights: Vec<u64>,
    stamp: u64,
}

/// HAProxy's unit of in-flight per weight.
const UNIT: u64 = 1 << 16;

impl Tree {
    fn place(&mut self, server: usize) {
        let Some(Some((key, stamp))) = self.places.get(server).copied() else {
            return;
        };
        self.tree.remove(&(key, stamp, server));
        self.stamp += 1;
        let q = u64::from(self.counting.of(server));
        let key = if q == 0 {
            0
        } else {
            (q + 1) * UNIT / self.weights[server]
        };
        self.places[server] = Some((key, self.stamp));
        self.tree.insert((key, self.stamp, server));
    }
}

impl Rule for Tree {
    fn members(&mut self, members: &[Member], _now: u64) {
        self.counting.members(members);
        self.tree.clear();
        let most = members.iter().map(|m| m.server + 1).max().unwrap_or(0);
        self.places = vec![None; most];
        self.weights = vec![1; most];
        for member in members {
            self.places[member.server] = Some((0, 0));
            self.weights[member.server] = u64::from(member.weight);
            self.place(member.server);
        }
    }

    fn pick(&mut self, _job: u32, _sight: &Sight<'_>, _now: u64) -> Option<usize> {
        let (.., server) = *self.tree.first()?;
        self.counting.begin(server);
        self.place(server);
        Some(server)
    }

    fn done(&mut self, _job: u32, server: usize, _ending: &Ending, _now: u64) {
        self.counting.end(server);
        self.place(server);
    }
}

/// The fewest per weight of a few drawn by weight: nginx's `random two least_conn`, HAProxy's `random(2)`; with equal
/// weights also Envoy's LEAST_REQUEST.
#[derive(Debug)]
pub(super) struct Drawn {
    counting: Counting,
    choices: usize,
    /// Whether the same one may be drawn twice.
    distinct: bool,
    /// Sums of the weights up to and with each member.
    sums: Vec<u64>,
    draw: Draw,
}

impl Drawn {
    pub(super) fn new(choices: usize, distinct: bool, draw: Draw) -> Self {
        Self {
            counting: Counting::default(),
            choices,
            distinct,
            sums: Vec::new(),
            draw,
        }
    }

    fn one(&mut self) -> usize {
        let total = *self.sums.last().expect("there are members");
        let ticket = (self.draw.uniform() * total as f64) as u64;
        self.sums.partition_point(|&sum| sum <= ticket)
    }
}

impl Rule for Drawn {
    fn members(&mut self, members: &[Member], _now: u64) {
        self.counting.members(members);
        let mut sum = 0;
        self.sums.clear();
        for member in members {
            sum += u64::from(member.weight);
            self.sums.push(sum);
        }
    }

    fn pick(&mut self, _job: u32, _sight: &Sight<'_>, _now: u64) -> Option<usize> {
        if self.sums.is_empty() {
            return None;
        }
        let mut best = self.one();
        for _ in 1..self.choices {
            let mut other = self.one();
            while self.distinct && other == best && self.sums.len() > 1 {
                other = self.one();
            }
            let members = &self.counting.members;
            if self.counting.less(&members[other], &members[best]) {
                best = other;
            }
        }
        let server = self.counting.members[best].server;
        self.counting.begin(server);
        Some(server)
    }

    fn done(&mut self, _job: u32, server: usize, _ending: &Ending, _now: u64) {
        self.counting.end(server);
    }
}

/// Envoy's LEAST_REQUEST: the fewest of two; with unequal weights turns by weight / (active + 1)^bias instead, where
/// bias is 1.
#[derive(Debug)]
pub(super) struct LeastRequest {
    equal: Drawn,
    unequal: bool,
    turns: Deadlines,
    draw: Draw,
}

impl LeastRequest {
    pub(super) fn new(choices: usize, mut draw: Draw) -> Self {
        let own = Draw::new(draw.bits(), 1);
        Self {
            equal: Drawn::new(choices, false, own),
            unequal: false,
            turns: Deadlines::default(),
            draw,
        }
    }
}

impl Rule for LeastRequest {
    fn members(&mut self, members: &[Member], now: u64) {
        self.equal.members(members, now);
        self.unequal = members.iter().any(|m| m.weight != members[0].weight);
        self.turns
            .begin(members.iter().map(|m| f64::from(m.weight)), &mut self.draw);
    }

    fn pick(&mut self, job: u32, sight: &Sight<'_>, now: u64) -> Option<usize> {
        if !self.unequal {
            return self.equal.pick(job, sight, now);
        }
        let counting = &mut self.equal.counting;
        let weight = |m: usize| {
            let member = &counting.members[m];
            f64::from(member.weight) / f64::from(counting.of(member.server) + 1)
        };
        let member = self.turns.next(weight)?;
        let server = counting.members[member].server;
        counting.begin(server);
        Some(server)
    }

    fn done(&mut self, job: u32, server: usize, ending: &Ending, now: u64) {
        self.equal.done(job, server, ending, now);
    }
}
