//! The cluster that the configuration names.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use cluster::{ClusterOptions, Node};
use config::{Config, Durability};
use fronts::{Cluster, ClusterNode};
use tokio::task::JoinHandle;

use super::Shared;
use super::tls::load;

/// How long until instances of the configuration are tried to be registered again: about as long as an election.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// What this node calls itself.
pub(super) fn node_name(config: &Config) -> String {
    match &config.node.name {
        Some(name) => name.to_string(),
        None => rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
    }
}

/// What the registry is told of the cluster; none for a node that is alone.
pub(super) fn options(config: &Config) -> anyhow::Result<Option<ClusterOptions>> {
    let Some(cluster) = &config.cluster else {
        return Ok(None);
    };
    if config.node.durability == Durability::Memory {
        bail!(
            "a node of a cluster must remember what it voted for: take node.durability = \"memory\" out, or [cluster]"
        );
    }
    let node = node_name(config);
    let Some(address) = cluster.peers.get(node.as_str()) else {
        let names: Vec<&str> = cluster.peers.keys().map(|name| &**name).collect();
        bail!(
            "this node's name, {node}, is not in [cluster] peers ({}): correct node.name, or add it",
            names.join(", ")
        );
    };
    let tls = cluster.tls.as_ref().map(load::peers).transpose();
    let peers = cluster.peers.iter();
    Ok(Some(ClusterOptions {
        address: address.to_string(),
        join: Vec::new(),
        node,
        name: cluster.name.to_string(),
        token: cluster.token.0.to_string(),
        bind: cluster.bind,
        peers: peers
            .map(|(name, at)| (name.to_string(), at.to_string()))
            .collect(),
        tls: tls.context("[cluster]: the other nodes cannot be spoken to")?,
    }))
}

/// Registers the configuration's instances; in a cluster, by a task, once there is somebody to agree with: a node starts
/// before the others do.
pub(super) async fn register_statics(
    shared: &Arc<Shared>,
    config: &Arc<Config>,
) -> anyhow::Result<Option<JoinHandle<()>>> {
    if config.cluster.is_none() {
        shared.sync_statics(config).await?;
        return Ok(None);
    }
    let (shared, config) = (shared.clone(), config.clone());
    Ok(Some(tokio::spawn(async move {
        while shared.sync_statics(&config).await.is_err() {
            tokio::time::sleep(TRY_AGAIN).await;
        }
    })))
}

/// How the cluster looks from this node.
pub(super) fn view(registry: &Node) -> Cluster {
    let status = registry.status();
    let alone = status.nodes.len() < 2;
    let nodes = status.nodes.into_iter().filter(|_| !alone);
    let nodes = nodes.map(|node| ClusterNode {
        name: node.name,
        address: node.address,
        votes: node.votes,
        behind: node.behind,
        heard_ms: node.heard_ms,
    });
    Cluster {
        node: status.node,
        leader: status.leader,
        term: status.term,
        revision: status.revision,
        applied: status.applied,
        nodes: nodes.collect(),
        fault: status.fault,
        refused: status.refused,
    }
}
