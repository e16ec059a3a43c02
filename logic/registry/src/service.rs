use std::sync::Arc;

use model::{Health, InstanceId, Revision, Role, ServiceKey};

use crate::{Keyed, Record, Sorted};

/// A named set of instances; at least one, for a service without is forgotten.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name, shared with everything that refers to it.
    pub key: Arc<ServiceKey>,
    /// When it, or any of its instances, changed last.
    pub modified: Revision,
    pub(crate) instances: Sorted<Record>,
    pub(crate) counts: Counts,
}

/// How many instances have each health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u32; Health::ALL.len()]);

impl Service {
    pub(crate) fn new(key: Arc<ServiceKey>) -> Self {
        Self {
            key,
            modified: Revision::default(),
            instances: Sorted::default(),
            counts: Counts::default(),
        }
    }

    /// Its instances, in the order of their ids.
    pub fn instances(&self) -> impl DoubleEndedIterator<Item = &Arc<Record>> {
        self.instances.iter()
    }

    /// Its instances of one role, in the order of their ids; all of them for no role. Of primaries there is at
    /// most one: see [`Service::primary`].
    pub fn view(&self, role: Option<Role>) -> impl Iterator<Item = &Arc<Record>> {
        let primary = self.primary().filter(|_| role == Some(Role::Primary));
        self.instances().filter(move |record| match role {
            Some(Role::Primary) => primary.is_some_and(|primary| Arc::ptr_eq(primary, record)),
            role => role.is_none() || record.role == role,
        })
    }

    /// The instance that takes writes, if one instance says so. If several do:
    ///
    /// The one that was seen to be promoted, the last one if that was seen of several, is meant: promotion is what
    /// people and failover tools do, and an old primary that comes back, or is on the other side of a split network,
    /// does it not. That holds even while the promoted one is critical: a primary that was given up has not what
    /// was written since.
    ///
    /// If that was seen of none, or of two at once, nobody can tell from here which one is right, and none is
    /// better than the wrong one. Only those that are not critical count then, so that a dead primary does not
    /// stand in the way of the one that was set up in its place.
    pub fn primary(&self) -> Option<&Arc<Record>> {
        let primaries = || {
            let all = self.instances();
            all.filter(|record| record.role == Some(Role::Primary))
        };
        let last = primaries().filter_map(|record| record.promoted).max();
        let alive = |record: &&Arc<Record>| record.health() != Health::Critical;
        let none_alive = !primaries().any(|record| alive(&record));
        let mut meant = primaries().filter(|record| match last {
            Some(_) => record.promoted == last,
            None => none_alive || alive(record),
        });
        let first = meant.next();
        first.filter(|_| meant.next().is_none())
    }

    /// How many instances it has; never zero.
    pub fn instance_count(&self) -> usize {
        self.instances.len()
    }

    /// The instance of that id.
    pub fn instance(&self, id: &InstanceId) -> Option<&Arc<Record>> {
        self.instances.get(id)
    }

    /// How many of its instances have each health.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

impl Keyed for Service {
    type Key = ServiceKey;

    fn key(&self) -> &ServiceKey {
        &self.key
    }
}

impl Counts {
    /// How many have this health.
    pub fn of(self, health: Health) -> u32 {
        self.0[health as usize]
    }

    /// How many there are in all.
    pub fn total(self) -> u32 {
        self.0.iter().sum()
    }

    /// Counts what became of an instance.
    pub(crate) fn replace(&mut self, before: Option<&Record>, after: Option<Health>) {
        if let Some(before) = before {
            self.0[before.health() as usize] -= 1;
        }
        if let Some(after) = after {
            self.0[after as usize] += 1;
        }
    }
}
