//! A lazy timer wheel: one entry a task at most in the common case, moved only when it fires.

use model::Moment;

use super::reactor::TaskId;

/// Width of a slot. Timeouts are seconds; 32 ms more does not matter, and fewer slots are visited.
const TICK_SHIFT: u32 = 25; // 2^25 ns = 33.6 ms
/// Slots in the wheel: 17 s ahead. What is due later waits in the last slot and is put in again.
const SLOTS: u64 = 512;

/// Fires task numbers at or after a moment.
pub(super) struct Timers {
    slots: Vec<Vec<TaskId>>,
    /// The tick up to which everything has fired.
    tick: u64,
    entries: usize,
}

impl Timers {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            tick: tick(now),
            entries: 0,
        }
    }

    /// Fires `task` at `at` or, when that is beyond the wheel's horizon, earlier: whoever hears it
    /// fire compares with the true deadline. Returns when it will fire.
    pub(super) fn insert(&mut self, task: TaskId, at: Moment) -> Moment {
        let due = tick(at)
            .saturating_add(1)
            .clamp(self.tick + 1, self.tick + SLOTS - 1);
        let slot = &mut self.slots[(due % SLOTS) as usize];
        slot.push(task);
        self.entries += 1;
        Moment::from_nanos(due << TICK_SHIFT)
    }

    /// Appends every task whose slot has come to `fired`.
    pub(super) fn advance(&mut self, now: Moment, fired: &mut Vec<TaskId>) {
        let target = tick(now);
        if self.entries == 0 {
            self.tick = self.tick.max(target);
            return;
        }
        // After a long sleep (a stopped process) one turn visits every slot; more would visit them twice.
        let last = target.min(self.tick + SLOTS);
        while self.tick < last {
            self.tick += 1;
            let slot = &mut self.slots[(self.tick % SLOTS) as usize];
            self.entries -= slot.len();
            fired.append(slot);
            // A slot that once held a crowd gives its memory back.
            if slot.capacity() > 1_024 {
                slot.shrink_to(0);
            }
        }
        self.tick = self.tick.max(target);
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    /// When something fires next, if anything waits.
    pub(super) fn next(&self) -> Option<Moment> {
        if self.entries == 0 {
            return None;
        }
        (self.tick + 1..=self.tick + SLOTS)
            .find(|t| !self.slots[(t % SLOTS) as usize].is_empty())
            .map(|t| Moment::from_nanos(t << TICK_SHIFT))
    }
}

fn tick(at: Moment) -> u64 {
    at.as_nanos() >> TICK_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(timers: &mut Timers, now: Moment) -> Vec<TaskId> {
        let mut out = Vec::new();
        timers.advance(now, &mut out);
        out
    }

    #[test]
    fn nothing_fires_early_and_everything_fires_within_a_slot() {
        let mut timers = Timers::new(Moment::ZERO);
        for ms in [1, 50, 999, 5_000] {
            let task = TaskId::new(ms as u32, 0);
            timers.insert(task, Moment::from_millis(ms));
            assert!(fired(&mut timers, Moment::from_millis(ms)).is_empty());
            assert_eq!(fired(&mut timers, Moment::from_millis(ms + 68)), [task]);
            timers = Timers::new(Moment::ZERO);
        }
    }

    #[test]
    fn what_is_beyond_the_horizon_fires_at_it() {
        let mut timers = Timers::new(Moment::ZERO);
        let task = TaskId::new(7, 1);
        let at = timers.insert(task, Moment::from_millis(3_600_000));
        assert!(at < Moment::from_millis(18_000));
        assert_eq!(timers.next(), Some(at));
        assert_eq!(fired(&mut timers, at), [task]);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_long_sleep_fires_everything_once() {
        let mut timers = Timers::new(Moment::ZERO);
        for i in 0..1_000 {
            timers.insert(TaskId::new(i, 0), Moment::from_millis(u64::from(i) * 15));
        }
        assert_eq!(
            fired(&mut timers, Moment::from_millis(86_400_000)).len(),
            1_000
        );
        assert!(fired(&mut timers, Moment::from_millis(86_500_000)).is_empty());
    }
}
