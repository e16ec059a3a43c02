//! A circuit breaker: settings, and what all workers know of a service's circuit.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::{Counter, Moment};

/// When a service's circuit opens, and when it closes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaking {
    /// The share of requests (percent) that must have failed.
    pub error_rate: u8,
    /// Of those of the last so long.
    pub window: Duration,
    /// And of at least so many.
    pub min_requests: u32,
    /// How long it is open before anybody tries again.
    pub open: Duration,
    /// How many then try, and must succeed.
    pub probes: u16,
}

/// Parts of the window, in each of which requests are counted together.
pub const CIRCUIT_SLOTS: usize = 10;

/// A service's circuit as all workers see it. What it does is in `balance::circuit`; here are its numbers.
#[derive(Debug, Default)]
pub struct Circuit {
    /// A [`CircuitState`], in one word, so that whoever changes it changes all of it.
    state: AtomicU64,
    /// Counts of requests, each with the part of time that it is of.
    pub slots: [AtomicU64; CIRCUIT_SLOTS],
    /// How often it opened.
    pub opened: Counter,
    /// Requests that were turned away.
    pub refused: Counter,
}

/// What a circuit is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CircuitState {
    /// What becomes of requests.
    pub phase: Phase,
    /// When the phase ends, of an open circuit; when it began, of a half-open one. To the millisecond.
    pub at: Moment,
    /// Probes that were let through in this phase.
    pub probing: u16,
    /// Those of them that succeeded.
    pub succeeded: u16,
}

/// What becomes of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// All are let through.
    #[default]
    Closed,
    /// All are turned away.
    Open,
    /// A few are let through, to see what becomes of them.
    HalfOpen,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// The word used in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// The most probes that there may be: what a state has room for.
pub const MOST_PROBES: u16 = 1_000;

const COUNT: u64 = 0x3ff;

impl CircuitState {
    const fn pack(self) -> u64 {
        let (probing, succeeded) = (self.probing as u64, self.succeeded as u64);
        let millis = self.at.as_nanos() / 1_000_000;
        millis << 22 | (succeeded & COUNT) << 12 | (probing & COUNT) << 2 | self.phase as u64
    }

    const fn unpack(word: u64) -> Self {
        Self {
            phase: match word & 3 {
                0 => Phase::Closed,
                1 => Phase::Open,
                _ => Phase::HalfOpen,
            },
            at: Moment::from_millis(word >> 22),
            probing: (word >> 2 & COUNT) as u16,
            succeeded: (word >> 12 & COUNT) as u16,
        }
    }
}

impl Circuit {
    /// What it is at.
    pub fn state(&self) -> CircuitState {
        CircuitState::unpack(self.state.load(Relaxed))
    }

    /// Changes the state, unless somebody else has meanwhile.
    pub fn change(&self, from: CircuitState, to: CircuitState) -> bool {
        let (from, to) = (from.pack(), to.pack());
        let changed = self.state.compare_exchange(from, to, Relaxed, Relaxed);
        changed.is_ok()
    }
}
