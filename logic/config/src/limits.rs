//! `[service.NAME.limits]`: how many requests a service takes at a time.

use std::time::Duration;

use model::Limiting;

use crate::declare::{declare, resolved};
use crate::reader::Reader;
use crate::rule::default;
use crate::top::{DAY, millis};
use crate::tree::Node;
use crate::value::Resolved;

declare! {
    /// How many requests the service takes at a time from this node, and what becomes of those beyond: they wait for a
    /// moment, those that matter most in front (`priority` of their route), and are answered with 503 and `Retry-After`
    /// when there is no room in time.
    pub(crate) struct LimitsKeys {
        /// Requests at all instances together; 0 for any number. A tunnel counts until it is open.
        // Nobody can guess it for others.
        max_requests: u32 => default(0u32),
        /// The limit follows the instances' latency: it grows as long as more at a time makes nobody wait, and shrinks
        /// when it does. Never above `max_requests`, if that is given.
        // A limit that is found out is right for most services, and a surprise for the rest.
        adaptive: bool => default(false),
        /// Never below this.
        // Some must be under way to measure anything.
        min_requests: u32 => default(4u32).within(1..=1_000_000),
        /// How many may wait, on each worker.
        // A burst of a tenth of a second of a busy worker.
        max_waiting: u32 => default(1_000u32).within(0..=1_000_000),
        /// How long a request may wait when the queue empties now and then.
        // These two are Facebook's: a burst is over in a tenth of a second, or it is no burst.
        wait: Duration => default(millis(100)).within(Duration::ZERO..=DAY),
        /// And when it has not for as long as that: the newest then go first.
        wait_overloaded: Duration => default(millis(5)).within(Duration::ZERO..=DAY),
    }
}

resolved!(Limiting);

impl Resolved for Limiting {
    type Keys = LimitsKeys;

    fn resolve(keys: LimitsKeys, _: &Node, _: &mut Reader<'_, '_>) -> Option<Self> {
        Some(Self {
            max: keys.max_requests,
            adaptive: keys.adaptive,
            min: keys.min_requests,
            queue: keys.max_waiting,
            wait: keys.wait,
            wait_overloaded: keys.wait_overloaded,
        })
    }

    fn keys(&self) -> LimitsKeys {
        LimitsKeys {
            max_requests: self.max,
            adaptive: self.adaptive,
            min_requests: self.min,
            max_waiting: self.queue,
            wait: self.wait,
            wait_overloaded: self.wait_overloaded,
        }
    }
}
