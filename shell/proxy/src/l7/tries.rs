//! What is told of a request's attempts afterwards.

use std::time::Duration;

use http::trace::{SPAN_AT, write_hex};
use model::{MOST_TRIES, Moment, ServiceTable, bucket, status_class};
use telemetry::{RequestLine, Trace, Try};

use super::begin::{Begun, Forward};
use super::exchange::{Ended, Failed};
use super::respond::Unanswered;
use super::session::Session;
use crate::worker::Worker;

/// How long an attempt took to connect, in microseconds, and until its TLS was agreed upon. Small, for each idle connection has
/// room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Phases {
    connect: u32,
    secured: u32,
}

/// What did not happen.
const NOT: u32 = u32::MAX;

impl Default for Phases {
    fn default() -> Self {
        Self {
            connect: NOT,
            secured: NOT,
        }
    }
}

impl Phases {
    fn connect(self) -> Option<Duration> {
        (self.connect != NOT).then(|| Duration::from_micros(self.connect.into()))
    }

    /// A connection that was begun then stands, or does not.
    pub(super) fn connected(
        worker: &Worker,
        service: &ServiceTable,
        began: Moment,
        made: bool,
    ) -> Self {
        if made {
            let took = worker.now().since(began).as_nanos() as u64;
            service.stats.of(worker.index).connects.took(took);
        }
        Self {
            connect: micros_since(worker, began),
            secured: NOT,
        }
    }

    /// Its TLS is agreed upon, or has failed.
    pub(super) fn secured(self, worker: &Worker, began: Moment) -> Self {
        Self {
            secured: micros_since(worker, began),
            ..self
        }
    }

    fn tls(self) -> Option<Duration> {
        let tls = self.secured.wrapping_sub(self.connect);
        (self.secured != NOT).then(|| Duration::from_micros(tls.into()))
    }
}

fn micros_since(worker: &Worker, began: Moment) -> u32 {
    let micros = worker.now().since(began).as_micros();
    micros.min(u128::from(NOT - 1)) as u32
}

/// An attempt: when it began, its span, and at which endpoint it is while it is under way.
pub(super) type Trying = (Moment, [u8; 8], Option<usize>);

/// What is kept of a request for when it is over.
pub(super) struct Told {
    /// What the access log wants to know, or who records traces, where somebody does.
    pub(super) line: Option<Box<RequestLine>>,
    /// The trace that it belongs to, if anybody wants to know.
    pub(super) trace: Option<Box<Trace>>,
    /// When nothing was left to be waited for but an instance.
    pub(super) ready: Moment,
    /// The present attempt, or the last one.
    pub(super) trying: Trying,
    /// Attempts so far, where somebody wants to know.
    pub(super) tries: Vec<Try>,
}

impl Told {
    pub(super) const fn new(
        line: Option<Box<RequestLine>>,
        trace: Option<Box<Trace>>,
        now: Moment,
    ) -> Self {
        Self {
            line,
            trace,
            ready: now,
            trying: (Moment::NEVER, [0; 8], None),
            tries: Vec::new(),
        }
    }
}

impl Session {
    /// An attempt begins; it is a span of its own.
    pub(super) fn begin_try(&self, begun: &mut Begun, forward: &mut Forward, endpoint: usize) {
        begun.told.trying.0 = self.worker.now();
        begun.told.trying.2 = Some(endpoint);
        self.phases.take();
        if let Some(at) = forward.traced {
            begun.told.trying.1 = self.draw_id();
            let place = at + SPAN_AT..at + SPAN_AT + 16;
            write_hex(&begun.told.trying.1, &mut forward.message[place]);
        }
    }

