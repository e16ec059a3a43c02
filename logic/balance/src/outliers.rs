//! Compares the endpoints of a service with each other, from time to time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use model::{EndpointStats, InstanceId, Moment, Reason, ServiceTable};

use crate::eject::eject;

/// Whom a sweep ejected, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlier {
    /// Its number in the service's table.
    pub endpoint: usize,
    /// What makes it one.
    pub reason: Reason,
}

/// From one sweep to the next: an instance that begins to err is out within a second.
const INTERVAL: Duration = Duration::from_millis(500);

/// Requests without which a share of errors says nothing.
const ENOUGH: f32 = 20.0;

/// With more than this in the window, it fades fast, so that news counts; with less slowly, so that there is
/// something to count.
const PLENTY: f32 = 100.0;

/// So many deviations from the median are no chance. 1.4826 makes the median absolute deviation comparable to
/// the standard one. Unlike mean and standard deviation, which the outliers themselves inflate until nothing
/// is out (beyond a fifth of the fleet), these hold with almost half of the fleet out.
const DEVIATIONS: f32 = 3.0 * 1.4826;

/// Endpoints below which "far slower than the others" has no meaning, and latencies, in nanoseconds, between which
/// there is no difference worth an ejection.
const FEWEST_TO_COMPARE: usize = 3;
const NOTICEABLE: f32 = 1e6;

/// What was seen of one service's endpoints: a state machine without output but the ejections.
#[derive(Debug, Default)]
pub struct Outliers {
    windows: BTreeMap<InstanceId, Window>,
    next: Moment,
}

/// One endpoint's recent requests.
#[derive(Debug)]
struct Window {
    /// Whose they are: an instance that came back is another.
    stats: Arc<EndpointStats>,
    ended: u64,
    bad: u32,
    recent: f32,
    recent_bad: f32,
}

impl Outliers {
    /// When [`Outliers::handle_timeout`] is due.
    pub const fn next_deadline(&self) -> Moment {
        self.next
    }

    /// A sweep, if one is due: counts what happened since the last, and ejects who is out. Returns those.
    pub fn handle_timeout(&mut self, service: &ServiceTable, now: Moment) -> Vec<Outlier> {
        // A deadline further away than it can be comes from a clock that stepped back.
        if now < self.next && self.next <= now + INTERVAL {
            return Vec::new();
        }
        self.next = now + INTERVAL;
        self.windows.retain(|id, window| {
            let found = service.endpoints.binary_search_by(|e| e.id.cmp(id));
            found.is_ok_and(|i| Arc::ptr_eq(&service.endpoints[i].stats, &window.stats))
        });
        for endpoint in &service.endpoints {
            let window = self.windows.entry(endpoint.id.clone());
            let window = window.or_insert_with(|| Window::new(&endpoint.stats));
            window.count();
            // It is out for that already, and when it comes back, it has begun anew.
            if endpoint.stats.ejection().is_some_and(|e| e.until > now) {
                (window.recent, window.recent_bad) = (0.0, 0.0);
            }
        }
        settle(service, now);
        let mut out = self.erring(service);
        out.extend(slow(service, now));
        out.retain(|outlier| eject(service, outlier.endpoint, outlier.reason, now));
        out
    }

    fn erring(&self, service: &ServiceTable) -> Vec<Outlier> {
        let bound = f32::from(service.balancing.ejecting.error_rate) / 100.0;
        if bound >= 1.0 {
            return Vec::new();
        }
        let seen = (0..)
            .zip(&service.endpoints)
            .filter_map(|(index, endpoint)| {
                let window = self.windows.get(&endpoint.id)?;
                (window.recent >= ENOUGH).then_some((index, window))
            });
        let seen: Vec<(usize, &Window)> = seen.collect();
        let rates: Vec<f32> = seen.iter().map(|(_, w)| w.recent_bad / w.recent).collect();
        let usual = unusual_above(&rates);
        seen.iter()
            .zip(&rates)
            .filter(|((_, w), rate)| **rate > usual && at_least(w.recent_bad, w.recent) > bound)
            .map(|((endpoint, _), _)| Outlier {
                endpoint: *endpoint,
                reason: Reason::ErrorRate,
            })
            .collect()
    }
}

