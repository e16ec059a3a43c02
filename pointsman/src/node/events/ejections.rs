//! Tells of instances that are left out for a while because of what was seen of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{InstanceId, Moment, ServiceKey, ServiceTable};

use super::{Events, Kind};

/// What was told.
#[derive(Default)]
pub(super) struct Ejections {
    /// How many there were of each service, by its number.
    seen: Vec<u64>,
    /// Until when who is out. An instance that is in several views of a service is told of once.
    out: BTreeMap<(ServiceKey, InstanceId), Moment>,
}

impl Ejections {
    /// Looks at those services of which more were ejected than the last time.
    pub(super) fn look(&mut self, services: &[Arc<ServiceTable>], now: Moment, events: &Events) {
        self.out.retain(|_, until| *until > now);
        self.seen.resize(services.len(), 0);
        for (service, seen) in services.iter().zip(&mut self.seen) {
            let total = service.ejections.total.iter().map(model::Counter::value);
            let total = total.sum();
            if std::mem::replace(seen, total) == total {
                continue;
            }
            for endpoint in &service.endpoints {
                let ejection = endpoint.stats.ejection().filter(|e| e.until > now);
                let Some(ejection) = ejection else {
                    continue;
                };
                let name = (service.key.clone(), endpoint.id.clone());
                if self.out.insert(name, ejection.until) == Some(ejection.until) {
                    continue;
                }
                events.tell(Kind::Ejection, || {
                    let (id, key) = (&endpoint.id, &service.key);
                    let (why, time) = (ejection.reason.as_str(), ejection.until.since(now));
                    let seconds = time.as_secs_f64();
                    format!("instance {id} of service {key} is left out for {seconds:.0} s: {why}")
                });
            }
        }
    }
}
