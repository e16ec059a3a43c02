//! Rules that go by what servers say of themselves now and then.

use std::collections::VecDeque;

use super::{Ending, Member, Rule, Sight};
use crate::balance::draw::Draw;

/// Join the idle queue (Lu and others 2011): servers without work queue up at one balancer each; with nobody in its
/// queue, a balancer sends anywhere.
#[derive(Debug)]
pub(super) struct Jiq {
    members: Vec<Member>,
    queue: VecDeque<usize>,
    draw: Draw,
}

impl Jiq {
    pub(super) const fn new(draw: Draw) -> Self {
        Self {
            members: Vec::new(),
            queue: VecDeque::new(),
            draw,
        }
    }
}

impl Rule for Jiq {
    fn members(&mut self, members: &[Member], _now: u64) {
        self.members = members.to_vec();
        self.queue
            .retain(|s| members.iter().any(|m| m.server == *s));
    }

    fn pick(&mut self, _job: u32, _sight: &Sight<'_>, _now: u64) -> Option<usize> {
        let anywhere = |draw: &mut Draw| self.members[draw.below(self.members.len())].server;
        match self.queue.pop_front() {
            Some(server) => Some(server),
            None if self.members.is_empty() => None,
            None => Some(anywhere(&mut self.draw)),
        }
    }

    fn done(&mut self, _job: u32, _server: usize, _ending: &Ending, _now: u64) {}

    fn wants_idle(&self) -> bool {
        true
    }

    fn idle(&mut self, server: usize) {
        if self.members.iter().any(|m| m.server == server) {
            self.queue.push_back(server);
        }
    }
}

/// The power of two choices by what servers were asked for every half second (as YARP was deployed in Prequal's
/// comparison): everybody sees the same stale picture.
#[derive(Debug)]
pub(super) struct Polling {
    interval: u64,
    members: Vec<Member>,
    seen: Vec<u32>,
    draw: Draw,
}

impl Polling {
    pub(super) fn new(interval: f64, draw: Draw) -> Self {
        Self {
            interval: (interval * 1e9) as u64,
            members: Vec::new(),
            seen: Vec::new(),
            draw,
        }
    }
}

impl Rule for Polling {
    fn members(&mut self, members: &[Member], _now: u64) {
        self.members = members.to_vec();
        let most = members.iter().map(|m| m.server + 1).max().unwrap_or(0);
        self.seen.resize(self.seen.len().max(most), 0);
    }

    fn pick(&mut self, _job: u32, _sight: &Sight<'_>, _now: u64) -> Option<usize> {
        let n = self.members.len();
        if n == 0 {
            return None;
        }
        let [a, b] = [0; 2].map(|_: usize| self.members[self.draw.below(n)].server);
        Some(if self.seen[b] < self.seen[a] { b } else { a })
    }

    fn done(&mut self, _job: u32, _server: usize, _ending: &Ending, _now: u64) {}

    fn interval(&self) -> Option<u64> {
        Some(self.interval)
    }

    fn wake(&mut self, sight: &Sight<'_>, _now: u64) {
        for member in &self.members {
            self.seen[member.server] = sight.servers[member.server].in_flight() as u32;
        }
    }
}
