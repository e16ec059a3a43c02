//! Pointsman, with its API and ZooKeeper's protocol.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use super::{CONNECTIONS, Node};
use crate::pointsman;
use crate::process::lasting_address;

pub(super) fn settings() -> anyhow::Result<String> {
    let version = pointsman::version(&pointsman::binary()?);
    Ok(format!(
        "{version}; workers = 1, durability = \"disk\", no access log, max_connections = {CONNECTIONS}"
    ))
}

pub(super) fn nodes(count: usize, directory: &Path) -> anyhow::Result<Vec<Node>> {
    let binary = pointsman::binary()?;
    let mut peers = Vec::new();
    for number in 1..=count {
        peers.push(format!("n{number} = \"{}\"", lasting_address()?));
    }
    let all = peers.join(", ");
    let mut nodes = Vec::new();
    for (number, peer) in (1..).zip(&peers) {
        let (api, sessions) = (lasting_address()?, lasting_address()?);
        let name = format!("n{number}");
        let data = directory.join(&name);
        let mut text = format!(
            "[node]\nname = \"{name}\"\nworkers = 1\ndurability = \"disk\"\ndata_dir = \"{}\"\n\
             [api]\nbind = \"{api}\"\nmax_connections = {CONNECTIONS}\n[log.access]\nformat = \"off\"\n\
             [front.zookeeper]\nbind = \"{sessions}\"\nmax_connections = {CONNECTIONS}\n",
            data.display()
        );
        if count > 1 {
            let (_, bind) = peer.split_once(" = ").unwrap_or_default();
            writeln!(
                text,
                "[cluster]\nbind = {bind}\ntoken = \"the-secret-of-a-benchmark\"\npeers = {{ {all} }}"
            )?;
        }
        let file = directory.join(format!("{name}.toml"));
        std::fs::write(&file, text)?;
        nodes.push(Node {
            name: format!("pointsman-{count}-{name}"),
            command: pointsman::serve(&binary, &file),
            http: Some(api),
            sessions: Some(sessions),
            process: None,
        });
    }
    Ok(nodes)
}

/// Whether the node that has given this account of the cluster leads it.
pub(super) fn leads(account: &str) -> anyhow::Result<bool> {
    let account: Value = serde_json::from_str(account)?;
    let leader = account["leader"].as_str().context("no leader is told")?;
    Ok(account["node"] == leader)
}
