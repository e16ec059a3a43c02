//! Weighted rendezvous hashing (Thaler and Ravishankar 1998), done once for each of many slots instead of for every
//! request: each slot belongs to the member with the lowest score. A member that comes takes slots from all others
//! and moves none between them; one that goes leaves its own to the next in line.

use std::collections::BTreeMap;

use model::{PlacedMember, Placement};

use crate::key::mix;
use crate::place::NOBODY;

/// Places that keys have. With 100 members the largest share is 1.09 of the mean, and the bound on load evens out
/// the rest. It must not depend on the number of members, or keys would move with it.
const SLOTS: usize = 1 << 16;

pub(crate) fn table(wanted: Vec<PlacedMember>, before: Option<&Placement>) -> Placement {
    let weight = wanted.iter().map(|m| u64::from(m.weight.0)).sum();
    let mut wanted: BTreeMap<u64, PlacedMember> =
        wanted.into_iter().map(|m| (m.identity, m)).collect();
    let (mut members, mut slots) = match before.filter(|b| b.slots.len() == SLOTS) {
        Some(before) => (before.members.clone(), before.slots.clone()),
        None => (Vec::new(), vec![NOBODY; SLOTS].into_boxed_slice()),
    };
    let mut changed = before.is_none();
    // Who stays as it is keeps its number and its slots.
    for place in &mut members {
        let Some(member) = place else { continue };
        let same = wanted
            .get(&member.identity)
            .filter(|w| w.weight == member.weight);
        changed |= same.is_none();
        *place = same.copied();
        if let Some(member) = place {
            wanted.remove(&member.identity);
        }
    }
    let staying: Vec<Option<Scorer>> = numbered(&members);
    let added = add(&mut members, wanted.into_values());
    if changed || !added.is_empty() {
        let remaining: Vec<Scorer> = staying.iter().flatten().copied().collect();
        for (slot, owner) in (0..).zip(&mut slots) {
            let keeps = staying.get(*owner as usize).copied().flatten();
            let best = match keeps {
                Some(owner) => Some(owner.score(slot)),
                None => lowest(&remaining, slot),
            };
            let best = best.into_iter().chain(lowest(&added, slot)).min();
            *owner = best.map_or(NOBODY, |score| score.member);
        }
    }
    Placement {
        slots,
        members,
        weight,
    }
}

/// The number of the member that a key belongs to, for a few that are not worth a table.
pub(crate) fn first(members: impl Iterator<Item = (u32, PlacedMember)>, key: u64) -> Option<u32> {
    let scores = members.map(|(number, member)| Scorer::new(number, &member).score(key));
    scores.min().map(|score| score.member)
}

fn numbered(members: &[Option<PlacedMember>]) -> Vec<Option<Scorer>> {
    let scorer =
        |(number, member): (u32, &Option<PlacedMember>)| Some(Scorer::new(number, &(*member)?));
    (0..).zip(members).map(scorer).collect()
}

/// Gives free numbers to those that came.
fn add(
    members: &mut Vec<Option<PlacedMember>>,
    came: impl Iterator<Item = PlacedMember>,
) -> Vec<Scorer> {
    let mut free = 0;
    came.map(|member| {
        while members.get(free).is_some_and(Option::is_some) {
            free += 1;
        }
        if free == members.len() {
            members.push(None);
        }
        members[free] = Some(member);
        Scorer::new(free as u32, &member)
    })
    .collect()
}

fn lowest(scorers: &[Scorer], slot: u64) -> Option<Score> {
    scorers.iter().map(|scorer| scorer.score(slot)).min()
}

#[derive(Clone, Copy)]
struct Scorer {
    member: u32,
    identity: u64,
    /// 2^32 / weight.
    inverse: u64,
}

/// Ordered by its fields, the first one first; the others settle ties, by nothing that depends on history.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    score: u64,
    identity: u64,
    member: u32,
}

impl Scorer {
    fn new(member: u32, placed: &PlacedMember) -> Self {
        Self {
            member,
            identity: placed.identity,
            inverse: (1 << 32) / u64::from(placed.weight.0.max(1)),
        }
    }

    /// -ln(u) / w: the least of such exponentials is member i's with P(i) = W(i) / ΣW.
    fn score(&self, slot: u64) -> Score {
        let minus_log = minus_log2(mix(self.identity, slot));
        Score {
            score: ((u128::from(minus_log) * u128::from(self.inverse)) >> 16) as u64,
            identity: self.identity,
            member: self.member,
        }
    }
}

/// -log2((bits + 1) / 2^64) in 2^40ths, from whole numbers: floating-point logarithms differ from machine to machine,
/// and then so would nodes.
const fn minus_log2(bits: u64) -> u64 {
    let bits = if bits == u64::MAX { bits } else { bits + 1 };
    let zeros = bits.leading_zeros();
    // From 1 to 2, in 2^63ths.
    let mantissa = bits << zeros;
    let index = (mantissa >> 55 & 0xff) as usize;
    let within = mantissa >> 24 & 0x7fff_ffff;
    let (low, high) = (LOG2[index], LOG2[index + 1]);
    let log = low + (((high - low) * within) >> 31);
    ((zeros as u64 + 1) << 40) - log
}

/// log2(1 + i / 256) in 2^40ths.
const LOG2: [u64; 257] = {
    let mut table = [0; 257];
    let mut i = 0;
    while i < 256 {
        // By squaring: whenever it passes 2, the next digit is a one.
        let mut x: u128 = (256 + i as u128) << 54;
        let mut log = 0;
        let mut digit = 0;
        while digit < 40 {
            x = (x * x) >> 62;
            log <<= 1;
            if x >= 1 << 63 {
                x >>= 1;
                log |= 1;
            }
            digit += 1;
        }
        table[i] = log;
        i += 1;
    }
    table[256] = 1 << 40;
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_one() {
        for bits in [0, 1, 12_345, 1 << 32, 1 << 63, u64::MAX / 3, u64::MAX] {
            let truth = 64.0 - (bits as f64 + 1.0).log2();
            let ours = minus_log2(bits) as f64 / (1_u64 << 40) as f64;
            assert!((truth - ours).abs() < 1e-5, "{bits}: {ours}, not {truth}");
        }
    }
}
