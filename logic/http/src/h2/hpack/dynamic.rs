//! The fields that a peer sent lately (RFC 7541 §2.3.2).

use std::collections::VecDeque;

/// What an entry costs beside its bytes (§4.1).
const OVERHEAD: usize = 32;

/// The table: newest first, bounded by the sum of its entries' sizes.
#[derive(Clone, Debug)]
pub(super) struct Table {
    entries: VecDeque<Entry>,
    size: usize,
    /// What the peer has chosen; never more than it was allowed.
    most: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    /// Name and value.
    bytes: Box<[u8]>,
    name: usize,
}

impl Entry {
    fn size(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }
}

impl Table {
    pub(super) fn new(most: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            most,
        }
    }

    /// The entry at that place, the newest at 0.
    pub(super) fn at(&self, place: usize) -> Option<(&[u8], &[u8])> {
        let entry = self.entries.get(place)?;
        Some(entry.bytes.split_at(entry.name))
    }

    /// Adds an entry; one that is larger than the table empties it (§4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + OVERHEAD;
        self.shrink(self.most.saturating_sub(size));
        if size <= self.most {
            self.size += size;
            self.entries.push_front(Entry {
                bytes: [name, value].concat().into(),
                name: name.len(),
            });
        }
    }

    pub(super) fn resize(&mut self, most: usize) {
        self.most = most;
        self.shrink(most);
    }

    fn shrink(&mut self, most: usize) {
        while self.size > most {
            let Some(entry) = self.entries.pop_back() else {
                break;
            };
            self.size -= entry.size();
        }
    }
}
