//! The access log's producing end: a worker fills a batch and hands it over; formatting and writing are
//! another thread's. A log that cannot keep up loses records and counts them; it never slows a request.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use model::Counter;
use telemetry::Record;

/// Records handed over at a time.
const BATCH: usize = 128;

/// A worker's end of the access log.
pub(crate) struct Logger {
    batch: RefCell<Vec<Record>>,
    to: SyncSender<Vec<Record>>,
    lost: Arc<Counter>,
    closed: Cell<bool>,
}

impl Logger {
    pub(crate) fn new(to: SyncSender<Vec<Record>>, lost: Arc<Counter>) -> Self {
        Self {
            batch: RefCell::default(),
            to,
            lost,
            closed: Cell::new(false),
        }
    }

    pub(crate) fn push(&self, record: Record) {
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
