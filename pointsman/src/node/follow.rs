//! Keeps routing tables and checks true to the registry.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::Config;
use health::Target;
use model::{Revision, ServiceKey};
use registry::{Change, Event, Record};

use super::Shared;
use super::events::Healths;
use super::files::Files;
use super::tables::Tables;

/// After each round there is a pause as long as the round took, so that a storm of registrations into one
/// large service does not keep a core busy with tables; but never a longer one than this, or a change would
/// take too long to reach the workers.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);
/// Nor a shorter one: to be woken, and to wake the workers, costs more than most rounds.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// Follows the registry until it closes, from what is `seen` already.
pub(super) async fn follow(shared: Arc<Shared>, mut seen: Revision) {
    let mut changes = shared.registry.changes();
    let mut healths = Healths::default();
    healths.follow_all(&shared.registry, &shared.events);
    loop {
        let began = Instant::now();
        seen = catch_up(&shared, seen, &mut healths);
        let pause = began.elapsed().clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        tokio::time::sleep(pause).await;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Takes in what happened after `seen`; returns up to where.
fn catch_up(shared: &Shared, seen: Revision, healths: &mut Healths) -> Revision {
    let reached = shared.registry.revision();
    match shared.registry.events_since(seen, None) {
        Ok(events) => {
            let keys: BTreeSet<_> = events.iter().map(|event| event.key.clone()).collect();
            shared.refresh(keys.iter().map(|key| &**key));
            for event in &events {
                follow_check(shared, event);
                healths.follow(event, &shared.events);
            }
            events
                .last()
                .map_or(reached, |last| last.revision.max(reached))
        }
        // Too much happened, or we have just started: everything anew.
        Err(_) => {
            shared.refresh_all();
            healths.follow_all(&shared.registry, &shared.events);
            reached
        }
    }
}

fn follow_check(shared: &Shared, event: &Event) {
    match event.change {
        Change::Removed => shared.prober.remove(&event.key, &event.id),
        Change::Registered | Change::Changed => match target(&event.key, &event.record) {
            Some(target) => shared.prober.put(target),
            None => shared.prober.remove(&event.key, &event.id),
        },
        // Most often our own verdict coming back.
        Change::Health => {}
    }
}

impl Shared {
    /// Makes the tables of these services anew, and publishes if any has changed.
    pub(super) fn refresh<'a>(&self, keys: impl Iterator<Item = &'a ServiceKey>) {
        let mut tables = self.tables();
        if self.make_anew(&mut tables, keys) {
            self.publish(&tables);
        }
    }

    fn make_anew<'a>(
        &self,
        tables: &mut Tables,
        keys: impl Iterator<Item = &'a ServiceKey>,
    ) -> bool {
        let mut changed = false;
        for key in keys {
            let over = |registry: &_| self.findings.over(registry, key);
            let service = self.registry.read(over);
            changed |= tables.refresh(key, service.as_deref(), &|host| self.names.resolve(host));
        }
        changed
    }

    fn publish(&self, tables: &Tables) {
        let table = tables.table(self.registry.revision());
        self.proxy.publish(Arc::new(table));
        self.published.send_replace(());
    }

    /// Goes by another configuration from the next publication on. Its services' tables are made at once: whoever publishes before
    /// everything is made anew, because an instance came, say, must find all that the routes name.
    pub(super) fn configure(&self, config: &Arc<Config>, files: Files) {
        let mut tables = self.tables();
        tables.configure(config, files);
        let keys: BTreeSet<_> = tables.service_keys().cloned().collect();
        self.make_anew(&mut tables, keys.iter());
    }

    /// Makes everything anew: all tables, all checks.
    pub(super) fn refresh_all(&self) {
        let mut tables = self.tables();
        let keys: BTreeSet<_> = tables.service_keys().cloned().collect();
        self.make_anew(&mut tables, keys.iter());
        // Even without any service: listeners that only redirect and answer have none.
        self.publish(&tables);
        drop(tables);
        self.prober.replace(self.targets());
    }

    /// Checks everything as if nothing had been found before: what was has not got into the registry.
    pub(super) fn check_anew(&self) {
        self.prober.begin_anew(self.targets());
    }

    fn targets(&self) -> Vec<Target> {
        let services: Vec<_> = self.registry.read(|r| r.services().cloned().collect());
        let checked = services.iter().flat_map(|service| {
            let records = service.instances();
            records.filter_map(|record| target(&service.key, record))
        });
        checked.collect()
    }
}

/// How `record` is to be probed, if it is.
fn target(key: &ServiceKey, record: &Record) -> Option<Target> {
    let instance = &record.instance;
    let check = instance.check.as_deref()?;
    Some(Target {
        key: key.clone(),
        id: instance.id.clone(),
        incarnation: record.incarnation,
        host: instance.host.clone(),
        port: check.port.unwrap_or(instance.port).get(),
        check: check.clone(),
        health: record.check_health,
        role: record.role,
        reason: record.reason.clone(),
    })
}
