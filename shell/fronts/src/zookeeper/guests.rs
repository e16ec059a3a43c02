use std::sync::{Arc, MutexGuard, PoisonError};

use registry::tree::SessionId;
use zookeeper::Sendings;

use super::Common;

/// The clients of a front that have sessions.
pub struct Guests(pub(super) Arc<Common>);

impl Guests {
    /// How many there are.
    pub fn count(&self) -> usize {
        let shards = self.0.shards().iter();
        shards.map(|shard| shard.clients().sessions()).sum()
    }

    /// Closes the connections of so many that are at rest, at most, so that they go to other nodes; returns how many.
    pub fn send_away(&self, most: usize) -> usize {
        let now = self.0.store.now();
        let mut candidates = Vec::new();
        for shard in self.0.shards() {
            let clients = shard.clients();
            candidates.extend(clients.candidates(now).map(|c| (shard, c)));
        }
        let chosen = self.0.sendings().choose(candidates, most, now);
        for (shard, key) in &chosen {
            // One that has asked for something meanwhile is answered first.
            shard.clients().end(*key);
        }
        for shard in self.0.shards() {
            shard.wake_if_listed();
        }
        chosen.len()
    }

    /// Sessions that come from these nodes are passed on from now on, each once.
    pub fn pass_on_from(&self, nodes: Vec<u64>) {
        let (now, own) = (self.0.store.now(), self.0.store.node());
        let mut nodes = Some(nodes);
        // The registry first, as whoever serves a client has it when it asks whether that is passed on.
        self.0.store.read(&mut |registry| {
            let node = |session| registry.tree().session(session).map(|s| s.node);
            let mut sendings = self.0.sendings();
            sendings.pass_on_from(nodes.take().unwrap_or_default());
            sendings.forget(|session| node(session) == own, now);
        });
    }
}

impl Common {
    pub(super) fn sendings(&self) -> MutexGuard<'_, Sendings> {
        self.sendings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a client is to look for another node; see [`Sendings::passes_on`].
    pub(super) fn passes_on(&self, session: SessionId, timeout: u32, node: u64) -> bool {
        let now = self.store.now();
        self.sendings().passes_on(session, timeout, node, now)
    }
}
