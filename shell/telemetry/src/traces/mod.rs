//! Export of traces to a collector of OpenTelemetry: OTLP over HTTP, in Protobuf, from a thread of its own. A collector that
//! is slow or away costs spans, which are counted, and never a request's time.

mod collector;
mod message;
mod retry;
mod span;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::Counter;
use prost::Message;
use tokio::sync::watch;

use crate::AccessRecord;
use collector::{Answered, Collector};
use message::{ExportTraceServiceRequest, Resource, ResourceSpans, Scope, ScopeSpans, attribute};
use retry::{Verdict, wait};

/// Requests in a batch of a worker, at the most.
const BATCH: usize = 128;

/// How long spans are gathered before they are sent, so that a quiet node does not send one at a time.
const GATHER: Duration = Duration::from_secs(1);

/// Spans in a message: some hundred KiB, and a fraction of what collectors take by default.
const MOST_SPANS: usize = 2_048;

/// How long a message is tried. As long as it takes to restart a collector; others wait in the queue meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where spans go, and with what.
#[derive(Clone, Debug)]
pub struct TraceOptions {
    /// The collector's host: a name, or an address without brackets.
    pub host: Box<str>,
    /// Its port.
    pub port: u16,
    /// The path that takes traces.
    pub target: Box<str>,
    /// TLS towards it, if it speaks that.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Fields of every request.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// Attributes of the resource, which is this process.
    pub resource: Vec<(Box<str>, Box<str>)>,
    /// Requests that may wait to be sent.
    pub queue: usize,
    /// How long one attempt to send may take.
    pub timeout: Duration,
}

/// What became of traces.
#[derive(Debug, Default)]
pub struct TraceCounts {
    /// Spans that the collector has taken.
    pub exported: Counter,
    /// Requests that nobody had time for: the queue was full.
    pub overflowed: Arc<Counter>,
    /// Spans that the collector refused.
    pub refused: Counter,
    /// Spans that could not be sent in time.
    pub undelivered: Counter,
    /// Attempts to send that failed.
    pub failures: Counter,
}

/// A running export.
pub struct TraceExport {
    to: SyncSender<Vec<AccessRecord>>,
    /// When everything has to be over; none as long as we go on.
    end: watch::Sender<Option<Instant>>,
    thread: JoinHandle<()>,
}

impl TraceExport {
    /// Starts its thread. Nothing is connected before there is something to send.
    ///
    /// # Errors
    /// When the system refuses a thread, or what a runtime needs.
    pub fn start(options: TraceOptions, counts: Arc<TraceCounts>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (to, records) = sync_channel(options.queue.div_ceil(BATCH));
        let (end, ending) = watch::channel(None);
        let mut sending = Sending {
            resource: resource(&options),
            timeout: options.timeout,
            collector: Collector::new(options),
            counts,
            ending,
            failing: false,
        };
        let thread = std::thread::Builder::new()
            .name("traces".into())
            .spawn(move || {
                while let Some(batch) = gathered(&records) {
                    runtime.block_on(sending.send(&batch));
                }
                // A name that is still being looked up keeps nobody.
                runtime.shutdown_background();
            })?;
        Ok(Self { to, end, thread })
    }

    /// Where workers send their batches.
    pub fn sender(&self) -> SyncSender<Vec<AccessRecord>> {
        self.to.clone()
    }

    /// Sends what waits and ends, once every worker has dropped its sender, or after `patience`.
    pub fn finish(self, patience: Duration) {
        drop(self.to);
        self.end.send_replace(Some(Instant::now() + patience));
        // A panic there has been reported on standard error already.
        let _ = self.thread.join();
    }
}

