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
    /// Whether nobody is kept waiting if it waits for who takes them.
    patient: Cell<bool>,
}

impl<T> Logger<T> {
    pub(crate) fn new(to: SyncSender<Vec<T>>, lost: Arc<Counter>) -> Self {
        Self {
            batch: RefCell::default(),
            to,
            lost,
            closed: Cell::new(false),
            patient: Cell::new(false),
        }
    }

    /// The worker ends: no request is slowed any more, and all that it cuts off comes at once.
    pub(crate) fn be_patient(&self) {
        self.patient.set(true);
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
        let sent = match self.patient.get() {
            true => self
                .to
                .send(batch)
                .map_err(|lost| TrySendError::Disconnected(lost.0)),
            false => self.to.try_send(batch),
        };
        match sent {
            Ok(()) => {}
            Err(TrySendError::Full(batch)) => self.lost.add(batch.len() as u64),
            Err(TrySendError::Disconnected(_)) => self.closed.set(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn a_worker_that_ends_waits_for_who_takes_its_records() {
        let (to, from) = sync_channel::<Vec<usize>>(0);
        let taker = std::thread::spawn(move || from.iter().flatten().count());
        let lost = Arc::new(Counter::default());
        let logger = Logger::new(to, lost.clone());
        logger.be_patient();
        (0..10 * BATCH + 1).for_each(|n| logger.push(n));
        logger.flush();
        drop(logger);
        assert_eq!((taker.join().unwrap(), lost.value()), (10 * BATCH + 1, 0));
    }
}
