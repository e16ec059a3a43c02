//! A node among others: what it knows of them, what may be relied on when it is read, and who is to belong to them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use model::{InstanceId, Moment, ServiceKey};
use registry::replication::{Change, Membership, Report};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::crowd::Crowds;
use crate::node::{Shared, lock};
use crate::{Durability, Node, Options, Status};

/// How long a read that is to be linearizable waits for a leader: as long as a write does.
const PATIENCE: Duration = Duration::from_secs(5);

/// A leader that no majority has confirmed for longer than this has been followed by another, or cannot do anything.
pub(crate) const CONFIRMED: Duration = Duration::from_millis(1_500);

/// Instances that may wait to be looked at.
const SUSPECTS: usize = 1_024;

/// Nodes whose formats are remembered: more than a cluster has.
const MET: usize = 1_024;

/// Why a read was refused that was to be newer than what this node can answer for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// Nobody has confirmed in time what is committed.
    #[error("no leader has confirmed in time what is committed{}", because(trouble.as_deref()))]
    Unconfirmed {
        /// What keeps this node from taking part, if anything does.
        trouble: Option<Box<str>>,
    },
    /// This node's copy may be older than wanted.
    #[error("this node's copy {}, and {wanted:?} at most was asked for{}", how_old(*.age), because(trouble.as_deref()))]
    TooOld {
        /// How old it may be; none if that is not known.
        age: Option<Duration>,
        /// What was asked for.
        wanted: Duration,
        /// What keeps this node from taking part, if anything does.
        trouble: Option<Box<str>>,
    },
}

/// Why the cluster was not changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{why}")]
pub struct ChangeError {
    /// Whether it may be done a moment later.
    pub passing: bool,
    /// Why, and what to do.
    pub why: Box<str>,
}

/// What a node among others keeps besides the registry.
#[derive(Debug)]
pub(crate) struct Company {
    pub(crate) name: Box<str>,
    /// The data directory; see [`registry::replication::Member::disk`].
    pub(crate) disk: u64,
    /// The latest format that this node reads.
    pub(crate) format: u8,
    /// Those that others have said they read, by node and data directory, as they came last.
    formats: Mutex<BTreeMap<(u64, u64), u8>>,
    /// Whom the configuration names.
    pub(crate) peers: BTreeMap<String, String>,
    /// Why the others may not take this node's certificate.
    doubt: Option<String>,
    pub(crate) directory: Option<PathBuf>,
    /// The moment whose whole state was applied here, in nanoseconds; zero if there was none.
    fresh: AtomicU64,
    /// What keeps this node from taking part, and what to do.
    trouble: Mutex<Option<Box<str>>>,
    /// Its disk takes nothing, so that another node is to lead.
    pub(crate) resigns: AtomicBool,
    /// The clients that this node and the others serve.
    pub(crate) crowds: Crowds,
    asks: mpsc::UnboundedSender<Ask>,
    confirms: mpsc::UnboundedSender<Confirm>,
    /// Instances that other nodes saw failing, and whoever looks at them.
    suspects: mpsc::Sender<(ServiceKey, InstanceId)>,
    suspected: Mutex<Option<mpsc::Receiver<(ServiceKey, InstanceId)>>>,
}

/// What is asked of the thread that takes part.
pub(crate) enum Ask {
    /// Change who belongs to the cluster, or who leads.
    Change(Change, oneshot::Sender<Result<Box<str>, ChangeError>>),
    /// Let another node lead, if this one does.
    HandOver(oneshot::Sender<()>),
    /// The leader is to look at these instances.
    Suspect(Vec<(ServiceKey, InstanceId)>),
    /// How all nodes are.
    Overview(oneshot::Sender<BTreeMap<u64, Report>>),
}

/// Ends once everything that was acknowledged anywhere before it was sent is applied here.
pub(crate) type Confirm = oneshot::Sender<()>;

/// What is asked, on its way.
pub(crate) struct Asked {
    pub(crate) asks: mpsc::UnboundedReceiver<Ask>,
    pub(crate) confirms: mpsc::UnboundedReceiver<Confirm>,
}

fn because(trouble: Option<&str>) -> String {
    trouble.map_or_else(String::new, |trouble| format!(": {trouble}"))
}

fn how_old(age: Option<Duration>) -> String {
    match age {
        Some(age) => format!("may be {age:.1?} old"),
        None => "may be of any age".into(),
    }
}

