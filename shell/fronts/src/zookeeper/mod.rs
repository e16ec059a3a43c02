//! ZooKeeper's protocol: threads that carry bytes between clients and [`zookeeper::Clients`], which decides.

mod admin;
mod guests;
mod shard;
mod socket;
mod subject;
mod tls;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{FourLetterWord, Moment};
use registry::tree::{Observer, Pulse, SessionId, Tree, TreeEvent};
use registry::{Command, Committed, Registry};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use zookeeper::{Counters, Ensemble, Facts, Limits, Sendings, WatchCounts, text};

use crate::Refused;
pub use admin::serve as serve_admin;
pub use guests::Guests;
use shard::{Arrival, Shard};

/// Clients of one thread that are many: to tell all of them of a change takes so long that another thread is worth its while.
/// (Between what was measured: with 128 one thread is better, with 10,000 two are.)
const MANY: usize = 1_000;

/// What is called with a command's answer, while nobody can read yet what it did.
pub type Done = Box<dyn FnOnce(&Registry, Option<&Committed>) + Send>;

/// What the front asks of the node.
pub trait Store: Send + Sync + 'static {
    /// Reads the registry; nothing changes meanwhile.
    fn read(&self, read: &mut dyn FnMut(&Registry));

    /// Hands over commands, from the front of these on, as long as there is room; those that were taken are gone from
    /// `commands`. They are applied in the order in which they are handed over; if the caller `may_wait`, possibly before
    /// this returns, when the disk has them.
    ///
    /// # Errors
    ///
    /// Why the command that is the first now was not taken.
    fn submit(
        &self,
        commands: &mut VecDeque<(Command, Done)>,
        may_wait: bool,
    ) -> Result<(), Refused>;

    /// Names who sees the tree's changes as they happen.
    fn observe(&self, observer: Arc<dyn Observer>);

    /// Where to say that something was heard of a session's client. Is called while reading.
    fn pulse(&self, session: SessionId) -> Option<Pulse>;

    /// The clock that sessions live by.
    fn now(&self) -> Moment;

    /// Bytes of the log on disk.
    fn log_bytes(&self) -> u64;

    /// Which of several nodes this is; none if there is only one.
    fn node(&self) -> Option<u64>;

    /// Whether this node hears of what the others do: if not for a while, a session may be over that it knows nothing of,
    /// and what is a lock here is another's already.
    fn in_touch(&self) -> bool;

    /// Calls `done` once this node shows all that was committed anywhere when this was called, or with false when that
    /// cannot be.
    fn catch_up(&self, done: Box<dyn FnOnce(bool) + Send>);

    /// The nodes, if there are several.
    fn ensemble(&self) -> Option<Ensemble>;
}

/// How the front is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// What holds for each client.
    pub limits: Limits,
    /// Threads that serve clients.
    pub threads: usize,
    /// How many of them, at the most, where clients are few.
    pub busy: usize,
    /// The most connections at a time; those beyond are closed at once.
    pub max_connections: usize,
    /// How long a client may take to say who it is.
    pub handshake: Duration,
    /// The four-letter words that are answered.
    pub words: Vec<FourLetterWord>,
}

/// A second address of a front, whose clients speak TLS.
pub struct Secure {
    /// Where it listens.
    pub listener: TcpListener,
    /// What handshakes go by; changes hold for those that begin afterwards. None: they are refused.
    pub config: watch::Receiver<Option<Arc<ServerConfig>>>,
}

/// A running front.
pub struct Front {
    shards: Vec<Arc<Shard>>,
    common: Arc<Common>,
}

/// The figures of a front.
pub struct Figures(Arc<Common>);

impl Figures {
    /// What all threads have counted, how many watches there are, and how many connections.
    pub fn read(&self) -> (Counters, WatchCounts, usize) {
        self.0.counters()
    }
}

/// What all threads share.
pub(crate) struct Common {
    store: Arc<dyn Store>,
    options: Options,
    bind: SocketAddr,
    secure: Option<SocketAddr>,
    others: std::sync::OnceLock<Vec<Arc<Shard>>>,
    /// Who was sent to other nodes.
    sendings: Mutex<Sendings>,
}

/// Who sees the tree's changes: every thread's clients may watch them.
struct Fan(Vec<Arc<Shard>>);

impl Front {
    /// Starts the threads, and then takes connections until it is dropped or [`Front::stop`] is called.
    ///
    /// # Errors
    ///
    /// When there are no more threads to be had, or the listener is none.
    pub fn start(
        listener: TcpListener,
        secure: Option<Secure>,
        store: Arc<dyn Store>,
        options: Options,
    ) -> io::Result<Self> {
        let threads = options.threads.max(1);
        let secure_bind = secure.as_ref().map(|s| s.listener.local_addr());
        let common = Arc::new(Common {
            bind: listener.local_addr()?,
            secure: secure_bind.transpose()?,
            store,
            options,
            others: std::sync::OnceLock::new(),
            sendings: Mutex::default(),
        });
        let mut shards = Vec::with_capacity(threads);
        let mut inboxes = Vec::with_capacity(threads);
        for _ in 0..threads {
            let (shard, inbox) = Shard::new(&common);
            shards.push(shard);
            inboxes.push(inbox);
        }
        let _ = common.others.set(shards.clone());
        common.store.observe(Arc::new(Fan(shards.clone())));
        for (shard, inbox) in shards.iter().zip(inboxes) {
            shard::spawn(Arc::clone(shard), Arc::clone(&common), inbox)?;
        }
        tokio::spawn(accept(listener, None, shards.clone(), Arc::clone(&common)));
        if let Some(Secure { listener, config }) = secure {
            let accept = accept(listener, Some(config), shards.clone(), Arc::clone(&common));
            tokio::spawn(accept);
        }
        Ok(Self { shards, common })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.common.bind
    }

