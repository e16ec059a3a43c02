//! Tables from keys to endpoints, made where a service changes and not where requests wait.

use std::sync::Arc;

use model::{Balancing, Endpoint, PlacedMember, Placement, Policy};

use crate::key::identity;
use crate::stage::Tier;
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
    // A subset, or what is near, would give the same key to different endpoints at different nodes.
    let balancing = Balancing {
        subset: 0,
        ..balancing.clone()
    };
    let (tiers, _) = stage::eligible(endpoints, &balancing, Endpoint::instance_tier);
    let members = in_use(&tiers, endpoints)
        .flat_map(|t| &t.endpoints)
        .map(|&index| {
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

/// The tiers whose endpoints have keys: the first, and those after it that it has no room without. They have their share of
/// all keys then, and not just of what is too much: a part of each place would be another table.
fn in_use<'a>(tiers: &'a [Tier], endpoints: &[Endpoint]) -> impl Iterator<Item = &'a Tier> {
    let usable = |tier: &Tier| {
        let those = tier
            .endpoints
            .iter()
            .map(|&index| &endpoints[index as usize]);
        (stage::weight(those), tier.whole)
    };
    let shares = stage::spill(&tiers.iter().map(usable).collect::<Vec<_>>());
    let used = tiers.iter().zip(shares).filter(|(_, share)| *share > 0);
    used.map(|(tier, _)| tier)
}
