//! The access log's producing end: a worker fills a batch and hands it over; formatting and writing are
//! another thread's. A log that cannot keep up loses records and counts them; it never slows a request.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, SystemTime};

use model::{Counter, InstanceId, ServiceKey};

/// Records handed over at a time.
const BATCH: usize = 128;

/// One request, as the access log tells it.
#[derive(Debug)]
pub struct AccessRecord {
    /// When the answer was complete.
    pub at: SystemTime,
    /// From the request's head to the answer's last byte.
    pub duration: Duration,
    /// The client's address.
    pub client: SocketAddr,
    /// The listener's name.
    pub listener: Arc<str>,
    /// The route's name, if one matched.
    pub route: Option<Arc<str>>,
    /// What was asked.
    pub request: RequestLine,
    /// The answer's status; 0 when there was none.
    pub status: u16,
    /// Bytes read from the client for this request, heads included.
    pub received: u64,
    /// Bytes sent to the client, heads included.
    pub sent: u64,
    /// Who answered.
    pub instance: Option<(ServiceKey, InstanceId, SocketAddr)>,
    /// Attempts made.
    pub attempts: u8,
    /// How it ended: `ok`, or why not.
    pub ended: &'static str,
}

/// The parts of a request that are logged.
#[derive(Debug)]
pub struct RequestLine {
    /// The method.
    pub method: Box<str>,
    /// The host it was for.
    pub authority: Box<str>,
    /// Path and query, as sent.
    pub target: Box<str>,
    /// `1.0` or `1.1`.
    pub version: &'static str,
    /// The id in `X-Request-Id`.
    pub id: Box<str>,
    /// `User-Agent`.
    pub user_agent: Option<Box<str>>,
    /// `Referer`.
    pub referer: Option<Box<str>>,
}

/// A worker's end of the access log.
pub(crate) struct Logger {
    batch: RefCell<Vec<AccessRecord>>,
    to: SyncSender<Vec<AccessRecord>>,
    lost: Arc<Counter>,
    closed: Cell<bool>,
}

impl Logger {
    pub(crate) fn new(to: SyncSender<Vec<AccessRecord>>, lost: Arc<Counter>) -> Self {
        Self {
            batch: RefCell::default(),
            to,
            lost,
            closed: Cell::new(false),
        }
    }

    pub(crate) fn push(&self, record: AccessRecord) {
        let mut batch = self.batch.borrow_mut();
        batch.push(record);
        let full = batch.len() >= BATCH;
        drop(batch);
        if full {
            self.flush();
        }
    }

    /// Hands over what has gathered.
    pub(crate) fn flush(&self) {
        let batch = std::mem::take(&mut *self.batch.borrow_mut());
        if batch.is_empty() || self.closed.get() {
            return;
        }
        match self.to.try_send(batch) {
            Ok(()) => {}
            Err(TrySendError::Full(batch)) => self.lost.add(batch.len() as u64),
            Err(TrySendError::Disconnected(_)) => self.closed.set(true),
        }
    }
}
