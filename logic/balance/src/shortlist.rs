//! The best candidates of those seen lately.

/// Candidates on the list. In simulation, this and two that are drawn come close to looking at all.
pub(crate) const SEATS: usize = 8;

/// A cost, a seat, and who has it, as one number, so that comparing costs is one instruction and the least says whose
/// it is: the cost's bits, which are ordered as it is, above the seat's and the candidate's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry(u64);

const COST: u32 = 32;
const SEAT: u32 = 28;

/// The number of no candidate: there are fewer.
const VACANT: u32 = (1 << SEAT) - 1;

/// The seat of those who have none.
pub(crate) const NO_SEAT: u8 = u8::MAX;

/// What they cost is kept beside their numbers: all of it is one cache line, and nobody's statistics are read to find
/// the best.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(crate) struct Shortlist {
    entries: [Entry; SEATS],
    /// As of when `changed` was last cleared.
    worst: Entry,
    changed: bool,
}

impl Entry {
    fn new(cost: f32, seat: usize, member: u32) -> Self {
        Self(u64::from(cost.to_bits()) << COST | (seat as u64) << SEAT | u64::from(member))
    }

    #[inline]
    pub(crate) const fn cost(self) -> f32 {
        f32::from_bits((self.0 >> COST) as u32)
    }

    #[inline]
    pub(crate) const fn seat(self) -> usize {
        (self.0 >> SEAT) as usize % SEATS
    }

    /// Who has the seat; `None` if nobody has.
    #[inline]
    pub(crate) fn member(self) -> Option<usize> {
        let member = self.0 as u32 & VACANT;
        (member != VACANT).then_some(member as usize)
    }
}

impl Shortlist {
    pub(crate) fn new() -> Self {
        // Dearer than everybody, so that they are taken first.
        let entries = std::array::from_fn(|seat| Entry::new(f32::MAX, seat, VACANT));
        Self {
            entries,
            worst: entries[0],
            changed: true,
        }
    }

    #[inline]
    pub(crate) const fn entry(&self, seat: usize) -> Entry {
        self.entries[seat % SEATS]
    }

    /// Whoever has the least cost.
    #[inline]
    pub(crate) fn least(&self) -> Entry {
        self.extreme(Ord::min)
    }

    /// Whoever has the least of those who cost more than `entry`, or as much and sit behind it; vacant if nobody does.
    #[inline]
    pub(crate) fn least_after(&self, entry: Entry) -> Entry {
        let behind = self.entries.iter().filter(|other| **other > entry);
        behind
            .min()
            .copied()
            .unwrap_or(Entry::new(f32::MAX, 0, VACANT))
    }

    /// Whoever's seat is the next to be taken.
    #[inline]
    pub(crate) fn worst(&mut self) -> Entry {
        // Where there are many candidates, most draws find the list as the last one left it.
        if self.changed {
            self.worst = self.extreme(Ord::max);
            self.changed = false;
        }
        self.worst
    }

    /// Gives a seat to a candidate that costs so much, or takes in what it costs by now.
    #[inline]
    pub(crate) fn seat(&mut self, seat: usize, member: usize, cost: f32) {
        self.replace(seat, Entry::new(cost, seat, member as u32));
    }

    #[inline]
    pub(crate) fn vacate(&mut self, seat: usize) {
        self.replace(seat, Entry::new(f32::MAX, seat, VACANT));
    }

    #[inline]
    fn replace(&mut self, seat: usize, entry: Entry) {
        let before = std::mem::replace(&mut self.entries[seat % SEATS], entry);
        self.changed |= before != entry;
    }

    /// The one that is left of all: a tree, for its branches are independent of each other.
    #[inline]
    fn extreme(&self, of: impl Fn(Entry, Entry) -> Entry) -> Entry {
        let [a, b, c, d, e, f, g, h] = self.entries;
        of(of(of(a, b), of(c, d)), of(of(e, f), of(g, h)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_and_the_worst_are_known_whatever_changes() {
        let mut list = Shortlist::new();
        assert_eq!((list.least().member(), list.worst().member()), (None, None));
        let mut random = crate::Random::new(3);
        let mut costs = [f32::MAX; SEATS];
        for n in 0..10_000_usize {
            let (seat, cost) = (
                random.below(SEATS as u64) as usize,
                random.below(100) as f32,
            );
            costs[seat] = if n % 7 == 0 { f32::MAX } else { cost };
            match n % 7 {
                0 => list.vacate(seat),
                _ => list.seat(seat, n, cost),
            }
            let most = costs.iter().copied().fold(0.0, f32::max);
            let least = costs.iter().copied().fold(f32::MAX, f32::min);
            assert_eq!((list.least().cost(), list.worst().cost()), (least, most));
            let mut entries = vec![list.least()];
            while let Some(next) = entries.last().filter(|entry| entry.member().is_some()) {
                entries.push(list.least_after(*next));
            }
            let members = costs.iter().filter(|cost| **cost != f32::MAX).count();
            assert!(entries.len() == members + 1 && entries.is_sorted_by_key(|e| e.cost()));
            assert_eq!(list.entry(seat).seat(), seat);
            assert_eq!(list.entry(seat).member(), (n % 7 != 0).then_some(n));
        }
    }
}