    /// Counts how long a request took, and how many attempts.
    pub(super) fn measure(
        &self,
        begun: &Begun,
        ended: &Ended,
        duration: Duration,
        service: Option<&ServiceTable>,
    ) {
        let (index, nanos) = (self.worker.index, duration.as_nanos() as u64);
        let (bucket, class) = (bucket(nanos), status_class(ended.status));
        self.count(|stats| stats.durations[class].add(bucket, nanos));
        let Some(service) = service else { return };
        let stats = service.stats.of(index);
        stats.durations[class].add(bucket, nanos);
        stats.tries[usize::from(ended.attempts).min(MOST_TRIES)].bump(1);
        stats.attempts.bump(ended.attempts.into());
        let heard = self.heard.get();
        // Without an attempt, that was another request.
        if ended.attempts > 0 && heard != Moment::NEVER {
            let first = heard.since(begun.at).as_nanos() as u64;
            stats.first_bytes.took(first);
        }
    }

    /// An attempt is over.
    pub(super) fn end_try(
        &self,
        begun: &mut Begun,
        service: &ServiceTable,
        endpoint: usize,
        outcome: &Result<Ended, Failed>,
    ) {
        let late = self.expired.get() || self.deadline.get() <= self.worker.now();
        let said = match outcome {
            // Only looked at: whoever decides by it comes after us.
            Err(_) if late => (0, "deadline_passed"),
            Ok(ended) => (ended.status, ended.cut.map_or("ok", |cut| cut.as_str())),
            Err(failed) => (failed.status(), failed.as_str()),
        };
        self.end_try_with(begun, service, endpoint, said);
        // For those who keep the instances alone: see `retry::explain`.
        if let (Some(one), Err(Failed::Connect(fault))) = (begun.told.tries.last_mut(), outcome) {
            one.why = Some(fault.to_string().into());
        }
    }

    /// An attempt is over: with this status, and for this reason.
    pub(super) fn end_try_with(
        &self,
        begun: &mut Begun,
        service: &ServiceTable,
        endpoint: usize,
        (status, ended): (u16, &'static str),
    ) {
        begun.told.trying.2 = None;
        if begun.told.line.is_none() {
            return;
        }
        let ((began, span, _), now) = (begun.told.trying, self.worker.now());
        let endpoint = &service.endpoints[endpoint];
        let phases = self.phases.get();
        let heard = Some(self.heard.get()).filter(|heard| *heard != Moment::NEVER);
        // Most often there is one.
        begun.told.tries.reserve_exact(1);
        begun.told.tries.push(Try {
            instance: endpoint.id.clone(),
            address: endpoint.address,
            at: began.since(begun.at),
            connect: phases.connect(),
            tls: phases.tls(),
            first_byte: heard.map(|heard| heard.since(began)),
            duration: now.since(began),
            status,
            ended,
            why: None,
            span,
        });
    }
}

impl Failed {
    /// The status that the instance answered with, if it did.
    const fn status(&self) -> u16 {
        match self {
            Self::Unanswered(Unanswered::Replaced(status) | Unanswered::Again(status, _)) => {
                *status
            }
            _ => 0,
        }
    }

    /// A word for logs.
    fn as_str(&self) -> &'static str {
        match self {
            Self::Connect(fault) if fault.kind() == std::io::ErrorKind::TimedOut => {
                "connect_timed_out"
            }
            Self::Connect(_) => "connect_failed",
            Self::Stale => "stale",
            Self::Full => "full",
            Self::Refused | Self::Unanswered(Unanswered::Refused) => "refused",
            Self::Unanswered(Unanswered::Left) => "instance_left",
            Self::Unanswered(Unanswered::Silent) => "instance_silent",
            Self::Unanswered(Unanswered::Malformed) => "instance_malformed",
            Self::Unanswered(Unanswered::ClientLeft) => "client_left",
            // Our page took its place, which is all that went wrong.
            Self::Unanswered(Unanswered::Replaced(_)) => "replaced",
            Self::Unanswered(Unanswered::Again(..)) => "asked_again",
            Self::Client(cut) => cut.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_tls_is_what_came_after_connecting() {
        let phases = Phases {
            connect: 300,
            secured: 1_000,
        };
        assert_eq!(phases.connect(), Some(Duration::from_micros(300)));
        assert_eq!(phases.tls(), Some(Duration::from_micros(700)));
        let none = Phases::default();
        assert_eq!((none.connect(), none.tls()), (None, None));
    }
}
