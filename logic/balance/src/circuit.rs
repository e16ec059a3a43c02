//! A circuit breaker: a service that fails most of its requests is left alone for a while.
//!
//! Ejection takes out instances that are worse than others. When all are equally bad (a database behind them is gone),
//! nobody is, and each request still waits for its error. An open circuit answers at once, and gives the service room to
//! come back; then a few requests are let through, and all if those succeed (Nygard, "Release It!").
//!
//! One circuit for all workers, changed by compare-and-swap: shares of a worker each would see too few requests to judge by.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use model::{Breaking, CIRCUIT_SLOTS, Circuit, CircuitState, Moment, Phase};

/// A request that was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a probe that is never ended keeps its place"]
pub enum Passage {
    /// One of all.
    Free,
    /// One of a few, of the half-open phase that began then.
    Probe(Moment),
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The service answered.
    Succeeded,
    /// It did not, or with an error of its own.
    Failed,
    /// Nobody knows: the client left.
    Unknown,
}

/// Lets a request through.
///
/// # Errors
/// When it is not: the time after which it is worth another try.
pub fn pass(circuit: &Circuit, breaking: &Breaking, now: Moment) -> Result<Passage, Duration> {
    loop {
        let state = circuit.state();
        let next = match state.phase {
            Phase::Closed => return Ok(Passage::Free),
            // One that is open for longer than it can be comes from a clock that stepped back.
            Phase::Open if now < state.at && state.at <= now + breaking.open + MILLI => {
                circuit.refused.add(1);
                return Err(state.at.since(now));
            }
            Phase::HalfOpen if state.probing < breaking.probes => CircuitState {
                probing: state.probing + 1,
                ..state
            },
            // Probes of which nothing was heard for so long say nothing any more.
            Phase::HalfOpen if now < state.at + breaking.open => {
                circuit.refused.add(1);
                return Err((state.at + breaking.open).since(now));
            }
            Phase::Open | Phase::HalfOpen => CircuitState {
                phase: Phase::HalfOpen,
                at: rounded(now),
                probing: 1,
                succeeded: 0,
            },
        };
        if circuit.change(state, next) {
            return Ok(Passage::Probe(next.at));
        }
    }
}

/// The end of a request that was let through.
pub fn passed(circuit: &Circuit, breaking: &Breaking, passage: Passage, fate: Fate, now: Moment) {
    match passage {
        Passage::Free => count(circuit, breaking, fate, now),
        Passage::Probe(since) => probed(circuit, breaking, since, fate, now),
    }
}

fn count(circuit: &Circuit, breaking: &Breaking, fate: Fate, now: Moment) {
    let state = circuit.state();
    // What was under way when it opened, or when it had others try, is no news.
    if fate == Fate::Unknown || state.phase != Phase::Closed {
        return;
    }
    let failed = fate == Fate::Failed;
    let stamp = stamp(breaking, now);
    let slot = &circuit.slots[stamp as usize % CIRCUIT_SLOTS];
    let _ = slot.fetch_update(Relaxed, Relaxed, |word| {
        let slot = Slot::unpack(word).of(stamp);
        Some(slot.and(failed).pack())
    });
    // Only failures can open it.
    if failed && is_too_much(circuit, breaking, stamp) && circuit.change(state, open(breaking, now))
    {
        circuit.opened.add(1);
    }
}

fn probed(circuit: &Circuit, breaking: &Breaking, since: Moment, fate: Fate, now: Moment) {
    loop {
        let state = circuit.state();
        if state.phase != Phase::HalfOpen || state.at != since {
            return;
        }
        let next = match fate {
            Fate::Failed => open(breaking, now),
            Fate::Unknown => CircuitState {
                probing: state.probing.saturating_sub(1),
                ..state
            },
            Fate::Succeeded if state.succeeded + 1 >= breaking.probes => {
                // What was counted before it opened is over.
                circuit.slots.iter().for_each(|slot| slot.store(0, Relaxed));
                CircuitState::default()
            }
            Fate::Succeeded => CircuitState {
                succeeded: state.succeeded + 1,
                ..state
            },
        };
        if circuit.change(state, next) {
            circuit.opened.add(u64::from(fate == Fate::Failed));
            return;
        }
    }
}

