use std::sync::Arc;

use model::{Health, Instance, InstanceId, Revision, ServiceKey, Timestamp};

use crate::{
    Applied, Change, Command, Counts, Event, LeaseRef, Patch, Record, Registration, Reply, Service,
    Sorted, Verdict,
};

/// Everything registered. A clone costs microseconds and does not see later changes.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    revision: Revision,
    services: Sorted<Service>,
    counts: Counts,
}

impl Registry {
    /// The last command applied.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The service of that name, if it has instances.
    pub fn service(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// The instance of that id.
    pub fn instance(&self, key: &ServiceKey, id: &InstanceId) -> Option<&Arc<Record>> {
        self.service(key)?.instance(id)
    }

    /// All services, by namespace and name.
    pub fn services(&self) -> impl DoubleEndedIterator<Item = &Arc<Service>> {
        self.services.iter()
    }

    /// How many services there are.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// How many instances there are, of each health.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether registering `instance` would change nothing but renew its lease.
    pub fn is_same(&self, key: &ServiceKey, instance: &Instance) -> bool {
        self.instance(key, &instance.id)
            .is_some_and(|r| r.lease_health == Health::Passing && r.instance == *instance)
    }

    /// Applies the command at `revision`, the one after the last.
    pub fn apply(&mut self, revision: Revision, command: &Command) -> Applied {
        debug_assert_eq!(revision, self.revision.next());
        self.revision = revision;
        let mut events = Vec::new();
        let reply = match command {
            Command::Register { key, instance, at } => {
                self.register(key, instance, *at, &mut events)
            }
            Command::Deregister { key, id } => match self.remove(key, id, &mut events) {
                Some(record) => Reply::Deregistered(record),
                None => Reply::NotFound,
            },
            Command::Patch { key, id, patch } => {
                match self.edit(key, id, Change::Changed, &mut events, |r| patched(r, patch)) {
                    Edit::Gone => Reply::NotFound,
                    Edit::Same(record) | Edit::Done(record) => Reply::Patched(record),
                }
            }
            Command::SetHealth(verdicts) => Reply::Batch(
                verdicts
                    .iter()
                    .filter(|v| self.set_check(v, &mut events))
                    .count(),
            ),
            Command::Renew(leases) => self.set_leases(leases, Health::Passing, &mut events),
            Command::Hold(leases) => self.set_leases(leases, Health::Warning, &mut events),
            Command::Expire(leases) => self.set_leases(leases, Health::Critical, &mut events),
            Command::Remove(leases) => Reply::Batch(
                leases
                    .iter()
                    .filter(|lease| self.remove_expired(lease, &mut events))
                    .count(),
            ),
        };
        Applied { reply, events }
    }

    /// Puts back a record from a snapshot.
    pub(crate) fn restore(&mut self, key: &ServiceKey, modified: Revision, record: Record) {
        let health = record.health();
        let service = self.service_mut(key);
        service.modified = modified;
        service.counts.add(health);
        let twice = service.instances.insert(Arc::new(record));
        if let Some(old) = &twice {
            service.counts.take(old.health());
        }
        self.counts.add(health);
        if let Some(old) = twice {
            self.counts.take(old.health());
        }
    }

    /// Sets the revision that a snapshot was taken at.
    pub(crate) fn restored_at(&mut self, revision: Revision) {
        self.revision = revision;
    }

    fn register(
        &mut self,
        key: &ServiceKey,
        instance: &Instance,
        at: Timestamp,
        events: &mut Vec<Event>,
    ) -> Reply {
        let revision = self.revision;
        if self.instance(key, &instance.id).is_none() {
            let record = Arc::new(Record::registered(instance.clone(), at, revision, None));
            let service = self.service_mut(key);
            service.modified = revision;
            service.counts.add(record.health());
            service.instances.insert(Arc::clone(&record));
            events.push(event(revision, service, Change::Registered, &record));
            self.counts.add(record.health());
            return Reply::Registered(Registration::Created, record);
        }
        let unchanged = self.is_same(key, instance);
        let edit = self.edit(key, &instance.id, Change::Changed, events, |record| {
            if unchanged {
                record.renewed = revision;
                return Effect::Hidden;
            }
            *record = Record::registered(instance.clone(), at, revision, Some(record));
            Effect::Visible
        });
        match edit {
            Edit::Done(record) | Edit::Same(record) => {
                let found = match unchanged {
                    true => Registration::Unchanged,
                    false => Registration::Changed,
                };
                Reply::Registered(found, record)
            }
            Edit::Gone => Reply::NotFound,
        }
    }

    fn set_check(&mut self, verdict: &Verdict, events: &mut Vec<Event>) -> bool {
        let edit = self.edit(
            &verdict.key,
            &verdict.id,
            Change::Health,
            events,
            |record| {
                let void =
                    record.incarnation != verdict.incarnation || record.instance.check.is_none();
                if void
                    || (record.check_health, &record.reason) == (verdict.health, &verdict.reason)
                {
                    return Effect::Nothing;
                }
                record.check_health = verdict.health;
                record.reason.clone_from(&verdict.reason);
                Effect::Visible
            },
        );
        matches!(edit, Edit::Done(_))
    }

    fn set_leases(
        &mut self,
        leases: &[LeaseRef],
        health: Health,
        events: &mut Vec<Event>,
    ) -> Reply {
        let revision = self.revision;
        let mut applied = 0;
        for lease in leases {
            let edit = self.edit(&lease.key, &lease.id, Change::Health, events, |record| {
                let void = record.renewed != lease.renewed || record.instance.lease.is_none();
                if void || record.lease_health == health {
                    return Effect::Nothing;
                }
                record.lease_health = health;
                if health == Health::Passing {
                    record.renewed = revision;
                }
                Effect::Visible
            });
            applied += usize::from(matches!(edit, Edit::Done(_)));
        }
        Reply::Batch(applied)
    }

    fn remove_expired(&mut self, lease: &LeaseRef, events: &mut Vec<Event>) -> bool {
        let expired = self.instance(&lease.key, &lease.id).is_some_and(|r| {
            r.renewed == lease.renewed
                && r.instance.lease.is_some()
                && r.lease_health == Health::Critical
        });
        expired && self.remove(&lease.key, &lease.id, events).is_some()
    }

    fn remove(
        &mut self,
        key: &ServiceKey,
        id: &InstanceId,
        events: &mut Vec<Event>,
    ) -> Option<Arc<Record>> {
        let revision = self.revision;
        // Looked up first, so that a miss does not copy what a reader shares.
        self.instance(key, id)?;
        let service = self.services.get_mut(key)?;
        let record = service.instances.remove(id)?;
        service.counts.take(record.health());
        service.modified = revision;
        events.push(event(revision, service, Change::Removed, &record));
        if service.instances.is_empty() {
            self.services.remove(key);
        }
        self.counts.take(record.health());
        Some(record)
    }

    /// Changes one record, as `change` says; a visible change is an event of the given kind.
    fn edit(
        &mut self,
        key: &ServiceKey,
        id: &InstanceId,
        kind: Change,
        events: &mut Vec<Event>,
        change: impl FnOnce(&mut Record) -> Effect,
    ) -> Edit {
        let Some(old) = self.instance(key, id).map(Arc::clone) else {
            return Edit::Gone;
        };
        let mut record = (*old).clone();
        let effect = change(&mut record);
        if effect == Effect::Nothing {
            return Edit::Same(old);
        }
        if effect == Effect::Visible {
            record.modified = self.revision;
        }
        let record = Arc::new(record);
        let revision = self.revision;
        self.counts.take(old.health());
        self.counts.add(record.health());
        let service = self.service_mut(key);
        service.counts.take(old.health());
        service.counts.add(record.health());
        service.instances.insert(Arc::clone(&record));
        if effect == Effect::Visible {
            service.modified = revision;
            events.push(event(revision, service, kind, &record));
        }
        Edit::Done(record)
    }

    fn service_mut(&mut self, key: &ServiceKey) -> &mut Service {
        if self.services.get(key).is_none() {
            let service = Service::new(Arc::new(key.clone()));
            self.services.insert(Arc::new(service));
        }
        self.services
            .get_mut(key)
            .expect("it was put there if it was not")
    }
}

/// What a change of a record amounts to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Nothing,
    /// Only the leases' own bookkeeping.
    Hidden,
    /// Something that readers can see.
    Visible,
}

enum Edit {
    /// There is no such instance.
    Gone,
    /// Nothing to change.
    Same(Arc<Record>),
    /// Changed.
    Done(Arc<Record>),
}

fn patched(record: &mut Record, patch: &Patch) -> Effect {
    let instance = &mut record.instance;
    let before = instance.clone();
    if let Some(weight) = patch.weight {
        instance.weight = weight;
    }
    if let Some(drain) = patch.drain {
        instance.drain = drain;
    }
    if let Some(enabled) = patch.enabled {
        instance.enabled = enabled;
    }
    if let Some(tags) = &patch.tags {
        instance.tags.clone_from(tags);
    }
    if let Some(metadata) = &patch.metadata {
        instance.metadata = Some(metadata)
            .filter(|m| !m.is_empty())
            .map(|m| Box::new(m.clone()));
    }
    match *instance == before {
        true => Effect::Nothing,
        false => Effect::Visible,
    }
}

fn event(revision: Revision, service: &Service, change: Change, record: &Arc<Record>) -> Event {
    Event {
        revision,
        key: Arc::clone(&service.key),
        id: record.instance.id.clone(),
        change,
        record: Arc::clone(record),
    }
}
