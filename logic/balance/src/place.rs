//! Tables from keys to endpoints, made where a service changes and not where requests wait.

use std::sync::Arc;

use model::{Balancing, Endpoint, PlacedMember, Placement, Policy};

use crate::key::identity;
use crate::{maglev, rendezvous, stage};

/// The number of no member.
pub(crate) const NOBODY: u32 = u32::MAX;

/// The table of the keys for a service with these endpoints; `None` for a policy that does not go by keys. `before`
/// is the table so far: what did not change is taken from it, which makes one change cheap, and the result is the
/// same as without.
pub fn place(
    policy: Policy,
    balancing: &Balancing,
    endpoints: &[Endpoint],
    before: Option<&Arc<Placement>>,
) -> Option<Arc<Placement>> {
    if !policy.is_hash() {
        return None;
    }
    // A subset would give the same key to different endpoints at different nodes; and a table knows no tiers.
    let balancing = Balancing {
        subset: 0,
        ..balancing.clone()
    };
    let (tiers, _) = stage::eligible(endpoints, &balancing);
    let members = tiers.iter().flat_map(|t| &t.endpoints).map(|&index| {
        let endpoint = &endpoints[index as usize];
        PlacedMember {
            identity: identity(&endpoint.id),
            weight: endpoint.weight,
            endpoint: index,
        }
    });
    let placement = match policy {
        Policy::Maglev => maglev::table(members.collect()),
        _ => rendezvous::table(members.collect(), before.map(|b| &**b)),
    };
    match before {
        Some(before) if **before == placement => Some(before.clone()),
        _ => Some(Arc::new(placement)),
    }
}
