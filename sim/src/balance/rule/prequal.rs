//! Prequal (Wydrowski and others, NSDI 2024): probes ahead of requests, a pool of their answers, and the hot-cold
//! lexicographic rule. The same pool serves C3's score, as in the paper's comparison.

use std::collections::VecDeque;

use super::c3::Scores;
use super::kind::Prequal as Settings;
use super::{Ending, Member, Report, Rule, Sight};
use crate::balance::draw::Draw;

#[derive(Debug)]
pub(super) struct Pooled {
    settings: Settings,
    /// With these, C3's score takes the place of hot and cold.
    scores: Option<Scores>,
    members: Vec<Member>,
    pool: Vec<Entry>,
    /// In flight at the last probes, of which the quantile is taken.
    loads: VecDeque<u32>,
    hot: u32,
    removed_oldest: bool,
    owed_probes: f64,
    owed_removals: f64,
    draw: Draw,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    server: usize,
    at: u64,
    load: u32,
    latency: f32,
    uses: u32,
    /// How often it may be used.
    most: u32,
}

/// Answers to probes that are kept at the most, and for how long.
const POOL: usize = 16;
const AGE: u64 = 1_000_000_000;
/// With fewer, the choice is random.
const FEWEST: usize = 2;
/// Probes that the quantile of loads is taken of.
const LOADS: usize = 128;
/// Prequal's delta.
const DELTA: f64 = 1.0;
/// Where the formula has no answer.
const MOST_USES: f64 = 64.0;

impl Pooled {
    pub(super) fn new(settings: Settings, scores: Option<Scores>, draw: Draw) -> Self {
        Self {
            settings,
            scores,
            members: Vec::new(),
            pool: Vec::new(),
            loads: VecDeque::new(),
            hot: u32::MAX,
            removed_oldest: false,
            owed_probes: 0.0,
            owed_removals: 0.0,
            draw,
        }
    }

    fn size(&self) -> usize {
        // The formula below fails where the pool holds everybody.
        POOL.min((self.members.len() / 2).max(2))
    }

    /// How often an answer may be used: b = max(1, (1 + δ) / ((1 - m/n) · probes - removals)), rounded at random.
    fn uses(&mut self) -> u32 {
        let (m, n) = (self.size() as f64, self.members.len() as f64);
        let per = (1.0 - m / n) * self.settings.probes - self.settings.removals;
        let b = match per > 0.0 {
            true => ((1.0 + DELTA) / per).clamp(1.0, MOST_USES),
            false => MOST_USES,
        };
        let up = u32::from(self.draw.uniform() < b - b.floor());
        b.floor() as u32 + up
    }

    fn is_hot(&self, entry: &Entry) -> bool {
        entry.load > self.hot
    }

    /// Least first: cold ones by latency, then hot ones by load.
    fn rank(&self, entry: &Entry) -> (bool, f64) {
        match (&self.scores, self.is_hot(entry)) {
            (Some(scores), _) => (false, scores.score(entry.server, Some(entry.load))),
            (None, true) => (true, f64::from(entry.load)),
            (None, false) => (false, f64::from(entry.latency)),
        }
    }

    fn by_rank(&self, worst: bool) -> Option<usize> {
        let better = |a: (bool, f64), b: (bool, f64)| a < b;
        let mut best: Option<(usize, (bool, f64))> = None;
        for (n, entry) in self.pool.iter().enumerate() {
            let rank = self.rank(entry);
            if best.is_none_or(|(_, b)| {
                if worst {
                    better(b, rank)
                } else {
                    better(rank, b)
                }
            }) {
                best = Some((n, rank));
            }
        }
        best.map(|(n, _)| n)
    }

    /// Alternately the oldest and the worst.
    fn remove(&mut self) {
        let oldest = (0..self.pool.len()).min_by_key(|&n| self.pool[n].at);
        let gone = match self.removed_oldest {
            true => self.by_rank(true),
            false => oldest,
        };
        self.removed_oldest = !self.removed_oldest;
        if let Some(gone) = gone {
            self.pool.remove(gone);
        }
    }
}

impl Rule for Pooled {
    fn members(&mut self, members: &[Member], _now: u64) {
        self.members = members.to_vec();
        self.pool
            .retain(|e| members.iter().any(|m| m.server == e.server));
        if let Some(scores) = &mut self.scores {
            scores.members(members);
        }
    }

    fn pick(&mut self, _job: u32, _sight: &Sight<'_>, now: u64) -> Option<usize> {
        if self.members.is_empty() {
            return None;
        }
        self.pool.retain(|e| e.at + AGE > now && e.uses < e.most);
        self.owed_removals += self.settings.removals;
        let server = if self.pool.len() < FEWEST {
            self.members[self.draw.below(self.members.len())].server
        } else {
            let best = self.by_rank(false).unwrap_or(0);
            let entry = &mut self.pool[best];
            entry.load += 1;
            entry.uses += 1;
            entry.server
        };
        while self.owed_removals >= 1.0 {
            self.owed_removals -= 1.0;
            self.remove();
        }
        if let Some(scores) = &mut self.scores {
            scores.begin(server);
        }
        Some(server)
    }

    fn done(&mut self, _job: u32, server: usize, ending: &Ending, _now: u64) {
        if let Some(scores) = &mut self.scores {
            scores.done(server, ending);
        }
    }

    fn probes(&mut self, to: &mut Vec<usize>) {
        self.owed_probes += self.settings.probes;
        let mut asked = Vec::with_capacity(8);
        while self.owed_probes >= 1.0 {
            self.owed_probes -= 1.0;
            let server = self.members[self.draw.below(self.members.len())].server;
            // Uniformly, without replacement.
            if !asked.contains(&server) || asked.len() >= self.members.len() {
                asked.push(server);
            } else {
                self.owed_probes += 1.0;
            }
        }
        to.extend(asked);
    }

    fn probed(&mut self, server: usize, report: &Report, now: u64) {
        if !self.members.iter().any(|m| m.server == server) {
            return;
        }
        self.loads.push_back(report.in_flight);
        if self.loads.len() > LOADS {
            self.loads.pop_front();
        }
        let mut loads: Vec<u32> = self.loads.iter().copied().collect();
        let place = ((loads.len() - 1) as f64 * self.settings.hot) as usize;
        self.hot = *loads.select_nth_unstable(place).1;
        let most = self.uses();
        if self.pool.len() >= self.size()
            && let Some(oldest) = (0..self.pool.len()).min_by_key(|&n| self.pool[n].at)
        {
            self.pool.remove(oldest);
        }
        let entry = Entry {
            server,
            at: now,
            load: report.in_flight,
            latency: report.estimate,
            uses: 0,
            most,
        };
        self.pool.push(entry);
    }
}
