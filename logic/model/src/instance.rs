use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{CheckSpec, Host, InstanceId};

/// One registered address of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name within the service.
    pub id: InstanceId,
    /// Where it is.
    pub host: Host,
    /// Its port there.
    pub port: NonZeroU16,
    /// Its share of the traffic.
    pub weight: Weight,
    /// 0 gets the traffic, 1 what 0 has no room for, and so on.
    pub tier: u8,
    /// The failure domain it runs in.
    pub zone: Option<Box<str>>,
    /// Words to select by, sorted.
    pub tags: Box<[Box<str>]>,
    /// Anything its owner wants readers to know. `None` when empty, so that a million instances
    /// without metadata pay one word each.
    pub metadata: Option<Box<BTreeMap<Box<str>, Box<str>>>>,
    /// What keeps it alive: a lease makes it ephemeral, none makes it persistent.
    pub lease: Option<Lease>,
    /// How its health is probed, if it is.
    pub check: Option<Box<CheckSpec>>,
    /// `false` takes it out of traffic by hand, without forgetting it.
    pub enabled: bool,
    /// `true` sends it no new work; existing work finishes.
    pub drain: bool,
}

impl Instance {
    /// The last tier: each becomes two by zone, in eight bits.
    pub const LAST_TIER: u8 = 127;
}

/// A time-limited promise: unless it is renewed within `ttl`, the instance goes critical, and `grace`
/// after that it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// How long one heartbeat holds.
    pub ttl: Duration,
    /// How long the instance stays listed, critical, after the lease ran out.
    pub grace: Duration,
}

/// A share of traffic relative to the other instances of the service: P(i) = W(i) / ΣW. 1 is the
/// default, 0 drains, 65,535 is the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weight(pub u16);

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}
