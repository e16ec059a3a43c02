//! A disk in memory that fails, tears and forgets as a seed says.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use fastrand::Rng;

use super::{File, Storage};
use crate::node::lock;

#[derive(Clone, Default)]
struct Content {
    now: Vec<u8>,
    /// What a power cut is sure to leave.
    synced: Vec<u8>,
}

type Names = BTreeMap<String, Arc<Mutex<Content>>>;

struct State {
    names: Names,
    /// What the directory is sure to hold after a power cut, and what was done to it since.
    synced: Names,
    undone: Vec<Names>,
    random: Rng,
    /// Bytes until it is full.
    room: Option<usize>,
    /// Syncs until one fails.
    syncs: Option<u32>,
    /// How long a sync takes.
    sync_time: Duration,
    /// How many syncs were begun, and which thread has begun the last one.
    begun: (u64, Option<ThreadId>),
    /// Whether taking back a failed write fails too.
    stuck: bool,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct FaultyDisk(Arc<Mutex<State>>);

impl FaultyDisk {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            names: Names::new(),
            synced: Names::new(),
            undone: Vec::new(),
            random: Rng::with_seed(seed),
            room: None,
            syncs: None,
            sync_time: Duration::ZERO,
            begun: (0, None),
            stuck: false,
        })))
    }

    /// Takes so many more bytes, then says it is full; `None` takes everything.
    pub(crate) fn set_room(&self, room: Option<usize>) {
        lock(&self.0).room = room;
    }

    /// Fails the sync after so many more.
    pub(crate) fn fail_sync_after(&self, syncs: Option<u32>) {
        lock(&self.0).syncs = syncs;
    }

    /// Each sync takes so long from now on.
    pub(crate) fn set_sync_time(&self, time: Duration) {
        lock(&self.0).sync_time = time;
    }

    /// How many syncs were begun, and which thread has begun the last one.
    pub(crate) fn syncs_begun(&self) -> (u64, Option<ThreadId>) {
        lock(&self.0).begun
    }

    /// From now on nothing can be cut off.
    pub(crate) fn set_stuck(&self, stuck: bool) {
        lock(&self.0).stuck = stuck;
    }

    /// The power goes: what was synced stays; of the rest any sectors may, and any number of the
    /// directory's changes, in their order.
    pub(crate) fn power_cut(&self) -> Self {
        let mut state = lock(&self.0);
        let state = &mut *state;
        let kept = state.random.usize(0..=state.undone.len());
        let names = match kept {
            0 => &state.synced,
            n => &state.undone[n - 1],
        };
        let names: Names = names
            .iter()
            .map(|(name, content)| {
                let content = remains(&lock(content), &mut state.random);
                (name.clone(), Arc::new(Mutex::new(content)))
            })
            .collect();
        let after = Self::new(state.random.u64(..));
        lock(&after.0).synced.clone_from(&names);
        lock(&after.0).names = names;
        after
    }

    /// A file's bytes.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        lock(&lock(&self.0).names[name]).now.clone()
    }

    /// Puts a file there, as if it had always been.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let content = Content {
            now: bytes.to_vec(),
            synced: bytes.to_vec(),
        };
        let mut state = lock(&self.0);
        let content = Arc::new(Mutex::new(content));
        state.synced.insert(name.into(), Arc::clone(&content));
        state.names.insert(name.into(), content);
    }
}

/// What is left of a file: sector by sector, the new or the old.
fn remains(content: &Content, random: &mut Rng) -> Content {
    const SECTOR: usize = 64; // Smaller than real ones, so that small tests tear more.
    let (long, short) = (
        content.now.len().max(content.synced.len()),
        content.now.len().min(content.synced.len()),
    );
    let len = random.usize(short..=long);
    let mut bytes = vec![0; len];
    for (at, sector) in bytes.chunks_mut(SECTOR).enumerate() {
        let source = match random.bool() {
            true => &content.now,
            false => &content.synced,
        };
        for (i, byte) in sector.iter_mut().enumerate() {
            // Where both agree there is nothing to lose.
            let place = at * SECTOR + i;
            *byte = source.get(place).copied().unwrap_or(0);
        }
    }
    Content {
        now: bytes.clone(),
        synced: bytes,
    }
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, name)
}

impl State {
    fn changed(&mut self) {
        self.undone.push(self.names.clone());
    }
}

impl Storage for FaultyDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.0).names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        let state = lock(&self.0);
        let content = state.names.get(name).ok_or_else(|| missing(name))?;
        Ok(Box::new(Cursor::new(lock(content).now.clone())))
    }

    fn read_from(&self, name: &str, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = self.read(name)?;
        io::copy(&mut file.by_ref().take(offset), &mut io::sink())?;
        Ok(file)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut state = lock(&self.0);
        let content = Arc::new(Mutex::new(Content::default()));
        state.names.insert(name.into(), Arc::clone(&content));
        state.changed();
        Ok(Box::new(FaultyFile {
            disk: self.clone(),
            content,
            at: 0,
        }))
    }

    fn open(&self, name: &str, at: u64) -> io::Result<Box<dyn File>> {
        let state = lock(&self.0);
        let content = state.names.get(name).ok_or_else(|| missing(name))?;
        Ok(Box::new(FaultyFile {
            disk: self.clone(),
            content: Arc::clone(content),
            at: at as usize,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = lock(&self.0);
        let content = state.names.remove(from).ok_or_else(|| missing(from))?;
        state.names.insert(to.into(), content);
        state.changed();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.names.remove(name).ok_or_else(|| missing(name))?;
        state.changed();
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.synced = state.names.clone();
        state.undone.clear();
        Ok(())
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    content: Arc<Mutex<Content>>,
    at: usize,
}

impl File for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.disk.0);
        let taken = state.room.unwrap_or(usize::MAX).min(bytes.len());
        if let Some(room) = &mut state.room {
            *room -= taken;
        }
        let now = &mut lock(&self.content).now;
        now.resize(now.len().max(self.at + taken), 0);
        now[self.at..self.at + taken].copy_from_slice(&bytes[..taken]);
        self.at += taken;
        match taken == bytes.len() {
            true => Ok(()),
            false => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn reserve(&mut self, len: u64) -> io::Result<()> {
        let state = lock(&self.disk.0);
        let now = &mut lock(&self.content).now;
        let more = (len as usize).saturating_sub(now.len());
        match state.room {
            // As file systems do: what there is room for stays.
            Some(room) if room < more => {
                now.resize(now.len() + room, 0);
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => {
                now.resize(now.len() + more, 0);
                Ok(())
            }
        }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        if lock(&self.disk.0).stuck {
            return Err(io::Error::other("stuck"));
        }
        lock(&self.content).now.resize(len as usize, 0);
        self.at = len as usize;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let time = {
            let mut state = lock(&self.disk.0);
            state.begun = (state.begun.0 + 1, Some(std::thread::current().id()));
            state.sync_time
        };
        std::thread::sleep(time);
        let mut state = lock(&self.disk.0);
        if let Some(syncs) = &mut state.syncs {
            match syncs.checked_sub(1) {
                Some(left) => *syncs = left,
                None => return Err(io::Error::other("no longer synced")),
            }
        }
        let mut content = lock(&self.content);
        content.synced = content.now.clone();
        Ok(())
    }
}