/// What has come within a moment; `None` once nothing will come any more.
fn gathered(records: &Receiver<Vec<AccessRecord>>) -> Option<Vec<AccessRecord>> {
    let mut all = records.recv().ok()?;
    let until = Instant::now() + GATHER;
    let spans = |batch: &[AccessRecord]| batch.iter().map(|r| 1 + r.tries.len()).sum::<usize>();
    let mut count = spans(&all);
    while count < MOST_SPANS {
        match records.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(batch) => {
                count += spans(&batch);
                all.extend(batch);
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    Some(all)
}

fn resource(options: &TraceOptions) -> Resource {
    let attributes = options.resource.iter();
    Resource {
        attributes: attributes
            .map(|(key, value)| attribute(key, &**value))
            .collect(),
    }
}

struct Sending {
    resource: Resource,
    timeout: Duration,
    collector: Collector,
    counts: Arc<TraceCounts>,
    ending: watch::Receiver<Option<Instant>>,
    /// Whether people have been told that nothing gets through.
    failing: bool,
}

impl Sending {
    async fn send(&mut self, batch: &[AccessRecord]) {
        let mut spans = Vec::with_capacity(2 * batch.len());
        let count = batch.iter().map(|r| span::append(r, &mut spans)).sum();
        let scope = Scope {
            name: "pointsman".into(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let message = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope),
                    spans,
                }],
            }],
        };
        self.deliver(&message.encode_to_vec().into(), count).await;
    }

    /// Sends a message, again if that may help.
    async fn deliver(&mut self, message: &Bytes, spans: u64) {
        let until = Instant::now() + PATIENCE;
        let mut failures = 0;
        loop {
            let (asked, why) = match self.post(message, until).await {
                Some(Ok(answered)) => match answered.verdict {
                    Verdict::Done => {
                        self.failing = false;
                        let refused = answered.rejected.min(spans);
                        self.counts.refused.add(refused);
                        return self.counts.exported.add(spans - refused);
                    }
                    Verdict::Refused => {
                        self.counts.failures.add(1);
                        self.complain(&answered.why);
                        return self.counts.refused.add(spans);
                    }
                    Verdict::Again(asked) => (asked, answered.why),
                },
                Some(Err(fault)) => (None, fault.to_string()),
                None => (None, "it did not answer in time".into()),
            };
            failures += 1;
            self.counts.failures.add(1);
            self.complain(&why);
            let wait = wait(failures, asked, fastrand::f64());
            if !self.rest(wait, until).await {
                return self.counts.undelivered.add(spans);
            }
        }
    }

    /// One attempt; `None` if there was no time for its answer.
    async fn post(&mut self, message: &Bytes, until: Instant) -> Option<io::Result<Answered>> {
        let mut due = Instant::now() + self.timeout.min(self.left(until));
        let mut ending = self.ending.clone();
        let mut posted = pin!(self.collector.post(message));
        loop {
            tokio::select! {
                answered = &mut posted => return Some(answered),
                () = tokio::time::sleep_until(due.into()) => return None,
                Ok(()) = ending.changed() => due = ending.borrow_and_update().map_or(due, |end| end.min(due)),
            }
        }
    }

    /// Waits; false if there is no time left for another attempt afterwards.
    async fn rest(&mut self, wait: Duration, until: Instant) -> bool {
        let over = Instant::now() + wait;
        while Instant::now() < over {
            if self.left(until) < over.saturating_duration_since(Instant::now()) {
                return false;
            }
            let mut ending = self.ending.clone();
            tokio::select! {
                () = tokio::time::sleep_until(over.into()) => {}
                // An end that is to come may leave less time.
                changed = ending.changed() => if changed.is_err() {
                    return false;
                },
            }
            self.ending = ending;
        }
        true
    }

    fn left(&self, until: Instant) -> Duration {
        let end = self.ending.borrow().unwrap_or(until);
        end.min(until).saturating_duration_since(Instant::now())
    }

    /// Once, and not for every message.
    fn complain(&mut self, why: &str) {
        if !std::mem::replace(&mut self.failing, true) {
            let place = self.collector.place();
            eprintln!(
                "pointsman: traces cannot be sent to {place}: {why}; while this lasts, spans are lost"
            );
        }
    }
}
