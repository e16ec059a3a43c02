//! Who talks to whom over UDP: sessions by the client's address and port, bounded in all and for each source, and
//! which one makes room for another.
//!
//! A packet proves nothing: its sender's address may be forged. So a session counts as *proven* only once its client
//! has sent again after an answer, which somebody who does not get the answers has no reason to do. When room is
//! needed, the unproven session that has been silent for longest goes first: a flood of forged addresses then turns
//! over among itself, and those who really talk stay. A source with its full share makes room among its own.

use std::net::{IpAddr, SocketAddr};

use hashbrown::HashTable;

use crate::sources::holder;

/// A session's number: small, and used again after it ended.
pub type FlowId = u32;

/// The sessions of one listener at one worker.
#[derive(Debug)]
pub struct Flows {
    bounds: Bounds,
    seed: u64,
    slots: Vec<Slot>,
    free: Vec<FlowId>,
    index: HashTable<FlowId>,
    sources: HashTable<Source>,
    /// Silent for longest first.
    unproven: List,
    proven: List,
}

/// How many sessions there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// In all; at least 1.
    pub sessions: u32,
    /// Of one source; at least 1.
    pub of_one_source: u32,
}

#[derive(Debug)]
struct Slot {
    client: SocketAddr,
    /// Its neighbours in `unproven` or `proven`.
    all: Links,
    /// Its neighbours among its source's.
    own: Links,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Asked,
    Answered,
    Proven,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    holder: IpAddr,
    list: List,
}

/// A list through slots: its ends and its length.
#[derive(Clone, Copy, Debug)]
struct List {
    first: FlowId,
    last: FlowId,
    len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Links {
    before: FlowId,
    after: FlowId,
}

const NONE: FlowId = FlowId::MAX;

impl Flows {
    /// No sessions. The seed keeps strangers from choosing addresses that meet in the tables.
    pub fn new(bounds: Bounds, seed: u64) -> Self {
        Self {
            bounds,
            seed,
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            sources: HashTable::new(),
            unproven: List::EMPTY,
            proven: List::EMPTY,
        }
    }

    /// Other bounds from now on; what is beyond them goes as others come.
    pub fn bound(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Sessions open now.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The client's session, if it has one; it counts as heard now.
    pub fn heard(&mut self, client: SocketAddr) -> Option<FlowId> {
        let hash = hash(self.seed, client.ip(), client.port());
        let slots = &self.slots;
        let found = self
            .index
            .find(hash, |&id| slots[id as usize].client == client);
        let id = *found?;
        self.unlink(id);
        if self.slots[id as usize].standing == Standing::Answered {
            self.slots[id as usize].standing = Standing::Proven;
        }
        self.link(id);
        Some(id)
    }

    /// The session got an answer.
    pub fn answered(&mut self, id: FlowId) {
        let slot = &mut self.slots[id as usize];
        if slot.standing == Standing::Asked {
            slot.standing = Standing::Answered;
        }
    }

    /// Who has to go before `client`, who has no session, can have one.
    pub fn in_the_way(&self, client: SocketAddr) -> Option<FlowId> {
        let holder = holder(client.ip());
        let source = self
            .sources
            .find(hash(self.seed, holder, 0), |s| s.holder == holder);
        if let Some(source) = source.filter(|s| s.list.len >= self.bounds.of_one_source) {
            return Some(source.list.first);
        }
        match self.index.len() < self.bounds.sessions as usize {
            true => None,
            false => self.least_alive(),
        }
    }

    /// Who goes first when there is room for fewer than was thought.
    pub fn least_alive(&self) -> Option<FlowId> {
        [self.unproven.first, self.proven.first]
            .into_iter()
            .find(|&id| id != NONE)
    }

    /// A session for `client`, who has none. Make room first: see [`Flows::in_the_way`].
    pub fn open(&mut self, client: SocketAddr) -> FlowId {
        let slot = Slot {
            client,
            all: Links::NOWHERE,
            own: Links::NOWHERE,
            standing: Standing::Asked,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as FlowId
            }
        };
        let (seed, slots) = (self.seed, &self.slots);
        let hash_of = |id: &FlowId| {
            let client = slots[*id as usize].client;
            hash(seed, client.ip(), client.port())
        };
        self.index.insert_unique(hash_of(&id), id, hash_of);
        self.link(id);
        id
    }

    /// The session ended.
    pub fn close(&mut self, id: FlowId) {
        self.unlink(id);
        let client = self.slots[id as usize].client;
        let hash = hash(self.seed, client.ip(), client.port());
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == id) {
            entry.remove();
            self.free.push(id);
        }
    }

    fn link(&mut self, id: FlowId) {
        let slot = &self.slots[id as usize];
        let (holder, proven) = (holder(slot.client.ip()), slot.standing == Standing::Proven);
        let list = if proven {
            &mut self.proven
        } else {
            &mut self.unproven
        };
        list.push(&mut self.slots, id, |slot| &mut slot.all);
        let seed = self.seed;
        let hash_of = |source: &Source| hash(seed, source.holder, 0);
        let new = Source {
            holder,
            list: List::EMPTY,
        };
        let entry = self
            .sources
            .entry(hash_of(&new), |s| s.holder == holder, hash_of);
        let mut entry = entry.or_insert(new);
        entry
            .get_mut()
            .list
            .push(&mut self.slots, id, |slot| &mut slot.own);
    }

    fn unlink(&mut self, id: FlowId) {
        let slot = &self.slots[id as usize];
        let (holder, proven) = (holder(slot.client.ip()), slot.standing == Standing::Proven);
        let list = if proven {
            &mut self.proven
        } else {
            &mut self.unproven
        };
        list.remove(&mut self.slots, id, |slot| &mut slot.all);
        let found = self
            .sources
            .find_entry(hash(self.seed, holder, 0), |s| s.holder == holder);
        if let Ok(mut source) = found {
            source
                .get_mut()
                .list
                .remove(&mut self.slots, id, |slot| &mut slot.own);
            if source.get().list.len == 0 {
                source.remove();
            }
        }
    }
}

