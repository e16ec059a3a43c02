//! How many requests a service takes at a time, found out from its latency.
//!
//! Little's law: as long as more in flight brings more answers, latency stays; from there on everything beyond waits
//! inside of the instances. The limit follows the gradient between the latency without waiting and that of the last
//! moment, and gives room for a few more to find out whether there is more to have (Netflix's concurrency-limits,
//! Gradient2). What latency is without waiting is found out by looking at it with half as many under way (Envoy's minRTT
//! does it with three): a long mean, as Netflix has it, grows with the overload that it is to show.

use std::time::Duration;

use model::{Moment, ServiceTable};

/// From one look to the next, if there was enough to look at.
const INTERVAL: Duration = Duration::from_millis(100);
const ENOUGH: u64 = 10;

/// Every half minute of looks, half the limit holds for so many of them, of which the first still sees what was under
/// way before. At the beginning, when little is known, it is more often.
const PROBE_EVERY: u32 = 300;
const FIRST_PROBE: u32 = 20;
const PROBE: u32 = 5;

/// How fast the latency without waiting is learned: from looks at half the limit, and from others that are better.
const LEARNED: f64 = 0.3;

/// Latency may be half more than usual before the limit shrinks: it varies by itself.
const TOLERANCE: f64 = 1.5;

/// A gradient below this is taken for this: one bad moment halves the limit at most.
const STEEPEST: f64 = 0.5;

/// So many requests more than the gradient says: without them it would never grow.
const MORE: f64 = 4.0;

/// How much of what is found out goes into the limit at once.
const SMOOTHING: f64 = 0.2;

/// Finds the limit of one service with `adaptive` concurrency: a state machine.
#[derive(Debug, Default)]
pub struct Gradient {
    next: Moment,
    /// Answers and their nanoseconds, as of the last look.
    seen: (u64, u64),
    /// Nanoseconds that an answer takes without waiting; 0 as long as nothing is known.
    best: f64,
    /// Looks so far, and at which of them the next probe begins.
    looks: u32,
    probe: u32,
    limit: f64,
}

impl Gradient {
    /// When [`Gradient::handle_timeout`] is due.
    pub const fn next_deadline(&self) -> Moment {
        self.next
    }

    /// A look at the latency, if one is due: sets the limit of a service that wants one.
    pub fn handle_timeout(&mut self, service: &ServiceTable, now: Moment) {
        // A deadline further away than it can be comes from a clock that stepped back.
        if now < self.next && self.next <= now + INTERVAL {
            return;
        }
        self.next = now + INTERVAL;
        let limiting = &service.balancing.limiting;
        let admission = &service.admission;
        if !limiting.adaptive {
            admission.set_limit(limiting.max);
            *self = Self::default();
            return;
        }
        let most = match limiting.max {
            0 => f64::from(u32::MAX),
            max => f64::from(max),
        };
        let least = f64::from(limiting.min).min(most);
        let seen = (
            admission.latency.total(|l| &l.answers),
            admission.latency.total(|l| &l.nanos),
        );
        let answers = seen.0 - self.seen.0;
        if self.limit == 0.0 {
            // Netflix's beginning; it doubles within a second where there is room.
            (self.limit, self.probe) = (20.0, FIRST_PROBE);
        } else if answers >= ENOUGH {
            let short = (seen.1 - self.seen.1) as f64 / answers as f64;
            self.seen = seen;
            self.see(short, f64::from(admission.admitted()));
        }
        self.limit = self.limit.clamp(least, most);
        let limit = match self.is_probing() {
            true => (self.limit / 2.0).max(least),
            false => self.limit,
        };
        admission.set_limit(limit as u32);
    }

    const fn is_probing(&self) -> bool {
        self.looks >= self.probe
    }

    fn see(&mut self, short: f64, in_flight: f64) {
        if self.best == 0.0 {
            self.best = short;
        }
        let settled = self.looks > self.probe;
        if short < self.best || settled {
            self.best += (short - self.best) * LEARNED;
        }
        // With room to spare, latency says nothing about the limit, and nothing has to be found out.
        let used = in_flight >= self.limit / 2.0;
        if used && !self.is_probing() {
            let gradient = (TOLERANCE * self.best / short.max(1.0)).clamp(STEEPEST, 1.0);
            let found = self.limit * gradient + MORE;
            self.limit += (found - self.limit) * SMOOTHING;
        }
        self.looks += 1;
        if self.looks == self.probe && !used {
            self.probe += 1;
        }
        if self.looks >= self.probe + PROBE {
            self.probe += self.probe.min(PROBE_EVERY);
        }
    }
}
