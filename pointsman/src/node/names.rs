//! What host names of instances mean. Names are looked up in the background: nothing ever waits for DNS.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
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
    /// Why the last look found nothing, as the resolver says it.
    fault: Option<Arc<str>>,
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

    /// The names that were looked up and have no address, and why, as the resolver says it.
    pub(super) fn unresolved(&self) -> BTreeMap<Box<str>, Arc<str>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let without = known.iter().filter(|(_, known)| known.address.is_none());
        let told = without.filter_map(|(name, known)| Some((name.clone(), known.fault.clone()?)));
        told.collect()
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
                let (has_changed, line) = self.learn(&name, found);
                any_changed |= has_changed;
                if let Some(line) = line {
                    events.tell(Kind::Name, || line);
                }
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

    /// Whether the address has changed, and what there is to tell. One that answered once is kept when the resolver fails:
    /// better an old address than none.
    fn learn(&self, name: &str, found: Result<IpAddr, String>) -> (bool, Option<String>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = known.get_mut(name) else {
            return (false, None);
        };
        match found {
            Ok(address) => {
                let failed = known.fault.take().is_some();
                let line = failed.then(|| format!("{name} resolves again, to {address}"));
                (known.address.replace(address) != Some(address), line)
            }
            Err(why) => {
                let so = match known.address {
                    Some(old) => format!("its instances stay at {old}"),
                    None => "its instances get no traffic until it does".into(),
                };
                let line = format!("{name} does not resolve: {why}; {so}");
                let failed = known.fault.replace(why.into()).is_some();
                (false, (!failed).then_some(line))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_resolves_no_more_keeps_its_address_and_is_told_of_once() {
        let names = Names::default();
        let host = Host::Name("db.internal".into());
        assert_eq!(names.resolve(&host), None);
        let learn = |found: Result<[u8; 4], &str>| {
            let found = found.map(IpAddr::from).map_err(str::to_owned);
            let (changed, line) = names.learn("db.internal", found);
            (changed, line.unwrap_or_default())
        };
        let line = "db.internal does not resolve: no; its instances get no traffic until it does";
        assert_eq!(learn(Err("no")), (false, line.into()));
        assert_eq!(learn(Err("no")), (false, String::new()));
        let line = "db.internal resolves again, to 10.0.0.1";
        assert_eq!(learn(Ok([10, 0, 0, 1])), (true, line.into()));
        assert_eq!(learn(Ok([10, 0, 0, 1])), (false, String::new()));
        let line = "db.internal does not resolve: no; its instances stay at 10.0.0.1";
        assert_eq!(learn(Err("no")), (false, line.into()));
        assert_eq!(names.resolve(&host), Some([10, 0, 0, 1].into()));
        let line = "db.internal resolves again, to 10.0.0.2";
        assert_eq!(learn(Ok([10, 0, 0, 2])), (true, line.into()));
    }
}
