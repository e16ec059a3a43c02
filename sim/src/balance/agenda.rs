//! What happens next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The next moment of each of n things that move theirs often: a tournament, so that moving one costs log n and
/// leaves nothing stale behind.
#[derive(Debug)]
pub struct Tournament {
    leaves: usize,
    /// The winners, the overall one at 1; leaves from `leaves` on.
    nodes: Vec<(u64, u32)>,
}

impl Tournament {
    /// Of `n` things, none of which has a next moment.
    pub fn new(n: usize) -> Self {
        let leaves = n.next_power_of_two();
        Self {
            leaves,
            nodes: vec![(u64::MAX, 0); 2 * leaves],
        }
    }

    /// The number `index` has its next moment at `at`.
    pub fn set(&mut self, index: usize, at: u64) {
        let mut node = self.leaves + index;
        self.nodes[node] = (at, index as u32);
        while node > 1 {
            node /= 2;
            self.nodes[node] = self.nodes[2 * node].min(self.nodes[2 * node + 1]);
        }
    }

    /// Who is next, and when.
    pub fn first(&self) -> (u64, usize) {
        let (at, index) = self.nodes[1];
        (at, index as usize)
    }
}

/// Events in the order of their moments; those of one moment in the order they were put in.
#[derive(Debug)]
pub struct Agenda<E> {
    events: BinaryHeap<Reverse<(u64, u64, E)>>,
    count: u64,
}

impl<E: Ord> Agenda<E> {
    /// Without events.
    pub const fn new() -> Self {
        Self {
            events: BinaryHeap::new(),
            count: 0,
        }
    }

    /// `event` will happen at `at`.
    pub fn add(&mut self, at: u64, event: E) {
        self.count += 1;
        self.events.push(Reverse((at, self.count, event)));
    }

    /// When the next event happens.
    pub fn first(&self) -> u64 {
        self.events.peek().map_or(u64::MAX, |Reverse((at, ..))| *at)
    }

    /// Takes the next event.
    pub fn take(&mut self) -> Option<E> {
        self.events.pop().map(|Reverse((.., event))| event)
    }
}

impl<E: Ord> Default for Agenda<E> {
    fn default() -> Self {
        Self::new()
    }
}
