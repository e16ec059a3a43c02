//! C3 (Suresh and others, NSDI 2015): replicas ranked by response time and the cube of the queue expected there. Without
//! its rate control, which serves storage nodes that are overloaded as a whole.

use super::counting::Counting;
use super::kind::C3 as Settings;
use super::{Ending, Member, Rule, Sight};
use crate::balance::draw::Draw;

/// What C3 knows of the servers.
#[derive(Debug)]
pub(super) struct Scores {
    settings: Settings,
    counting: Counting,
    known: Vec<Known>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Moving averages, in nanoseconds and requests; no answer yet, no averages.
    response: f64,
    service: f64,
    queue: f64,
    answered: bool,
}

/// The averages' weight of what is new.
const NEW: f64 = 0.1;

impl Scores {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            counting: Counting::default(),
            known: Vec::new(),
        }
    }

    pub(super) fn members(&mut self, members: &[Member]) {
        let most = members.iter().map(|m| m.server + 1).max().unwrap_or(0);
        self.known
            .resize(self.known.len().max(most), Known::default());
        for member in members
            .iter()
            .filter(|m| !self.counting.members.contains(m))
        {
            self.known[member.server] = Known::default();
        }
        self.counting.members(members);
    }

    pub(super) fn begin(&mut self, server: usize) {
        self.counting.begin(server);
    }

    pub(super) fn done(&mut self, server: usize, ending: &Ending) {
        self.counting.end(server);
        let known = &mut self.known[server];
        let new = if known.answered { NEW } else { 1.0 };
        known.response += new * (ending.latency as f64 - known.response);
        let Some(report) = &ending.report else { return };
        let service = match self.settings.processor_time {
            true => report.worked,
            false => report.served_in,
        };
        known.service += new * (f64::from(service) - known.service);
        known.queue += new * (f64::from(report.in_flight) - known.queue);
        known.answered = true;
    }

    /// Ψ = R - 1/μ + q̂^b / μ with q̂ = 1 + outstanding · clients + queue; `queue` if a probe just said so.
    pub(super) fn score(&self, server: usize, queue: Option<u32>) -> f64 {
        let known = &self.known[server];
        let outstanding = f64::from(self.counting.of(server));
        let expected = match queue {
            // A fresh number has ours in it.
            Some(queue) => 1.0 + f64::from(queue),
            None => 1.0 + outstanding * self.settings.clients + known.queue,
        };
        let power = (1..self.settings.exponent).fold(expected, |power, _| power * expected);
        known.response - known.service + power * known.service
    }
}

/// C3 by what answers carry.
#[derive(Debug)]
pub(super) struct C3 {
    scores: Scores,
    choices: usize,
    draw: Draw,
}

impl C3 {
    pub(super) fn new(settings: Settings, draw: Draw) -> Self {
        Self {
            scores: Scores::new(settings),
            choices: settings.choices,
            draw,
        }
    }
}

impl Rule for C3 {
    fn members(&mut self, members: &[Member], _now: u64) {
        self.scores.members(members);
    }

    fn pick(&mut self, _job: u32, _sight: &Sight<'_>, _now: u64) -> Option<usize> {
        let members = &self.scores.counting.members;
        let n = members.len();
        if n == 0 {
            return None;
        }
        let start = self.draw.below(n);
        let everybody = self.choices >= n;
        let mut best: Option<(f64, usize)> = None;
        for k in 0..self.choices.min(n) {
            let place = match everybody {
                true => (start + k) % n,
                false => self.draw.below(n),
            };
            let server = members[place].server;
            let score = self.scores.score(server, None);
            if best.is_none_or(|(b, _)| score < b) {
                best = Some((score, server));
            }
        }
        let (_, server) = best?;
        self.scores.begin(server);
        Some(server)
    }

    fn done(&mut self, _job: u32, server: usize, ending: &Ending, _now: u64) {
        self.scores.done(server, ending);
    }
}
