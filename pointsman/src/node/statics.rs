//! Instances that the configuration names: registered as others are, so that everybody finds them.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use config::Config;
use model::{Instance, InstanceId, ServiceKey, Timestamp};
use registry::Command;

use super::Shared;

/// The metadata that marks an instance as the configuration's.
const SOURCE: (&str, &str) = ("pointsman.source", "configuration");

impl Shared {
    /// Registers the configuration's instances, and removes those that a former one named.
    pub(super) async fn sync_statics(&self, config: &Config) -> anyhow::Result<()> {
        let at = now();
        let mut wanted = BTreeSet::new();
        let mut commands = Vec::new();
        for (key, service) in &config.service {
            for instance in &service.instances {
                wanted.insert((key.clone(), instance.id.clone()));
                let instance = marked(instance, service);
                if !self.registry.read(|r| r.is_same(key, &instance)) {
                    let (key, instance) = (key.clone(), Box::new(instance));
                    commands.push(Command::Register { key, instance, at });
                }
            }
        }
        let gone = self
            .statics()
            .into_iter()
            .filter(|name| !wanted.contains(name));
        commands.extend(gone.map(|(key, id)| Command::Deregister { key, id }));
        for command in commands {
            let stored = self.registry.submit(command).await;
            stored.context("the configuration's instances could not be registered")?;
        }
        Ok(())
    }

    fn statics(&self) -> Vec<(ServiceKey, InstanceId)> {
        let is_static = |instance: &Instance| {
            let metadata = instance.metadata.as_ref();
            metadata.is_some_and(|m| m.get(SOURCE.0).is_some_and(|v| **v == *SOURCE.1))
        };
        self.registry.read(|registry| {
            let services = registry.services();
            let all = services.flat_map(|s| s.instances().map(move |r| (&s.key, &r.instance)));
            all.filter(|(_, instance)| is_static(instance))
                .map(|(key, instance)| ((**key).clone(), instance.id.clone()))
                .collect()
        })
    }
}

fn marked(instance: &Instance, service: &config::Service) -> Instance {
    let mut instance = instance.clone();
    let metadata = instance.metadata.get_or_insert_default();
    metadata.insert(SOURCE.0.into(), SOURCE.1.into());
    // Its service's check is its own: until that has passed, it gets no traffic.
    instance.check = service.check.clone().map(Box::new);
    instance
}

/// The wall clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(since.map_or(0, |d| d.as_millis() as u64))
}
