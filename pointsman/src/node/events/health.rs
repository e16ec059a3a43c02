//! Tells of instances that turn critical, and of those that are well again.

use std::collections::BTreeSet;
use std::sync::Arc;

use cluster::Node;
use model::{Health, InstanceId, ServiceKey};
use registry::{Change, Event, Record};

use super::{Events, Kind};

/// The instances that are critical, as far as it was told.
#[derive(Default)]
pub(in crate::node) struct Healths(BTreeSet<(Arc<ServiceKey>, InstanceId)>);

impl Healths {
    /// Something happened to an instance.
    pub(in crate::node) fn follow(&mut self, event: &Event, events: &Events) {
        match event.change {
            Change::Removed => drop(self.0.remove(&(event.key.clone(), event.id.clone()))),
            _ => self.look(&event.key, &event.record, events),
        }
    }

    /// Looks at all instances: what happened to each is not known.
    pub(in crate::node) fn follow_all(&mut self, registry: &Node, events: &Events) {
        let services: Vec<_> = registry.read(|r| r.services().cloned().collect());
        registry.read(|r| self.0.retain(|(key, id)| r.instance(key, id).is_some()));
        for service in services {
            for record in service.instances() {
                self.look(&service.key, record, events);
            }
        }
    }

    fn look(&mut self, key: &Arc<ServiceKey>, record: &Record, events: &Events) {
        let id = &record.instance.id;
        match record.health() {
            Health::Critical if self.0.insert((key.clone(), id.clone())) => {
                let why = match record.lease_health {
                    Health::Critical => "its lease ran out",
                    _ => record.reason.as_deref().unwrap_or("its check says so"),
                };
                let line = || format!("instance {id} of service {key} is critical: {why}");
                events.tell(Kind::Health, line);
            }
            // Neither an unknown health nor a lease that is held over says that it is well.
            Health::Passing if self.0.remove(&(key.clone(), id.clone())) => {
                let line = || format!("instance {id} of service {key} is passing again");
                events.tell(Kind::Health, line);
            }
            _ => {}
        }
    }
}
