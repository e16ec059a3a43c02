use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use model::Moment;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

use super::QUICK;
use crate::SubmitError;
use crate::ground::Work;
use crate::journal::{Flushed, Journal, Written};
use crate::log::AppendError;
use crate::node::{Shared, lock};

/// How long until a full disk is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(100);
/// A disk that takes longer for a write hangs.
const HANGS: Duration = Duration::from_secs(1);
/// How long the library may stand still for a write.
const HOLDS_UP: Duration = Duration::from_millis(20);

/// Writes the journal, and says what is wrong when that fails.
///
/// A thread of its own writes, or where the disk is quick, whoever runs the library: see [`super::drive`].
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
        match &self.shared.work {
            Work::Threads if self.state.quick.load(Relaxed) => self.state.due.notify_one(),
            _ => self.leave_it(),
        }
    }

    /// Waits until there is something that whoever runs the library should write.
    pub(super) async fn due(&self) {
        self.state.due.notified().await;
    }

    /// Writes on this thread; returns those who wait for that.
    pub(super) fn write_here(&self) -> Vec<Flushed> {
        let mut told = Vec::new();
        if self.state.since.load(Relaxed) > 0 {
            self.leave_it();
            return told;
        }
        self.state.begin(&self.shared);
        self.state.here.store(true, Relaxed);
        let written = self.journal.write(&mut told);
        self.state.here.store(false, Relaxed);
        self.state.ended(&written);
        self.state.returned.notify_one();
        if self.shared.written(written).is_err() {
            self.leave_it();
        }
        told
    }

    /// Leaves what is not written to the disk's own thread, which has the patience to try again.
    fn leave_it(&self) {
        let _ = self.wake.send(());
    }

    /// Whether whoever runs the library writes, and has for longer than the library should stand still.
    pub(super) fn holds_up(&self) -> bool {
        let writes = self.state.here.load(Relaxed);
        writes && self.state.took(&self.shared) > HOLDS_UP
    }

    /// Waits until that write is over.
    pub(super) async fn returned(&self) {
        while self.state.here.load(Relaxed) {
            self.state.returned.notified().await;
        }
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
        self.state.took(&self.shared) > HANGS || self.state.refused.load(Relaxed)
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
    /// Whether it is whoever runs the library that writes.
    here: AtomicBool,
    /// That is over.
    returned: Notify,
    /// The last write was quick.
    quick: AtomicBool,
    /// There is something to be written by whoever runs the library.
    due: Notify,
}

impl State {
    fn begin(&self, shared: &Shared) {
        let now = shared.now().as_nanos();
        self.since.store(now.max(1), Relaxed);
    }

    /// How long the write that is under way has taken.
    fn took(&self, shared: &Shared) -> Duration {
        match self.since.load(Relaxed) {
            0 => Duration::ZERO,
            since => shared.now().since(Moment::from_nanos(since)),
        }
    }

    fn ended(&self, written: &Result<Written, AppendError>) {
        self.since.store(0, Relaxed);
        self.refused.store(written.is_err(), Relaxed);
        match written {
            Ok(written) if written.bytes == 0 => {}
            Ok(written) => self.quick.store(written.took < QUICK, Relaxed),
            Err(_) => self.quick.store(false, Relaxed),
        }
    }
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
            self.state.begin(&self.shared);
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
        let mut told = Vec::new();
        let written = self.journal.write(&mut told);
        self.state.ended(&written);
        for flushed in told {
            flushed(Ok(()));
        }
        self.shared.written(written)
    }
}
