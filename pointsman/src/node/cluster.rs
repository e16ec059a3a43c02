//! The cluster that the configuration names.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use cluster::{ClusterOptions, Node};
use config::{Config, Durability};
use fronts::{Cluster, ClusterNode};
use tokio::task::JoinHandle;

use super::Shared;
use super::tls::load;
use super::unfit::at;

/// How long until instances of the configuration are tried to be registered again: about as long as an election.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// How often this node's place in the cluster is looked at.
const LOOK: Duration = Duration::from_secs(1);

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
    let node = fitting_name(config)?;
    let joins = !cluster.join.is_empty();
    let peers = cluster.peers.iter().filter(|_| !joins);
    let address = match (&cluster.advertise, cluster.peers.get(node.as_str())) {
        (Some(address), _) | (None, Some(address)) => address.to_string(),
        (None, None) => cluster.bind.to_string(),
    };
    let tls = cluster
        .tls
        .as_ref()
        .map(|files| load::peers(files, &address));
    Ok(Some(ClusterOptions {
        node,
        name: cluster.name.to_string(),
        token: cluster.token.0.to_string(),
        bind: cluster.bind,
        peers: peers
            .map(|(name, at)| (name.to_string(), at.to_string()))
            .collect(),
        join: cluster.join.iter().map(ToString::to_string).collect(),
        address,
        tls: tls.transpose().map_err(at("cluster"))?,
        format: registry::FORMAT,
    }))
}

/// The node's name; a fault if it cannot be one of the cluster that the configuration names, if it names one. What can only be
/// known on the machine itself.
pub(super) fn fitting_name(config: &Config) -> anyhow::Result<String> {
    let node = node_name(config);
    let Some(cluster) = &config.cluster else {
        return Ok(node);
    };
    if config.node.durability == Durability::Memory {
        let what = "a node of a cluster must remember what it voted for: take node.durability = \"memory\" out, or [cluster]";
        return Err(at("node.durability")(anyhow!(what)));
    }
    if cluster.join.is_empty() && !cluster.peers.contains_key(node.as_str()) {
        let names: Vec<&str> = cluster.peers.keys().map(|name| &**name).collect();
        return Err(at("cluster.peers")(anyhow!(
            "this node's name, {node}, is not in [cluster] peers ({}): correct node.name, or add it; or let it join a cluster \
             that there is, with cluster.join",
            names.join(", ")
        )));
    }
    Ok(node)
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

/// How the cluster looks, by what its nodes say.
pub(super) async fn view(registry: &Node) -> Cluster {
    let status = registry.overview().await;
    let alone = status.node.is_empty();
    let nodes = status.nodes.into_iter().filter(|_| !alone);
    let neighbours = registry.neighbours();
    let nodes = nodes.map(|node| {
        let report = node.report.unwrap_or_default();
        let crowd = neighbours.iter().find(|n| *n.name == *node.name);
        let crowd = crowd.map(|neighbour| &neighbour.crowd);
        ClusterNode {
            answers: !report.version.is_empty(),
            name: node.name,
            address: node.address,
            votes: node.votes,
            behind: node.behind,
            heard_ms: node.heard_ms,
            age_ms: report.age,
            revision: Some(report.revision).filter(|_| !report.version.is_empty()),
            disk_free: report.free,
            disk_used: report.used,
            format: Some(report.format).filter(|_| !report.version.is_empty()),
            sessions: crowd.and_then(|crowd| crowd.sessions),
            watches: crowd.map(|crowd| crowd.watches),
            api: crowd
                .filter(|crowd| !crowd.api.is_empty())
                .map(|crowd| format!("http://{}", crowd.api)),
            version: Some(String::from(report.version)).filter(|version| !version.is_empty()),
            fault: report.fault.or(report.trouble).map(String::from),
        }
    });
    Cluster {
        node: status.node,
        leader: status.leader,
        term: status.term,
        revision: status.revision,
        applied: status.applied,
        age_ms: status.age_ms,
        format: status.format,
        nodes: nodes.collect(),
        fault: status.fault,
        refused: status.refused,
        trouble: status.trouble,
        notes: status.notes,
    }
}

/// Says on the terminal what there is to say about this node's place in the cluster, whenever that changes.
pub(super) async fn tell_notes(shared: Arc<Shared>) {
    let (mut told, mut troubled): (Vec<String>, bool) = (Vec::new(), false);
    loop {
        tokio::time::sleep(LOOK).await;
        let trouble = shared.registry.trouble();
        let mut notes = shared.registry.notes();
        notes.extend(trouble.clone());
        if notes != told {
            for note in notes.iter().filter(|note| !told.contains(note)) {
                eprintln!("pointsman: {note}");
            }
            if trouble.is_none() && troubled {
                eprintln!("pointsman: this node takes part in the cluster");
            }
            troubled = trouble.is_some();
            told = notes;
        }
    }
}

/// What other nodes have seen failing is probed now, by whoever leads.
pub(super) async fn hurry_suspected(shared: Arc<Shared>) {
    let Some(mut suspected) = shared.registry.suspected() else {
        return;
    };
    while let Some((key, id)) = suspected.recv().await {
        shared.prober.hurry(&key, &id);
    }
}
