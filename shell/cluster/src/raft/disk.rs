use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use model::Moment;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::SubmitError;
use crate::ground::Work;
use crate::journal::Journal;
use crate::node::{Shared, lock};

/// How long until a full disk is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(100);
/// A disk that takes longer for a write hangs.
const HANGS: Duration = Duration::from_secs(1);

/// Writes the journal, and says what is wrong when that fails.
///
/// A thread of its own writes, so that entries are on their way to the others meanwhile.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) shared: Arc<Shared>,
    pub(super) journal: Arc<Journal>,
    state: Arc<State>,
    wake: mpsc::UnboundedSender<()>,
}

impl Disk {
    /// The disk, which is written to until all handles are gone.
    pub(super) fn new(shared: &Arc<Shared>, journal: &Arc<Journal>) -> io::Result<Self> {
        let (wake, woken) = mpsc::unbounded_channel();
        let disk = Self {
            shared: Arc::clone(shared),
            journal: Arc::clone(journal),
            state: Arc::default(),
            wake,
        };
        let writer = Writer {
            shared: Arc::clone(shared),
            journal: Arc::clone(journal),
            state: Arc::clone(&disk.state),
        };
        match &shared.work {
            Work::Threads => {
                let timers = tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .build()?;
                let thread = std::thread::Builder::new().name("disk".into());
                let thread = thread.spawn(move || timers.block_on(writer.run(woken)))?;
                *lock(&shared.disk_thread) = Some(thread);
            }
            #[cfg(test)]
            Work::Later(_) => drop(super::spawn(writer.run(woken))),
        }
        Ok(disk)
    }

    /// Writes what was added to the journal. What could not be written is tried again: the others may have it already.
    pub(super) fn write(&self) {
        let _ = self.wake.send(());
    }

    /// Whether there is something that could not be written: then nothing new should be begun.
    pub(super) fn ready(&self) -> Result<(), SubmitError> {
        if !self.state.refused.load(Relaxed) || !self.journal.is_behind() {
            return Ok(());
        }
        let why = self.shared.fault_text();
        Err(SubmitError::NotWritten(
            why.unwrap_or_else(|| "the disk is full".into()),
        ))
    }

    /// Whether it takes nothing, or has been writing for longer than any disk takes that is well.
    pub(super) fn is_stalled(&self) -> bool {
        let since = self.state.since.load(Relaxed);
        let hangs = since > 0 && self.shared.now() > Moment::from_nanos(since) + HANGS;
        hangs || self.state.refused.load(Relaxed)
    }

    /// Makes the journal's vote durable.
    pub(super) async fn write_vote(&self) -> io::Result<()> {
        let (told, written) = oneshot::channel();
        let flushed = Box::new(|result| drop(told.send(result)));
        self.journal.append(Vec::new(), flushed);
        self.write();
        written.await.map_err(io::Error::other)?
    }
}

/// How writing goes.
#[derive(Default)]
struct State {
    /// Something could not be written.
    refused: AtomicBool,
    /// When what is being written was begun, in nanoseconds; zero if nothing is.
    since: AtomicU64,
}

struct Writer {
    shared: Arc<Shared>,
    journal: Arc<Journal>,
    state: Arc<State>,
}

impl Writer {
    async fn run(self, mut woken: mpsc::UnboundedReceiver<()>) {
        let mut patience = None;
        loop {
            let more = match patience {
                Some(wait) => timeout(wait, woken.recv()).await.unwrap_or(Some(())),
                None => woken.recv().await,
            };
            if more.is_none() {
                return;
            }
            let now = self.shared.now().as_nanos();
            self.state.since.store(now.max(1), Relaxed);
            #[cfg(test)]
            if let Work::Later(wait) = &self.shared.work {
                tokio::time::sleep(wait()).await;
            }
            patience = match self.try_write() {
                Ok(()) => None,
                // Nothing may be acknowledged any more: the node leaves it to the others.
                Err(SubmitError::ReadOnly(why)) => {
                    self.journal.fail(&why);
                    None
                }
                Err(_) => Some(TRY_AGAIN),
            };
        }
    }

    fn try_write(&self) -> Result<(), SubmitError> {
        let written = self.journal.write();
        self.state.since.store(0, Relaxed);
        self.state.refused.store(written.is_err(), Relaxed);
        self.shared.written(written)
    }
}
