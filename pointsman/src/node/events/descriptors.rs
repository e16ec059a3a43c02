//! Tells of times in which there are too few descriptors, or too many clients of the API.

use std::sync::atomic::Ordering::Relaxed;

use proxy::rt::Descriptors;

use super::{Events, Kind};
use crate::node::Shared;

/// So many looks in a row have to find nothing, until what comes and goes is said to be over.
const QUIET: u32 = 5;

/// What was found at the last look.
#[derive(Default)]
pub(super) struct Shortage {
    rests: u64,
    postponed: u64,
    failed: u64,
    listeners: Spell,
    checks: Spell,
    api: Spell,
    full: Spell,
}

impl Shortage {
    pub(super) fn look(&mut self, shared: &Shared, events: &Events) {
        let grown = |before: &mut u64, now| std::mem::replace(before, now) != now;
        let bounds = Descriptors::of_process();
        let most = bounds.for_clients();
        let short = shared.proxy.descriptors_in_use() >= most;
        let rests = grown(&mut self.rests, shared.proxy.rests());
        let raise = "raise the limit of open files (LimitNOFILE= of systemd, ulimit -n)";
        let limit = bounds.limit;
        self.listeners.look(rests || short, events, Kind::Descriptors, || {
            [
                format!(
                    "more than {most} of {limit} files and sockets are open: listeners accept no more clients until there are \
                     fewer, and the rest is kept for the API, checks and the registry; {raise}"
                ),
                "listeners accept clients again".into(),
            ]
        });
        let postponed = grown(&mut self.postponed, shared.prober.postponed());
        self.checks.look(postponed, events, Kind::Descriptors, || {
            [
                format!("checks wait for files or memory, and instances stay as they were found; {raise}"),
                "checks go on".into(),
            ]
        });
        let failed = grown(&mut self.failed, shared.arrivals.failed.value());
        self.api.look(failed, events, Kind::Api, || {
            [
                format!("clients of the API wait, for want of files or memory; {raise}"),
                "clients of the API are accepted again".into(),
            ]
        });
        let full = shared.arrivals.full.load(Relaxed);
        self.full.look(full, events, Kind::Api, || {
            let most = shared.tables().config().api.max_connections;
            [
                format!("{most} clients are connected to the API: further ones get short answers, and no watches; raise api.max_connections"),
                "there is room at the API again".into(),
            ]
        });
    }
}

/// Something that comes and goes.
#[derive(Default)]
struct Spell {
    lasts: bool,
    quiet: u32,
}

impl Spell {
    /// Tells the first of these lines when it begins, and the second when it has been over for a while.
    fn look(
        &mut self,
        now: bool,
        events: &Events,
        kind: Kind,
        lines: impl FnOnce() -> [String; 2],
    ) {
        if let Some(begins) = self.turn(now) {
            let [begin, end] = lines();
            events.tell(kind, || if begins { begin } else { end });
        }
    }

    /// Whether it begins now, or is over.
    fn turn(&mut self, now: bool) -> Option<bool> {
        self.quiet = if now { 0 } else { self.quiet + 1 };
        let turns = if self.lasts { self.quiet >= QUIET } else { now };
        self.lasts ^= turns;
        turns.then_some(self.lasts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_is_told_when_it_begins_and_when_it_stays_away() {
        let mut spell = Spell::default();
        let looks = [
            false, true, true, false, true, false, false, false, false, false, false, true,
        ];
        let told: Vec<_> = looks.into_iter().map(|now| spell.turn(now)).collect();
        let mut expected = [None; 12];
        expected[1] = Some(true);
        expected[9] = Some(false);
        expected[11] = Some(true);
        assert_eq!(told, expected);
    }
}