impl Window {
    fn new(stats: &Arc<EndpointStats>) -> Self {
        Self {
            stats: stats.clone(),
            ended: ended(stats),
            bad: bad(stats),
            recent: 0.0,
            recent_bad: 0.0,
        }
    }

    fn count(&mut self) {
        let (ended, bad) = (ended(&self.stats), bad(&self.stats));
        let fade = if self.recent > PLENTY { 0.5 } else { 0.95 };
        let new = ended.saturating_sub(self.ended) as f32;
        let new_bad = bad.wrapping_sub(self.bad) as f32;
        self.recent = self.recent * fade + new;
        // A failure may be counted before its request's end is.
        self.recent_bad = (self.recent_bad * fade + new_bad).min(self.recent);
        (self.ended, self.bad) = (ended, bad);
    }
}

fn ended(stats: &EndpointStats) -> u64 {
    stats
        .requests()
        .saturating_sub(u64::from(stats.in_flight()))
}

fn bad(stats: &EndpointStats) -> u32 {
    stats.failures().wrapping_add(stats.errors())
}

/// Counts who is out now, and forgets old records.
fn settle(service: &ServiceTable, now: Moment) {
    let mut out = 0;
    for endpoint in &service.endpoints {
        let Some(ejection) = endpoint.stats.ejection() else {
            continue;
        };
        if ejection.until > now {
            out += u32::from(ejection.reason != Reason::Unreachable);
        } else if ejection.until + service.balancing.ejecting.max_time <= now {
            endpoint.stats.eject(None);
        }
    }
    service.ejections.now.store(out, Relaxed);
}

fn slow(service: &ServiceTable, now: Moment) -> Vec<Outlier> {
    let factor = f32::from(service.balancing.ejecting.slow_factor);
    if factor == 0.0 {
        return Vec::new();
    }
    let fresh = |stats: &EndpointStats| stats.learned_ago(now) < 10.0;
    let seen = (0..)
        .zip(&service.endpoints)
        .filter_map(|(index, endpoint)| {
            let learned = endpoint.stats.learned();
            let enough = learned.weight >= ENOUGH && fresh(&endpoint.stats);
            enough.then_some((index, learned.y))
        });
    let seen: Vec<(usize, f32)> = seen.collect();
    if seen.len() < FEWEST_TO_COMPARE {
        return Vec::new();
    }
    let latencies: Vec<f32> = seen.iter().map(|(_, y)| *y).collect();
    let (usual, typical) = (unusual_above(&latencies), median(latencies.clone()));
    seen.iter()
        .filter(|(_, y)| *y > usual && *y > factor * typical && *y > typical + NOTICEABLE)
        .map(|(endpoint, _)| Outlier {
            endpoint: *endpoint,
            reason: Reason::Slow,
        })
        .collect()
}

/// What is above this is unusual among `values`.
fn unusual_above(values: &[f32]) -> f32 {
    let middle = median(values.to_vec());
    let deviations = values.iter().map(|v| (v - middle).abs()).collect();
    middle + DEVIATIONS * median(deviations)
}

/// The lower one of two in the middle: of two instances, the worse is compared with the better.
fn median(mut values: Vec<f32>) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = (values.len() - 1) / 2;
    *values.select_nth_unstable_by(middle, f32::total_cmp).1
}

/// The share of which 97.5 in 100 such samples would have less, were it the true one (Wilson 1927).
fn at_least(bad: f32, all: f32) -> f32 {
    const Z: f32 = 1.96;
    let rate = bad / all;
    let square = Z * Z / all;
    let spread = Z * (rate * (1.0 - rate) / all + square / (4.0 * all)).sqrt();
    (rate + square / 2.0 - spread) / (1.0 + square)
}
