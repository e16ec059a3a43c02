//! Memory that bytes pass through. A connection owns none of it while nothing is under way.

use std::cell::{RefCell, RefMut};

/// Room in front of what is read, so that a rewritten head (or a chunk's size line) can be put directly
/// before the body and both go out in one send.
pub(crate) const FRONT: usize = 8 * 1024;
/// What is read at a time. Measured: 64 KiB is best for 100 KiB bodies, and larger gains nothing.
pub(crate) const READ: usize = 64 * 1024;
/// Room behind what is read: the end of a chunk, the last chunk, trailers. Of those at most 8 KiB are taken, and
/// the space written after each colon makes the shortest lines (`a:`) a quarter longer.
pub(crate) const BACK: usize = 10 * 1024 + 64;

/// Owned buffers are kept for reuse up to this size, so that one giant head does not stay for good.
const KEPT_CAPACITY: usize = 16 * 1024;
/// And up to this many.
const KEPT: usize = 1_024;

/// A worker's buffers.
pub(crate) struct Buffers {
    scratch: RefCell<Box<[u8]>>,
    spare: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self {
            scratch: RefCell::new(vec![0; FRONT + READ + BACK].into()),
            spare: RefCell::default(),
        }
    }

    /// The one scratch buffer: [`FRONT`] + [`READ`] + [`BACK`] bytes. To be given back before the task
    /// waits for anything.
    pub(crate) fn scratch(&self) -> RefMut<'_, Box<[u8]>> {
        self.scratch.borrow_mut()
    }

    /// An empty buffer to own for a while.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives an owned buffer back.
    pub(crate) fn put(&self, mut buffer: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if buffer.capacity() != 0 && buffer.capacity() <= KEPT_CAPACITY && spare.len() < KEPT {
            buffer.clear();
            spare.push(buffer);
        }
    }

    /// Keeps bytes for later in `held`, instead of what is there.
    pub(crate) fn hold(&self, held: &RefCell<Vec<u8>>, bytes: &[u8]) {
        let mut held = held.borrow_mut();
        if bytes.is_empty() {
            self.put(std::mem::take(&mut held));
            return;
        }
        if held.capacity() == 0 {
            *held = self.take();
        }
        held.clear();
        held.extend_from_slice(bytes);
    }

    /// Moves what was kept to the front of `buffer`; returns how much it was.
    pub(crate) fn unhold(&self, held: &RefCell<Vec<u8>>, buffer: &mut [u8]) -> usize {
        let held = std::mem::take(&mut *held.borrow_mut());
        buffer[..held.len()].copy_from_slice(&held);
        let len = held.len();
        self.put(held);
        len
    }
}
