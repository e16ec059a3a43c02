//! `[service.NAME.circuit_breaker]`: when a service is left alone for a while.

use std::time::Duration;

use model::{Breaking, MOST_PROBES};

use crate::declare::{declare, resolved};
use crate::reader::Reader;
use crate::rule::default;
use crate::text::Percent;
use crate::top::{DAY, millis, secs};
use crate::tree::Node;
use crate::value::Resolved;

declare! {
    /// A service that fails most of its requests is left alone for a while: they are answered at once, with 503 and
    /// `Retry-After`, or by the route's `fallback`. Then a few are let through, and all if those succeed.
    pub(crate) struct BreakerKeys {
        /// The share of requests that must have failed: with 500, 502, 503 or 504 after all retries, or without a whole answer.
        // resilience4j's. Half of all is no accident.
        error_rate: Percent => default(Percent(50)).within(Percent(1)..=Percent(100)),
        /// Of the requests of the last so long, on this node.
        // Long enough for services with few requests, short enough to notice.
        window: Duration => default(secs(10)).within(millis(100)..=DAY),
        /// And of at least so many.
        // Of fewer, half is too easily reached by chance.
        min_requests: u32 => default(20u32).within(1..=1_000_000),
        /// How long it is left alone.
        // Most restarts take longer, and then it is another so long.
        open_for: Duration => default(secs(5)).within(millis(10)..=DAY),
        /// How many requests are then let through at first, and must succeed.
        // One could be luck.
        probes: u16 => default(3u16).within(1..=MOST_PROBES),
    }
}

resolved!(Breaking);

impl Resolved for Breaking {
    type Keys = BreakerKeys;

    fn resolve(keys: BreakerKeys, _: &Node, _: &mut Reader<'_, '_>) -> Option<Self> {
        Some(Self {
            error_rate: keys.error_rate.0,
            window: keys.window,
            min_requests: keys.min_requests,
            open: keys.open_for,
            probes: keys.probes,
        })
    }

    fn keys(&self) -> BreakerKeys {
        BreakerKeys {
            error_rate: Percent(self.error_rate),
            window: self.window,
            min_requests: self.min_requests,
            open_for: self.open,
            probes: self.probes,
        }
    }
}
