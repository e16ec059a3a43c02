//! Limits by the client's address, shared by all workers: the kernel spreads one source's connections over them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use balance::{Excess, Sources, holder};
use model::{Moment, SourceLimits};

use crate::inbox::Fleet;

/// Locks: enough that workers seldom meet at one.
const SHARDS: usize = 32;

/// What is known of every source, by listener.
#[derive(Debug, Default)]
pub(crate) struct Gate([Mutex<BTreeMap<usize, Sources>>; SHARDS]);

/// A connection that was let in. Counts until it is dropped.
pub(crate) struct Admitted {
    fleet: Arc<Fleet>,
    listener: usize,
    source: IpAddr,
}

impl Gate {
    /// Lets a connection in, unless its source has its share. `None`: there are no limits.
    pub(crate) fn admit(
        fleet: &Arc<Fleet>,
        listener: usize,
        source: IpAddr,
        limits: &SourceLimits,
        now: Moment,
    ) -> Result<Option<Admitted>, Excess> {
        if *limits == SourceLimits::default() {
            return Ok(None);
        }
        let gate = &fleet.gate;
        gate.with(listener, source, |s| s.admit(source, limits, now))?;
        Ok(Some(Admitted {
            fleet: fleet.clone(),
            listener,
            source,
        }))
    }

    fn with<R>(&self, listener: usize, source: IpAddr, f: impl FnOnce(&mut Sources) -> R) -> R {
        let number = match holder(source) {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
        };
        // Fibonacci hashing: neighbours go to different shards.
        let shard = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SHARDS.ilog2());
        let shard = self.0[shard as usize].lock();
        f(shard
            .unwrap_or_else(PoisonError::into_inner)
            .entry(listener)
            .or_default())
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let gate = &self.fleet.gate;
        gate.with(self.listener, self.source, |s| s.leave(self.source));
    }
}