fn open(breaking: &Breaking, now: Moment) -> CircuitState {
    CircuitState {
        phase: Phase::Open,
        at: rounded(now + breaking.open),
        probing: 0,
        succeeded: 0,
    }
}

const MILLI: Duration = Duration::from_millis(1);

/// As a state has it.
fn rounded(moment: Moment) -> Moment {
    Moment::from_millis(moment.as_nanos() / 1_000_000)
}

fn is_too_much(circuit: &Circuit, breaking: &Breaking, stamp: u32) -> bool {
    let (mut total, mut failed) = (0, 0);
    for word in &circuit.slots {
        let slot = Slot::unpack(word.load(Relaxed));
        // Stamps turn round after so long that one of them coming up by chance is no matter.
        if stamp.wrapping_sub(slot.stamp) & STAMP < CIRCUIT_SLOTS as u32 {
            total += u64::from(slot.total);
            failed += u64::from(slot.failed);
        }
    }
    total >= u64::from(breaking.min_requests)
        && failed * 100 >= total * u64::from(breaking.error_rate)
}

/// Which part of time it is.
fn stamp(breaking: &Breaking, now: Moment) -> u32 {
    let part = breaking.window.as_nanos() as u64 / CIRCUIT_SLOTS as u64;
    (now.as_nanos() / part.max(1)) as u32 & STAMP
}

const STAMP: u32 = 0xff_ffff;
const MOST: u32 = 0xf_ffff;

/// Requests of one part of the window.
#[derive(Clone, Copy)]
struct Slot {
    stamp: u32,
    total: u32,
    failed: u32,
}

impl Slot {
    const fn unpack(word: u64) -> Self {
        Self {
            stamp: (word >> 40) as u32,
            total: (word >> 20) as u32 & MOST,
            failed: word as u32 & MOST,
        }
    }

    const fn pack(self) -> u64 {
        (self.stamp as u64) << 40 | (self.total as u64) << 20 | self.failed as u64
    }

    /// Empty, if it is of another time.
    const fn of(self, stamp: u32) -> Self {
        match self.stamp == stamp {
            true => self,
            false => Self {
                stamp,
                total: 0,
                failed: 0,
            },
        }
    }

