//! What is done to a data directory while its node does not run: going on from one node that is left, from a backup, or
//! from nothing.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use model::Revision;
use registry::Registry;
use registry::replication::{Member, Membership, Origin, Vote};

use crate::card::Card;
use crate::log;
use crate::member::{self, LONE_NODE};
use crate::raft::INCOMING;
use crate::snapshot::{self, ReadError};
use crate::storage::{Disk, Storage};
use crate::store;
use crate::{ClusterOptions, Durability, OpenError, Options, node_number};

/// What a data directory holds after it was rescued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescued {
    /// The last command in it.
    pub revision: Revision,
    /// How many instances.
    pub instances: u64,
    /// The names of the nodes that do not belong to the cluster any more.
    pub left_out: Vec<String>,
}

/// Makes the node of a data directory the only one of its cluster, with all that is in its log. It may have entries that were
/// never acknowledged, and lack those that only the others had. Afterwards it is another node to those, who cannot talk to it.
///
/// A node that was alone becomes the first of a cluster in the same way.
///
/// # Errors
///
/// When the directory cannot be used, is in use, or has nothing in it.
pub fn recover(options: &Options) -> Result<Rescued, OpenError> {
    let cluster = of_cluster(options)?;
    let recovered = store::open(options)?.with_all();
    let (Some(store), Some(applied)) = (&recovered.store, recovered.replica.applied) else {
        return Err(OpenError::Cluster(
            "there is nothing in the data directory to go on from".into(),
        ));
    };
    let before = recovered.replica.membership.map(|(_, members)| members);
    let others = before.iter().flat_map(|members| members.nodes.values());
    let others = others.filter(|member| !member.name.is_empty() && *member.name != *cluster.node);
    let left_out = others.map(|member| member.name.to_string()).collect();
    let term = recovered
        .replica
        .vote
        .map_or(0, |vote| vote.term)
        .max(applied.term);
    let storage = &*store.storage;
    let card = new_card(cluster);
    let origin = Origin {
        entry: applied,
        membership: of_one(cluster, &card),
        since: applied,
        vote: later_than(term, node_number(&cluster.node)),
        position: store.position(),
        proposed: recovered.replica.proposed,
    };
    let registry = &recovered.registry;
    put_in_place(storage, registry, &origin)?;
    card.write(storage)
        .map_err(io_error("write the card in", options))?;
    Ok(Rescued {
        revision: registry.revision(),
        instances: registry.counts().total().into(),
        left_out,
    })
}

/// Begins an empty data directory with a snapshot that [`crate::Node::export`] has made; in a cluster, the node is the only
/// one of it at first.
///
/// # Errors
///
/// When the directory cannot be used, or is not empty, and when the snapshot is damaged.
pub fn restore(options: &Options, file: impl Read) -> Result<Rescued, OpenError> {
    let Durability::Disk(path) = &options.durability else {
        return Err(OpenError::Cluster("there is no data directory".into()));
    };
    let storage = Disk::open(path)?;
    let names = storage.list().map_err(io_error("list", options))?;
    if names.iter().any(|name| is_data(name)) {
        return Err(OpenError::Cluster(format!(
            "{0} is not empty: `pointsman cluster wipe --data-dir {0}` moves aside what is in it",
            path.display()
        )));
    }
    let (registry, origin) = read(file)?;
    let (node, membership, card) = match &options.cluster {
        Some(cluster) => {
            let card = new_card(cluster);
            let node = node_number(&cluster.node);
            (node, of_one(cluster, &card), Some(card))
        }
        None => {
            let alone = Membership::of_one(LONE_NODE, Member::default());
            (LONE_NODE, alone, None)
        }
    };
    let origin = Origin {
        entry: origin.entry,
        membership,
        since: origin.entry,
        vote: later_than(origin.entry.term, node),
        position: 1,
        proposed: origin.proposed,
    };
    put_in_place(&storage, &registry, &origin)?;
    if let Some(card) = card {
        card.write(&storage)
            .map_err(io_error("write the card in", options))?;
    }
    Ok(Rescued {
        revision: registry.revision(),
        instances: registry.counts().total().into(),
        left_out: Vec::new(),
    })
}

/// Checks a snapshot from its first byte to its last; returns its revision and its instances.
///
/// # Errors
///
/// When it is none, or damaged.
pub fn verify(file: impl Read) -> Result<(Revision, u64), OpenError> {
    let (registry, _) = read(file)?;
    Ok((registry.revision(), registry.counts().total().into()))
}