    /// Where it listens for clients that speak TLS.
    pub fn secure_address(&self) -> Option<SocketAddr> {
        self.common.secure
    }

    /// Takes no more connections and closes those that there are. Sessions stay, for their clients to come back to.
    pub fn stop(&self) {
        for shard in &self.shards {
            shard.stop();
        }
    }

    /// Where its figures can be read from, for metrics.
    pub fn figures(&self) -> Figures {
        Figures(Arc::clone(&self.common))
    }

    /// Its clients, to be sent to other nodes.
    pub fn guests(&self) -> Guests {
        Guests(Arc::clone(&self.common))
    }

    pub(crate) fn common(&self) -> &Arc<Common> {
        &self.common
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn accept(
    listener: TcpListener,
    secure: Option<watch::Receiver<Option<Arc<ServerConfig>>>>,
    shards: Vec<Arc<Shard>>,
    common: Arc<Common>,
) {
    // At the limit of descriptors or of memory; both pass when others leave.
    let pause = Duration::from_millis(50);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shards[0].stopped() => return,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(pause).await;
            continue;
        };
        let load = |shard: &&Arc<Shard>| shard.connections.load(Relaxed);
        let all: usize = shards.iter().map(|shard| load(&shard)).sum();
        if all >= common.options.max_connections {
            continue;
        }
        let taking = common.options.taking(all);
        let tls = secure.as_ref().map(|config| config.borrow().clone());
        // Nothing that TLS could be spoken with.
        if let Some(None) = tls {
            continue;
        }
        if let Some(shard) = shards[..taking].iter().min_by_key(load)
            && let Ok(stream) = stream.into_std()
        {
            let tls = tls.flatten();
            shard.give(Arrival { stream, peer, tls });
        }
    }
}

impl Options {
    /// How many threads take new clients where there are so many.
    fn taking(&self, clients: usize) -> usize {
        let threads = self.threads.max(1);
        let busy = self.busy.clamp(1, threads);
        if clients < MANY * busy { busy } else { threads }
    }
}

impl Common {
    fn shards(&self) -> &[Arc<Shard>] {
        self.others.get().map_or(&[], Vec::as_slice)
    }

    fn counters(&self) -> (Counters, WatchCounts, usize) {
        let mut all = (Counters::default(), WatchCounts::default(), 0);
        for shard in self.shards() {
            let clients = shard.clients();
            let (counters, watches) = (clients.counters(), clients.watch_counts());
            all.0.received += counters.received;
            all.0.sent += counters.sent;
            all.0.events += counters.events;
            all.0.dropped += counters.dropped;
            all.1.paths += watches.paths;
            all.1.watches += watches.watches;
            all.2 += clients.len();
        }
        all
    }

    /// The answer to a word. Not to be called with a shard's clients locked.
    pub(crate) fn answer(&self, word: FourLetterWord) -> String {
        if !self.options.words.contains(&word) {
            let word = word.as_str();
            return format!("{word} is not executed because it is not in the whitelist.\n");
        }
        if matches!(word, FourLetterWord::Srst | FourLetterWord::Crst) {
            self.reset_counters();
        }
        let mut answer = String::new();
        self.with_facts(&mut |facts| answer = text(word, facts));
        answer
    }

    pub(crate) fn reset_counters(&self) {
        for shard in self.shards() {
            shard.clients().reset_counters();
        }
    }

    pub(crate) fn with_facts(&self, use_facts: &mut dyn FnMut(&Facts<'_>)) {
        let (counters, watches, _) = self.counters();
        let connections = self.shards().iter();
        let connections = connections
            .flat_map(|shard| shard.clients().facts().collect::<Vec<_>>())
            .collect::<Vec<_>>();
        let watched = || {
            let shards = self.shards().iter();
            let watched = shards.flat_map(|shard| shard.clients().watched());
            watched.collect()
        };
        let limits = &self.options.limits;
        // A clone, for nobody may change the registry while the clients are looked at, and that would be long.
        let mut registry = Registry::default();
        self.store.read(&mut |now| registry = now.clone());
        use_facts(&Facts {
            version: env!("CARGO_PKG_VERSION"),
            registry: &registry,
            bind: self.bind,
            secure: self.secure,
            counters,
            connections,
            watches,
            watched: &watched,
            timeouts: (
                limits.min_timeout.as_millis(),
                limits.max_timeout.as_millis(),
            ),
            log_bytes: self.store.log_bytes(),
            ensemble: self.store.ensemble(),
        });
    }
}

impl Observer for Fan {
    fn changed(&self, _: &Tree, events: &[TreeEvent]) {
        for shard in &self.0 {
            shard.clients().changed(events);
        }
    }

    fn session_closed(&self, session: SessionId) {
        for shard in &self.0 {
            shard.clients().session_closed(session);
        }
    }

    fn session_moved(&self, session: SessionId) {
        for shard in &self.0 {
            shard.clients().displace(session);
        }
    }

    fn replaced(&self) {
        for shard in &self.0 {
            shard.clients().end_sessions();
        }
    }

    fn settled(&self) {
        for shard in &self.0 {
            shard.wake_if_listed();
        }
    }
}

#[cfg(test)]
mod tests;
