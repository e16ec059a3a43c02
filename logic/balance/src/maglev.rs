//! Maglev's table (Eisenbud and others 2016, §3.4), weighted as Envoy does it: every member takes slots in its own
//! order, in turn, until none is left.

use model::{PlacedMember, Placement};

use crate::key::mix;
use crate::place::NOBODY;

/// A prime, so that every stride comes by every slot. With up to [`FEW`] members it gives every one at least 32
/// slots: shares within a few hundredths of each other.
const SLOTS: u32 = 65_537;
const FEW: usize = 2_048;
/// For more. The step between the two moves most keys, once.
const MORE_SLOTS: u32 = 655_373;

/// One member's way through the slots.
struct Way {
    next: u32,
    stride: u32,
    weight: u64,
    /// The member takes a slot in the round in which rounds · weight reaches this.
    due: u64,
}

pub(crate) fn table(mut members: Vec<PlacedMember>) -> Placement {
    // By identity: the order of arrival must make no difference.
    members.sort_unstable_by_key(|m| m.identity);
    let count = match members.len() <= FEW {
        true => SLOTS,
        false => MORE_SLOTS,
    };
    let mut slots = vec![NOBODY; count as usize].into_boxed_slice();
    let mut ways: Vec<Way> = members.iter().map(|m| Way::new(m, count)).collect();
    let heaviest = ways.iter().map(|way| way.weight).max().unwrap_or(0);
    let mut left = if heaviest == 0 { 0 } else { count };
    let mut reached = 0;
    while left > 0 {
        reached += 1;
        for (number, way) in (0..).zip(&mut ways) {
            if reached * way.weight < way.due || left == 0 {
                continue;
            }
            way.due += heaviest;
            while slots[way.next as usize] != NOBODY {
                way.step(count);
            }
            slots[way.next as usize] = number;
            left -= 1;
        }
    }
    Placement {
        slots,
        weight: members.iter().map(|m| u64::from(m.weight.0)).sum(),
        members: members.into_iter().map(Some).collect(),
    }
}

impl Way {
    fn new(member: &PlacedMember, slots: u32) -> Self {
        let below = |bits: u64, bound: u32| ((u128::from(bits) * u128::from(bound)) >> 64) as u32;
        Self {
            next: below(mix(member.identity, 1), slots),
            stride: 1 + below(mix(member.identity, 2), slots - 1),
            weight: u64::from(member.weight.0),
            due: 0,
        }
    }

    const fn step(&mut self, slots: u32) {
        self.next += self.stride;
        if self.next >= slots {
            self.next -= slots;
        }
    }
}
