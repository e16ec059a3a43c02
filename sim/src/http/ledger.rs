//! What happened in a run, as clients and instances saw it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use model::Moment;

/// Something an instance did with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// Gave the right answer, whole.
    Answered,
    /// Said 413 before it had read the body, and closed.
    Early,
    /// Began to answer before it had read the body, and ended the answer after it.
    Eager,
    /// Opened a tunnel.
    Tunnelled,
    /// Sent what is no HTTP.
    Garbage,
    /// Sent a head over every limit.
    HugeHead,
    /// Sent informational answers without end.
    Flood,
    /// Opened a tunnel that nobody asked for.
    Unasked,
    /// Said nothing.
    Silent,
    /// Stopped in the middle of the answer, and stayed.
    Stalled,
    /// Ended the connection before the first byte of its answer.
    DiedBefore,
    /// Ended the connection within the answer.
    DiedWithin,
    /// Gave the right answer, and bytes that belong to nothing.
    Extra,
}

/// A request's head that reached an instance, and what came of it.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Which instance.
    pub instance: (usize, usize),
    /// What arrived of its body, once it was whole.
    pub got: Option<String>,
    /// What the instance did.
    pub deed: Option<Deed>,
    /// Bytes of the answer that the network took.
    pub sent: u64,
    /// Bytes of the request's body that arrived.
    pub uploaded: u64,
}

/// How a request ended for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The right answer, whole.
    Right,
    /// A tunnel that carried everything both ways.
    Tunnel,
    /// An error made by the proxy.
    Refused(u16),
    /// The instance's early 413.
    TooEarly,
    /// An answer that began before the request had ended.
    Eager,
    /// An answer cut off in a way that the client can tell.
    Cut,
    /// The connection ended without a byte of an answer.
    Nothing,
    /// The client did not wait for it.
    Unwatched,
}

/// What a client made of a request on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Manner {
    /// It kept to the rules and to the time limits.
    Behaved,
    /// It ended its side once everything was sent.
    HalfClose,
    /// It left at some byte.
    Vanishes,
    /// It sent its head too slowly.
    SlowHead,
    /// It sent its body too slowly.
    SlowBody,
    /// It stopped reading.
    Stuck,
    /// It sent garbage.
    Garbage,
    /// It sent a head over the limit.
    BigHead,
    /// It sent a chunk that is none.
    BadChunk,
}

/// How a request went for its client.
#[derive(Clone, Debug)]
pub struct Told {
    /// The request.
    pub ask: super::ask::Ask,
    /// What the client was up to.
    pub manner: Manner,
    /// How it ended.
    pub outcome: Outcome,
    /// When the client began to send it.
    pub asked: Moment,
    /// When it had ended.
    pub ended: Moment,
    /// Bytes of answers to it, heads and informational ones included.
    pub answer_bytes: u64,
    /// Whether the connection had served another request before.
    pub reused: bool,
}

/// Everything that happened.
#[derive(Default)]
pub struct Ledger {
    /// Per request, every time its head reached an instance.
    pub arrivals: BTreeMap<u64, Vec<Arrival>>,
    /// Per request, how it went for its client.
    pub told: BTreeMap<u64, Told>,
    /// How often each thing happened.
    pub coverage: BTreeMap<String, u64>,
    /// What went wrong, as it was found.
    pub violations: Vec<String>,
    /// Answer bytes that clients have read so far, by request.
    pub taken: BTreeMap<u64, u64>,
    /// The most bytes of one answer that were somewhere between its instance and its client.
    pub most_held_down: u64,
    /// The most bytes of one request that were somewhere between its client and its instance.
    pub most_held_up: u64,
    /// Clients still at work.
    pub busy: usize,
    /// Since when the proxy drains.
    pub drained: Option<Moment>,
    /// Since when the second listener is gone.
    pub unlistened: Option<Moment>,
    /// The trace's fingerprint.
    pub hash: u64,
    lines: Option<Vec<String>>,
}

/// A request, and the instance where it arrived: at two at a time, if it is hedged.
pub type At = (u64, (usize, usize));

/// The ledger, as everybody in a run shares it.
#[derive(Clone)]
pub struct Shared(Rc<RefCell<Ledger>>);

impl Shared {
    /// An empty ledger; `keep` keeps the trace's lines for people.
    pub fn new(keep: bool) -> Self {
        Self(Rc::new(RefCell::new(Ledger {
            hash: 0xcbf2_9ce4_8422_2325,
            lines: keep.then(Vec::new),
            ..Ledger::default()
        })))
    }

    /// Looks at it or writes into it.
    pub fn with<R>(&self, f: impl FnOnce(&mut Ledger) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }

    /// Notes that `what` happened at `at`.
    pub fn note(&self, at: Moment, what: &str) {
        self.with(|ledger| ledger.note(at, what));
    }

    /// Counts that `what` happened.
    pub fn cover(&self, what: impl Into<String>) {
        self.with(|ledger| *ledger.coverage.entry(what.into()).or_default() += 1);
    }

    /// Notes that a property was broken.
    pub fn violate(&self, at: Moment, what: String) {
        self.note(at, &format!("VIOLATION {what}"));
        self.with(|ledger| ledger.violations.push(what));
    }

    /// Writes into the latest arrival of a request at an instance.
    pub fn arrival(&self, (id, instance): At, f: impl FnOnce(&mut Arrival)) {
        self.with(|l| {
            l.arrivals
                .get_mut(&id)
                .and_then(|all| all.iter_mut().rfind(|a| a.instance == instance))
                .map(f)
        });
    }

    /// An instance has given so many bytes of its answer to `id` to the network.
    pub fn sent(&self, at: At, bytes: u64) {
        let id = at.0;
        self.arrival(at, |a| a.sent = bytes);
        self.with(|l| {
            // Who vanishes does not say what it has read.
            if let Some(taken) = l.taken.get(&id) {
                l.most_held_down = l.most_held_down.max(bytes.saturating_sub(*taken));
            }
        });
    }

    /// So many bytes of the body of `id` have arrived at an instance.
    pub fn uploaded(&self, at: At, bytes: u64) {
        self.arrival(at, |a| a.uploaded = bytes);
    }

    /// A client has given so many bytes of the request `id` to the network.
    pub fn given(&self, id: u64, bytes: u64) {
        self.with(|l| {
            let arrived = l.arrivals.get(&id).and_then(|all| all.last());
            if let Some(arrival) = arrived.filter(|a| a.deed.is_none()) {
                l.most_held_up = l.most_held_up.max(bytes.saturating_sub(arrival.uploaded));
            }
        });
    }

    /// A client has read so many bytes of the answer to `id`.
    pub fn taken(&self, id: u64, bytes: u64) {
        self.with(|l| l.taken.insert(id, bytes));
    }

    /// The trace, if it was kept.
    pub fn lines(&self) -> Vec<String> {
        self.with(|ledger| ledger.lines.take().unwrap_or_default())
    }
}

impl Ledger {
    fn note(&mut self, at: Moment, what: &str) {
        let micros = at.as_nanos() / 1_000;
        for byte in micros.to_le_bytes().iter().chain(what.as_bytes()) {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(format!(
                "{:>8}.{:03} ms  {what}",
                micros / 1_000,
                micros % 1_000
            ));
        }
    }
}
