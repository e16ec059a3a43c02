use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashMap;
use registry::tree;
use siphasher::sip::SipHasher13;

/// A one-time watch of data or existence.
pub(crate) const DATA: u8 = 1;
/// A one-time watch of children.
pub(crate) const CHILD: u8 = 2;
/// A watch of both that stays.
pub(crate) const PERSISTENT: u8 = 4;
/// A watch of everything at and below a path that stays.
pub(crate) const RECURSIVE: u8 = 8;

/// Which connections watch what. The connection's own list of paths is kept by the connection.
#[derive(Debug)]
pub(crate) struct Watches {
    paths: HashMap<Arc<str>, Vec<Watch>, Seed>,
    /// So many watches are recursive: if there are none, no path's ancestors need to be looked at.
    recursive: usize,
    total: usize,
}

/// A connection by its index, and bits of what it watches. A list is sorted by the index: 10,000 watchers of a path take
/// 80 KB.
#[derive(Clone, Copy, Debug)]
struct Watch {
    connection: u32,
    kinds: u8,
}

/// Paths are clients' choice, so the hash has a key.
#[derive(Clone, Copy, Debug)]
struct Seed(u64);

impl BuildHasher for Seed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, !self.0)
    }
}

/// How many watches there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    /// Paths that are watched.
    pub paths: usize,
    /// Connections by paths.
    pub watches: usize,
}

/// A watch that was removed with its last kind: the connection may forget the path.
pub(crate) struct Gone(pub(crate) u32);

impl Watches {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            paths: HashMap::with_hasher(Seed(seed)),
            recursive: 0,
            total: 0,
        }
    }

    pub(crate) fn counts(&self) -> WatchCounts {
        WatchCounts {
            paths: self.paths.len(),
            watches: self.total,
        }
    }

    /// Adds kinds; returns the path to remember if it is new to this connection.
    pub(crate) fn add(&mut self, path: &str, connection: u32, kinds: u8) -> Option<Arc<str>> {
        let (name, list) = match self.paths.get_key_value(path) {
            Some((name, _)) => {
                let name = Arc::clone(name);
                let list = self.paths.get_mut(path)?;
                (name, list)
            }
            None => {
                let name: Arc<str> = path.into();
                (Arc::clone(&name), self.paths.entry(name).or_default())
            }
        };
        match list.binary_search_by_key(&connection, |w| w.connection) {
            Ok(at) => {
                let watch = &mut list[at];
                self.recursive += usize::from(kinds & !watch.kinds & RECURSIVE != 0);
                watch.kinds |= kinds;
                None
            }
            Err(at) => {
                self.recursive += usize::from(kinds & RECURSIVE != 0);
                self.total += 1;
                list.insert(at, Watch { connection, kinds });
                Some(name)
            }
        }
    }

    /// The kinds of watch that a connection has on a path.
    pub(crate) fn kinds(&self, path: &str, connection: u32) -> u8 {
        let list = self.paths.get(path).map_or(&[][..], Vec::as_slice);
        match list.binary_search_by_key(&connection, |w| w.connection) {
            Ok(at) => list[at].kinds,
            Err(_) => 0,
        }
    }

    /// Takes kinds back; `Gone` if none are left.
    pub(crate) fn remove(&mut self, path: &str, connection: u32, kinds: u8) -> Option<Gone> {
        let list = self.paths.get_mut(path)?;
        let at = list
            .binary_search_by_key(&connection, |w| w.connection)
            .ok()?;
        let watch = &mut list[at];
        self.recursive -= usize::from(kinds & watch.kinds & RECURSIVE != 0);
        watch.kinds &= !kinds;
        if watch.kinds != 0 {
            return None;
        }
        list.remove(at);
        self.total -= 1;
        if list.is_empty() {
            self.paths.remove(path);
        }
        Some(Gone(connection))
    }

    /// Who is to be told of a change at `path`: those who have any of the kinds `wanted` there, and recursive ones at and
    /// above it if `below`. One-time watches among `wanted` are used up; those gone with it are added to `gone`.
    pub(crate) fn trigger(
        &mut self,
        path: &str,
        wanted: u8,
        below: bool,
        gone: &mut Vec<Gone>,
    ) -> Vec<u32> {
        let mut told = Vec::new();
        let before = gone.len();
        let recursive = if below { RECURSIVE } else { 0 };
        if let Some(list) = self.paths.get_mut(path) {
            list.retain_mut(|watch| {
                if watch.kinds & (wanted | recursive) == 0 {
                    return true;
                }
                told.push(watch.connection);
                watch.kinds &= !(wanted & (DATA | CHILD));
                if watch.kinds == 0 {
                    gone.push(Gone(watch.connection));
                }
                watch.kinds != 0
            });
            self.total -= gone.len() - before;
            if list.is_empty() {
                self.paths.remove(path);
            }
        }
        if below && self.recursive > 0 {
            self.above(path, &mut told);
        }
        told
    }

    fn above(&self, path: &str, told: &mut Vec<u32>) {
        let mut at = path;
        while at != "/" {
            at = tree::parent(at);
            let list = self.paths.get(at).map_or(&[][..], Vec::as_slice);
            let recursive = list.iter().filter(|w| w.kinds & RECURSIVE != 0);
            told.extend(recursive.map(|w| w.connection));
        }
        told.sort_unstable();
        told.dedup();
    }

    /// Every path, and the connections that watch it.
    pub(crate) fn by_path(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = u32>)> {
        self.paths
            .iter()
            .map(|(path, list)| (&**path, list.iter().map(|w| w.connection)))
    }
}
