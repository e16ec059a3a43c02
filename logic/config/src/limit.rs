//! `[[listener.NAME.route.filters.rate_limit]]` and `[[…concurrency]]`: limits by key.

use std::time::Duration;

use model::{Concurrency, Excess, LimitKey, Rate};

use crate::declare::{declare, resolved};
use crate::reader::Reader;
use crate::rule::{absent, default, required};
use crate::text::PerTime;
use crate::tree::Node;
use crate::value::Resolved;

/// More are as good as no limit, and a table of them takes 2 GiB.
const MOST_KEYS: u32 = 1 << 27;

declare! {
    /// How many requests there may be in a time. Several limits hold together.
    pub struct RateLimit {
        /// So many requests in a time: `"100/s"`, `"600/m"`, `"1000/h"` or `"10000/d"`.
        rate: PerTime => required(),
        /// How many may come at once; with `excess = "delay"`, how many may wait.
        burst: Option<u32> => absent("as many as the rate has in a second, and at least one").if_given_within(1..=1_000_000),
        /// Whose requests are counted together: `"source_ip"` (of IPv6, its /64), `"header:NAME"`, `"path"`, or `"route"` for all of
        /// the route. Requests without the header are not limited.
        // What keeps one client from taking everything.
        key: LimitKey => default(LimitKey::Source),
        /// What becomes of what is too much: `"reject"`, with 429 and `Retry-After`, or `"delay"`: it waits for its turn.
        // Whoever waits keeps a connection busy, and most clients know what to do with 429.
        excess: Excess => default(Excess::Reject),
        /// Keys remembered at the most, of 16 bytes each; the one that is least missed makes room for a new one.
        // A MiB.
        max_keys: u32 => default(65_536u32).within(8..=MOST_KEYS),
    }
}

declare! {
    /// How many requests there may be at a time. Several limits hold together.
    pub(crate) struct ConcurrencyKeys {
        /// So many; those beyond get 429. A tunnel counts as long as it lasts.
        max: u32 => required(),
        /// Whose requests are counted together, as in `rate_limit`.
        // As there.
        key: LimitKey => default(LimitKey::Source),
        /// Keys remembered at the most, of 16 bytes each. Beyond, requests are not counted.
        // A MiB.
        max_keys: u32 => default(65_536u32).within(8..=MOST_KEYS),
    }
}

impl RateLimit {
    /// As the data plane counts it.
    pub fn rate(&self) -> Rate {
        let PerTime { count, period } = self.rate;
        let second = u64::from(count) / period.as_secs();
        Rate {
            interval: period / count,
            burst: self
                .burst
                .unwrap_or(u32::try_from(second.max(1)).unwrap_or(u32::MAX)),
            excess: self.excess,
            key: self.key.clone(),
            max_keys: self.max_keys_needed(),
        }
    }

    /// One for all needs one.
    fn max_keys_needed(&self) -> u32 {
        match self.key {
            LimitKey::Route => 1,
            _ => self.max_keys,
        }
    }
}

resolved!(Concurrency);

impl Resolved for Concurrency {
    type Keys = ConcurrencyKeys;

    fn resolve(keys: ConcurrencyKeys, node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        if keys.max == 0 {
            let hint =
                "write a larger one, or answer = { status = 503 } in the place of the service";
            cx.error(node.at, "has a max of 0, which no request fits in", hint);
            return None;
        }
        Some(Self {
            max: keys.max,
            key: keys.key,
            max_keys: keys.max_keys,
        })
    }

    fn keys(&self) -> ConcurrencyKeys {
        ConcurrencyKeys {
            max: self.max,
            key: self.key.clone(),
            max_keys: self.max_keys,
        }
    }
}

/// The times that a rate may be of.
pub(crate) const PERIODS: [(&str, Duration); 4] = [
    ("s", Duration::from_secs(1)),
    ("m", Duration::from_secs(60)),
    ("h", Duration::from_secs(3_600)),
    ("d", Duration::from_secs(86_400)),
];
