//! `[service.NAME.respread]`: long connections follow a change of what instances should have.

use std::time::Duration;

use model::Respreading;

use crate::declare::{declare, resolved};
use crate::reader::Reader;
use crate::rule::default;
use crate::text::Percent;
use crate::top::{DAY, secs};
use crate::tree::Node;
use crate::value::Resolved;

declare! {
    /// Long connections stay where they are when an instance restarts, joins or changes its weight. With this, those
    /// that an instance has beyond its share are closed little by little, and their clients connect again, to an
    /// instance that has fewer.
    pub(crate) struct RespreadKeys {
        /// The share of the service's connections that may be closed each second; `"0%"` never.
        // Clients have to know how to connect again: that is for whoever wrote them to say. 1 % is a good rate.
        rate: Percent => default(Percent(0)).within(Percent(0)..=Percent(100)),
        /// How long a connection has been at rest, with nothing asked that is not answered, before it may be closed.
        // Longer than most instances take to answer.
        rest: Duration => default(secs(1)).within(Duration::ZERO..=DAY),
    }
}

resolved!(Respreading);

impl Resolved for Respreading {
    type Keys = RespreadKeys;

    fn resolve(keys: RespreadKeys, _: &Node, _: &mut Reader<'_, '_>) -> Option<Self> {
        Some(Self {
            rate: keys.rate.0,
            rest: keys.rest,
            // The service's check tells.
            transactions: false,
        })
    }

    fn keys(&self) -> RespreadKeys {
        RespreadKeys {
            rate: Percent(self.rate),
            rest: self.rest,
        }
    }
}
