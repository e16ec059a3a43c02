//! `[service.NAME.ejection]`: when instances are taken out because of what was observed.

use std::time::Duration;

use model::Ejecting;

use crate::declare::{declare, resolved};
use crate::reader::Reader;
use crate::rule::default;
use crate::text::Percent;
use crate::top::{DAY, millis, secs};
use crate::tree::Node;
use crate::value::Resolved;

declare! {
    /// When instances are taken out for a while because of what was observed. If all that may be chosen are, one of
    /// them is tried all the same.
    pub(crate) struct EjectionKeys {
        /// Attempts in a row without a connection or a whole answer; 0 never.
        // nginx's. A retry hides the failure, and an ejected instance is checked at once if it has a check.
        failures: u16 => default(1u16).within(0..=10_000),
        /// Answers in a row with a status of 500, 502, 503 or 504; 0 never.
        // Envoy's. One such answer may be about the request; five in a row are about the instance.
        errors: u16 => default(5u16).within(0..=10_000),
        /// The share of failures and errors above which an instance is ejected, if it is far from what is usual for
        /// the service's instances; `"100%"` never.
        // What is usual may be nothing at all, and then one error in a hundred would be far from it.
        error_rate: Percent => default(Percent(20)).within(Percent(1)..=Percent(100)),
        /// So many times the usual latency eject an instance, if no chance explains it; 0 never.
        // least_time and peak_ewma avoid slow instances by themselves, and services differ.
        slow_factor: u16 => default(0u16).within(0..=10_000),
        /// How long the first time; the n-th in close succession lasts n times as long. Then the instance gets its
        /// share back within the same time, little by little, and one more failure ejects it again.
        // Some checks' time to find out, and not too long if it has none.
        time: Duration => default(secs(10)).within(millis(1)..=DAY),
        /// The longest.
        // A retry hides the request that finds out, so that it can be asked every minute.
        max_time: Duration => default(secs(60)).within(millis(1)..=DAY),
        /// The share of the service's instances that may be out at a time; one always may. Those that accept no
        /// connection do not count.
        // Beyond, the fault is likely one that all have in common, and those that are left would be overloaded.
        max_share: Percent => default(Percent(50)).within(Percent(0)..=Percent(100)),
    }
}

resolved!(Ejecting);

impl Resolved for Ejecting {
    type Keys = EjectionKeys;

    fn resolve(keys: EjectionKeys, _: &Node, _: &mut Reader<'_, '_>) -> Option<Self> {
        Some(Self {
            failures: keys.failures,
            errors: keys.errors,
            error_rate: keys.error_rate.0,
            slow_factor: keys.slow_factor,
            time: keys.time,
            max_time: keys.max_time.max(keys.time),
            max_share: keys.max_share.0,
        })
    }

    fn keys(&self) -> EjectionKeys {
        EjectionKeys {
            failures: self.failures,
            errors: self.errors,
            error_rate: Percent(self.error_rate),
            slow_factor: self.slow_factor,
            time: self.time,
            max_time: self.max_time,
            max_share: Percent(self.max_share),
        }
    }
}
