//! What the configuration says of instances goes into the registry, so that everybody finds it: static
//! instances, and the checks of services.

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
        self.add_statics(config).await?;
        self.remove_statics(config).await
    }

    /// Registers the configuration's instances.
    pub(super) async fn add_statics(&self, config: &Config) -> anyhow::Result<()> {
        let at = now();
        let mut commands = Vec::new();
        for (key, service) in &config.service {
            for instance in &service.instances {
                let instance = marked(instance, service);
                if !self.registry.read(|r| r.is_same(key, &instance)) {
                    let (key, instance) = (key.clone(), Box::new(instance));
                    commands.push(Command::Register { key, instance, at });
                }
            }
        }
        self.submit_all(commands).await
    }

    /// Removes the instances that a former configuration named, and this one does not.
    pub(super) async fn remove_statics(&self, config: &Config) -> anyhow::Result<()> {
        let named = |(key, id): &(ServiceKey, InstanceId)| {
            let service = config.service.get(key);
            service.is_some_and(|service| service.instances.iter().any(|i| i.id == *id))
        };
        let gone = self.statics().into_iter().filter(|name| !named(name));
        let gone = gone.map(|(key, id)| Command::Deregister { key, id });
        self.submit_all(gone.collect()).await
    }

    async fn submit_all(&self, commands: Vec<Command>) -> anyhow::Result<()> {
        for command in commands {
            let stored = self.registry.submit(command).await;
            stored.context("the configuration's instances could not be registered")?;
        }
        Ok(())
    }

    /// Instances that have their service's former check get its present one.
    pub(super) async fn sync_checks(&self, old: &Config, new: &Config) -> anyhow::Result<()> {
        let keys: BTreeSet<_> = old.service.keys().chain(new.service.keys()).collect();
        for key in keys {
            let check = |config: &Config| config.service.get(key).and_then(|s| s.check.clone());
            let (before, after) = (check(old), check(new));
            if before == after {
                continue;
            }
            let service = self.registry.service(key);
            let records = service.iter().flat_map(|s| s.instances());
            let own = records.filter(|r| r.instance.check.as_deref() == before.as_ref());
            for record in own {
                let mut instance = Box::new(record.instance.clone());
                instance.check = after.clone().map(Box::new);
                let (key, at) = (key.clone(), now());
                let stored = self
                    .registry
                    .submit(Command::Register { key, instance, at })
                    .await;
                stored.context("the service's new check could not be stored")?;
            }
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
