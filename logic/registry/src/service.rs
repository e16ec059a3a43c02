use std::sync::Arc;

use model::{Health, InstanceId, Revision, ServiceKey};

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
