//! Finding a key's endpoint.

use std::sync::Arc;

use model::{EndpointStats, PlacedMember, Placement, Policy, ServiceTable, Weight};

use crate::key::mix;
use crate::view::View;

/// Further places a key has, one after the other, when its first cannot take it. They differ from key to key, so
/// that an instance that fails burdens all the others a little.
const PLACES: usize = 16;

/// No endpoint has more in flight than this part of its share, in hundredths, while others have less: one
/// key that everybody wants does not flatten the instance that has it (Mirrokni, Thorup, Zadimoghaddam 2018).
const BOUND: u128 = 125;

/// So much may be in flight at an endpoint whatever its share. With little to do, a share is one or two, and two requests of
/// one client at a time, of which a browser makes six, would go to two instances: that flattens nobody, but a session is lost
/// or a cache is cold.
const FREE: u64 = 16;

/// A member of a table of keys, and what is known of it, found without a detour by way of the service's endpoints.
#[derive(Clone, Debug)]
pub(crate) struct Keyed {
    stats: Arc<EndpointStats>,
    endpoint: u32,
    weight: Weight,
}

/// The members of a service's table of keys, by their numbers.
pub(crate) fn keyed(service: &ServiceTable) -> Vec<Option<Keyed>> {
    let members = service.placement.iter().flat_map(|p| &p.members);
    let keyed = |member: &Option<PlacedMember>| {
        let member = member.as_ref()?;
        let endpoint = service.endpoints.get(member.endpoint as usize)?;
        Some(Keyed {
            stats: endpoint.stats.clone(),
            endpoint: member.endpoint,
            weight: member.weight,
        })
    };
    members.map(keyed).collect()
}

/// The number of the endpoint that has `key`, if its first place is taken as it is: nearly always. What has to be known of all
/// endpoints for that is left to [`find`]: with it, this would take longer.
#[inline]
pub(crate) fn first(
    policy: Policy,
    placement: &Placement,
    keyed: &[Option<Keyed>],
    key: u64,
) -> Option<u32> {
    let member = first_of(placement, keyed, key)?;
    let has_room = match policy {
        Policy::Maglev => true,
        Policy::ConsistentHash => u64::from(member.stats.in_flight()) < FREE,
        _ => false,
    };
    has_room.then_some(member.endpoint)
}

/// The number of the endpoint that has `key`.
#[inline]
pub(crate) fn find(
    placement: &Placement,
    keyed: &[Option<Keyed>],
    key: u64,
    view: &mut View<'_>,
) -> Option<u32> {
    // Where much is in flight at all of them, it is the first place nearly always too.
    if view.tried.is_empty()
        && let Some(member) = first_of(placement, keyed, key)
    {
        let (q, weight) = (
            u64::from(member.stats.in_flight()),
            u64::from(member.weight.0),
        );
        if has_room(view.service, placement, q, weight) {
            return Some(member.endpoint);
        }
    }
    find_further(placement, key, view)
}

/// Who has the first place of `key`, if there is nothing to consider about it.
#[inline]
fn first_of<'a>(placement: &Placement, keyed: &'a [Option<Keyed>], key: u64) -> Option<&'a Keyed> {
    let member = keyed.get(number_at(placement, key)? as usize)?.as_ref()?;
    member.stats.ejection().is_none().then_some(member)
}

/// Who has a place, if anybody has.
#[inline]
fn member_at(placement: &Placement, place: u64) -> Option<&PlacedMember> {
    let number = number_at(placement, place)?;
    placement.members.get(number as usize)?.as_ref()
}

#[inline]
fn number_at(placement: &Placement, place: u64) -> Option<u32> {
    let slot = (u128::from(place) * placement.slots.len() as u128) >> 64;
    placement.slots.get(slot as usize).copied()
}

#[cold]
fn find_further(placement: &Placement, key: u64, view: &mut View<'_>) -> Option<u32> {
    let service = view.service;
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
        if has_room(service, placement, q, weight) {
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
/// included, and a quarter more. Maglev has no such bound.
#[inline]
fn has_room(service: &ServiceTable, placement: &Placement, q: u64, weight: u64) -> bool {
    // The total takes a look at every worker's count.
    if q < FREE || service.policy != Policy::ConsistentHash {
        return true;
    }
    let total = u128::from(service.stats.in_flight() + 1);
    u128::from(q) * u128::from(placement.weight) * 100 < BOUND * total * u128::from(weight)
}
