use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use model::Moment;

use super::{Session, SessionId};

/// How exact a session's end is, in milliseconds. ZooKeeper rounds up to ticks of two seconds.
const TICK: u64 = 64;
/// Whoever drives the clock promises a call at least this often while there are sessions.
const BEAT: Duration = Duration::from_millis(250);
/// How much longer a call may take than promised before it counts as frozen: then no time has passed for the sessions
/// either, for nobody could have been heard.
const FROST: Duration = Duration::from_millis(1_000);

/// When something was last heard of a session's client: whoever serves it moves this, and nothing else.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Something was heard of the client.
    pub fn beat(&self, now: Moment) {
        // Late writers must not turn it back.
        self.0
            .fetch_max(now.since(Moment::ZERO).as_millis() as u64, Relaxed);
    }
}

/// Which sessions' time has run out. Nothing of it is logged but the outcome: a node that starts gives every session
/// its full timeout once more.
#[derive(Debug, Default)]
pub struct SessionClock {
    sessions: BTreeMap<SessionId, Entry>,
    /// By the tick at which they are looked at again, which is never after their time.
    due: BTreeMap<u64, Vec<SessionId>>,
    seen: Moment,
    /// The end of the last frost: whoever was heard before counts as heard then.
    thawed: u64,
}

#[derive(Debug)]
struct Entry {
    pulse: Pulse,
    timeout: u64,
}

impl SessionClock {
    /// A session has begun, or is known again after a restart.
    pub fn opened(&mut self, id: SessionId, timeout: u32, now: Moment) {
        let at = millis(now);
        let entry = Entry {
            pulse: Pulse(Arc::new(AtomicU64::new(at))),
            timeout: timeout.into(),
        };
        self.look_at(id, at + entry.timeout);
        self.sessions.insert(id, entry);
    }

    /// These are the sessions now, and each has its full timeout from now on. Pulses of those that stay keep beating.
    pub fn begin_anew<'a>(&mut self, sessions: impl Iterator<Item = &'a Session>, now: Moment) {
        let mut before = std::mem::take(&mut self.sessions);
        self.due.clear();
        for session in sessions {
            self.opened(session.id, session.timeout, now);
            if let (Some(old), Some(new)) = (
                before.remove(&session.id),
                self.sessions.get_mut(&session.id),
            ) {
                old.pulse.beat(now);
                new.pulse = old.pulse;
            }
        }
    }

    /// The sessions that something was heard of since then.
    pub fn heard_since(&self, then: Moment) -> Vec<SessionId> {
        let since = millis(then);
        let heard = |entry: &Entry| entry.pulse.0.load(Relaxed) >= since;
        let sessions = self.sessions.iter();
        sessions
            .filter(|(_, entry)| heard(entry))
            .map(|(id, _)| *id)
            .collect()
    }

    /// A session is over.
    pub fn closed(&mut self, id: SessionId) {
        self.sessions.remove(&id);
    }

    /// Where to say that something was heard of a session's client.
    pub fn pulse(&self, id: SessionId) -> Option<Pulse> {
        self.sessions.get(&id).map(|entry| entry.pulse.clone())
    }

    /// The sessions whose time has run out. Each is named again until it is closed.
    pub fn handle_timeout(&mut self, now: Moment) -> Vec<SessionId> {
        let at = millis(now);
        if now.since(self.seen) > BEAT + FROST {
            self.thawed = at;
        }
        self.seen = now;
        let mut over = Vec::new();
        while let Some(tick) = self.due.first_entry()
            && *tick.key() * TICK <= at
        {
            for id in tick.remove() {
                let Some(entry) = self.sessions.get(&id) else {
                    continue;
                };
                let heard = entry.pulse.0.load(Relaxed).max(self.thawed);
                let end = heard + entry.timeout;
                if end <= at {
                    over.push(id);
                }
                self.look_at(id, end.max(at + 1_000));
            }
        }
        over
    }

    /// When [`SessionClock::handle_timeout`] wants to be called next; never later than a quarter of a second after the
    /// last call, if there are sessions.
    pub fn next_deadline(&self) -> Moment {
        let Some((tick, _)) = self.due.first_key_value() else {
            return Moment::NEVER;
        };
        Moment::from_millis(tick * TICK).min(self.seen + BEAT)
    }

    fn look_at(&mut self, id: SessionId, at: u64) {
        self.due.entry(at.div_ceil(TICK)).or_default().push(id);
    }
}

fn millis(now: Moment) -> u64 {
    now.since(Moment::ZERO).as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SessionId = SessionId(7);

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    /// Drives the clock as promised; returns when the session was first named.
    fn expiry(clock: &mut SessionClock, from: u64, until: u64) -> Option<u64> {
        (from..until)
            .step_by(50)
            .find(|ms| clock.handle_timeout(at(*ms)).contains(&A))
    }

    #[test]
    fn a_session_ends_a_tick_after_its_time_and_not_before() {
        let mut clock = SessionClock::default();
        clock.opened(A, 4_000, at(0));
        let over = expiry(&mut clock, 0, 10_000).unwrap();
        assert!((4_000..=4_000 + TICK + 50).contains(&over), "{over}");
    }

    #[test]
    fn whoever_is_heard_lives_on() {
        let mut clock = SessionClock::default();
        clock.opened(A, 4_000, at(0));
        let pulse = clock.pulse(A).unwrap();
        assert_eq!(expiry(&mut clock, 0, 3_000), None);
        pulse.beat(at(3_000));
        let over = expiry(&mut clock, 3_000, 20_000).unwrap();
        assert!((7_000..8_100).contains(&over), "{over}");
    }

    #[test]
    fn a_frozen_process_does_not_hold_its_silence_against_anybody() {
        let mut clock = SessionClock::default();
        clock.opened(A, 4_000, at(0));
        assert_eq!(expiry(&mut clock, 0, 1_000), None);
        let over = expiry(&mut clock, 60_000, 80_000).unwrap();
        assert!((64_000..65_100).contains(&over), "{over}");
    }

    #[test]
    fn a_closed_session_is_not_named() {
        let mut clock = SessionClock::default();
        clock.opened(A, 4_000, at(0));
        clock.closed(A);
        assert_eq!(expiry(&mut clock, 0, 10_000), None);
        assert_eq!(clock.next_deadline(), Moment::NEVER);
    }
}
