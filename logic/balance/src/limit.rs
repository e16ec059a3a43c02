//! Limits by key: how many requests in a time (the generic cell rate algorithm), and how many at a time.
//!
//! All workers share one number a key. That is what a limit means: shares of it, one for each worker, would let a client
//! with one connection have a share only, and one with many have all. A request of a route with limits pays for it with a
//! compare-and-swap on a line that other workers may just have had; those of other routes pay nothing.

use std::sync::atomic::Ordering::Relaxed;

use model::{ConcurrencyLimit, Excess, KeyTable, Moment, Rate, RateLimit};

/// When a request may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// At once.
    Now,
    /// When its turn comes.
    At(Moment),
    /// Not at all. From then on, there would be room for one.
    Refused(Moment),
}

/// What becomes of a request, as a function of when its key will have all of its burst again (`whole`, in nanoseconds) and of
/// the time; and what `whole` is afterwards.
pub fn turn(rate: &Rate, whole: u64, now: Moment) -> (Turn, u64) {
    let now = now.as_nanos();
    let interval = rate.interval.as_nanos() as u64;
    let room = interval.saturating_mul(rate.burst.into());
    let start = whole.max(now);
    let after = start.saturating_add(interval);
    // As long as this much is ahead, one more is too many.
    let most = match rate.excess {
        Excess::Reject => room.saturating_sub(interval),
        Excess::Delay => room,
    };
    if start - now > most {
        let again = Moment::from_nanos(start - most);
        return (Turn::Refused(again), whole);
    }
    match rate.excess {
        Excess::Delay if start > now => (Turn::At(Moment::from_nanos(start)), after),
        Excess::Reject | Excess::Delay => (Turn::Now, after),
    }
}

/// Counts a request of the key with this hash, if it may go on.
pub fn take_turn(limit: &RateLimit, key: u64, now: Moment) -> Turn {
    // A key that has all of its burst again is as one that never was.
    let is_free = |number: u64| number <= now.as_nanos();
    let slot = slot(
        &limit.keys,
        key,
        is_free,
        Some((&|whole| whole, now.as_nanos())),
    );
    // The place that is least missed is given away, so that there always is one.
    let Some(slot) = slot else { return Turn::Now };
    let number = &limit.keys.slots[slot].number;
    let mut whole = number.load(Relaxed);
    loop {
        let (turn, after) = turn(&limit.rate, whole, now);
        match number.compare_exchange_weak(whole, after, Relaxed, Relaxed) {
            Ok(_) => return turn,
            Err(other) => whole = other,
        }
    }
}

/// What becomes of a request where only so many may be at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It goes on, counted in this slot until [`leave`].
    Counted(usize),
    /// It goes on uncounted: all slots of its group are in use by others. A table of a sensible size has that happen to
    /// nobody, and refusing whoever it happens to would be a way to shut others out.
    Uncounted,
    /// There are as many as there may be.
    Refused,
}

/// Counts a request of the key with this hash, unless it is one too many.
pub fn enter(limit: &ConcurrencyLimit, key: u64) -> Entry {
    let Some(slot) = slot(&limit.keys, key, |number| number == 0, None) else {
        return Entry::Uncounted;
    };
    let number = &limit.keys.slots[slot].number;
    let more = |present: u64| (present < limit.limit.max.into()).then_some(present + 1);
    match number.fetch_update(Relaxed, Relaxed, more) {
        Ok(_) => Entry::Counted(slot),
        Err(_) => Entry::Refused,
    }
}

/// A request that was counted in this slot is over.
pub fn leave(limit: &ConcurrencyLimit, slot: usize) {
    let less = |present: u64| present.checked_sub(1);
    let _ = limit.keys.slots[slot]
        .number
        .fetch_update(Relaxed, Relaxed, less);
}

/// The slot that a key has.
pub(crate) fn known(table: &KeyTable, key: u64) -> Option<usize> {
    let (key, first) = place(table, key);
    let group = &table.slots[first..first + KeyTable::GROUP];
    let at = group
        .iter()
        .position(|slot| slot.key.load(Relaxed) == key)?;
    Some(first + at)
}

/// 0 is nobody's key. The group is where the hash says.
fn place(table: &KeyTable, key: u64) -> (u64, usize) {
    let key = key.max(1);
    let groups = (table.slots.len() / KeyTable::GROUP) as u64;
    let group = (u128::from(key) * u128::from(groups)) >> 64;
    (key, group as usize * KeyTable::GROUP)
}

/// How old numbers are, least the oldest, and the number of a slot that changes hands while it is in use.
type Evicting<'a> = (&'a dyn Fn(u64) -> u64, u64);

/// The slot of a key: the one it has, or one that `is_free` by its number, or, if slots may be taken from others, the oldest.
/// Two workers that look for slots at the same moment may end up with one that another key has just had: its number is then off
/// by a request, once.
pub(crate) fn slot(
    table: &KeyTable,
    key: u64,
    is_free: impl Fn(u64) -> bool,
    evicting: Option<Evicting<'_>>,
) -> Option<usize> {
    if let Some(slot) = known(table, key) {
        return Some(slot);
    }
    let (key, first) = place(table, key);
    let group = &table.slots[first..first + KeyTable::GROUP];
    for (at, slot) in group.iter().enumerate() {
        let before = slot.key.load(Relaxed);
        if before != key && !is_free(slot.number.load(Relaxed)) {
            continue;
        }
        let claimed = slot.key.compare_exchange(before, key, Relaxed, Relaxed);
        // Another worker may have put the same key there in the meantime.
        if claimed.is_ok() || claimed == Err(key) {
            return Some(first + at);
        }
    }
    let (age, number) = evicting?;
    let oldest = (0..group.len()).min_by_key(|&at| age(group[at].number.load(Relaxed)))?;
    group[oldest].key.store(key, Relaxed);
    group[oldest].number.store(number, Relaxed);
    Some(first + oldest)
}