impl Links {
    const NOWHERE: Self = Self {
        before: NONE,
        after: NONE,
    };
}

impl List {
    const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
        len: 0,
    };

    fn push(&mut self, slots: &mut [Slot], id: FlowId, links: fn(&mut Slot) -> &mut Links) {
        *links(&mut slots[id as usize]) = Links {
            before: self.last,
            after: NONE,
        };
        match self.last {
            NONE => self.first = id,
            last => links(&mut slots[last as usize]).after = id,
        }
        self.last = id;
        self.len += 1;
    }

    fn remove(&mut self, slots: &mut [Slot], id: FlowId, links: fn(&mut Slot) -> &mut Links) {
        let Links { before, after } = *links(&mut slots[id as usize]);
        match before {
            NONE => self.first = after,
            before => links(&mut slots[before as usize]).after = after,
        }
        match after {
            NONE => self.last = before,
            after => links(&mut slots[after as usize]).before = before,
        }
        self.len -= 1;
    }
}

/// Multiply and fold, twice, with a secret: enough that nobody outside can choose who meets whom.
fn hash(seed: u64, ip: IpAddr, port: u16) -> u64 {
    let (high, low) = match ip {
        IpAddr::V4(ip) => (0, u64::from(ip.to_bits())),
        IpAddr::V6(ip) => ((ip.to_bits() >> 64) as u64, ip.to_bits() as u64),
    };
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        (product >> 64) as u64 ^ product as u64
    };
    let first = fold(
        low ^ seed,
        high ^ seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15,
    );
    fold(
        first ^ seed.rotate_left(17),
        u64::from(port) ^ seed.rotate_left(48) ^ 0xd1b5_4a32_d192_ed03,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    fn client(source: u32, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(source.into()), port)
    }

    fn flows(sessions: u32, of_one_source: u32) -> Flows {
        let bounds = Bounds {
            sessions,
            of_one_source,
        };
        Flows::new(bounds, 7)
    }

    /// Opens a session, making room if it must; says whose it took.
    fn open(flows: &mut Flows, client: SocketAddr) -> Option<SocketAddr> {
        assert_eq!(flows.heard(client), None);
        let gone = flows.in_the_way(client);
        let gone = gone.map(|id| {
            let gone = flows.slots[id as usize].client;
            flows.close(id);
            gone
        });
        flows.open(client);
        gone
    }

    #[test]
    fn a_session_is_found_by_its_client_until_it_ends() {
        let mut flows = flows(10, 10);
        assert_eq!(open(&mut flows, client(1, 1)), None);
        let id = flows.heard(client(1, 1)).unwrap();
        assert_eq!(flows.heard(client(1, 2)), None);
        assert_eq!(flows.heard(client(2, 1)), None);
        flows.close(id);
        assert_eq!(flows.heard(client(1, 1)), None);
        assert!(flows.is_empty());
    }

    #[test]
    fn a_source_with_its_share_makes_room_among_its_own() {
        let mut flows = flows(10, 3);
        open(&mut flows, client(9, 1));
        for port in 1..=3 {
            assert_eq!(open(&mut flows, client(1, port)), None);
        }
        flows.heard(client(1, 1));
        assert_eq!(
            open(&mut flows, client(1, 4)),
            Some(client(1, 2)),
            "silent for longest"
        );
        assert!(flows.heard(client(9, 1)).is_some());
    }

    #[test]
    fn a_flood_of_forged_sources_turns_over_among_itself() {
        let mut flows = flows(100, 10);
        for port in 1..=5 {
            open(&mut flows, client(1, port));
            let id = flows.heard(client(1, port)).unwrap();
            flows.answered(id);
            // Again, after the answer.
            flows.heard(client(1, port));
        }
        for source in 0..1_000_000 {
            open(&mut flows, client(1_000 + source, 53));
        }
        assert_eq!(flows.len(), 100);
        for port in 1..=5 {
            assert!(flows.heard(client(1, port)).is_some(), "{port}");
        }
        // Its memory is that of a hundred, not of a million.
        assert!(flows.slots.len() <= 100 && flows.sources.len() <= 100);
    }

    #[test]
    fn when_all_are_proven_the_one_silent_for_longest_goes() {
        let mut flows = flows(3, 3);
        for port in 1..=3 {
            open(&mut flows, client(port.into(), port));
            let id = flows.heard(client(port.into(), port)).unwrap();
            flows.answered(id);
            flows.heard(client(port.into(), port));
        }
        flows.heard(client(1, 1));
        assert_eq!(open(&mut flows, client(4, 4)), Some(client(2, 2)));
    }

    #[test]
    fn lists_and_tables_agree_whatever_happens() {
        let mut flows = flows(50, 7);
        let mut random = Random::new(1);
        for _ in 0..100_000 {
            let client = client(random.below(20) as u32, random.below(20) as u16);
            match (flows.heard(client), random.below(3)) {
                (Some(id), 0) => flows.close(id),
                (Some(id), _) => flows.answered(id),
                (None, _) => drop(open(&mut flows, client)),
            }
            assert_eq!(flows.len() as u32, flows.unproven.len + flows.proven.len);
            let of_sources: u32 = flows.sources.iter().map(|s| s.list.len).sum();
            assert_eq!(of_sources, flows.len() as u32);
            assert!(flows.len() <= 50 && flows.sources.iter().all(|s| s.list.len <= 7));
        }
    }
}
