//! The stages before a policy: who of a service may be chosen as long as its table holds.

use std::cmp::Reverse;

use model::{Balancing, Endpoint};

use crate::key::{identity, mix};
use crate::standing::{Standing, lasting};

/// A tier takes this many hundredths of what its healthy part could, before the next gets any: an ordinary
/// fleet has so much headroom. Envoy's, and so familiar.
const HEADROOM: u64 = 140;

/// Endpoints of one tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tier {
    /// Their numbers, in the table's order.
    pub(crate) endpoints: Vec<u32>,
    /// The weight of all that are enabled and do not drain, healthy or not.
    pub(crate) whole: u64,
}

/// Whether so few of these are healthy that health is ignored.
pub fn is_panicking(endpoints: &[Endpoint], balancing: &Balancing) -> bool {
    too_few(weights(endpoints), balancing)
}

fn too_few((healthy, whole): (u64, u64), balancing: &Balancing) -> bool {
    healthy * 100 < whole * u64::from(balancing.panic_below)
}

/// The weight of those that are healthy, and of all that an operator wants to have traffic.
fn weights(endpoints: &[Endpoint]) -> (u64, u64) {
    let weight_of = |wanted: &dyn Fn(Standing) -> bool| -> u64 {
        weight(endpoints.iter().filter(|e| wanted(lasting(e))))
    };
    let healthy = weight_of(&|standing| standing == Standing::Eligible);
    (healthy, weight_of(&undrained))
}

/// Who may be chosen, tier by tier; and whether so few are healthy that health was ignored.
pub(crate) fn eligible(
    endpoints: &[Endpoint],
    balancing: &Balancing,
    tier_of: impl Fn(&Endpoint) -> u8,
) -> (Vec<Tier>, bool) {
    let weights = weights(endpoints);
    let (healthy, panicking) = (weights.0, too_few(weights, balancing));
    let may = |standing| match (panicking, healthy) {
        (true, _) => undrained(standing),
        (false, 0) => standing == Standing::Reserve,
        (false, _) => standing == Standing::Eligible,
    };
    let mut numbers: Vec<u8> = endpoints.iter().map(&tier_of).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let tier = |number: u8| {
        let of = |e: &&Endpoint| tier_of(e) == number;
        let those = (0_u32..).zip(endpoints).filter(|(_, e)| of(e));
        let mut chosen: Vec<u32> = those
            .filter(|(_, e)| may(lasting(e)))
            .map(|(index, _)| index)
            .collect();
        narrow(&mut chosen, endpoints, balancing);
        Tier {
            endpoints: chosen,
            whole: weight(
                endpoints
                    .iter()
                    .filter(of)
                    .filter(|e| undrained(lasting(e))),
            ),
        }
    };
    let tiers = numbers.into_iter().map(tier);
    (
        tiers.filter(|t| !t.endpoints.is_empty()).collect(),
        panicking,
    )
}

/// What endpoints weigh together.
pub(crate) fn weight<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) -> u64 {
    endpoints.map(|e| u64::from(e.weight.0)).sum()
}

const fn undrained(standing: Standing) -> bool {
    !matches!(standing, Standing::Disabled | Standing::Draining)
}

/// Keeps this node's subset (rendezvous hashing): a change of instances changes at most one of it, and nodes
/// with different salts share the instances evenly.
fn narrow(chosen: &mut Vec<u32>, endpoints: &[Endpoint], balancing: &Balancing) {
    let most = balancing.subset as usize;
    if most == 0 || chosen.len() <= most || endpoints.is_empty() {
        return;
    }
    let rank = |&index: &u32| {
        Reverse(mix(
            identity(&endpoints[index as usize].id),
            balancing.subset_salt,
        ))
    };
    chosen.select_nth_unstable_by_key(most - 1, rank);
    chosen.truncate(most);
    chosen.sort_unstable();
}

/// How much of the traffic each tier gets, in 2^32nds, from (weight usable now, whole weight): local first, and
/// what it has no headroom for spills over.
pub(crate) fn spill(tiers: &[(u64, u64)]) -> Vec<u64> {
    const ALL: u64 = 1 << 32;
    let capacity = |&(usable, whole): &(u64, u64)| match whole {
        0 => 0,
        _ => (u128::from(usable) * u128::from(HEADROOM * ALL / 100) / u128::from(whole)) as u64,
    };
    let capacities: Vec<u64> = tiers.iter().map(|t| capacity(t).min(ALL)).collect();
    let total: u64 = capacities.iter().sum();
    if total == 0 {
        return vec![ALL / tiers.len().max(1) as u64; tiers.len()];
    }
    let mut left = ALL;
    let take = |capacity: u64| {
        // All together have too little: each gets its part of what there is.
        let wanted = match total < ALL {
            true => (u128::from(capacity) * u128::from(ALL) / u128::from(total)) as u64,
            false => capacity,
        };
        let taken = wanted.min(left);
        left -= taken;
        taken
    };
    capacities.into_iter().map(take).collect()
}
