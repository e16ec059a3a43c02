//! Clients are sent to other nodes, when this one serves more than its share.
//!
//! The protocol has no word for that: a connection is closed, and its client tries the next address of its list, where its
//! session moves to. Some lists have no other.

use std::collections::BTreeMap;
use std::time::Duration;

use model::Moment;
use registry::tree::SessionId;

use crate::clients::{Clients, Key};
use crate::connection::{Connection, Phase};

/// A client that has asked for nothing for so long is in the middle of nothing, and waits for no answer.
const REST: Duration = Duration::from_secs(1);
/// Nobody is sent away who has just come.
const SETTLED: Duration = Duration::from_secs(10);
/// Whoever came straight back knows no other node, or reaches none. Its list may have been changed after so long.
const ALONE: Duration = Duration::from_secs(3_600);
/// Whoever was passed on and comes again is taken: no other node would have it.
const TURNED: Duration = Duration::from_secs(60);
/// A session that ends sooner has no time for another try: clients wait up to a second before each.
const SHORT: u32 = 8_000;
/// The most sessions that are remembered for either.
const MOST: usize = 1 << 17;

/// A client that may be sent away now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its connection.
    pub key: Key,
    session: SessionId,
    since: Moment,
    /// Its session was here already when it came.
    back: bool,
}

/// Who was sent away, and who is not to be.
#[derive(Debug, Default)]
pub struct Sendings {
    /// Sessions whose connections were closed, and when.
    closed: BTreeMap<SessionId, Moment>,
    /// Sessions that came from another node, and were passed on.
    turned: BTreeMap<SessionId, Moment>,
    /// The nodes whose sessions are.
    passed: Vec<u64>,
}

impl Clients {
    /// How many connections serve a session.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Clients that may be sent away: nothing of theirs is under way.
    pub fn candidates(&self, now: Moment) -> impl Iterator<Item = Candidate> {
        let key = |(index, c): (usize, &Connection)| Candidate {
            key: Key::new(index, c.generation),
            session: c.session,
            since: c.opened,
            back: c.back,
        };
        let may = move |(_, c): &(usize, &Connection)| c.is_at_rest(now);
        self.slab.iter().filter(may).map(key)
    }
}

impl Connection {
    fn is_at_rest(&self, now: Moment) -> bool {
        self.phase == Phase::Serving
            && !self.reader
            && self.in_flight == 0
            && self.awaits.is_none()
            && self.input.is_empty()
            && self.output.is_empty()
            && now.since(self.asked) >= REST
            && now.since(self.opened) >= SETTLED
    }
}

impl Sendings {
    /// Chooses who is sent away, those that have been there longest, so that in the course of time it is everybody's turn.
    pub fn choose<T>(
        &mut self,
        mut candidates: Vec<(T, Candidate)>,
        most: usize,
        now: Moment,
    ) -> Vec<(T, Key)> {
        candidates.retain(|(_, c)| !c.back || !self.closed.contains_key(&c.session));
        candidates.sort_unstable_by_key(|(_, c)| (c.since, c.session));
        candidates.truncate(most);
        let sent = candidates.iter().map(|(_, c)| (c.session, now));
        self.closed.extend(sent);
        let keys = candidates.into_iter();
        keys.map(|(place, candidate)| (place, candidate.key))
            .collect()
    }

    /// From which nodes sessions are passed on, from now on.
    pub fn pass_on_from(&mut self, nodes: Vec<u64>) {
        self.passed = nodes;
    }

    /// Whether a client is to look for another node whose session, with so many milliseconds to live without it, is at `node`.
    pub fn passes_on(&mut self, session: SessionId, timeout: u32, node: u64, now: Moment) -> bool {
        if timeout < SHORT || !self.passed.contains(&node) || self.turned.len() >= MOST {
            return false;
        }
        let turned = self.turned.entry(session).or_insert(Moment::ZERO);
        let again = *turned != Moment::ZERO && now.since(*turned) < TURNED;
        if !again {
            *turned = now.max(Moment::from_nanos(1));
        }
        !again
    }

    /// Forgets what does not matter any more; `is_here` says of a session whether this node has it.
    pub fn forget(&mut self, is_here: impl Fn(SessionId) -> bool, now: Moment) {
        self.turned.retain(|_, at| now.since(*at) < TURNED);
        // Who has found another node is where it should be, and may come back some day as anybody else.
        let stays = |session: &SessionId, at: &mut Moment| {
            now.since(*at) < SETTLED || now.since(*at) < ALONE && is_here(*session)
        };
        self.closed.retain(stays);
        while self.closed.len() > MOST {
            self.closed.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    fn candidate(session: i64, since: u64, back: bool) -> ((), Candidate) {
        let candidate = Candidate {
            key: Key::new(session as usize, 1),
            session: SessionId(session),
            since: at(since),
            back,
        };
        ((), candidate)
    }

    fn chosen(sendings: &mut Sendings, candidates: &[((), Candidate)], most: usize) -> Vec<u32> {
        let chosen = sendings.choose(candidates.to_vec(), most, at(100));
        chosen.into_iter().map(|((), key)| key.index()).collect()
    }

    #[test]
    fn those_that_have_been_there_longest_go_first() {
        let candidates = [
            candidate(1, 30, false),
            candidate(2, 10, true),
            candidate(3, 20, false),
        ];
        assert_eq!(chosen(&mut Sendings::default(), &candidates, 2), [2, 3]);
        assert_eq!(chosen(&mut Sendings::default(), &candidates, 0), [0; 0]);
    }

    #[test]
    fn who_comes_straight_back_is_left_alone_for_an_hour() {
        let mut sendings = Sendings::default();
        assert_eq!(chosen(&mut sendings, &[candidate(1, 30, false)], 9), [1]);
        let back = [candidate(1, 101, true)];
        assert_eq!(chosen(&mut sendings, &back, 9), [0; 0]);
        sendings.forget(|_| true, at(3_000));
        assert_eq!(chosen(&mut sendings, &back, 9), [0; 0]);
        sendings.forget(|_| true, at(3_701));
        assert_eq!(chosen(&mut sendings, &back, 9), [1]);
    }

    #[test]
    fn who_was_elsewhere_meanwhile_may_be_sent_away_again() {
        let mut sendings = Sendings::default();
        assert_eq!(chosen(&mut sendings, &[candidate(1, 30, false)], 9), [1]);
        assert_eq!(chosen(&mut sendings, &[candidate(1, 60, false)], 9), [1]);
        sendings.forget(|_| false, at(111));
        assert_eq!(chosen(&mut sendings, &[candidate(1, 60, true)], 9), [1]);
    }

    #[test]
    fn a_session_is_passed_on_once_and_only_from_nodes_that_give_some_up() {
        let mut sendings = Sendings::default();
        let (one, two) = (SessionId(1), SessionId(2));
        assert!(!sendings.passes_on(one, 10_000, 7, at(1)));
        sendings.pass_on_from(vec![7]);
        assert!(!sendings.passes_on(one, 10_000, 8, at(1)));
        assert!(!sendings.passes_on(one, 4_000, 7, at(1)));
        assert!(sendings.passes_on(one, 10_000, 7, at(1)));
        assert!(!sendings.passes_on(one, 10_000, 7, at(2)));
        assert!(sendings.passes_on(two, 10_000, 7, at(2)));
        sendings.forget(|_| true, at(61));
        assert!(sendings.passes_on(one, 10_000, 7, at(61)));
        assert!(!sendings.passes_on(two, 10_000, 7, at(61)));
    }
}
