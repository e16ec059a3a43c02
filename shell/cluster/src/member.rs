//! Which node this is: by its configuration, its card, and what it knows of its cluster.

use registry::replication::{Member, Membership, Origin};

use crate::card::Card;
use crate::node::secret;
use crate::storage::Storage;
use crate::store::Replica;
use crate::{ClusterOptions, OpenError, node_number};

/// The number of a node that has never been in a cluster.
pub(crate) const LONE_NODE: u64 = 1;

/// Which node this is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identified {
    pub(crate) node: u64,
    /// Its data directory; see [`Member::disk`].
    pub(crate) disk: u64,
}

/// Which node this is, and what its registry stands for. A directory that is empty becomes that of the node.
pub(crate) fn identity(
    replica: &Replica,
    cluster: Option<&ClusterOptions>,
    storage: Option<&dyn Storage>,
) -> Result<(Identified, Origin), OpenError> {
    let card = match storage {
        Some(storage) => Card::read(storage)?,
        None => None,
    };
    let me = match cluster {
        None => alone(replica)?,
        Some(cluster) => one_of(cluster, card, replica, storage)?,
    };
    let Some(applied) = replica.applied else {
        return Ok((me, Origin::default()));
    };
    // Before logs were replicated, there was nobody else.
    let before = || (applied, Membership::of_one(LONE_NODE, Member::default()));
    let (since, membership) = replica.membership.clone().unwrap_or_else(before);
    let origin = Origin {
        entry: applied,
        membership,
        since,
        proposed: replica.proposed.clone(),
        ..Origin::default()
    };
    Ok((me, origin))
}

fn alone(replica: &Replica) -> Result<Identified, OpenError> {
    let Some((_, membership)) = &replica.membership else {
        let node = LONE_NODE;
        return Ok(Identified { node, disk: 0 });
    };
    let mut nodes = membership.nodes.iter();
    match (nodes.next(), nodes.next()) {
        (Some((node, member)), None) => Ok(Identified {
            node: *node,
            disk: member.disk,
        }),
        _ => Err(OpenError::NotAlone {
            nodes: membership
                .nodes
                .values()
                .map(|m| m.name.to_string())
                .collect(),
        }),
    }
}

fn one_of(
    cluster: &ClusterOptions,
    card: Option<Card>,
    replica: &Replica,
    storage: Option<&dyn Storage>,
) -> Result<Identified, OpenError> {
    let node = node_number(&cluster.node);
    let blank = replica.last.is_none() && replica.vote.is_none();
    let disk = match card {
        Some(card) if *card.name != *cluster.node => {
            return Err(OpenError::Cluster(format!(
                "the data directory belongs to the node {}, and this one is {}: correct node.name, or node.data_dir",
                card.name, cluster.node
            )));
        }
        Some(card) => card.disk,
        None if !blank => {
            return Err(OpenError::Cluster(
                "the data directory belongs to a node that was alone: `pointsman cluster recover -c FILE` makes it the first node of a \
                 cluster, or give this node a directory of its own"
                    .into(),
            ));
        }
        None => begin(&cluster.node, storage)?,
    };
    let known = replica.membership.as_ref().map(|(_, members)| members);
    let mine = known.and_then(|members| members.nodes.get(&node));
    if mine.is_some_and(|member| member.disk != disk) {
        return Err(OpenError::Cluster(
            "the data directory was put together from two: its card, the file `node`, is not that which the cluster knows. \
             Empty it with `pointsman cluster wipe -c FILE`, and take the node in again"
                .into(),
        ));
    }
    Ok(Identified { node, disk })
}

/// Begins a data directory; returns its number.
pub(crate) fn begin(name: &str, storage: Option<&dyn Storage>) -> Result<u64, OpenError> {
    let card = Card {
        name: name.into(),
        disk: new_disk(),
    };
    if let Some(storage) = storage {
        card.write(storage).map_err(|source| OpenError::Io {
            action: "write",
            path: "node".into(),
            source,
        })?;
    }
    Ok(card.disk)
}

/// A number for a data directory that is begun. Zero stands for none.
pub(crate) fn new_disk() -> u64 {
    secret().max(1)
}
