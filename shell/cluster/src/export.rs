//! A copy of the registry to be kept elsewhere: a snapshot, as it is on disk, block by block.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::mpsc;

use crate::Node;
use crate::snapshot;
use crate::storage::File;

/// As many bytes as are handed over at a time.
const PIECE: usize = 64 << 10;
/// Pieces that may wait for whoever takes them.
const QUEUE: usize = 4;

/// What a snapshot is made of, in order; an error ends it.
pub type Pieces = mpsc::Receiver<io::Result<Vec<u8>>>;

impl Node {
    /// A snapshot of the registry as it is now, with checksums throughout, as `pointsman cluster restore` takes it. What is
    /// registered meanwhile is not in it, and does not wait for it.
    ///
    /// # Errors
    ///
    /// When there is no thread to write it.
    pub fn export(&self) -> io::Result<Pieces> {
        let shared = std::sync::Arc::clone(self.shared());
        let (registry, origin) = {
            let state = shared.state();
            (state.registry.clone(), state.origin.clone())
        };
        let (sender, pieces) = mpsc::channel(QUEUE);
        let write = move || {
            let mut out = Out {
                sender,
                piece: Vec::with_capacity(PIECE),
            };
            let stop = || shared.closing.load(Relaxed);
            let written = snapshot::write_into(&mut out, &registry, &origin, stop);
            // An error says that whoever took them has gone.
            let _ = match written {
                Ok(_) => out.hand_over(),
                Err(e) => out.sender.blocking_send(Err(e)).map_err(|_| gone()),
            };
        };
        let thread = std::thread::Builder::new().name("export".into());
        thread.spawn(write)?;
        Ok(pieces)
    }
}

struct Out {
    sender: mpsc::Sender<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
}

impl Out {
    fn hand_over(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.sender.blocking_send(Ok(piece)).map_err(|_| gone())
    }
}

fn gone() -> io::Error {
    io::Error::other("nobody takes the snapshot any more")
}

impl File for Out {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.piece.extend_from_slice(bytes);
        match self.piece.len() >= PIECE {
            true => self.hand_over(),
            false => Ok(()),
        }
    }

    fn reserve(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn truncate(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}
