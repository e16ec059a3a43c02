//! Whether what clients saw can be explained by one thing that happens after the other (linearizability: Herlihy and
//! Wing, 1990). The search is Wing and Gong's, with Lowe's memory of what was tried.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// The most that is tried: histories that have an order have it found after about as many steps as there are calls.
const MOST: usize = 500_000;

/// What an object may do.
pub trait Model: Clone + Ord {
    /// A call, and what came of it as far as the client knows.
    type Call: Eq;

    /// How it is after the call; `None` if that cannot have come of it.
    fn after(&self, call: &Self::Call) -> Option<Self>;
}

/// A call, from before it was sent until after it was answered.
#[derive(Clone, Debug)]
pub struct Recorded<C> {
    /// When it was sent.
    pub begun: u64,
    /// `None`: nobody knows what came of it. It happens at any time after its beginning, or never.
    pub ended: Option<u64>,
    /// What was asked, and answered.
    pub call: C,
}

/// Calls as they come.
pub struct History<C> {
    clock: AtomicU64,
    calls: Mutex<Vec<Recorded<C>>>,
}

impl<C> Default for History<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> History<C> {
    /// None yet.
    pub fn new() -> Self {
        Self {
            clock: AtomicU64::new(0),
            calls: Mutex::new(Vec::new()),
        }
    }

    /// Now. No two moments are the same.
    pub fn now(&self) -> u64 {
        self.clock.fetch_add(1, SeqCst)
    }

    /// A call that was begun then, and is answered now.
    pub fn answered(&self, begun: u64, call: C) {
        let ended = Some(self.now());
        self.add(Recorded { begun, ended, call });
    }

    /// A call that was begun then, and nobody knows what came of it.
    pub fn lost(&self, begun: u64, call: C) {
        let ended = None;
        self.add(Recorded { begun, ended, call });
    }

    fn add(&self, call: Recorded<C>) {
        self.calls.lock().expect("calls").push(call);
    }

    /// All of them.
    pub fn finish(self) -> Vec<Recorded<C>> {
        self.calls.into_inner().expect("calls")
    }
}

/// Whether there is an order for these calls, beginning with this model.
///
/// # Errors
///
/// If there is none: the calls that answer first among those that the longest order found could not be gone on with.
///
/// # Panics
///
/// When half a million orders were tried in vain: the history is one of too many objects, or has too many open ends.
pub fn explain<M: Model>(
    start: M,
    calls: &[Recorded<M::Call>],
) -> Result<(), Vec<&Recorded<M::Call>>> {
    let mut known: Vec<_> = calls.iter().filter(|c| c.ended.is_some()).collect();
    let mut open: Vec<_> = calls.iter().filter(|c| c.ended.is_none()).collect();
    known.sort_by_key(|c| c.begun);
    open.sort_by_key(|c| c.begun);
    let first = Tried {
        low: 0,
        beyond: BTreeSet::new(),
        opened: BTreeSet::new(),
        model: start,
    };
    let mut seen = BTreeSet::from([first.clone()]);
    let mut stack = vec![first];
    let mut best: Option<Tried<M>> = None;
    while let Some(tried) = stack.pop() {
        if tried.low == known.len() {
            return Ok(());
        }
        assert!(
            seen.len() < MOST,
            "too much to try: is the history one of few objects at a time?"
        );
        for next in tried.next(&known, &open).into_iter().rev() {
            if seen.insert(next.clone()) {
                stack.push(next);
            }
        }
        if best.as_ref().is_none_or(|best| best.done() < tried.done()) {
            best = Some(tried);
        }
    }
    let stuck = best.map(|best| best.waiting(&known).map(|(_, call)| call).collect());
    Err(stuck.unwrap_or_default())
}

/// Calls that were put in order, and what they lead to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Tried<M> {
    /// All known ones before this place.
    low: usize,
    /// And of those behind it, these.
    beyond: BTreeSet<usize>,
    /// Of those with an open end, these.
    opened: BTreeSet<usize>,
    model: M,
}

impl<M: Model> Tried<M> {
    fn done(&self) -> usize {
        self.low + self.beyond.len()
    }

    /// The known calls that may be next: those that no other one, still to come, ended before.
    fn waiting<'c>(
        &self,
        known: &[&'c Recorded<M::Call>],
    ) -> impl Iterator<Item = (usize, &'c Recorded<M::Call>)> {
        let mut bound = u64::MAX;
        let mut found = Vec::new();
        for (index, call) in known.iter().enumerate().skip(self.low) {
            // In the order of their beginnings: none of the rest could be earlier.
            if call.begun > bound {
                break;
            }
            if !self.beyond.contains(&index) {
                bound = bound.min(call.ended.unwrap_or(u64::MAX));
                found.push((index, *call));
            }
        }
        found
            .into_iter()
            .filter(move |(_, call)| call.begun < bound)
    }

