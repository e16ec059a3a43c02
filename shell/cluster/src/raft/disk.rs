use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::SubmitError;
use crate::journal::Journal;
use crate::log::AppendError;
use crate::node::Shared;

/// How long until a full disk is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// Writes the journal, and says what is wrong when that fails.
///
/// In a cluster of one, the thread that decides also writes: with nobody to talk to meanwhile, handing the work to
/// another would only cost two wakeups for each batch. With others, a thread of its own writes, so that entries are on
/// their way to them meanwhile.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) shared: Arc<Shared>,
    pub(super) journal: Arc<Journal>,
    /// Something could not be written.
    stalled: Arc<AtomicBool>,
    thread: Option<mpsc::Sender<()>>,
}

impl Disk {
    /// The disk of a cluster of one.
    pub(super) fn alone(shared: &Arc<Shared>, journal: &Arc<Journal>) -> Self {
        Self {
            shared: Arc::clone(shared),
            journal: Arc::clone(journal),
            stalled: Arc::default(),
            thread: None,
        }
    }

    /// The disk of one among others, and the thread that writes to it until all handles are gone.
    pub(super) fn among_others(
        shared: &Arc<Shared>,
        journal: &Arc<Journal>,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let mut disk = Self::alone(shared, journal);
        let writer = disk.clone();
        let (wake, woken) = mpsc::channel();
        let thread = std::thread::Builder::new().name("disk".into());
        let thread = thread.spawn(move || writer.run(&woken))?;
        disk.thread = Some(wake);
        Ok((disk, thread))
    }

    /// Writes what was added to the journal. Alone, what could not be written is refused to those who wait for it, and
    /// its places are left blank; with others, it is tried again: they may have it already.
    pub(super) fn write(&self) {
        match &self.thread {
            Some(thread) => {
                let _ = thread.send(());
            }
            None => {
                if let Err(why) = self.try_write() {
                    for proposer in self.journal.take_back() {
                        if let Some(mut waiting) = self.shared.pending.take(proposer) {
                            self.shared.refuse(std::mem::take(&mut waiting.jobs), &why);
                        }
                    }
                }
            }
        }
    }

    /// Writes what could not be written before, if there is any: whoever has something new should ask first.
    pub(super) fn ready(&self) -> Result<(), SubmitError> {
        match (self.stalled.load(Relaxed), &self.thread) {
            (false, _) => Ok(()),
            (true, _) if !self.journal.is_behind() => Ok(()),
            (true, None) => self.try_write(),
            (true, Some(_)) => {
                let why = self.shared.fault_text();
                Err(SubmitError::NotWritten(
                    why.unwrap_or_else(|| "the disk is full".into()),
                ))
            }
        }
    }

    /// Makes the journal's vote durable. That needs no sync of its own where nobody else votes: it goes with the entries
    /// that it is needed for.
    pub(super) async fn write_vote(&self) -> io::Result<()> {
        if self.thread.is_none() {
            return Ok(());
        }
        let (told, written) = oneshot::channel();
        let flushed = Box::new(|result| drop(told.send(result)));
        self.journal.append(Vec::new(), flushed);
        self.write();
        written.await.map_err(io::Error::other)?
    }

    fn run(&self, woken: &mpsc::Receiver<()>) {
        let mut patience = None;
        loop {
            let wait = match patience {
                Some(wait) => woken.recv_timeout(wait),
                None => woken.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            if matches!(wait, Err(RecvTimeoutError::Disconnected)) {
                return;
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
        self.stalled.store(written.is_err(), Relaxed);
        match written {
            Ok(written) => {
                if written.bytes > 0 {
                    self.shared.counters.synced(written.took);
                    self.shared.counters.log_bytes.add(written.bytes);
                    self.shared.healthy();
                }
                Ok(())
            }
            Err(AppendError::NotWritten(why)) => {
                Err(SubmitError::NotWritten(self.shared.fault(why)))
            }
            Err(AppendError::Broken(why)) => Err(SubmitError::ReadOnly(self.shared.fault(why))),
        }
    }
}
