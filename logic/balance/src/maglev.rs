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
    /// Of the stride, modulo the number of slots; 0 as long as it was not asked for.
    inverse: u32,
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
    // Beside the slots, for it fits into the nearest cache: most slots that a way comes by are taken.
    let mut taken = vec![0_u64; count as usize / 64 + 1];
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
            if left > LAST {
                while taken[way.next as usize / 64] >> (way.next % 64) & 1 != 0 {
                    way.step(count);
                }
                taken[way.next as usize / 64] |= 1 << (way.next % 64);
            } else {
                if left == LAST {
                    let is_free = |slot: &u32| slots[*slot as usize] == NOBODY;
                    free = (0..count).filter(is_free).collect();
                }
                way.next = free.swap_remove(way.first(&free, count));
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
            inverse: 0,
            weight: u64::from(member.weight.0),
            due: 0,
        }
    }

    const fn step(&mut self, slots: u32) {
        let next = self.next + self.stride;
        // The lesser of the two is the one that did not wrap: no branch, for every other step would be foretold wrong.
        let wrapped = next.wrapping_sub(slots);
        self.next = if wrapped < next { wrapped } else { next };
    }

    /// Which of the free slots comes first, by its place among them.
    fn first(&mut self, free: &[u32], slots: u32) -> usize {
        if self.inverse == 0 {
            self.inverse = inverse(self.stride, slots);
        }
        let steps = |slot: u32| {
            let distance = u64::from(slot + slots - self.next);
            distance * u64::from(self.inverse) % u64::from(slots)
        };
        let places = 0..free.len();
        places.min_by_key(|&n| steps(free[n])).unwrap_or(0)
    }
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
                            way.step(SLOTS);
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
