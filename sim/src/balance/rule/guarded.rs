//! Envoy's outlier detection around a rule that has none of its own, with Envoy's defaults: five failures in a row
//! eject for 30 s times the number of ejections, at most a tenth of the servers at a time.

use super::{Ending, Member, Outcome, Report, Rule, Sight};

/// A rule that is told to leave out servers that fail.
pub struct Guarded {
    rule: Box<dyn Rule>,
    members: Vec<Member>,
    failures: Vec<u32>,
    ejected: Vec<Ejection>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Ejection {
    until: Option<u64>,
    times: u64,
}

const IN_A_ROW: u32 = 5;
const TIME: u64 = 30_000_000_000;
const LONGEST: u64 = 300_000_000_000;
/// The sweep that lets them return.
const SWEEP: u64 = 10_000_000_000;

impl Guarded {
    /// Around `rule`.
    pub const fn new(rule: Box<dyn Rule>) -> Self {
        Self {
            rule,
            members: Vec::new(),
            failures: Vec::new(),
            ejected: Vec::new(),
        }
    }

    fn tell(&mut self, now: u64) {
        let there = |m: &&Member| self.ejected[m.server].until.is_none();
        let left: Vec<Member> = self.members.iter().filter(there).copied().collect();
        self.rule.members(&left, now);
    }
}

impl Rule for Guarded {
    fn members(&mut self, members: &[Member], now: u64) {
        let most = members.iter().map(|m| m.server + 1).max().unwrap_or(0);
        self.failures.resize(self.failures.len().max(most), 0);
        self.ejected
            .resize(self.ejected.len().max(most), Ejection::default());
        self.members = members.to_vec();
        self.tell(now);
    }

    fn pick(&mut self, job: u32, sight: &Sight<'_>, now: u64) -> Option<usize> {
        self.rule.pick(job, sight, now)
    }

    fn done(&mut self, job: u32, server: usize, ending: &Ending, now: u64) {
        self.rule.done(job, server, ending, now);
        self.failures[server] = match ending.outcome {
            Outcome::Answered => 0,
            _ => self.failures[server] + 1,
        };
        let out = self.ejected.iter().filter(|e| e.until.is_some()).count();
        let most = (self.members.len() / 10).max(1);
        let ejection = &mut self.ejected[server];
        if self.failures[server] >= IN_A_ROW && ejection.until.is_none() && out < most {
            ejection.times += 1;
            ejection.until = Some(now + (TIME * ejection.times).min(LONGEST));
            self.failures[server] = 0;
            self.tell(now);
        }
    }

    fn interval(&self) -> Option<u64> {
        Some(self.rule.interval().unwrap_or(SWEEP).min(SWEEP))
    }

    fn wake(&mut self, sight: &Sight<'_>, now: u64) {
        let mut returned = false;
        for ejection in &mut self.ejected {
            if ejection.until.is_some_and(|until| until <= now) {
                ejection.until = None;
                returned = true;
            }
        }
        if returned {
            self.tell(now);
        }
        self.rule.wake(sight, now);
    }

    fn probes(&mut self, to: &mut Vec<usize>) {
        self.rule.probes(to);
    }

    fn probed(&mut self, server: usize, report: &Report, now: u64) {
        self.rule.probed(server, report, now);
    }

    fn wants_idle(&self) -> bool {
        self.rule.wants_idle()
    }

    fn idle(&mut self, server: usize) {
        self.rule.idle(server);
    }
}
