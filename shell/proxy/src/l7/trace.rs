//! Which trace a request belongs to, and who is told of it.

use http::h1;
use http::trace::{RANDOM, SAMPLED, TraceParent, is_chosen, state};
use model::ListenerTable;
use telemetry::{AccessRecord, Record, Trace};

use super::session::Session;

impl Session {
    /// The trace that a request belongs to. Without anybody who records traces it is only looked at for the access log, and
    /// passed on as it came.
    pub(super) fn trace(
        &self,
        request: &h1::Request<'_>,
        listener: &ListenerTable,
    ) -> Option<Box<Trace>> {
        let worker = &self.worker;
        if worker.tracer.is_none() && worker.logger.is_none() {
            return None;
        }
        let parent = TraceParent::of(&request.fields).filter(|_| self.is_believed(listener));
        match (parent, &worker.tracer) {
            (None, None) => None,
            (Some(parent), None) => Some(Box::new(Trace {
                id: parent.trace,
                parent: Some(parent.span),
                span: None,
                flags: parent.flags,
                state: None,
            })),
            (parent, Some(_)) => Some(self.new_span(request, parent, listener)),
        }
    }

    /// Who records traces makes each request a span: of the trace that it comes from, or of a new one. Whether it is recorded is
    /// decided where the trace begins, so that all of it is or nothing.
    fn new_span(
        &self,
        request: &h1::Request<'_>,
        parent: Option<TraceParent>,
        listener: &ListenerTable,
    ) -> Box<Trace> {
        let (id, flags) = match parent {
            Some(parent) => (parent.trace, parent.flags),
            None => {
                let mut id = [0; 16];
                id[..8].copy_from_slice(&self.draw_id());
                id[8..].copy_from_slice(&self.draw_id());
                let sampled = is_chosen(&id, listener.tracing.sampled);
                (id, RANDOM | if sampled { SAMPLED } else { 0 })
            }
        };
        Box::new(Trace {
            id,
            parent: parent.map(|parent| parent.span),
            span: Some(self.draw_id()),
            flags,
            state: parent.and_then(|_| state(&request.fields)),
        })
    }

    /// An id that is not all zeros, which would be none.
    pub(super) fn draw_id(&self) -> [u8; 8] {
        self.worker.draw().max(1).to_be_bytes()
    }

    fn is_believed(&self, listener: &ListenerTable) -> bool {
        let client = self.peer.ip();
        let trusted = &listener.trusted_peers;
        !listener.tracing.trusted_only || trusted.iter().any(|net| net.contains(client))
    }

    /// Whether anybody wants to hear of a request when it is over.
    pub(super) fn is_told(&self, trace: Option<&Trace>) -> bool {
        self.worker.logger.is_some() || trace.is_some_and(is_recorded)
    }

    /// Tells whoever wants to hear of it.
    pub(super) fn tell(&self, record: AccessRecord) {
        let recorded = record.trace.as_deref().is_some_and(is_recorded);
        let tracer = self.worker.tracer.as_ref().filter(|_| recorded);
        match (tracer, &self.worker.logger) {
            (None, None) => {}
            (None, Some(logger)) => logger.push(Record::Request(record)),
            (Some(tracer), None) => tracer.push(record),
            (Some(tracer), Some(logger)) => {
                tracer.push(record.clone());
                logger.push(Record::Request(record));
            }
        }
    }
}

fn is_recorded(trace: &Trace) -> bool {
    trace.span.is_some() && trace.flags & SAMPLED != 0
}

/// What instances are told of it.
pub(super) fn passed_on<'a>(
    trace: Option<&'a Trace>,
    listener: &ListenerTable,
    trusted: bool,
) -> h1::Trace<'a> {
    match trace.and_then(|trace| Some((trace, trace.span?))) {
        Some((trace, span)) => h1::Trace::Written {
            parent: TraceParent {
                trace: trace.id,
                span,
                flags: trace.flags,
            },
            state: trace.state.as_deref(),
        },
        None if listener.tracing.trusted_only && !trusted => h1::Trace::Removed,
        None => h1::Trace::Kept,
    }
}
