//! What the balancer knows of one endpoint.

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::{Ejection, Moment};

/// Which life of an instance this is: the revision at which it was registered under its present address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Incarnation(pub u64);

/// What the balancer knows of one endpoint: shared by all workers and surviving routing-table swaps.
///
/// One cache line of its own, so that workers counting on neighbouring endpoints do not slow each other.
/// In-flight is shared on purpose: a count per worker would make every worker a separate balancer that
/// sees only its own load. Everything is relaxed; what is learned may lose a sample to a race, and no more.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct EndpointStats {
    /// In flight in the low [`IN_FLIGHT_BITS`], requests ever begun above: one locked instruction for both.
    load: AtomicU64,
    /// An [`Ejection`], packed; 0 when there is none.
    ejection: AtomicU64,
    learned: [AtomicU32; 4],
    /// When something was learned last, in [`TICK`]s; wraps every 78 hours, half of which later very old
    /// news counts as fresh until the next sample.
    learned_at: AtomicU32,
    /// What other balancers have in flight there, by its own last report.
    others: AtomicU32,
    failures: AtomicU32,
    errors: AtomicU32,
    connects: AtomicU32,
    connect_failures: AtomicU32,
    failures_in_a_row: AtomicU16,
    errors_in_a_row: AtomicU16,
}

/// A million connections at one instance; requests wrap after 1.7e13.
const IN_FLIGHT_BITS: u32 = 20;
const IN_FLIGHT: u64 = (1 << IN_FLIGHT_BITS) - 1;

/// 65.5 microseconds, in bits of nanoseconds.
const TICK: u32 = 16;

/// What an endpoint's samples say: x is what was in flight when a request was sent, y its latency in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Learned {
    /// The samples' weight; 0 means that nothing is known.
    pub weight: f32,
    /// Decayed mean of the requests in flight.
    pub x: f32,
    /// Decayed mean of the latency, or its peak-sensitive average, as the policy learns it.
    pub y: f32,
    /// What a request would take that has the endpoint to itself, in nanoseconds: y / (x + 1).
    pub pace: f32,
}

