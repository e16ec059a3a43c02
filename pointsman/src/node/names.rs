//! What host names of instances mean. Names are looked up in the background: nothing ever waits for DNS.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::Host;
use tokio::sync::Notify;

use super::events::{Events, Kind};

/// How long an answer is believed. The system's resolver does not tell how long it may be.
const BELIEVED: Duration = Duration::from_secs(30);
/// How soon a name without an answer is asked for again.
const AGAIN: Duration = Duration::from_secs(2);
/// Names looked up at the most; beyond, new ones stay without address. Each costs a query every 30 s.
const MOST: usize = 10_000;

/// Host names in use and their addresses.
#[derive(Default)]
pub(super) struct Names {
    known: Mutex<BTreeMap<Box<str>, Known>>,
    wanted: Notify,
}

/// What is known of a name.
#[derive(Default)]
struct Known {
    address: Option<IpAddr>,
    /// The last look found nothing, and it was said.
    failing: bool,
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
            return found.address;
        }
        if known.len() < MOST {
            known.insert(name.clone(), Known::default());
            self.wanted.notify_one();
        }
        None
    }

    /// Looks names up for ever; calls `changed` whenever an address changes, and tells of names that have none.
    pub(super) async fn keep_fresh(&self, changed: impl Fn(), events: &Events) {
        loop {
            let names: Vec<_> = {
                let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                known.keys().cloned().collect()
            };
            let mut any_changed = false;
            let mut all_known = true;
            for name in names {
                let found = look_up(&name).await;
                all_known &= found.is_ok();
                any_changed |= self.learn(&name, found, events);
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
    fn learn(&self, name: &str, found: Result<IpAddr, String>, events: &Events) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = known.get_mut(name) else {
            return false;
        };
        let failed = std::mem::replace(&mut known.failing, found.is_err());
        match found {
            Ok(address) => {
                if failed {
                    events.tell(Kind::Name, || {
                        format!("{name} resolves again, to {address}")
                    });
                }
                known.address.replace(address) != Some(address)
            }
            Err(why) => {
                if !failed {
                    let so = known.address.map_or_else(
                        || "its instances get no traffic until it does".into(),
                        |old| format!("its instances stay at {old}"),
                    );
                    events.tell(Kind::Name, || {
                        format!("{name} does not resolve: {why}; {so}")
                    });
                }
                false
            }
        }
    }
}

async fn look_up(name: &str) -> Result<IpAddr, String> {
    let found = tokio::net::lookup_host((name, 0)).await;
    let found = found.map_err(|fault| fault.to_string())?;
    // The least: resolvers rotate their answers, and an endpoint must not change its address with them.
    let least = found.map(|address| address.ip()).min();
    least.ok_or_else(|| "it has no address".into())
}
