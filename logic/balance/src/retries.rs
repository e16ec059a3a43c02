//! Whether a failed attempt may be followed by another, for the instances' sake.
//!
//! Retries hide the failures of one instance. When all fail, they multiply the load that made them fail. Two bounds hold
//! that off: a budget, and the throttling of clients (Beyer et al., "Site Reliability Engineering", chapter 21).

use std::time::Duration;

use model::{Moment, ServiceStats, ServiceTable};

/// What the budget looks back on, and what is free: services with few requests could retry nothing otherwise. Finagle's.
const BUDGET_WINDOW: Duration = Duration::from_secs(10);
const FREE: f64 = 10.0;

/// What throttling looks back on.
const THROTTLE_WINDOW: Duration = Duration::from_secs(120);

/// Twice as many attempts as are accepted are no reason to hold back.
const K: f64 = 2.0;

/// One worker's retries of one service. It looks at counts only when a retry is due: requests that succeed pay nothing.
#[derive(Clone, Debug, Default)]
pub struct Retries {
    seen: Moment,
    requests: Recent,
    retries: Recent,
    attempts: Recent,
    accepted: Recent,
}

/// A count that fades.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    total: u64,
    recent: f64,
}

impl Retries {
    /// Whether there may be one more. `stats` are the worker's own, `draw` is random.
    pub fn may(
        &mut self,
        service: &ServiceTable,
        stats: &ServiceStats,
        draw: u64,
        now: Moment,
    ) -> bool {
        let elapsed = now.since(self.seen).as_secs_f64();
        self.seen = now;
        let budget = BUDGET_WINDOW.as_secs_f64();
        self.requests.see(stats.requests.value(), elapsed, budget);
        self.retries.see(stats.retries.value(), elapsed, budget);
        let throttle = THROTTLE_WINDOW.as_secs_f64();
        self.attempts.see(stats.begun.value(), elapsed, throttle);
        self.accepted.see(stats.accepted.value(), elapsed, throttle);
        let share = f64::from(service.retry_budget) / 100.0;
        let within = self.retries.recent < self.requests.recent * share + FREE * budget;
        let beyond = self.attempts.recent - K * self.accepted.recent - FREE * throttle;
        let rejected = (beyond / (self.attempts.recent + 1.0)).max(0.0);
        within && (draw >> 11) as f64 / (1_u64 << 53) as f64 >= rejected
    }
}

impl Recent {
    fn see(&mut self, total: u64, elapsed: f64, window: f64) {
        let new = total.wrapping_sub(self.total) as f64;
        self.total = total;
        // What came evenly over a time longer than the window is mostly over.
        self.recent =
            self.recent * (-elapsed / window).exp() + new * (window / elapsed.max(window));
    }
}