impl EndpointStats {
    /// Requests and connections being served there now.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        (self.load.load(Relaxed) & IN_FLIGHT) as u32
    }

    /// Work begins. Returns what was in flight before.
    #[inline]
    pub fn begin(&self) -> u32 {
        let before = self.load.fetch_add((1 << IN_FLIGHT_BITS) | 1, Relaxed);
        (before & IN_FLIGHT) as u32
    }

    /// Work begun earlier ends.
    #[inline]
    pub fn end(&self) {
        let before = self.load.fetch_sub(1, Relaxed);
        debug_assert_ne!(before & IN_FLIGHT, 0, "every end has its begin");
    }

    /// Requests ever sent there.
    #[inline]
    pub fn requests(&self) -> u64 {
        self.load.load(Relaxed) >> IN_FLIGHT_BITS
    }

    /// An attempt was answered, and well.
    #[inline]
    pub fn succeeded(&self) {
        // Read first: in the common case the line is not dirtied.
        if self.failures_in_a_row.load(Relaxed) != 0 {
            self.failures_in_a_row.store(0, Relaxed);
        }
        if self.errors_in_a_row.load(Relaxed) != 0 {
            self.errors_in_a_row.store(0, Relaxed);
        }
    }

    /// Whatever failed before no longer counts.
    pub fn forgive(&self) {
        self.succeeded();
        self.ejection.store(0, Relaxed);
        // What its failures were charged is no measure of its latency.
        self.learn(Learned::default(), Moment::ZERO);
    }

    /// An attempt failed (no connection, or no answer). Returns how many have failed in a row.
    pub fn failed(&self) -> u16 {
        self.failures.fetch_add(1, Relaxed);
        one_more(&self.failures_in_a_row)
    }

    /// An attempt was answered with an error that is the instance's own. Returns how many were in a row.
    pub fn erred(&self) -> u16 {
        self.errors.fetch_add(1, Relaxed);
        one_more(&self.errors_in_a_row)
    }

    /// Failures and errors since it last answered well.
    #[inline]
    pub fn bad_in_a_row(&self) -> u32 {
        u32::from(self.failures_in_a_row.load(Relaxed))
            + u32::from(self.errors_in_a_row.load(Relaxed))
    }

    /// Why and until when it is, or was, taken out; `None` when it has a clean record.
    #[inline]
    pub fn ejection(&self) -> Option<Ejection> {
        match self.ejection.load(Relaxed) {
            0 => None,
            packed => Some(Ejection::unpack(packed)),
        }
    }

    /// Takes it out of traffic, or clears its record.
    pub fn eject(&self, ejection: Option<Ejection>) {
        self.ejection
            .store(ejection.map_or(0, Ejection::pack), Relaxed);
    }

    /// A connection was opened, or could not be.
    pub fn connected(&self, ok: bool) {
        self.connects.fetch_add(1, Relaxed);
        if !ok {
            self.connect_failures.fetch_add(1, Relaxed);
        }
    }

    /// What was learned of it, possibly torn between two samples.
    #[inline]
    pub fn learned(&self) -> Learned {
        let value = |slot: &AtomicU32| f32::from_bits(slot.load(Relaxed));
        Learned {
            weight: value(&self.learned[0]),
            x: value(&self.learned[1]),
            y: value(&self.learned[2]),
            pace: value(&self.learned[3]),
        }
    }

    /// [`Learned::pace`] alone; 0 if nothing is known.
    #[inline]
    pub fn pace(&self) -> f32 {
        f32::from_bits(self.learned[3].load(Relaxed))
    }

    /// Replaces what was learned.
    #[inline]
    pub fn learn(&self, learned: Learned, now: Moment) {
        let set = |slot: &AtomicU32, value: f32| slot.store(value.to_bits(), Relaxed);
        set(&self.learned[0], learned.weight);
        set(&self.learned[1], learned.x);
        set(&self.learned[2], learned.y);
        set(&self.learned[3], learned.pace);
        self.learned_at.store(ticks(now), Relaxed);
    }

    /// How many seconds ago something was learned. A plain number: it is asked for several times a request.
    #[inline]
    pub fn learned_ago(&self, now: Moment) -> f32 {
        let ticks = ticks(now).wrapping_sub(self.learned_at.load(Relaxed)) as i32;
        // Negative by a clock that stepped back, or a sample from a worker whose batch is younger: just now.
        ticks.max(0) as f32 * ((1 << TICK) as f32 / 1e9)
    }

    /// What others have in flight there by what it reports, on an average.
    #[inline]
    pub fn others(&self) -> f32 {
        f32::from_bits(self.others.load(Relaxed))
    }

    /// Sets that.
    pub fn report_others(&self, others: f32) {
        self.others.store(others.to_bits(), Relaxed);
    }

    /// Attempts that failed: no connection, or no whole answer. Wraps at 2^32.
    pub fn failures(&self) -> u32 {
        self.failures.load(Relaxed)
    }

    /// Answers that were errors of the instance's own. Wraps at 2^32.
    pub fn errors(&self) -> u32 {
        self.errors.load(Relaxed)
    }

    /// Connections ever tried. Wraps at 2^32.
    pub fn connects(&self) -> u32 {
        self.connects.load(Relaxed)
    }

    /// Connections that could not be opened. Wraps at 2^32.
    pub fn connect_failures(&self) -> u32 {
        self.connect_failures.load(Relaxed)
    }
}

const fn ticks(now: Moment) -> u32 {
    (now.as_nanos() >> TICK) as u32
}

/// Saturates. Two workers may count one failure as one; the third is then the second.
fn one_more(count: &AtomicU16) -> u16 {
    let more = count.load(Relaxed).saturating_add(1);
    count.store(more, Relaxed);
    more
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;

    #[test]
    fn an_endpoint_is_one_cache_line() {
        assert_eq!(size_of::<EndpointStats>(), 64);
    }

    #[test]
    fn load_counts_requests_and_what_is_in_flight() {
        let stats = EndpointStats::default();
        assert_eq!([stats.begin(), stats.begin()], [0, 1]);
        stats.end();
        assert_eq!((stats.in_flight(), stats.requests()), (1, 2));
    }

    #[test]
    fn an_ejection_survives_packing() {
        let stats = EndpointStats::default();
        let ejection = Ejection {
            until: Moment::from_millis(123_456_789),
            times: 7,
            reason: Reason::ErrorRate,
        };
        stats.eject(Some(ejection));
        assert_eq!(stats.ejection(), Some(ejection));
        stats.forgive();
        assert_eq!(stats.ejection(), None);
    }

    #[test]
    fn a_clock_that_stepped_back_makes_nothing_old() {
        let stats = EndpointStats::default();
        stats.learn(Learned::default(), Moment::from_millis(10_000));
        assert!(stats.learned_ago(Moment::from_millis(9_000)) == 0.0);
        let later = stats.learned_ago(Moment::from_millis(12_000));
        assert!((later - 2.0).abs() < 1e-3);
    }
}
