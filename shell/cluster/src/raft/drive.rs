//! Who runs the library, and writes for it where the disk is quick.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::disk::Disk;
use super::{Entrance, Parts, take_part, types};
use crate::journal::{Flushed, Journal};

/// How often is looked whether a write takes too long: heartbeats are farther apart.
const LOOK: Duration = Duration::from_millis(50);

/// Takes part among others until told to close.
///
/// Everything of the library runs on this thread, so that what it tells itself costs no wakeup; and so do writes, once all
/// that is to go to the others is on its way, for the same reason. Should the disk not return from one, another thread runs
/// the library until it does.
pub(super) fn drive(
    parts: Parts,
    journal: Arc<Journal>,
    entrance: Entrance,
) -> Result<(), Box<dyn std::error::Error>> {
    let disk = Disk::new(&parts.shared, &journal)?;
    let runtime = Arc::new(Builder::new_current_thread().enable_all().build()?);
    let _standby = Standby::begin(&runtime, &disk)?;
    let part = take_part(parts, journal, entrance, disk.clone());
    let mut part = runtime.spawn(types::first(part));
    let mut written: Vec<Flushed> = Vec::new();
    loop {
        let ended = runtime.block_on(async {
            // Those who wait are tasks of the runtime. Told from outside, they would have to wake it.
            for flushed in written.drain(..) {
                flushed(Ok(()));
            }
            tokio::select! {
                biased;
                () = disk.due() => None,
                ended = &mut part => Some(ended),
            }
        });
        written = match ended {
            None => disk.write_here(),
            Some(Ok(ended)) => return Ok(ended?),
            Some(Err(e)) => match e.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(e) => return Err(e.into()),
            },
        };
    }
}

/// The thread that runs the library while the one that should is held up by the disk.
struct Standby {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Standby {
    fn begin(runtime: &Arc<Runtime>, disk: &Disk) -> std::io::Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let (runtime, disk, over) = (Arc::clone(runtime), disk.clone(), Arc::clone(&ended));
        let run = move || {
            while !over.load(Relaxed) {
                std::thread::park_timeout(LOOK);
                if disk.holds_up() {
                    runtime.block_on(disk.returned());
                }
            }
        };
        let thread = std::thread::Builder::new().name("standby".into());
        let thread = Some(thread.spawn(run)?);
        Ok(Self { ended, thread })
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
