//! Unused connections to instances, kept for the next request. One pool a worker.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use model::Moment;

use crate::rt::Sock;

/// Unused connections by the address they lead to, the freshest last.
#[derive(Default)]
pub(crate) struct Pool(RefCell<BTreeMap<SocketAddr, Vec<Idle>>>);

struct Idle {
    sock: Sock,
    until: Moment,
}

/// Unused connections to one instance that a worker keeps at the most. Beyond, the oldest are closed: a
/// burst should not leave its connections behind for good.
const MOST_PER_ADDRESS: usize = 1_024;

impl Pool {
    /// An open connection to `address`, if there is one. The freshest: it is the least likely to be
    /// closed by the instance at this very moment, and the others may age and go.
    pub(crate) fn take(&self, address: SocketAddr) -> Option<Sock> {
        let mut pool = self.0.borrow_mut();
        let idle = pool.get_mut(&address)?;
        while let Some(Idle { sock, .. }) = idle.pop() {
            // Readable means closed, or bytes that nobody asked for: of no use either way.
            if !sock.is_readable() {
                return Some(sock);
            }
        }
        None
    }

    /// Keeps `sock` for `keep_alive`.
    pub(crate) fn put(&self, address: SocketAddr, sock: Sock, now: Moment, keep_alive: Duration) {
        let mut pool = self.0.borrow_mut();
        let idle = pool.entry(address).or_default();
        if idle.len() == MOST_PER_ADDRESS {
            idle.remove(0);
        }
        let until = now + keep_alive;
        idle.push(Idle { sock, until });
    }

    /// Closes what has been unused for too long and what the instances have closed.
    pub(crate) fn sweep(&self, now: Moment) {
        self.0.borrow_mut().retain(|_, idle| {
            idle.retain(|i| i.until > now && !i.sock.is_readable());
            !idle.is_empty()
        });
    }

    /// How many connections wait.
    pub(crate) fn len(&self) -> usize {
        self.0.borrow().values().map(Vec::len).sum()
    }

    /// Closes all.
    pub(crate) fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}
