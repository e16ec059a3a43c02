use std::fmt;

use model::{Endpoint, Health, Moment, Reason};

/// Whether an endpoint may be chosen, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Eligible,
    /// Only while no other is eligible: no check has answered for it yet.
    Reserve,
    /// Only while every eligible one is passed over too, because of what was observed.
    Ejected(Reason),
    /// It would, but this node uses a subset of the instances that it is not in.
    OutsideSubset,
    /// Its weight is 0 or it was told to drain.
    Draining,
    /// It may, though it is not well: so few are that health is ignored.
    TakenForHealthy,
    /// Taken out by hand.
    Disabled,
    /// The registry's verdict is critical.
    Critical,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eligible => "eligible",
            Self::Reserve => "in reserve: no check has answered yet",
            Self::Ejected(reason) => return write!(f, "passed over: {reason}"),
            Self::OutsideSubset => "not in the subset that this node uses",
            Self::TakenForHealthy => "taken for healthy: too few are (panic_below)",
            Self::Draining => "draining: no new work",
            Self::Disabled => "disabled",
            Self::Critical => "critical",
        })
    }
}

impl Standing {
    /// Whether an endpoint that stands so is chosen like any other.
    pub const fn is_eligible(self) -> bool {
        matches!(self, Self::Eligible | Self::TakenForHealthy)
    }
}

/// What becomes of `endpoint` at `now`.
pub fn standing(endpoint: &Endpoint, now: Moment) -> Standing {
    match (lasting(endpoint), endpoint.stats.ejection()) {
        (Standing::Eligible, Some(ejection)) if ejection.until > now => {
            Standing::Ejected(ejection.reason)
        }
        (lasting, _) => lasting,
    }
}

/// The part of the standing that holds as long as the routing table does.
pub(crate) fn lasting(endpoint: &Endpoint) -> Standing {
    if !endpoint.enabled {
        return Standing::Disabled;
    }
    if endpoint.drain || endpoint.weight.0 == 0 {
        return Standing::Draining;
    }
    match endpoint.health {
        Health::Passing | Health::Warning => Standing::Eligible,
        Health::Unknown => Standing::Reserve,
        Health::Critical => Standing::Critical,
    }
}