/// Moves a node's data aside, into a directory beneath; returns that one. The node starts as a new one.
///
/// # Errors
///
/// When the directory cannot be used, or is in use.
pub fn wipe(path: &Path) -> Result<PathBuf, OpenError> {
    let storage = Disk::open(path)?;
    let io = |action, path: &Path| {
        let path = path.display().to_string();
        move |source| OpenError::Io {
            action,
            path,
            source,
        }
    };
    let free = (1..).map(|n: u32| path.join(format!("aside-{n}")));
    let aside = free.into_iter().find(|aside| !aside.exists());
    let aside = aside.unwrap_or_else(|| path.join("aside"));
    fs::create_dir(&aside).map_err(io("create", &aside))?;
    let names = storage.list().map_err(io("list", path))?;
    // The card first: without it, what is left is not taken for the node's.
    let (cards, others): (Vec<_>, Vec<_>) = names
        .into_iter()
        .filter(|name| is_data(name))
        .partition(|name| name == Card::FILE);
    for name in cards.iter().chain(&others) {
        let from = path.join(name);
        fs::rename(&from, aside.join(name)).map_err(io("move aside", &from))?;
    }
    storage.sync_directory().map_err(io("sync", path))?;
    Ok(aside)
}

fn is_data(name: &str) -> bool {
    [Card::FILE, snapshot::TEMPORARY, INCOMING].contains(&name)
        || snapshot::revision(name).is_some()
        || log::first_revision(name).is_some()
}

fn of_cluster(options: &Options) -> Result<&ClusterOptions, OpenError> {
    options.cluster.as_ref().ok_or_else(|| {
        OpenError::Cluster(
            "the configuration has no [cluster]: it says who the node is to be, and where others reach it".into(),
        )
    })
}

fn new_card(cluster: &ClusterOptions) -> Card {
    Card {
        name: (&*cluster.node).into(),
        disk: member::new_disk(),
    }
}

fn of_one(cluster: &ClusterOptions, card: &Card) -> Membership {
    let member = Member {
        name: card.name.clone(),
        address: (&*cluster.address).into(),
        disk: card.disk,
        format: cluster.format,
    };
    Membership::of_one(node_number(&cluster.node), member)
}

/// A vote of the node for itself. It leads in a term after all that there were: what it writes would otherwise be earlier than
/// what it has, and the others would take the wrong one of two logs for the newer.
fn later_than(term: u64, node: u64) -> Option<Vote> {
    Some(Vote {
        term: term + 1,
        node,
        committed: false,
    })
}

/// Writes the snapshot that the node is to start from, and removes all others.
fn put_in_place(
    storage: &dyn Storage,
    registry: &Registry,
    origin: &Origin,
) -> Result<(), OpenError> {
    let io = |action| {
        move |source| OpenError::Io {
            action,
            path: "the data directory".into(),
            source,
        }
    };
    snapshot::write(storage, registry, origin, || false).map_err(io("write a snapshot in"))?;
    let kept = snapshot::file_name(registry.revision());
    for name in storage.list().map_err(io("list"))? {
        if snapshot::revision(&name).is_some() && name != kept {
            storage
                .remove(&name)
                .map_err(io("remove an older snapshot in"))?;
        }
    }
    storage.sync_directory().map_err(io("sync"))
}

fn read(file: impl Read) -> Result<(Registry, Origin), OpenError> {
    let name = || String::from("the snapshot");
    match snapshot::read(io::BufReader::with_capacity(1 << 16, file)) {
        Ok((registry, origin, _)) => Ok((registry, origin)),
        Err(ReadError::Io(source)) => Err(OpenError::Io {
            action: "read",
            path: name(),
            source,
        }),
        Err(ReadError::Version(found)) => Err(OpenError::Version {
            file: name(),
            found,
            known: snapshot::VERSION,
        }),
        Err(ReadError::Damaged { offset, found }) => Err(OpenError::Cluster(format!(
            "the snapshot is damaged at byte {offset}: {found}; take another one"
        ))),
    }
}

fn io_error(action: &'static str, options: &Options) -> impl FnOnce(io::Error) -> OpenError {
    let path = match &options.durability {
        Durability::Disk(path) => path.display().to_string(),
        Durability::Memory => String::new(),
    };
    move |source| OpenError::Io {
        action,
        path,
        source,
    }
}
