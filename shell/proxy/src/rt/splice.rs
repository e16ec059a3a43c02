//! Bytes from one socket to another without passing through user space: splice(2), by way of a pipe.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use super::reactor::Reactor;
use super::sock::{End, Sock};

/// What a pipe is asked to hold. Less costs more calls for each megabyte; more lets a sender run so far ahead that its
/// bytes leave the cache. From 128 KiB to 1 MiB the difference was within what repeated runs differ by.
const CAPACITY: usize = 512 * 1024;

/// A pipe between two sockets. One per direction, and only while a bulk is under way.
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: Cell<usize>,
}

impl Pipe {
    /// An empty pipe.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn new(reactor: &Reactor) -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        if write.as_raw_fd() as u64 >= reactor.descriptors().for_instances() {
            return Err(Errno::MFILE.into());
        }
        // An unprivileged user may have used up its share of pipe pages: then the pipe stays as it was made.
        let _ = fcntl_setpipe_size(&write, CAPACITY);
        let held = Cell::new(0);
        Ok(Self { read, write, held })
    }

    /// Bytes that went in and have not come out.
    pub fn held(&self) -> usize {
        self.held.get()
    }
}

impl Sock {
    /// Whether its bytes can go through a pipe: those of a simulated network cannot, nor those that TLS carries.
    pub fn can_splice(&self) -> bool {
        matches!(self.end, End::Kernel(_)) && self.tls.is_none()
    }

    /// Moves up to `most` bytes that have arrived into `pipe`, which must be empty: only then does a refusal mean that
    /// nothing has arrived. `None`: nothing yet. `Some(0)`: the peer has ended its side.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn try_splice_to(&self, pipe: &Pipe, most: usize) -> io::Result<Option<usize>> {
        debug_assert_eq!(
            pipe.held.get(),
            0,
            "a full pipe refuses like an empty socket"
        );
        let End::Kernel(fd) = &self.end else {
            return Err(Errno::INVAL.into());
        };
        if !self.reactor.readable(self.token) {
            return Ok(None);
        }
        match splice(fd, None, &pipe.write, None, most, FLAGS) {
            Ok(0) if self.broken.get() => Err(Errno::CONNRESET.into()),
            Ok(n) => {
                self.received.set(self.received.get() + n as u64);
                pipe.held.set(n);
                Ok(Some(n))
            }
            Err(Errno::AGAIN) => {
                self.reactor.unreadable(self.token);
                Ok(None)
            }
            Err(Errno::INTR) => Ok(None),
            Err(fault) => Err(self.broke(fault)),
        }
    }

    /// Sends what `pipe` holds, as far as it fits. Returns how much went out; the rest waits for [`Sock::writable`].
    ///
    /// # Errors
    /// When the connection broke.
    pub fn try_splice_from(&self, pipe: &Pipe) -> io::Result<usize> {
        let End::Kernel(fd) = &self.end else {
            return Err(Errno::INVAL.into());
        };
        if !self.reactor.writable(self.token) {
            return Ok(0);
        }
        let held = pipe.held.get();
        match splice(&pipe.read, None, fd, None, held, FLAGS) {
            Ok(n) => {
                self.sent.set(self.sent.get() + n as u64);
                pipe.held.set(held - n);
                Ok(n)
            }
            Err(Errno::AGAIN) => {
                self.reactor.unwritable(self.token);
                Ok(0)
            }
            Err(Errno::INTR) => Ok(0),
            Err(fault) => Err(self.broke(fault)),
        }
    }
}

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);