impl Company {
    pub(crate) fn new(options: &Options, disk: u64) -> (Self, Asked) {
        let cluster = options.cluster.as_ref();
        let directory = match &options.durability {
            Durability::Disk(path) => Some(path.clone()),
            Durability::Memory => None,
        };
        let (asks, asked) = mpsc::unbounded_channel();
        let (confirms, confirmed) = mpsc::unbounded_channel();
        let (suspects, suspected) = mpsc::channel(SUSPECTS);
        let company = Self {
            name: cluster.map_or("", |c| &c.node).into(),
            disk,
            format: cluster.map_or(registry::FORMAT, |c| c.format),
            formats: Mutex::default(),
            peers: cluster.map(|c| c.peers.clone()).unwrap_or_default(),
            doubt: cluster.and_then(|c| c.tls.as_ref()?.doubt.clone()),
            directory,
            fresh: AtomicU64::new(0),
            trouble: Mutex::default(),
            resigns: AtomicBool::new(false),
            crowds: Crowds::default(),
            asks,
            confirms,
            suspects,
            suspected: Mutex::new(Some(suspected)),
        };
        let asked = Asked {
            asks: asked,
            confirms: confirmed,
        };
        (company, asked)
    }

    /// A node has come, and said what it reads.
    pub(crate) fn met(&self, node: u64, disk: u64, format: u8) {
        let mut formats = lock(&self.formats);
        // Strangers may come too, any number of them: those that are no members are forgotten.
        if formats.len() >= MET {
            formats.clear();
        }
        formats.insert((node, disk), format);
    }

    /// What a node reads, by its own word; none if it has not come since this one started.
    pub(crate) fn format_of(&self, node: u64, disk: u64) -> Option<u8> {
        lock(&self.formats).get(&(node, disk)).copied()
    }

    /// These are to be looked at, here. Beyond what waits already they are forgotten: their turn comes anyway.
    pub(crate) fn suspect(&self, instances: Vec<(ServiceKey, InstanceId)>) {
        for instance in instances {
            let _ = self.suspects.try_send(instance);
        }
    }

    /// Everything that was committed by then is applied.
    pub(crate) fn is_fresh_as_of(&self, then: Moment) {
        self.fresh.fetch_max(then.as_nanos().max(1), Relaxed);
    }

    /// What is applied here stands for no moment any more.
    pub(crate) fn is_stale(&self) {
        self.fresh.store(0, Relaxed);
    }

    /// How long ago what is applied here was sure to be all there was; none if it never was.
    pub(crate) fn age(&self, now: Moment) -> Option<Duration> {
        let fresh = self.fresh.load(Relaxed);
        (fresh > 0).then(|| now.since(Moment::from_nanos(fresh)))
    }

    /// Notes what keeps this node from taking part, or that nothing does.
    pub(crate) fn set_trouble(&self, trouble: Option<&str>) {
        let mut noted = lock(&self.trouble);
        if noted.as_deref() != trouble {
            *noted = trouble.map(Into::into);
        }
    }

    pub(crate) fn trouble(&self) -> Option<Box<str>> {
        lock(&self.trouble).clone()
    }

    /// In which nodes the configuration differs from who belongs to the cluster.
    fn differences(&self, members: &Membership) -> Vec<String> {
        if self.peers.is_empty() || members.nodes.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for (name, address) in &self.peers {
            match members.named(name) {
                None => found.push(format!("{name} is no member")),
                Some((_, member)) if *member.address != **address => {
                    found.push(format!("{name} is at {}", member.address));
                }
                Some(_) => {}
            }
        }
        for member in members.nodes.values() {
            if !self.peers.contains_key(&*member.name) {
                found.push(format!("{} belongs to it, too", member.name));
            }
        }
        found
    }
}

impl Shared {
    /// See [`Node::age`].
    pub(crate) fn age(&self) -> Option<Duration> {
        match self.alone {
            true => Some(Duration::ZERO),
            false => self.company.age(self.now()),
        }
    }
}

impl Node {
    /// How old what this node answers may be: what is applied here was all there was that long ago, or later. None if
    /// nobody has ever confirmed that, or this node does not belong to the cluster any more.
    pub fn age(&self) -> Option<Duration> {
        self.shared().age()
    }

    /// Why nobody should go by what this node has: it has nothing yet, or belongs to the others no more. One that has been
    /// started again and hears nobody goes on with what it had.
    pub fn is_out_because(&self) -> Option<Box<str>> {
        let shared = self.shared();
        if shared.age().is_some() {
            return None;
        }
        let empty = || shared.state().origin.entry.index == 0;
        let first = || "it has not heard of the other nodes yet".into();
        shared.company.trouble().or_else(|| empty().then(first))
    }

    /// The name of the node that leads, as far as this one knows; none for a node that is alone.
    pub fn leader(&self) -> Option<std::sync::Arc<str>> {
        lock(&self.shared().known).leader_name.clone()
    }

