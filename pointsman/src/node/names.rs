//! What host names of instances mean. Names are looked up in the background: nothing ever waits for DNS.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::Host;
use tokio::sync::Notify;

/// How long an answer is believed. The system's resolver does not tell how long it may be.
const BELIEVED: Duration = Duration::from_secs(30);
/// How soon a name without an answer is asked for again.
const AGAIN: Duration = Duration::from_secs(2);
/// Names looked up at the most; beyond, new ones stay without address. Each costs a query every 30 s.
const MOST: usize = 10_000;

/// Host names in use and their addresses.
#[derive(Default)]
pub(super) struct Names {
    known: Mutex<BTreeMap<Box<str>, Option<IpAddr>>>,
    wanted: Notify,
}

impl Names {
    /// The address of `host`, if it is known; a name seen for the first time is looked up soon.
    pub(super) fn resolve(&self, host: &Host) -> Option<IpAddr> {
        let name = match host {
            Host::Ip(ip) => return Some(*ip),
            Host::Name(name) => name,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(name) {
            return *found;
        }
        if known.len() < MOST {
            known.insert(name.clone(), None);
            self.wanted.notify_one();
        }
        None
    }

    /// Looks names up for ever; calls `changed` whenever an address changes.
    pub(super) async fn keep_fresh(&self, changed: impl Fn()) {
        loop {
            let names: Vec<_> = {
                let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                known.keys().cloned().collect()
            };
            let mut any_changed = false;
            let mut all_known = true;
            for name in names {
                let found = look_up(&name).await;
                all_known &= found.is_some();
                any_changed |= self.learn(&name, found);
            }
            if any_changed {
                changed();
            }
            let pause = if all_known { BELIEVED } else { AGAIN };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    /// An address that answered once is kept when the resolver fails: better an old address than none.
    fn learn(&self, name: &str, found: Option<IpAddr>) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match (known.get_mut(name), found) {
            (Some(old), Some(_)) if *old != found => {
                *old = found;
                true
            }
            _ => false,
        }
    }
}

async fn look_up(name: &str) -> Option<IpAddr> {
    let found = tokio::net::lookup_host((name, 0)).await.ok()?;
    // The least: resolvers rotate their answers, and an endpoint must not change its address with them.
    found.map(|address| address.ip()).min()
}
