//! Lines on standard error that tell an operator what has happened.

mod descriptors;
mod ejections;
mod health;
mod watch;

use std::collections::BTreeMap;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(super) use health::Healths;
pub(super) use watch::watch;

/// Lines that wait for standard error. Whoever reads that may have stopped to; then lines are lost, and nobody waits.
const WAITING: usize = 256;

/// So many lines of a kind are shown one after the other: a rack's worth of instances that fail together.
const BURST: u32 = 20;
/// How long it takes until one more may be.
const REST: Duration = Duration::from_secs(6);
/// A kind of which nothing was hidden for so long has calmed down.
const CALM: Duration = Duration::from_secs(5);
/// How many were hidden is said so often at the least, should it never calm down.
const LONGEST: Duration = Duration::from_secs(60);

/// What a line is about: its first word. Each kind has a bound of its own, so that a flood of one hides nothing of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Who leads.
    Cluster,
    /// Other nodes that were turned away.
    Peer,
    /// Instances that turn critical, and back.
    Health,
    /// Instances that are left out for what was seen of them.
    Ejection,
    /// Leases that are held over.
    Guard,
    /// Services with too few healthy instances.
    Panic,
    /// The registry's disk.
    Registry,
    /// Clients whose handshakes failed.
    Tls,
    /// Host names of instances.
    Name,
    /// Files and sockets.
    Descriptors,
    /// Clients of the API.
    Api,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Peer => "peer",
            Self::Health => "health",
            Self::Ejection => "ejection",
            Self::Guard => "guard",
            Self::Panic => "panic",
            Self::Registry => "registry",
            Self::Tls => "tls",
            Self::Name => "name",
            Self::Descriptors => "descriptors",
            Self::Api => "api",
        }
    }
}

/// The one place that lines of events come from: bounded, and without waiting. Nothing of the data plane calls it.
pub(super) struct Events {
    lines: SyncSender<String>,
    bounds: Mutex<BTreeMap<Kind, Bound>>,
}

impl Events {
    /// Starts the thread that writes them: the control plane must not wait for whoever reads standard error.
    pub(super) fn start() -> std::io::Result<Self> {
        let (lines, written) = mpsc::sync_channel::<String>(WAITING);
        std::thread::Builder::new()
            .name("events".into())
            .spawn(move || {
                for line in written {
                    eprintln!("pointsman: {line}");
                }
            })?;
        Ok(Self::through(lines))
    }

    fn through(lines: SyncSender<String>) -> Self {
        Self {
            lines,
            bounds: Mutex::default(),
        }
    }

    /// Tells of something, unless too much of its kind was told lately.
    pub(super) fn tell(&self, kind: Kind, what: impl FnOnce() -> String) {
        let now = Instant::now();
        let mut bounds = self.bounds();
        let bound = bounds.entry(kind).or_insert_with(|| Bound::new(now));
        if !bound.shows(now) || !self.write(kind, &what()) {
            bound.hide(1, now);
        }
    }

    /// So many more happened of which nothing else is known.
    fn hide(&self, kind: Kind, count: u64) {
        if count > 0 {
            let now = Instant::now();
            let mut bounds = self.bounds();
            let bound = bounds.entry(kind).or_insert_with(|| Bound::new(now));
            bound.hide(count, now);
        }
    }

    /// Says how many were hidden, of kinds that have calmed down.
    fn sum_up(&self) {
        let now = Instant::now();
        for (kind, bound) in self.bounds().iter_mut() {
            if let Some(count) = bound.hidden(now)
                && !self.write(*kind, &format!("{count} more of these were not shown"))
            {
                bound.hide(count, now);
            }
        }
    }

    /// False if whoever reads the lines does not keep up.
    fn write(&self, kind: Kind, what: &str) -> bool {
        let name = kind.as_str();
        // A line stays one, whatever words of a server or a peer are in it.
        let what = what.replace(char::is_control, " ");
        self.lines.try_send(format!("{name}: {what}")).is_ok()
    }

    fn bounds(&self) -> MutexGuard<'_, BTreeMap<Kind, Bound>> {
        self.bounds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much of a kind may be shown: a bucket of tokens, and how many found it empty.
struct Bound {
    left: u32,
    /// When the bucket got its last token.
    filled: Instant,
    hidden: u64,
    /// When the first and the last of those was hidden.
    since: Instant,
    latest: Instant,
}

impl Bound {
    fn new(now: Instant) -> Self {
        Self {
            left: BURST,
            filled: now,
            hidden: 0,
            since: now,
            latest: now,
        }
    }

    fn shows(&mut self, now: Instant) -> bool {
        let rests = now.duration_since(self.filled).as_nanos() / REST.as_nanos();
        let rests = u32::try_from(rests).unwrap_or(u32::MAX);
        if rests > 0 {
            self.left = self.left.saturating_add(rests).min(BURST);
            self.filled = now;
        }
        let shows = self.left > 0;
        self.left -= u32::from(shows);
        shows
    }

    fn hide(&mut self, count: u64, now: Instant) {
        if self.hidden == 0 {
            self.since = now;
        }
        self.hidden += count;
        self.latest = now;
    }

    /// How many were hidden, if it is time to say so.
    fn hidden(&mut self, now: Instant) -> Option<u64> {
        let due =
            now.duration_since(self.latest) >= CALM || now.duration_since(self.since) >= LONGEST;
        (self.hidden > 0 && due).then(|| std::mem::take(&mut self.hidden))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_is_counted_and_a_line_stays_one() {
        let (lines, written) = mpsc::sync_channel(1);
        let events = Events::through(lines);
        events.tell(Kind::Health, || "one\npointsman: cluster: two".into());
        events.tell(Kind::Health, || "three".into());
        events.tell(Kind::Tls, || "four".into());
        let told: Vec<_> = written.try_iter().collect();
        assert_eq!(told, ["health: one pointsman: cluster: two"]);
        let hidden = |kind: Kind| events.bounds()[&kind].hidden;
        assert_eq!([hidden(Kind::Health), hidden(Kind::Tls)], [1, 1]);
    }

    #[test]
    fn a_storm_is_cut_short_and_summed_up_once_it_is_calm() {
        let begun = Instant::now();
        let mut bound = Bound::new(begun);
        let mut storm = |at: Instant, count: usize| {
            let shown = (0..count).filter(|_| {
                let shows = bound.shows(at);
                bound.hide(u64::from(!shows), at);
                shows
            });
            (shown.count(), bound.hidden(at))
        };
        assert_eq!(storm(begun, 10_000), (20, None));
        // What comes after a while is news again, a line at a time.
        assert_eq!(storm(begun + REST, 3), (1, None));
        let calm = begun + REST + CALM;
        assert_eq!(storm(calm, 0), (0, Some(9_982)));
        assert_eq!(storm(calm, 0), (0, None));
        // A bucket never holds more than one burst.
        assert_eq!(storm(calm + 100 * REST, 30).0, 20);
    }

    #[test]
    fn a_storm_that_does_not_end_is_summed_up_all_the_same() {
        let begun = Instant::now();
        let mut bound = Bound::new(begun);
        bound.hide(7, begun);
        for second in 1..60 {
            let now = begun + Duration::from_secs(second);
            bound.hide(1, now);
            assert_eq!(bound.hidden(now), None);
        }
        assert_eq!(bound.hidden(begun + LONGEST), Some(66));
    }
}