    /// With one more; a million say enough.
    fn and(self, failed: bool) -> Self {
        match self.total == MOST {
            true => self,
            false => Self {
                total: self.total + 1,
                failed: self.failed + u32::from(failed),
                ..self
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BREAKING: Breaking = Breaking {
        error_rate: 50,
        window: Duration::from_secs(10),
        min_requests: 10,
        open: Duration::from_secs(5),
        probes: 3,
    };

    fn at(millis: u64) -> Moment {
        Moment::from_millis(1_000_000 + millis)
    }

    /// One request at a time.
    fn ask(circuit: &Circuit, fate: Fate, now: Moment) -> bool {
        let passage = pass(circuit, &BREAKING, now);
        passage
            .map(|passage| passed(circuit, &BREAKING, passage, fate, now))
            .is_ok()
    }

    fn opened() -> Circuit {
        let circuit = Circuit::default();
        (0..10).for_each(|n| assert!(ask(&circuit, Fate::Failed, at(n))));
        assert_eq!(circuit.state().phase, Phase::Open);
        circuit
    }

    #[test]
    fn it_opens_when_so_many_of_enough_have_failed() {
        let circuit = Circuit::default();
        for n in 0..9 {
            assert!(ask(&circuit, Fate::Failed, at(n * 100)));
        }
        assert_eq!(circuit.state().phase, Phase::Closed, "too few to judge by");
        assert!(ask(&circuit, Fate::Failed, at(900)));
        assert_eq!(circuit.state().phase, Phase::Open);
        assert_eq!(circuit.opened.value(), 1);
        let again = pass(&circuit, &BREAKING, at(1_900));
        assert_eq!(again, Err(Duration::from_secs(4)));
        assert_eq!(circuit.refused.value(), 1);
    }

    #[test]
    fn fewer_failures_than_the_rate_leave_it_closed() {
        let circuit = Circuit::default();
        for n in 0..1_000 {
            let fate = match n % 9 >= 5 {
                true => Fate::Failed,
                false => Fate::Succeeded,
            };
            assert!(ask(&circuit, fate, at(n * 7)), "{n}");
        }
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let circuit = Circuit::default();
        (0..9).for_each(|n| assert!(ask(&circuit, Fate::Failed, at(n))));
        (0..9).for_each(|n| assert!(ask(&circuit, Fate::Failed, at(11_000 + n))));
        assert_eq!(circuit.state().phase, Phase::Closed);
    }

    #[test]
    fn what_the_client_gave_up_is_nothing_to_judge_by() {
        let circuit = Circuit::default();
        (0..50).for_each(|n| assert!(ask(&circuit, Fate::Unknown, at(n))));
        (0..9).for_each(|n| assert!(ask(&circuit, Fate::Failed, at(n))));
        assert_eq!(circuit.state().phase, Phase::Closed);
    }

    #[test]
    fn a_few_try_again_and_their_success_closes_it() {
        let circuit = opened();
        let now = at(5_100);
        let probes: Vec<_> = (0..3)
            .map(|_| pass(&circuit, &BREAKING, now).unwrap())
            .collect();
        assert!(
            pass(&circuit, &BREAKING, now).is_err(),
            "no more than so many"
        );
        for (n, probe) in probes.into_iter().enumerate() {
            assert_eq!(circuit.state().phase, Phase::HalfOpen, "{n}");
            passed(&circuit, &BREAKING, probe, Fate::Succeeded, now);
        }
        assert_eq!(circuit.state().phase, Phase::Closed);
        // And what failed before is forgotten.
        assert!(ask(&circuit, Fate::Failed, now));
        assert_eq!(circuit.state().phase, Phase::Closed);
    }

    #[test]
    fn a_probe_that_fails_opens_it_again() {
        let circuit = opened();
        assert!(ask(&circuit, Fate::Succeeded, at(5_100)));
        assert!(ask(&circuit, Fate::Failed, at(5_200)));
        assert_eq!(circuit.state().phase, Phase::Open);
        assert_eq!(circuit.opened.value(), 2);
        assert!(!ask(&circuit, Fate::Succeeded, at(10_000)));
        assert!(ask(&circuit, Fate::Succeeded, at(10_300)));
    }

    #[test]
    fn a_probe_that_is_given_up_leaves_its_place_to_another() {
        let circuit = opened();
        for n in 0..20 {
            assert!(ask(&circuit, Fate::Unknown, at(5_100 + n)));
        }
        assert_eq!(circuit.state().phase, Phase::HalfOpen);
    }

    #[test]
    fn probes_that_are_never_heard_of_again_do_not_keep_it_half_open() {
        let circuit = opened();
        let lost: Vec<_> = (0..3)
            .map(|_| pass(&circuit, &BREAKING, at(5_100)).unwrap())
            .collect();
        assert_eq!(
            pass(&circuit, &BREAKING, at(9_100)),
            Err(Duration::from_secs(1))
        );
        (0..3).for_each(|n| assert!(ask(&circuit, Fate::Succeeded, at(10_200 + n))));
        assert_eq!(circuit.state().phase, Phase::Closed);
        // When they come at last, they are of another time.
        for probe in lost {
            passed(&circuit, &BREAKING, probe, Fate::Failed, at(11_000));
        }
        assert_eq!(circuit.state().phase, Phase::Closed);
    }

    #[test]
    fn a_late_failure_from_before_does_not_prolong_it() {
        let circuit = Circuit::default();
        let late = pass(&circuit, &BREAKING, at(0)).unwrap();
        (0..10).for_each(|n| assert!(ask(&circuit, Fate::Failed, at(n))));
        let until = circuit.state().at;
        passed(&circuit, &BREAKING, late, Fate::Failed, at(4_000));
        assert_eq!(circuit.state().at, until);
    }
}
