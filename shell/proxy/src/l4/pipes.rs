//! A worker's pipes. Making one costs three system calls, so they are used again.

use std::cell::RefCell;

use crate::rt::{Pipe, Reactor};

/// Pipes kept for later. Each holds two descriptors; an empty one holds no memory to speak of.
const KEPT: usize = 64;

/// Pipes that nobody uses.
#[derive(Default)]
pub(crate) struct Pipes(RefCell<Vec<Pipe>>);

impl Pipes {
    /// A pipe; `None` when there are no descriptors left: then bytes are copied.
    pub(crate) fn take(&self, reactor: &Reactor) -> Option<Pipe> {
        let kept = self.0.borrow_mut().pop();
        kept.or_else(|| Pipe::new(reactor).ok())
    }

    /// Gives a pipe back. One that holds bytes is thrown away with them.
    pub(crate) fn put(&self, pipe: Pipe) {
        let mut kept = self.0.borrow_mut();
        if pipe.held() == 0 && kept.len() < KEPT {
            kept.push(pipe);
        }
    }
}
