//! Rules that give turns by weight.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Ending, Member, Report, Rule, Sight};
use crate::balance::draw::Draw;

/// nginx's smooth weighted round robin: each gains its weight, the richest is chosen and pays for all.
#[derive(Debug, Default)]
pub(super) struct Smooth {
    members: Vec<Member>,
    current: Vec<i64>,
}

impl Smooth {
    /// One turn among those that `may` have it.
    pub(super) fn turn(&mut self, may: impl Fn(&Member) -> bool) -> Option<usize> {
        let mut total = 0;
        let mut best: Option<usize> = None;
        for (n, member) in self.members.iter().enumerate() {
            if !may(member) {
                continue;
            }
            self.current[n] += i64::from(member.weight);
            total += i64::from(member.weight);
            if best.is_none_or(|b| self.current[n] > self.current[b]) {
                best = Some(n);
            }
        }
        let best = best?;
        self.current[best] -= total;
        Some(self.members[best].server)
    }
}

impl Rule for Smooth {
    fn members(&mut self, members: &[Member], _now: u64) {
        self.members = members.to_vec();
        self.current = vec![0; members.len()];
    }

    fn pick(&mut self, _job: u32, _sight: &Sight<'_>, _now: u64) -> Option<usize> {
        self.turn(|_| true)
    }

    fn done(&mut self, _job: u32, _server: usize, _ending: &Ending, _now: u64) {}
}

/// Turns by earliest deadline, as Envoy and gRPC give them: the next one is 1/weight later.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// Bits of the deadline, and a member's number.
    heap: BinaryHeap<Reverse<(u64, usize)>>,
}

impl Deadlines {
    /// Anew, each somewhere within its first turn.
    pub(super) fn begin(&mut self, weights: impl Iterator<Item = f64>, draw: &mut Draw) {
        let turn = |(n, weight): (usize, f64)| Reverse(((draw.uniform() / weight).to_bits(), n));
        self.heap = weights.enumerate().map(turn).collect();
    }

    /// Whose turn it is; its next one comes by what it weighs now.
    pub(super) fn next(&mut self, weight: impl Fn(usize) -> f64) -> Option<usize> {
        let mut first = self.heap.peek_mut()?;
        let Reverse((deadline, member)) = *first;
        let later = f64::from_bits(deadline) + 1.0 / weight(member);
        *first = Reverse((later.to_bits(), member));
        Some(member)
    }
}

/// gRPC's client-side weighted round robin (A58): weights are requests a second by utilisation, as servers report it.
#[derive(Debug)]
pub(super) struct ClientWrr {
    blackout: u64,
    update: u64,
    penalty: f64,
    draw: Draw,
    members: Vec<Member>,
    known: Vec<Known>,
    weights: Vec<f64>,
    turns: Deadlines,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    weight: f64,
    /// The first and the last report with a weight.
    first: Option<u64>,
    last: u64,
    /// Answers and errors since the weights were last set.
    answers: f64,
    errors: f64,
}

/// Weights that were not heard of for so long are forgotten.
const EXPIRES: u64 = 180_000_000_000;

impl ClientWrr {
    pub(super) fn new(blackout: f64, update: f64, penalty: f64, draw: Draw) -> Self {
        Self {
            blackout: (blackout * 1e9) as u64,
            update: (update * 1e9) as u64,
            penalty,
            draw,
            members: Vec::new(),
            known: Vec::new(),
            weights: Vec::new(),
            turns: Deadlines::default(),
        }
    }

    fn weigh(&mut self, now: u64) {
        let usable = |k: &Known| match k.first {
            Some(first) if now >= first + self.blackout && now < k.last + EXPIRES => k.weight,
            _ => 0.0,
        };
        let weights: Vec<f64> = self
            .members
            .iter()
            .map(|m| usable(&self.known[m.server]))
            .collect();
        let known = weights.iter().filter(|&&w| w > 0.0);
        let (sum, count) = known.fold((0.0, 0), |(s, n), w| (s + w, n + 1));
        // With fewer than two weights it is plain round robin; who has none gets the mean.
        let mean = if count < 2 {
            1.0
        } else {
            sum / f64::from(count)
        };
        let or_mean = |&w: &f64| if w > 0.0 && count >= 2 { w } else { mean };
        self.weights = weights.iter().map(or_mean).collect();
        self.turns
            .begin(self.weights.iter().copied(), &mut self.draw);
    }

    fn heard(&mut self, server: usize, report: &Report, now: u64) {
        let known = &mut self.known[server];
        let (rate, used) = (f64::from(report.rate), f64::from(report.utilisation));
        if rate <= 0.0 || used <= 0.0 {
            return;
        }
        let errors = known.errors / (known.answers + known.errors).max(1.0);
        known.weight = rate / (used + errors * self.penalty);
        known.first.get_or_insert(now);
        known.last = now;
    }
}

impl Rule for ClientWrr {
    fn members(&mut self, members: &[Member], now: u64) {
        let most = members.iter().map(|m| m.server + 1).max().unwrap_or(0);
        self.known
            .resize(self.known.len().max(most), Known::default());
        for member in members.iter().filter(|m| !self.members.contains(m)) {
            self.known[member.server] = Known::default();
        }
        self.members = members.to_vec();
        self.weigh(now);
    }

    fn pick(&mut self, _job: u32, _sight: &Sight<'_>, _now: u64) -> Option<usize> {
        let weights = &self.weights;
        let member = self.turns.next(|m| weights[m])?;
        Some(self.members[member].server)
    }

    fn done(&mut self, _job: u32, server: usize, ending: &Ending, now: u64) {
        match ending.outcome {
            balance::Outcome::Answered => self.known[server].answers += 1.0,
            _ => self.known[server].errors += 1.0,
        }
        if let Some(report) = &ending.report {
            self.heard(server, report, now);
        }
    }

    fn interval(&self) -> Option<u64> {
        Some(self.update)
    }

    fn wake(&mut self, _sight: &Sight<'_>, now: u64) {
        self.weigh(now);
        for known in &mut self.known {
            known.answers *= 0.5;
            known.errors *= 0.5;
        }
    }
}