    fn next(&self, known: &[&Recorded<M::Call>], open: &[&Recorded<M::Call>]) -> Vec<Self> {
        let mut all = Vec::new();
        let mut bound = u64::MAX;
        for (index, call) in self.waiting(known) {
            bound = bound.min(call.ended.unwrap_or(u64::MAX));
            if let Some(model) = self.model.after(&call.call) {
                all.push(self.with(index, model));
            }
        }
        let mut equal: Vec<&M::Call> = Vec::new();
        for (index, call) in open.iter().enumerate().take_while(|(_, c)| c.begun < bound) {
            // Of two that say the same, the earlier one can stand for either: neither has an end.
            if self.opened.contains(&index) || equal.contains(&&call.call) {
                continue;
            }
            equal.push(&call.call);
            if let Some(model) = self.model.after(&call.call).filter(|m| *m != self.model) {
                let mut next = self.clone();
                next.opened.insert(index);
                next.model = model;
                all.push(next);
            }
        }
        all
    }

    fn with(&self, index: usize, model: M) -> Self {
        let mut next = self.clone();
        next.model = model;
        next.beyond.insert(index);
        while next.beyond.remove(&next.low) {
            next.low += 1;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register with compare-and-set, as small as it can be.
    #[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
    struct Cell(u8);

    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Call {
        Read(u8),
        Set { from: u8, to: u8, done: bool },
        MaySet { from: u8, to: u8 },
    }

    impl Model for Cell {
        type Call = Call;

        fn after(&self, call: &Call) -> Option<Self> {
            match *call {
                Call::Read(value) => (value == self.0).then(|| self.clone()),
                Call::Set { from, to, done } if done == (from == self.0) => {
                    Some(Self(if done { to } else { self.0 }))
                }
                Call::Set { .. } => None,
                Call::MaySet { from, to } => Some(Self(if from == self.0 { to } else { self.0 })),
            }
        }
    }

    fn at(begun: u64, ended: u64, call: Call) -> Recorded<Call> {
        let ended = Some(ended);
        Recorded { begun, ended, call }
    }

    fn lost(begun: u64, from: u8, to: u8) -> Recorded<Call> {
        let (ended, call) = (None, Call::MaySet { from, to });
        Recorded { begun, ended, call }
    }

    fn set(from: u8, to: u8) -> Call {
        let done = true;
        Call::Set { from, to, done }
    }

    #[test]
    fn what_could_have_happened_in_some_order_is_explained() {
        let good = [
            vec![],
            vec![at(0, 3, Call::Read(1)), at(1, 2, set(0, 1))],
            vec![
                lost(0, 0, 1),
                at(1, 2, Call::Read(0)),
                at(3, 4, Call::Read(1)),
            ],
            vec![lost(0, 0, 1), at(5, 6, Call::Read(0))],
            vec![
                at(0, 9, set(1, 2)),
                at(1, 8, set(0, 1)),
                at(2, 3, Call::Read(0)),
            ],
        ];
        for history in good {
            assert!(explain(Cell(0), &history).is_ok(), "{history:?}");
        }
    }

    #[test]
    fn what_could_not_is_not() {
        let bad = [
            // A value that nobody has written; one that was written later; one that was there and is gone.
            vec![at(0, 1, Call::Read(1))],
            vec![at(0, 1, Call::Read(1)), at(2, 3, set(0, 1))],
            vec![at(0, 1, set(0, 1)), at(2, 3, Call::Read(0))],
            // Two who both were first; and one that is undone after it was seen.
            vec![at(0, 5, set(0, 1)), at(1, 6, set(0, 2))],
            vec![
                lost(0, 0, 1),
                at(1, 2, Call::Read(1)),
                at(3, 4, Call::Read(0)),
            ],
            vec![lost(3, 0, 1), at(1, 2, Call::Read(1))],
        ];
        for history in bad {
            assert!(explain(Cell(0), &history).is_err(), "{history:?}");
        }
    }

    /// All orders of all choices, without any thought.
    fn naive(cell: &Cell, left: &[Recorded<Call>]) -> bool {
        if left.iter().all(|c| c.ended.is_none()) {
            return true;
        }
        (0..left.len()).any(|index| {
            let mut rest = left.to_vec();
            let chosen = rest.remove(index);
            let before = |c: &Recorded<Call>| c.ended.is_some_and(|ended| ended < chosen.begun);
            let after = cell
                .after(&chosen.call)
                .filter(|_| !rest.iter().any(before));
            after.is_some_and(|after| naive(&after, &rest))
        })
    }

    #[test]
    fn it_says_the_same_as_trying_everything() {
        let mut seed = 7_u64;
        let mut draw = |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let mut explained = 0;
        for _ in 0..4_000 {
            let count = 1 + draw(6);
            let mut moments: Vec<u64> = (0..2 * count).collect();
            for at in (1..moments.len()).rev() {
                moments.swap(at, draw(at as u64 + 1) as usize);
            }
            let history: Vec<_> = moments
                .chunks(2)
                .map(|pair| {
                    let (begun, ended) = (pair[0].min(pair[1]), Some(pair[0].max(pair[1])));
                    let (from, to, done) = (draw(3) as u8, draw(3) as u8, draw(3) > 0);
                    let (ended, call) = match draw(4) {
                        0 => (None, Call::MaySet { from, to }),
                        1 => (ended, Call::Set { from, to, done }),
                        _ => (ended, Call::Read(from)),
                    };
                    Recorded { begun, ended, call }
                })
                .collect();
            let found = explain(Cell(0), &history).is_ok();
            assert_eq!(found, naive(&Cell(0), &history), "{history:?}");
            explained += u32::from(found);
        }
        assert!((400..3_600).contains(&explained), "{explained}");
    }
}