    /// The same, but for a leader whom no majority has confirmed lately: it leads nobody, and cannot know who does.
    pub fn confirmed_leader(&self) -> Option<std::sync::Arc<str>> {
        // One that has just begun has not asked yet.
        let confirmed = || self.age().is_none_or(|age| age <= CONFIRMED);
        self.leader().filter(|_| !self.leads() || confirmed())
    }

    /// Waits until everything that was acknowledged anywhere before this was called is applied here: what is read
    /// afterwards is linearizable.
    ///
    /// # Errors
    ///
    /// When no leader confirms in five seconds what that is.
    pub async fn catch_up(&self) -> Result<(), ReadError> {
        match self.confirmed_within(PATIENCE).await {
            true => Ok(()),
            false => Err(ReadError::Unconfirmed {
                trouble: self.shared().company.trouble(),
            }),
        }
    }

    /// Waits until what is applied here was all there was no longer than `wanted` ago.
    ///
    /// # Errors
    ///
    /// When that is not confirmed within `wanted`.
    pub async fn no_older_than(&self, wanted: Duration) -> Result<(), ReadError> {
        let young = |age: Option<Duration>| age.is_some_and(|age| age <= wanted);
        if young(self.age()) {
            return Ok(());
        }
        // What takes longer to be confirmed is too old by then.
        self.confirmed_within(wanted.min(PATIENCE)).await;
        match self.age() {
            age if young(age) => Ok(()),
            age => Err(ReadError::TooOld {
                age,
                wanted,
                trouble: self.shared().company.trouble(),
            }),
        }
    }

    async fn confirmed_within(&self, patience: Duration) -> bool {
        let shared = self.shared();
        if shared.alone {
            return true;
        }
        let (confirm, confirmed) = oneshot::channel();
        let sent = shared.company.confirms.send(confirm).is_ok();
        sent && matches!(timeout(patience, confirmed).await, Ok(Ok(())))
    }

    /// Changes who belongs to the cluster, or who leads it; any node may be asked. Returns what there is to say about it.
    ///
    /// # Errors
    ///
    /// When it was not done, or not in time.
    pub async fn change_cluster(&self, change: Change) -> Result<Box<str>, ChangeError> {
        let gone = |why: &str| ChangeError {
            passing: false,
            why: why.into(),
        };
        if self.shared().alone {
            return Err(gone(
                "this node is alone: give it [cluster] in its configuration first",
            ));
        }
        let (answer, answered) = oneshot::channel();
        let ask = Ask::Change(change, answer);
        let stopped = || gone("this node is shutting down");
        let sent = self.shared().company.asks.send(ask);
        sent.map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Lets another node lead, if this one does and there is one: to be called before it is stopped. Takes as long as that
    /// takes, some seconds at most.
    pub async fn hand_over(&self) {
        let (answer, answered) = oneshot::channel();
        if !self.shared().alone
            && self
                .shared()
                .company
                .asks
                .send(Ask::HandOver(answer))
                .is_ok()
        {
            let _ = answered.await;
        }
    }

    /// Asks the leader to look at these instances: they failed where this node looked at them.
    pub fn suspect(&self, instances: Vec<(ServiceKey, InstanceId)>) {
        let asks = &self.shared().company.asks;
        // Nobody is told that it was not passed on: the leader looks at all of them anyway.
        let _ = asks.send(Ask::Suspect(instances));
    }

    /// Instances that other nodes have seen failing, for whoever leads to look at; the first caller has them all, later ones
    /// get `None`.
    pub fn suspected(&self) -> Option<mpsc::Receiver<(ServiceKey, InstanceId)>> {
        lock(&self.shared().company.suspected).take()
    }

    /// How the cluster looks, by what its nodes say of themselves; those that do not answer in half a second are left out of
    /// that.
    pub async fn overview(&self) -> Status {
        let (answer, answered) = oneshot::channel();
        let asked = !self.shared().alone
            && self
                .shared()
                .company
                .asks
                .send(Ask::Overview(answer))
                .is_ok();
        let reports = match asked {
            true => answered.await.unwrap_or_default(),
            false => BTreeMap::new(),
        };
        self.status_with(&reports)
    }

    /// What keeps this node from taking part in the cluster, and what to do.
    pub fn trouble(&self) -> Option<String> {
        self.shared().company.trouble().map(String::from)
    }

    /// In what this node's configuration differs from the cluster, which is what holds.
    pub fn notes(&self) -> Vec<String> {
        let shared = self.shared();
        let mut notes: Vec<String> = shared.company.doubt.iter().cloned().collect();
        let members = lock(&shared.known).membership.clone();
        let differences = shared.company.differences(&members);
        if !differences.is_empty() {
            notes.push(format!(
                "[cluster] peers differs from the cluster, whose membership is what holds: {}",
                differences.join(", ")
            ));
        }
        notes
    }
}
