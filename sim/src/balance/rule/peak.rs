//! Peak-sensitive moving averages of latency times what is in flight, of two drawn.

use super::counting::Counting;
use super::{Ending, Member, Rule, Sight};
use crate::balance::draw::{Draw, exp};

/// Whose variant it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Finagle's and tower's: each answer counts at once, and the average fades between answers.
    Finagle,
    /// Envoy's: answers are gathered, and taken in every 100 ms; nothing fades in between.
    Envoy,
}

#[derive(Debug)]
pub(super) struct PeakEwma {
    whose: Whose,
    /// In nanoseconds.
    decay: f64,
    counting: Counting,
    averages: Vec<Average>,
    draw: Draw,
}

#[derive(Clone, Debug, Default)]
struct Average {
    cost: f64,
    at: u64,
    gathered: Vec<(u64, f64)>,
}

/// What an unmeasured server with requests under way costs, with Finagle.
const PENALTY: f64 = (1_u64 << 47) as f64;
/// What an unmeasured server is taken for by Envoy: 10 ms.
const DEFAULT: f64 = 1e7;

impl Average {
    fn take(&mut self, latency: f64, decay: f64, now: u64) {
        let kept = exp(-(now.saturating_sub(self.at) as f64) / decay);
        self.cost = match latency > self.cost {
            true => latency,
            false => self.cost * kept + latency * (1.0 - kept),
        };
        self.at = now;
    }
}

impl PeakEwma {
    pub(super) fn new(whose: Whose, decay: f64, draw: Draw) -> Self {
        let counting = Counting::default();
        Self {
            whose,
            decay: decay * 1e9,
            counting,
            averages: Vec::new(),
            draw,
        }
    }

    fn cost(&mut self, server: usize, now: u64) -> f64 {
        let q = f64::from(self.counting.of(server));
        let average = &mut self.averages[server];
        if self.whose == Whose::Envoy {
            return if average.cost > 0.0 {
                average.cost
            } else {
                DEFAULT
            } * (q + 1.0);
        }
        // Reading lets it fade.
        average.take(0.0, self.decay, now);
        match average.cost > 0.0 {
            false if q > 0.0 => PENALTY + q,
            _ => average.cost * (q + 1.0),
        }
    }
}

impl Rule for PeakEwma {
    fn members(&mut self, members: &[Member], _now: u64) {
        let most = members.iter().map(|m| m.server + 1).max().unwrap_or(0);
        self.averages
            .resize(self.averages.len().max(most), Average::default());
        for member in members
            .iter()
            .filter(|m| !self.counting.members.contains(m))
        {
            self.averages[member.server] = Average::default();
        }
        self.counting.members(members);
    }

    fn pick(&mut self, _job: u32, _sight: &Sight<'_>, now: u64) -> Option<usize> {
        let n = self.counting.members.len();
        if n == 0 {
            return None;
        }
        let first = self.draw.below(n);
        // Another one, if there is one.
        let second = (first + 1 + self.draw.below(n.saturating_sub(1).max(1))) % n;
        let [a, b] = [first, second].map(|i| self.counting.members[i].server);
        let server = if self.cost(b, now) < self.cost(a, now) {
            b
        } else {
            a
        };
        self.counting.begin(server);
        Some(server)
    }

    fn done(&mut self, _job: u32, server: usize, ending: &Ending, now: u64) {
        self.counting.end(server);
        let (latency, average) = (ending.latency as f64, &mut self.averages[server]);
        match self.whose {
            Whose::Finagle => average.take(latency, self.decay, now),
            Whose::Envoy => average.gathered.push((now, latency)),
        }
    }

    fn interval(&self) -> Option<u64> {
        (self.whose == Whose::Envoy).then_some(100_000_000)
    }

    fn wake(&mut self, _sight: &Sight<'_>, _now: u64) {
        for average in &mut self.averages {
            for (at, latency) in std::mem::take(&mut average.gathered) {
                average.take(latency, self.decay, at);
            }
        }
    }
}
