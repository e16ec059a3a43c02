use std::sync::Arc;

/// The most items in a chunk. A change that finds its list shared copies one chunk and the list of
/// chunks: 256 + n/256 pointers is near the minimum for the sizes that matter, 10,000 to 100,000.
const CHUNK: usize = 256;

/// A thing with a name to sort by.
pub(crate) trait Keyed {
    /// What it is sorted by.
    type Key: Ord + ?Sized;

    /// Its name; never changes while it is in a list.
    fn key(&self) -> &Self::Key;
}

/// A sorted list whose clones share everything that has not changed since: a clone costs one pointer for
/// every 256 items, so a snapshot of a million is taken in microseconds while changes go on.
#[derive(Debug)]
pub(crate) struct Sorted<T> {
    /// None empty; sorted within and among each other.
    chunks: Vec<Arc<Vec<Arc<T>>>>,
    len: usize,
}

/// A place in a list: the chunk, and where in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(usize, usize);

impl<T> Clone for Sorted<T> {
    fn clone(&self) -> Self {
        Self {
            chunks: self.chunks.clone(),
            len: self.len,
        }
    }
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<T: Keyed> Sorted<T> {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<T>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// The one of that name.
    pub(crate) fn get(&self, key: &T::Key) -> Option<&Arc<T>> {
        self.find(key).ok().map(|place| self.at(place))
    }

    /// Where the one of that name is, or would go. Good until something is put in or taken out.
    pub(crate) fn find(&self, key: &T::Key) -> Result<Place, Place> {
        // Names that come in ascending order (numbered ones do) go behind the last.
        let last = self.chunks.len().saturating_sub(1);
        if let Some(end) = self.chunks.get(last).and_then(|chunk| chunk.last())
            && end.key() < key
        {
            return Err(Place(last, self.chunks[last].len()));
        }
        let after = self.chunks.partition_point(|chunk| chunk[0].key() <= key);
        let chunk = after.saturating_sub(1);
        match self.chunks.get(chunk) {
            None => Err(Place(0, 0)),
            Some(items) => items
                .binary_search_by(|item| item.key().cmp(key))
                .map(|place| Place(chunk, place))
                .map_err(|place| Place(chunk, place)),
        }
    }

    /// The one at a place that was found.
    pub(crate) fn at(&self, Place(chunk, place): Place) -> &Arc<T> {
        &self.chunks[chunk][place]
    }

    /// The one at a place that was found, to be changed: copied first if a clone of the list still shows it.
    pub(crate) fn at_mut(&mut self, Place(chunk, place): Place) -> &mut Arc<T> {
        &mut Arc::make_mut(&mut self.chunks[chunk])[place]
    }

    /// Puts `item` where its name would go.
    pub(crate) fn insert_at(&mut self, Place(at, place): Place, item: Arc<T>) {
        self.len += 1;
        let Some(chunk) = self.chunks.get_mut(at) else {
            self.chunks.push(Arc::new(vec![item]));
            return;
        };
        if chunk.len() < CHUNK {
            Arc::make_mut(chunk).insert(place, item);
            return;
        }
        // Ascending names would leave half-empty chunks behind if the last one were split in the middle.
        let last = at + 1 == self.chunks.len() && place == CHUNK;
        let middle = if last { CHUNK } else { CHUNK / 2 };
        let chunk = Arc::make_mut(&mut self.chunks[at]);
        let mut upper = chunk.split_off(middle);
        chunk.shrink_to_fit();
        if place < middle {
            chunk.insert(place, item);
        } else {
            upper.insert(place - middle, item);
        }
        self.chunks.insert(at + 1, Arc::new(upper));
    }

    /// Takes out the one at a place that was found.
    pub(crate) fn remove_at(&mut self, Place(at, place): Place) -> Arc<T> {
        let chunk = Arc::make_mut(&mut self.chunks[at]);
        let item = chunk.remove(place);
        self.len -= 1;
        if chunk.is_empty() {
            self.chunks.remove(at);
        } else if let Some(next) = self.chunks.get(at + 1)
            && self.chunks[at].len() + next.len() <= CHUNK / 2
        {
            // Or a list that grew and shrank would keep a chunk for every few items.
            let next = self.chunks.remove(at + 1);
            Arc::make_mut(&mut self.chunks[at]).extend(next.iter().cloned());
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Item(u32, u32);

    impl Keyed for Item {
        type Key = u32;

        fn key(&self) -> &u32 {
            &self.0
        }
    }

    #[test]
    fn it_behaves_like_a_map_and_clones_do_not_see_later_changes() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut list = Sorted::<Item>::default();
        let mut oracle = BTreeMap::new();
        let mut clones = Vec::new();
        for round in 0..20_000 {
            let key = random.u32(0..3_000);
            // Grows, then shrinks, so that chunks split and join.
            let (found, known) = (list.find(&key), oracle.get(&key).copied());
            assert_eq!(found.ok().map(|place| list.at(place).1), known);
            let item = Arc::new(Item(key, round));
            let grow = random.u32(0..10) < if round < 10_000 { 7 } else { 2 };
            match found {
                Ok(place) if grow => *list.at_mut(place) = item,
                Err(place) if grow => list.insert_at(place, item),
                Ok(place) => assert_eq!(Some(list.remove_at(place).1), known),
                Err(_) => {}
            }
            if grow {
                oracle.insert(key, round);
            } else {
                oracle.remove(&key);
            }
            if round % 2_500 == 0 {
                clones.push((list.clone(), oracle.clone()));
            }
        }
        clones.push((list, oracle));
        for (list, oracle) in clones {
            assert_eq!(list.len(), oracle.len());
            assert!(list.iter().map(|i| (i.0, i.1)).eq(oracle.clone()));
            assert!(oracle.iter().all(|(k, v)| list.get(k).unwrap().1 == *v));
        }
    }

    #[test]
    fn ascending_names_fill_their_chunks() {
        let mut list = Sorted::<Item>::default();
        for key in 0..10_000 {
            let place = list.find(&key).unwrap_err();
            list.insert_at(place, Arc::new(Item(key, 0)));
        }
        assert_eq!(list.chunks.len(), 10_000_usize.div_ceil(CHUNK));
    }
}
