use super::slab::{Entry, NONE, OUT};

/// The wheel's resolution in milliseconds: leases are seconds long, and firing a sixty-fourth of a second late
/// harms nobody.
const TICK: u64 = 16;
/// One turn is 65 seconds. What is due later is looked at once a turn, which costs less than a second
/// wheel would.
const SLOTS: usize = 4096;

/// A timing wheel: lists of entries by the tick they are due in, linked through the entries themselves, so
/// that nothing is allocated after the start.
///
/// An entry's place may be earlier than its deadline (never later): a renewal only moves the deadline, and
/// whoever pops an entry that is not due puts it back.
#[derive(Debug)]
pub(super) struct Wheel {
    heads: Vec<u32>,
    /// One bit for every slot with a list.
    occupied: Vec<u64>,
    /// The tick being drained; all before it are.
    cursor: u64,
}

impl Wheel {
    pub(super) fn new() -> Self {
        Self {
            heads: vec![NONE; SLOTS],
            occupied: vec![0; SLOTS / 64],
            cursor: 0,
        }
    }

    /// Puts in an entry that is in no list, to be popped once the time (ms) is `at`, or earlier.
    pub(super) fn insert(&mut self, entries: &mut [Entry], index: u32, at: u64) {
        // At least the next tick, or a pop that puts back would go on for ever.
        let tick = at
            .div_ceil(TICK)
            .clamp(self.cursor + 1, self.cursor + SLOTS as u64 - 1);
        let slot = (tick % SLOTS as u64) as usize;
        let head = std::mem::replace(&mut self.heads[slot], index);
        let entry = &mut entries[index as usize];
        (entry.slot, entry.previous, entry.next) = (slot as u16, NONE, head);
        if head != NONE {
            entries[head as usize].previous = index;
        }
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    /// Takes an entry out of its list, if it is in one.
    pub(super) fn remove(&mut self, entries: &mut [Entry], index: u32) {
        let Entry {
            slot,
            previous,
            next,
            ..
        } = entries[index as usize];
        if slot == OUT {
            return;
        }
        entries[index as usize].slot = OUT;
        let slot = usize::from(slot);
        if next != NONE {
            entries[next as usize].previous = previous;
        }
        if previous != NONE {
            entries[previous as usize].next = next;
            return;
        }
        self.heads[slot] = next;
        if next == NONE {
            self.occupied[slot / 64] &= !(1 << (slot % 64));
        }
    }

    /// Takes out an entry whose place has come.
    pub(super) fn pop(&mut self, entries: &mut [Entry], now: u64) -> Option<u32> {
        loop {
            let slot = (self.cursor % SLOTS as u64) as usize;
            let index = self.heads[slot];
            if index != NONE {
                self.remove(entries, index);
                return Some(index);
            }
            let last = now / TICK;
            if self.cursor >= last {
                return None;
            }
            self.cursor = self.next_tick().map_or(last, |tick| tick.min(last));
        }
    }

    /// When (ms) the next entry's place comes.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.next_tick().map(|tick| tick * TICK)
    }

    /// The first tick, from the cursor on, with a list.
    fn next_tick(&self) -> Option<u64> {
        let from = (self.cursor % SLOTS as u64) as usize;
        let words = self.occupied.len();
        // The cursor's word is looked at twice: first from the cursor on, at the end up to it.
        (0..=words).find_map(|step| {
            let at = (from / 64 + step) % words;
            let mask = match step {
                0 => u64::MAX << (from % 64),
                _ if step == words => !(u64::MAX << (from % 64)),
                _ => u64::MAX,
            };
            let bits = self.occupied[at] & mask;
            let slot = at * 64 + bits.trailing_zeros() as usize;
            (bits != 0).then(|| self.cursor + ((slot + SLOTS - from) % SLOTS) as u64)
        })
    }
}
