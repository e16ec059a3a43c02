//! `[service.NAME.hedge]`: requests that take long are sent to a second instance.

use std::time::Duration;

use model::Hedging;

use crate::declare::{declare, resolved};
use crate::reader::Reader;
use crate::rule::{absent, default};
use crate::text::Percent;
use crate::top::{DAY, millis};
use crate::tree::Node;
use crate::value::Resolved;

declare! {
    /// Requests that take longer than nearly all others are sent to a second instance; the first answer is taken, and the other
    /// request is given up. Only those that may be repeated (GET, HEAD, PUT, DELETE, OPTIONS, TRACE) and are here whole.
    pub(crate) struct HedgeKeys {
        /// A second one is sent when the first has taken longer than this share of the requests do, as far as is known of
        /// them: it is learned, from the first thirty on.
        // Dean and Barroso's: the tail is cut, and one of twenty costs twice.
        quantile: Percent => default(Percent(95)).within(Percent(50)..=Percent(99)),
        /// Second requests as a share of the requests at the most.
        // As many as the quantile leaves while nothing is wrong, and no more when something is.
        budget: Percent => default(Percent(5)).within(Percent(1)..=Percent(100)),
        /// No second one is sent sooner than this.
        // Below, differences are the machine's and the network's.
        min_delay: Duration => default(millis(1)).within(Duration::ZERO..=DAY),
        /// A second one is sent after this time instead, whatever others take.
        delay: Option<Duration> => absent("it is learned: see quantile").if_given_within(Duration::ZERO..=DAY),
    }
}

resolved!(Hedging);

impl Resolved for Hedging {
    type Keys = HedgeKeys;

    fn resolve(keys: HedgeKeys, _: &Node, _: &mut Reader<'_, '_>) -> Option<Self> {
        Some(Self {
            quantile: keys.quantile.0,
            budget: keys.budget.0,
            min_delay: keys.min_delay,
            delay: keys.delay,
        })
    }

    fn keys(&self) -> HedgeKeys {
        HedgeKeys {
            quantile: Percent(self.quantile),
            budget: Percent(self.budget),
            min_delay: self.min_delay,
            delay: self.delay,
        }
    }
}
