use std::sync::Arc;

use model::{Health, Instance, InstanceId, Revision, Role, ServiceKey, Timestamp};

use crate::sorted::Place;
use crate::tree::{NOWHERE, Tree};
use crate::{
    Applied, Change, Command, Counts, Event, Keyed, LeaseRef, Patch, Record, Registration, Reply,
    Service, Sorted, Verdict,
};

/// Everything registered. A clone costs microseconds and does not see later changes.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    revision: Revision,
    services: Sorted<Service>,
    counts: Counts,
    tree: Tree,
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

    /// The tree that ZooKeeper's clients see.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Whether registering `instance` would change nothing but renew its lease.
    pub fn is_same(&self, key: &ServiceKey, instance: &Instance) -> bool {
        self.instance(key, &instance.id)
            .is_some_and(|record| same(record, instance))
    }

    /// Applies the command at `revision`, the one after the last.
    pub fn apply(&mut self, revision: Revision, command: &Command) -> Applied {
        self.apply_from(NOWHERE, revision, command)
    }

    /// Applies a command that was given to this node.
    pub fn apply_from(&mut self, node: u64, revision: Revision, command: &Command) -> Applied {
        debug_assert_eq!(revision, self.revision.next());
        self.revision = revision;
        let mut events = Vec::new();
        let mut tree = Vec::new();
        let reply = match command {
            Command::Register { key, instance, at } => {
                self.register(key, instance, *at, &mut events)
            }
            Command::Deregister { key, id } => match self.locate(key, id) {
                Some(place) => Reply::Deregistered(self.remove(place, &mut events)),
                None => Reply::NotFound,
            },
            Command::Patch { key, id, patch } => match self.locate(key, id) {
                Some(place) => Reply::Patched(
                    self.edit(place, Change::Changed, &mut events, |r| patched(r, patch))
                        .record,
                ),
                None => Reply::NotFound,
            },
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
            Command::Tree(command) => {
                let reply = self.tree.apply(node, command, &mut tree);
                Reply::Tree(self.tree.zxid(), reply)
            }
        };
        Applied {
            reply,
            events,
            tree,
        }
    }

    /// Puts back a record from a snapshot.
    pub(crate) fn restore(&mut self, key: &ServiceKey, modified: Revision, record: Record) {
        let health = record.health();
        let service = self.service_mut(key);
        service.modified = modified;
        let instances = &mut service.instances;
        let before = match instances.find(record.key()) {
            Ok(place) => Some(std::mem::replace(instances.at_mut(place), Arc::new(record))),
            Err(place) => {
                instances.insert_at(place, Arc::new(record));
                None
            }
        };
        service.counts.replace(before.as_deref(), Some(health));
        self.counts.replace(before.as_deref(), Some(health));
    }

    /// Sets the revision that a snapshot was taken at, and its tree.
    pub(crate) fn restored_at(&mut self, revision: Revision, tree: Tree) {
        self.revision = revision;
        self.tree = tree;
    }

    fn register(
        &mut self,
        key: &ServiceKey,
        instance: &Instance,
        at: Timestamp,
        events: &mut Vec<Event>,
    ) -> Reply {
        let revision = self.revision;
        let Some(place) = self.locate(key, &instance.id) else {
            let record = Arc::new(Record::registered(instance.clone(), at, revision, None));
            let service = self.service_mut(key);
            if let Err(place) = service.instances.find(&instance.id) {
                service.instances.insert_at(place, Arc::clone(&record));
            }
            service.modified = revision;
            service.counts.replace(None, Some(record.health()));
            events.push(event(revision, service, Change::Registered, &record));
            self.counts.replace(None, Some(record.health()));
            return Reply::Registered(Registration::Created, record);
        };
        let unchanged = same(self.at(place), instance);
        let edited = self.edit(place, Change::Changed, events, |record| {
            if unchanged {
                record.renewed = revision;
                return Effect::Hidden;
            }
            *record = Record::registered(instance.clone(), at, revision, Some(record));
            Effect::Visible
        });
        let found = match unchanged {
            true => Registration::Unchanged,
            false => Registration::Changed,
        };
        Reply::Registered(found, edited.record)
    }

    fn set_check(&mut self, verdict: &Verdict, events: &mut Vec<Event>) -> bool {
        let Some(place) = self.locate(&verdict.key, &verdict.id) else {
            return false;
        };
        let revision = self.revision;
        let edited = self.edit(place, Change::Health, events, |record| {
            let void = record.incarnation != verdict.incarnation || record.instance.check.is_none();
            let known = record.check_health == verdict.health
                && record.reason == verdict.reason
                && record.role == verdict.role;
            if void || known {
                return Effect::Nothing;
            }
            record.promoted = match (record.role, verdict.role) {
                (Some(Role::Replica), Some(Role::Primary)) => Some(revision),
                (_, Some(Role::Primary)) => record.promoted,
                _ => None,
            };
            record.role = verdict.role;
            record.check_health = verdict.health;
            record.reason.clone_from(&verdict.reason);
            Effect::Visible
        });
        edited.changed
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
            let Some(place) = self.locate(&lease.key, &lease.id) else {
                continue;
            };
            let edited = self.edit(place, Change::Health, events, |record| {
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
            applied += usize::from(edited.changed);
        }
        Reply::Batch(applied)
    }

    fn remove_expired(&mut self, lease: &LeaseRef, events: &mut Vec<Event>) -> bool {
        let Some(place) = self.locate(&lease.key, &lease.id) else {
            return false;
        };
        let record = self.at(place);
        let expired = record.renewed == lease.renewed
            && record.instance.lease.is_some()
            && record.lease_health == Health::Critical;
        if expired {
            self.remove(place, events);
        }
        expired
    }

    fn remove(&mut self, (of_service, place): Located, events: &mut Vec<Event>) -> Arc<Record> {
        let service = Arc::make_mut(self.services.at_mut(of_service));
        let record = service.instances.remove_at(place);
        service.counts.replace(Some(&record), None);
        service.modified = self.revision;
        events.push(event(self.revision, service, Change::Removed, &record));
        if service.instances.is_empty() {
            self.services.remove_at(of_service);
        }
        self.counts.replace(Some(&record), None);
        record
    }

    /// Changes one record, as `change` says; a visible change is an event of the given kind.
    fn edit(
        &mut self,
        located: Located,
        kind: Change,
        events: &mut Vec<Event>,
        change: impl FnOnce(&mut Record) -> Effect,
    ) -> Edited {
        // Looked at first, so that what comes to nothing copies nothing that a reader shares.
        let old = Arc::clone(self.at(located));
        let mut record = (*old).clone();
        let effect = change(&mut record);
        if effect == Effect::Nothing {
            return Edited {
                record: old,
                changed: false,
            };
        }
        let revision = self.revision;
        if effect == Effect::Visible {
            record.modified = revision;
        }
        let record = Arc::new(record);
        let (service, place) = located;
        let service = Arc::make_mut(self.services.at_mut(service));
        *service.instances.at_mut(place) = Arc::clone(&record);
        service.counts.replace(Some(&old), Some(record.health()));
        self.counts.replace(Some(&old), Some(record.health()));
        if effect == Effect::Visible {
            service.modified = revision;
            events.push(event(revision, service, kind, &record));
        }
        Edited {
            record,
            changed: true,
        }
    }

    fn locate(&self, key: &ServiceKey, id: &InstanceId) -> Option<Located> {
        let service = self.services.find(key).ok()?;
        let place = self.services.at(service).instances.find(id).ok()?;
        Some((service, place))
    }

    fn at(&self, (service, place): Located) -> &Arc<Record> {
        self.services.at(service).instances.at(place)
    }

    /// The service of that name; a new one without instances if there is none.
    fn service_mut(&mut self, key: &ServiceKey) -> &mut Service {
        let place = self.services.find(key).unwrap_or_else(|place| {
            let service = Service::new(Arc::new(key.clone()));
            self.services.insert_at(place, Arc::new(service));
            // A full chunk is split to make room, and then it is not where it was to go.
            self.services.find(key).unwrap_or(place)
        });
        Arc::make_mut(self.services.at_mut(place))
    }
}

/// Where an instance is: its service, and its place there.
type Located = (Place, Place);

/// A record after a change.
struct Edited {
    record: Arc<Record>,
    changed: bool,
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

fn same(record: &Record, instance: &Instance) -> bool {
    record.lease_health == Health::Passing && record.instance == *instance
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
