use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Poll;

use super::reactor::{Reactor, Token};

/// Wakes a task from another thread: whoever writes to the eventfd behind it rings it.
pub struct Bell {
    reactor: Rc<Reactor>,
    token: Token,
    /// Never read: edge-triggered, every write is an edge of its own.
    _fd: OwnedFd,
}

impl Bell {
    /// Listens to an eventfd.
    ///
    /// # Errors
    /// When the kernel cannot watch it.
    pub fn new(reactor: &Rc<Reactor>, fd: OwnedFd) -> io::Result<Self> {
        // Taken for rung: what came before counts.
        let token = reactor.register(&fd, true, false)?;
        Ok(Self {
            reactor: reactor.clone(),
            token,
            _fd: fd,
        })
    }

    /// Waits until it rings, or has rung since the last time.
    pub async fn rung(&self) {
        poll_fn(|_| {
            if self.reactor.readable(self.token) {
                self.reactor.unreadable(self.token);
                return Poll::Ready(());
            }
            self.reactor.wait_on(self.token);
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.reactor.forget(self.token);
    }
}
