//! Who waits for a service that takes no more at a time.
//!
//! A queue that never empties adds its length to every answer and serves nobody better. So, as Facebook does it (Maurer,
//! "Fail at Scale", ACM Queue 2015, after CoDel, RFC 8289): who comes while the queue has been empty a moment ago may wait
//! for long, to absorb a burst; who comes to a queue that stands may wait for a short time only, and the newest go
//! first: their clients have not given up yet.

use std::collections::VecDeque;

use model::{Limiting, Moment, Priority};

/// One who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What became of one who came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// It waits.
    Waits(Ticket),
    /// It waits in the place of one who matters less, who is sent away.
    Instead(Ticket, Ticket),
    /// The queue is full of those that matter as much.
    Full,
}

/// One worker's queue of one service.
#[derive(Debug, Default)]
pub struct Queue {
    /// By [`Priority`], the oldest in front.
    lanes: [VecDeque<Waiting>; Priority::ALL.len()],
    next: u64,
    /// When it was empty last.
    empty: Moment,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    ticket: Ticket,
    until: Moment,
}

impl Queue {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.lanes.iter().map(VecDeque::len).sum()
    }

    /// Whether nobody does.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }

    /// Somebody wants to wait.
    pub fn join(&mut self, priority: Priority, limiting: &Limiting, now: Moment) -> Joined {
        self.see(now);
        let mut evicted = None;
        if self.len() >= limiting.queue as usize {
            let lesser = self.lanes[..priority as usize].iter_mut();
            evicted = lesser.into_iter().find_map(VecDeque::pop_front);
            if evicted.is_none() {
                return Joined::Full;
            }
        }
        let patience = match self.stands(limiting, now) {
            true => limiting.wait_overloaded,
            false => limiting.wait,
        };
        let ticket = Ticket(self.next);
        self.next += 1;
        let until = now + patience;
        self.lanes[priority as usize].push_back(Waiting { ticket, until });
        match evicted {
            Some(evicted) => Joined::Instead(ticket, evicted.ticket),
            None => Joined::Waits(ticket),
        }
    }

    /// There is room for one more: whose turn it is.
    pub fn next(&mut self, limiting: &Limiting, now: Moment) -> Option<Ticket> {
        let newest_first = self.stands(limiting, now);
        let lane = self.lanes.iter_mut().rev();
        let next = lane.into_iter().find_map(|lane| match newest_first {
            true => lane.pop_back(),
            false => lane.pop_front(),
        });
        self.see(now);
        next.map(|waiting| waiting.ticket)
    }

    /// One that waits no longer.
    pub fn leave(&mut self, ticket: Ticket) {
        for lane in &mut self.lanes {
            lane.retain(|waiting| waiting.ticket != ticket);
        }
    }

    /// Those whose time is over: they wait no more.
    pub fn handle_timeout(&mut self, now: Moment) -> Vec<Ticket> {
        let mut over = Vec::new();
        for lane in &mut self.lanes {
            lane.retain(|waiting| {
                let waits = now < waiting.until;
                over.extend((!waits).then_some(waiting.ticket));
                waits
            });
        }
        self.see(now);
        over
    }

    fn see(&mut self, now: Moment) {
        // The latter by a clock that stepped back.
        if self.is_empty() || now < self.empty {
            self.empty = now;
        }
    }

    /// Whether it has not been empty for so long that more is coming than is served.
    fn stands(&self, limiting: &Limiting, now: Moment) -> bool {
        !self.is_empty() && now.since(self.empty) > limiting.wait
    }
}
