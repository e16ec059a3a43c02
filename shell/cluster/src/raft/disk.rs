use std::io;
use std::sync::Arc;

use crate::SubmitError;
use crate::journal::Journal;
use crate::log::AppendError;
use crate::node::Shared;

/// Writes the journal, and says what is wrong when that fails.
///
/// In a cluster of one, the thread that decides also writes: with nobody to talk to meanwhile, handing the work to
/// another would only cost two wakeups for each batch.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) shared: Arc<Shared>,
    pub(super) journal: Arc<Journal>,
}

impl Disk {
    /// Writes what was added to the journal. What could not be written is refused to those who wait for it.
    pub(super) fn write(&self) {
        if let Err(why) = self.try_write() {
            self.journal.take_back(&why);
        }
    }

    /// Writes what could not be written before, if there is any: whoever has something new should ask first.
    pub(super) fn ready(&self) -> Result<(), SubmitError> {
        match self.journal.is_stalled() {
            true => self.try_write(),
            false => Ok(()),
        }
    }

    /// A vote needs no sync of its own where nobody else votes: it goes with the entries that it is needed for.
    pub(super) async fn write_vote(&self) -> io::Result<()> {
        Ok(())
    }

    fn try_write(&self) -> Result<(), SubmitError> {
        match self.journal.write() {
            Ok(written) => {
                self.shared.counters.synced(written.took);
                self.shared.counters.log_bytes.add(written.bytes);
                self.shared.healthy();
                Ok(())
            }
            Err(AppendError::NotWritten(why)) => {
                Err(SubmitError::NotWritten(self.shared.fault(why)))
            }
            Err(AppendError::Broken(why)) => Err(SubmitError::ReadOnly(self.shared.fault(why))),
        }
    }
}
