//! The registry's tree, as ZooKeeper's front wants it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ::cluster::NodeStatus;
use config::{Config, Zookeeper};
use fronts::Refused;
use fronts::zookeeper::{Done, Figures, Front, Guests, Options, Secure, Store, serve_admin};
use model::{Moment, Secret};
use registry::tree::{Observer, Pulse, SessionId, Tree, TreeEvent};
use registry::{Command, Registry};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use zookeeper::{Ensemble, Limits};

use super::directory::refused;
use super::project::{self, Projection};
use super::{Shared, cores};

/// The longest that a node serves sessions without hearing of the others; an election takes less.
const OUT_OF_TOUCH: Duration = Duration::from_secs(2);
/// Who lacks fewer entries than this follows closely, for those who watch over ZooKeeper's followers.
const CLOSE: u64 = 1_000;
/// Threads at most, unless told otherwise. More than that and the log is what everybody waits for.
const THREADS: usize = 4;
/// How long a client may take to say who it is: as long as the slowest network's handshake, and half of it is that.
const HANDSHAKE: Duration = Duration::from_secs(10);

struct Local {
    shared: Arc<Shared>,
    projection: Arc<Projection>,
    /// How long a node may hear nothing of the others and serve sessions all the same.
    out_of_touch: Duration,
    /// Whether clients may read after that.
    readers: bool,
}

/// What metrics read.
pub(super) struct Watched {
    pub(super) figures: Figures,
    pub(super) guests: Guests,
    pub(super) projection: Arc<Projection>,
}

/// The clients, who watch, and the catalog, which follows.
struct Both(Arc<dyn Observer>, Arc<Projection>);

impl Observer for Both {
    fn changed(&self, tree: &Tree, events: &[TreeEvent]) {
        self.0.changed(tree, events);
        self.1.changed(tree, events);
    }

    fn session_closed(&self, session: SessionId) {
        self.0.session_closed(session);
        self.1.session_closed(session);
    }

    fn session_moved(&self, session: SessionId) {
        self.0.session_moved(session);
        self.1.session_moved(session);
    }

    fn replaced(&self) {
        self.0.replaced();
        self.1.replaced();
    }

    fn settled(&self) {
        self.0.settled();
        self.1.settled();
    }
}

impl Store for Local {
    fn read(&self, read: &mut dyn FnMut(&Registry)) {
        self.shared.registry.read(read);
    }

    fn submit(
        &self,
        commands: &mut VecDeque<(Command, Done)>,
        may_wait: bool,
    ) -> Result<(), Refused> {
        let submitted = self.shared.registry.submit_with(commands, may_wait);
        submitted.map_err(|why| refused(&why))
    }

    fn observe(&self, observer: Arc<dyn Observer>) {
        let both = Both(observer, self.projection.clone());
        self.shared.registry.observe_tree(Arc::new(both));
    }

    fn pulse(&self, session: SessionId) -> Option<Pulse> {
        self.shared.registry.pulse(session)
    }

    fn now(&self) -> Moment {
        self.shared.registry.now()
    }

    fn log_bytes(&self) -> u64 {
        self.shared.registry.stats().log_bytes
    }

    fn node(&self) -> Option<u64> {
        self.shared.registry.number()
    }

    fn in_touch(&self) -> bool {
        let age = self.shared.registry.age();
        age.is_some_and(|age| age <= self.out_of_touch)
    }

    fn catch_up(&self, done: Box<dyn FnOnce(bool) + Send>) {
        let registry = self.shared.registry.clone();
        tokio::spawn(async move { done(registry.catch_up().await.is_ok()) });
    }

    fn ensemble(&self) -> Option<Ensemble> {
        self.shared.registry.number()?;
        let status = self.shared.registry.status();
        let member = |node: &NodeStatus| zookeeper::Member {
            address: node.address.clone(),
            votes: node.votes,
        };
        let own = status.nodes.iter().position(|n| n.name == status.node);
        let close = |n: &&NodeStatus| n.votes && n.behind.is_some_and(|behind| behind < CLOSE);
        let synced = status.nodes.iter().filter(close).count();
        Some(Ensemble {
            members: status.nodes.iter().map(member).collect(),
            own: own.unwrap_or_default(),
            leads: status.leader.as_ref() == Some(&status.node),
            in_touch: self.in_touch(),
            readers: self.readers,
            synced,
        })
    }
}

