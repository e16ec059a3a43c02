//! Finding a key's endpoint.

use model::{PlacedMember, Placement, Policy, ServiceTable};

use crate::key::mix;
use crate::view::View;

/// Further places a key has, one after the other, when its first cannot take it. They differ from key to key, so
/// that an instance that fails burdens all the others a little.
const PLACES: usize = 16;

/// No endpoint has more in flight than this part of its share, in hundredths, while others have less: one
/// key that everybody wants does not flatten the instance that has it (Mirrokni, Thorup, Zadimoghaddam 2018).
const BOUND: u128 = 125;

/// The number of the endpoint that has `key`.
#[inline]
pub(crate) fn find(
    service: &ServiceTable,
    placement: &Placement,
    key: u64,
    view: &mut View<'_>,
) -> Option<u32> {
    // The first place, with nothing to consider: nearly always.
    if let Some(member) = member_at(placement, key) {
        let stats = &service.endpoints[member.endpoint as usize].stats;
        let (q, weight) = (u64::from(stats.in_flight()), u64::from(member.weight.0));
        let bounded = service.policy == Policy::ConsistentHash;
        if view.is_ordinary(stats)
            && (!bounded || q == 0 || has_room(service, placement, q, weight))
        {
            return Some(member.endpoint);
        }
    }
    find_further(service, placement, key, view)
}

/// Who has a place, if anybody has.
#[inline]
fn member_at(placement: &Placement, place: u64) -> Option<&PlacedMember> {
    let slot = (u128::from(place) * placement.slots.len() as u128) >> 64;
    let number = placement.slots.get(slot as usize)?;
    placement.members.get(*number as usize)?.as_ref()
}

#[cold]
fn find_further(
    service: &ServiceTable,
    placement: &Placement,
    key: u64,
    view: &mut View<'_>,
) -> Option<u32> {
    let bounded = service.policy == Policy::ConsistentHash;
    // Who has the least per weight of those at their bound.
    let mut least: Option<(u64, u64, u32)> = None;
    for n in 0..PLACES as u64 {
        let place = if n == 0 { key } else { mix(key, n) };
        let Some(member) = member_at(placement, place) else {
            continue;
        };
        let stats = &service.endpoints[member.endpoint as usize].stats;
        let share = view.share_of(stats, member.endpoint);
        if !view.accepts(share) {
            continue;
        }
        let (q, weight) = (u64::from(stats.in_flight()), u64::from(member.weight.0));
        // Its share is never below 1, and the total takes a look at every worker's count.
        if !bounded || q == 0 || has_room(service, placement, q, weight) {
            return Some(member.endpoint);
        }
        if least.is_none_or(|(load, of, _)| q * of < load * weight) {
            least = Some((q, weight, member.endpoint));
        }
    }
    if let Some((.., endpoint)) = least {
        return Some(endpoint);
    }
    // Most cannot be chosen: the next that can, from a place of the key's own.
    let members = placement.members.len();
    let start = mix(key, PLACES as u64) as usize % members.max(1);
    let order = (start..members).chain(0..start);
    order
        .filter_map(|number| placement.members[number])
        .map(|member| member.endpoint)
        .find(|&e| view.share_of(&service.endpoints[e as usize].stats, e) > 0.0)
}

/// Whether `q` is less than an endpoint of this weight may have in flight: its part of all there is, this one
/// included, and a quarter more.
fn has_room(service: &ServiceTable, placement: &Placement, q: u64, weight: u64) -> bool {
    let total = u128::from(service.stats.in_flight() + 1);
    u128::from(q) * u128::from(placement.weight) * 100 < BOUND * total * u128::from(weight)
}
