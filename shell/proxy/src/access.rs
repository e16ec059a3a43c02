//! The producing end of the access log, and of the export of traces: a worker fills a batch and hands it over; formatting
//! and writing are another thread's. One that cannot keep up loses records and counts them; it never slows a request.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use model::Counter;

/// Records handed over at a time.
const BATCH: usize = 128;

/// A worker's end of what takes records.
pub(crate) struct Logger<T> {
    batch: RefCell<Vec<T>>,
    to: SyncSender<Vec<T>>,
    lost: Arc<Counter>,
    closed: Cell<bool>,
}

impl<T> Logger<T> {
    pub(crate) fn new(to: SyncSender<Vec<T>>, lost: Arc<Counter>) -> Self {
        Self {
            batch: RefCell::default(),
            to,
            lost,
            closed: Cell::new(false),
        }
    }

    pub(crate) fn push(&self, record: T) {
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