/// The addresses of the front, bound before anything else happens.
pub(super) struct Bound {
    clients: TcpListener,
    secure: Option<TcpListener>,
    admin: Option<TcpListener>,
}

/// Binds what the configuration says.
pub(super) fn bind(config: &Config) -> Result<Option<Bound>, proxy::BindError> {
    let Some(front) = &config.front.zookeeper else {
        return Ok(None);
    };
    Ok(Some(Bound {
        clients: super::listen(front.bind)?,
        secure: front
            .tls
            .as_ref()
            .map(|_| super::listen(front.tls_bind))
            .transpose()?,
        admin: front.admin.map(super::listen).transpose()?,
    }))
}

/// Serves ZooKeeper's clients.
pub(super) fn start(
    bound: Bound,
    shared: &Arc<Shared>,
    config: &Config,
) -> anyhow::Result<(Front, JoinHandle<()>)> {
    let front = config.front.zookeeper.as_ref();
    let patterns = front.map(|front| front.catalog.clone());
    let projection = Arc::new(Projection::new(patterns.unwrap_or_default()));
    let options = options(front, shared.registry.number());
    // Sessions whose clients are here end elsewhere once nothing was heard of them for their timeout: before that, they have
    // to know that they may have.
    let out_of_touch = (options.limits.min_timeout / 2).min(OUT_OF_TOUCH);
    let store = Local {
        shared: shared.clone(),
        projection: projection.clone(),
        out_of_touch,
        readers: options.limits.readers,
    };
    let secure = bound.secure.map(|listener| Secure {
        listener,
        config: shared.zookeeper_tls.subscribe(),
    });
    let front = Front::start(bound.clients, secure, Arc::new(store), options)?;
    let _ = shared.zookeeper.set(Watched {
        figures: front.figures(),
        guests: front.guests(),
        projection: projection.clone(),
    });
    let projecting = tokio::spawn(project::run(shared.clone(), projection));
    if let Some(admin) = bound.admin {
        // Ends with the process: its answers are for people and monitors.
        let names = super::reach::names(config, admin.local_addr()?);
        tokio::spawn(serve_admin(admin, &front, names));
    }
    Ok((front, projecting))
}

fn options(front: Option<&Zookeeper>, node: Option<u64>) -> Options {
    let mut limits = Limits {
        server: node.map_or(1, |node| (node % 254 + 1) as u8),
        ..Limits::default()
    };
    let mut options = Options {
        limits: limits.clone(),
        threads: cores().min(THREADS),
        // The log's thread and whoever asks need cores, too: with a thread for each core they take it from each other in
        // the middle of their work. (Measured on two cores, 128 sessions: with one thread instead of two a get takes 20 %
        // less of the processor, and its p99 is 1.5 instead of 4.5 ms. But ten thousand that watch one node are told of its
        // change in 115 instead of 80 ms.)
        busy: (cores() / 2).clamp(1, THREADS),
        max_connections: usize::MAX,
        handshake: HANDSHAKE,
        words: Vec::new(),
    };
    if let Some(front) = front {
        limits.readers = front.read_only;
        limits.min_timeout = front.min_session_timeout;
        limits.max_timeout = front.max_session_timeout.max(front.min_session_timeout);
        let digest = front.super_digest.as_ref();
        limits.super_digest = digest.map(|Secret(digest)| digest.clone());
        limits.sasl_users = front.sasl_users.clone();
        if let Some(threads) = front.threads {
            (options.threads, options.busy) = (threads.into(), threads.into());
        }
        options.max_connections = front.max_connections as usize;
        options.words.clone_from(&front.words);
    }
    Options { limits, ..options }
}
