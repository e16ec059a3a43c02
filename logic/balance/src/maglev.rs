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

/// When so few slots are left, a member computes which of them comes first on its way. Until there, it steps from slot to
/// slot: half of all steps would be those to the last few.
const LAST: u32 = 128;

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
    // Beside the slots, for most that a way comes by are taken: 1, and those that are free 0. As bits they would all fit into the
    // nearest cache, but taking one out of its word costs more than that saves.
    let mut taken = vec![0_u8; count as usize];
    let mut ways: Vec<Way> = members.iter().map(|m| Way::new(m, count)).collect();
    let heaviest = ways.iter().map(|way| way.weight).max().unwrap_or(0);
    let mut left = if heaviest == 0 { 0 } else { count };
    let mut reached = 0;
    let (mut turn, mut free) = (vec![0; ways.len()], Vec::new());
    while left > 0 {
        reached += 1;
        // First whose turn it is, without branches: that is as hard to foretell as where a way comes to a free slot.
        let mut most = 0;
        for (number, way) in (0_u32..).zip(&mut ways) {
            turn[most] = number;
            let takes = reached * way.weight >= way.due;
            way.due += if takes { heaviest } else { 0 };
            most += usize::from(takes);
        }
        for &number in &turn[..most.min(left as usize)] {
            let way = &mut ways[number as usize];
            let slot = if left > LAST {
                way.walk(&taken, count)
            } else {
                if left == LAST {
                    let is_free = |slot: &u32| taken[*slot as usize] == 0;
                    free = (0..count).filter(is_free).collect();
                }
                free.swap_remove(way.first(&free, count))
            };
            taken[slot as usize] = 1;
            way.next = slot;
            slots[slot as usize] = number;
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

    /// The first free slot on the way. Four are looked at together: which of them it is takes no branch, after how many fours it
    /// comes is foretold wrong less often than after how many slots, and a step waits for a quarter of those before it.
    #[inline]
    fn walk(&self, taken: &[u8], slots: u32) -> u32 {
        let taken = |slot: u32| taken[slot as usize];
        let two = plus(self.stride, self.stride, slots);
        let four = plus(two, two, slots);
        let mut a = self.next;
        loop {
            let b = plus(a, self.stride, slots);
            let c = plus(a, two, slots);
            let d = plus(b, two, slots);
            let (early, late) = (taken(a) & taken(b), taken(c) & taken(d));
            if early & late == 0 {
                let first = if taken(a) != 0 { b } else { a };
                let third = if taken(c) != 0 { d } else { c };
                return if early != 0 { third } else { first };
            }
            a = plus(a, four, slots);
        }
    }

    /// Which of the free slots comes first, by its place among them.
    fn first(&self, free: &[u32], slots: u32) -> usize {
        let inverse = u64::from(inverse(self.stride, slots));
        let steps = |slot: u32| {
            let distance = u64::from(slot + slots - self.next);
            distance * inverse % u64::from(slots)
        };
        let places = 0..free.len();
        places.min_by_key(|&n| steps(free[n])).unwrap_or(0)
    }
}

/// The sum of two numbers below `modulus`, modulo that.
#[inline]
const fn plus(a: u32, b: u32, modulus: u32) -> u32 {
    let sum = a + b;
    // The lesser of the two is the one that did not wrap: no branch, for every other one would be foretold wrong.
    let wrapped = sum.wrapping_sub(modulus);
    if wrapped < sum { wrapped } else { sum }
}

/// What times `of` is 1 modulo `prime`: `of` to the power of `prime` - 2 (Fermat).
fn inverse(of: u32, prime: u32) -> u32 {
    let times = |a, b| a * b % u64::from(prime);
    let (mut power, mut square) = (1, u64::from(of));
    let mut left = prime - 2;
    while left > 0 {
        if left % 2 == 1 {
            power = times(power, square);
        }
        square = times(square, square);
        left /= 2;
    }
    power as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computing_where_the_last_slots_go_gives_the_same_table_as_going_there() {
        for (members, heaviest) in [(1, 1), (7, 1), (300, 5), (1_000, 3)] {
            let member = |n: u32| PlacedMember {
                identity: mix(u64::from(n), 9),
                weight: model::Weight(1 + (n % heaviest) as u16),
                endpoint: n,
            };
            let table = table((0..members).map(member).collect());
            let placed = table.members.iter().flatten();
            let mut ways: Vec<Way> = placed.map(|m| Way::new(m, SLOTS)).collect();
            let most = ways.iter().map(|way| way.weight).max().unwrap();
            let mut slots = vec![NOBODY; SLOTS as usize];
            let mut left = SLOTS;
            for reached in 1.. {
                for (number, way) in (0..).zip(&mut ways) {
                    if reached * way.weight >= way.due && left > 0 {
                        way.due += most;
                        while slots[way.next as usize] != NOBODY {
                            way.next = plus(way.next, way.stride, SLOTS);
                        }
                        slots[way.next as usize] = number;
                        left -= 1;
                    }
                }
                if left == 0 {
                    break;
                }
            }
            assert!(slots == *table.slots, "{members} members");
        }
    }
}
