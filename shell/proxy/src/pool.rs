//! Unused connections to instances, kept for the next request. One pool a worker.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use model::{Endpoint, EndpointStats, Moment};

use crate::rt::Sock;

/// Unused connections by the address they lead to, the freshest last. Ordered, so that a simulated run closes
/// them in the same order every time.
#[derive(Default)]
pub(crate) struct Pool(RefCell<BTreeMap<Key, Vec<Idle>>>);

/// An address as two numbers, which are compared faster than what tells the families apart.
pub(crate) type Key = (u128, u16);

pub(crate) fn key(address: SocketAddr) -> Key {
    let ip = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    (ip.to_bits(), address.port())
}

struct Idle {
    sock: Sock,
    until: Moment,
    /// Which instance was at the address then. Another may be there now, and the way to the former may be
    /// gone without a word.
    instance: Arc<EndpointStats>,
}

/// Unused connections to one instance that a worker keeps at the most. Beyond, the oldest are closed: a
/// burst should not leave its connections behind for good.
const MOST_PER_ADDRESS: usize = 1_024;

impl Pool {
    /// An open connection to `endpoint`, if there is one. The freshest: it is the least likely to be
    /// closed by the instance at this very moment, and the others may age and go. Those that are not `current` any more
    /// are closed.
    pub(crate) fn take(
        &self,
        endpoint: &Endpoint,
        current: impl Fn(&Sock) -> bool,
    ) -> Option<Sock> {
        let mut pool = self.0.borrow_mut();
        let idle = pool.get_mut(&key(endpoint.address))?;
        while let Some(Idle { sock, instance, .. }) = idle.pop() {
            // Readable means closed, or bytes that nobody asked for: of no use either way.
            if Arc::ptr_eq(&instance, &endpoint.stats) && !sock.is_readable() && current(&sock) {
                return Some(sock);
            }
        }
        None
    }

    /// Keeps `sock` for `keep_alive`.
    pub(crate) fn put(&self, endpoint: &Endpoint, sock: Sock, now: Moment, keep_alive: Duration) {
        let mut pool = self.0.borrow_mut();
        let idle = pool.entry(key(endpoint.address)).or_default();
        if idle.len() == MOST_PER_ADDRESS {
            idle.remove(0);
        }
        idle.push(Idle {
            sock,
            until: now + keep_alive,
            instance: endpoint.stats.clone(),
        });
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
