use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use hashbrown::HashTable;
use model::{Health, InstanceId, ServiceKey};

use super::guard::Losses;

/// No entry.
pub(super) const NONE: u32 = u32::MAX;
/// No list of the wheel.
pub(super) const OUT: u16 = u16::MAX;

/// A lease. One cache line: a renewal touches this, a word of the index, and the id it compares.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Entry {
    /// `None` in a free place.
    pub(super) id: Option<InstanceId>,
    /// When its timer is due, in milliseconds of lease time.
    pub(super) deadline: u64,
    /// The renewal in the log that this one stands on.
    pub(super) renewed: u64,
    pub(super) hash: u32,
    /// Its service's number.
    pub(super) service: u32,
    /// Milliseconds.
    pub(super) ttl: u32,
    /// Milliseconds.
    pub(super) grace: u32,
    /// Its neighbours in the wheel.
    pub(super) next: u32,
    pub(super) previous: u32,
    pub(super) slot: u16,
    pub(super) state: State,
    /// What the record in the registry says of the lease.
    pub(super) recorded: Health,
}

/// Where a lease is in its life, and what its timer means there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It holds. Timer: it runs out.
    Live,
    /// A heartbeat came, but the record says otherwise. Timer: say so again.
    Waking,
    /// It ran out, and the guard holds it over. Timer: the guard may let go.
    Held,
    /// It ran out, and the command that says so is on its way. Timer: send it again.
    Expiring,
    /// The record says that it ran out. Timer: its grace is over.
    Expired,
    /// Its grace is over, and the command that says so is on its way. Timer: send it again.
    Removing,
}

impl State {
    /// Whether its instance counts as alive.
    pub(super) fn is_live(self) -> bool {
        matches!(self, Self::Live | Self::Waking | Self::Held)
    }
}

/// The leases of one service.
#[derive(Debug)]
pub(super) struct ServiceLeases {
    pub(super) key: Arc<ServiceKey>,
    /// How many leases it has; none frees its number.
    pub(super) count: u32,
    /// How many of them count as alive.
    pub(super) live: u32,
    pub(super) losses: Losses,
}

/// All leases, found by name through an index that holds no names: four bytes a lease.
#[derive(Debug)]
pub(super) struct Slab {
    pub(super) entries: Vec<Entry>,
    free: u32,
    index: HashTable<u32>,
    pub(super) services: Vec<ServiceLeases>,
    free_services: Vec<u32>,
    service_index: HashTable<u32>,
    pub(super) seed: Seed,
}

impl Slab {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            entries: Vec::new(),
            free: NONE,
            index: HashTable::new(),
            services: Vec::new(),
            free_services: Vec::new(),
            service_index: HashTable::new(),
            seed: Seed(seed),
        }
    }

    /// How many leases there are.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn find(&self, key: &ServiceKey, id: &InstanceId) -> Option<u32> {
        let hash = self.seed.of(key, id);
        self.index
            .find(spread(hash), |&i| self.is(i, hash, key, id))
            .copied()
    }

    /// An entry whose name has this hash: nearly always the one meant, if there is one.
    pub(super) fn guess(&self, hash: u32) -> Option<u32> {
        self.index
            .find(spread(hash), |&i| self.entries[i as usize].hash == hash)
            .copied()
    }

    /// Puts in a live lease that is not there yet, of no length and in no list.
    pub(super) fn insert(&mut self, key: &Arc<ServiceKey>, id: &InstanceId) -> u32 {
        let entry = Entry {
            id: Some(id.clone()),
            deadline: 0,
            renewed: 0,
            hash: self.seed.of(key, id),
            service: self.service(key),
            ttl: 0,
            grace: 0,
            next: NONE,
            previous: NONE,
            slot: OUT,
            state: State::Live,
            recorded: Health::Passing,
        };
        let service = &mut self.services[entry.service as usize];
        service.count += 1;
        service.live += 1;
        let hash = entry.hash;
        let index = match self.free {
            NONE => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
            index => {
                let place = &mut self.entries[index as usize];
                self.free = place.next;
                *place = entry;
                index
            }
        };
        self.index.insert_unique(spread(hash), index, |&i| {
            spread(self.entries[i as usize].hash)
        });
        index
    }

    /// Takes out an entry that is in no list of the wheel.
    pub(super) fn remove(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        let (hash, service) = (entry.hash, entry.service);
        let live = entry.state.is_live();
        entry.id = None;
        entry.next = std::mem::replace(&mut self.free, index);
        if let Ok(found) = self.index.find_entry(spread(hash), |&i| i == index) {
            found.remove();
        }
        let leases = &mut self.services[service as usize];
        leases.count -= 1;
        leases.live -= u32::from(live);
        if leases.count == 0 {
            let hash = self.seed.of_service(&self.services[service as usize].key);
            if let Ok(found) = self
                .service_index
                .find_entry(spread(hash), |&s| s == service)
            {
                found.remove();
            }
            self.free_services.push(service);
        }
    }

    /// Changes an entry's state, and the count of the living with it.
    pub(super) fn set_state(&mut self, index: u32, state: State) {
        let entry = &mut self.entries[index as usize];
        let before = std::mem::replace(&mut entry.state, state).is_live();
        let live = &mut self.services[entry.service as usize].live;
        *live = *live + u32::from(state.is_live()) - u32::from(before);
    }

    fn service(&mut self, key: &Arc<ServiceKey>) -> u32 {
        let hash = self.seed.of_service(key);
        let found = self
            .service_index
            .find(spread(hash), |&s| self.services[s as usize].key == *key);
        if let Some(&service) = found {
            return service;
        }
        let leases = ServiceLeases {
            key: Arc::clone(key),
            count: 0,
            live: 0,
            losses: Losses::default(),
        };
        let service = match self.free_services.pop() {
            Some(service) => {
                self.services[service as usize] = leases;
                service
            }
            None => {
                self.services.push(leases);
                self.services.len() as u32 - 1
            }
        };
        let (services, seed) = (&self.services, self.seed);
        self.service_index
            .insert_unique(spread(hash), service, |&s| {
                spread(seed.of_service(&services[s as usize].key))
            });
        service
    }

    pub(super) fn is(&self, index: u32, hash: u32, key: &ServiceKey, id: &InstanceId) -> bool {
        let entry = &self.entries[index as usize];
        entry.hash == hash
            && entry.id.as_ref() == Some(id)
            && *self.services[entry.service as usize].key == *key
    }
}

/// The secret that names are hashed with, by SipHash: names come from clients, and one who could predict
/// the index would make every renewal walk through a collection of colliding names.
#[derive(Clone, Copy, Debug)]
pub struct Seed(u64);

impl Seed {
    pub(super) fn of(self, key: &ServiceKey, id: &InstanceId) -> u32 {
        self.hash((key, id))
    }

    fn of_service(self, key: &ServiceKey) -> u32 {
        self.hash(key)
    }

    fn hash(self, value: impl Hash) -> u32 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        value.hash(&mut hasher);
        hasher.finish() as u32
    }
}

/// The table takes its place from the low bits and its tag from the high ones; entries keep 32 bits.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}
