//! `[cluster]`: the other nodes, and how they know each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use model::Secret;

use crate::declare::{declare, resolved};
use crate::fault::Severity;
use crate::reader::{Log, Reader};
use crate::rule::{absent, default, required};
use crate::tree::{Node, Raw, Table};
use crate::value::Resolved;

/// Shorter ones can be tried out.
const SHORTEST_TOKEN: usize = 16;

/// The cluster that a node belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster's name.
    pub name: Box<str>,
    /// Where the other nodes come in.
    pub bind: SocketAddr,
    /// Whom the cluster begins with, by name, this one too, and where the others reach them. None for a node that joins one.
    pub peers: BTreeMap<Box<str>, Box<str>>,
    /// Where members are of the cluster that this node joins, if it does.
    pub join: Vec<Box<str>>,
    /// Where the others reach this node, if not by `peers` or `bind`.
    pub advertise: Option<Box<str>>,
    /// Where clients reach this node's API, if not by the API's address.
    pub advertise_api: Option<Box<str>>,
    /// Whether clients that hold connections are spread over the nodes.
    pub spread: bool,
    /// This node's part of them is as its weight is to those of all.
    pub weight: u16,
    /// The secret that they share.
    pub token: Secret,
    /// Files with this node's certificate, its key, and the authority that has signed those of all nodes.
    pub tls: Option<[PathBuf; 3]>,
}

declare! {
    /// The cluster that this node belongs to: its nodes keep the same registry, and each of them answers.
    pub(crate) struct ClusterKeys {
        /// The cluster's name. Nodes of another one are refused.
        name: Box<str> => default("pointsman").restart(),
        /// The address where the other nodes come in.
        bind: SocketAddr => required().restart(),
        /// Whom the cluster begins with: all nodes by their `node.name`, this one too, and where the others reach them, as
        /// `"host:port"`. The same on all nodes, which must all run the first time. Three survive the loss of any one, five of any
        /// two. Later, who belongs to the cluster is changed with `pointsman cluster`, and this is not looked at.
        peers: Option<BTreeMap<Box<str>, Box<str>>> => absent("only with join").restart(),
        /// Where some members are of a cluster that there is already, as `"host:port"`: this node is taken in by it, as an observer
        /// at first, and not one that it begins with.
        join: Option<Vec<Box<str>>> => absent("a cluster begins with peers").restart(),
        /// Where the others reach this node, as `"host:port"`.
        advertise: Option<Box<str>> => absent("its entry in peers; with join, bind").restart(),
        /// Where clients reach this node's API, as `"host:port"`: other nodes send them there.
        advertise_api: Option<Box<str>> => absent("api.bind; if that is any address, its port at the host of this node's entry in peers"),
        /// Whether this node sends clients on that hold connections, ZooKeeper's and watches, when it has more than its share of
        /// them: one in a hundred each second, at rest, once the nodes have been the same for a while.
        // Both kinds of clients connect again by themselves, as they must whenever a node is restarted; without it, the node that was
        // restarted has nobody until others are.
        spread: bool => default(true),
        /// This node's share of clients that hold connections, and of subscribers' names, is as its weight is to those of all
        /// nodes. `0` gives all of them away, before the node is stopped, say.
        weight: u16 => default(100u16).within(0..=10_000),
        /// A secret of at least 16 characters that all nodes share; whoever does not know it is refused.
        token: Secret => required().restart(),
        /// A PEM file with this node's certificate, which names the host in its entry of `peers`. With it the connections
        /// between nodes are encrypted, and both sides show one.
        cert: Option<PathBuf> => absent("connections are not encrypted, which is allowed on loopback only").restart(),
        /// A PEM file with the certificate's private key.
        key: Option<PathBuf> => absent("only without cert").restart(),
        /// A PEM file with the authority that has signed the certificates of all nodes, and of nobody else.
        ca: Option<PathBuf> => absent("only without cert").restart(),
    }
}

resolved!(Cluster);

impl Resolved for Cluster {
    type Keys = ClusterKeys;

    fn resolve(keys: ClusterKeys, node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let before = cx.log.errors();
        if keys.token.0.len() < SHORTEST_TOKEN {
            let path = format!("{}.token", cx.path());
            let hint = "16 characters at least: `openssl rand -hex 16` makes one";
            cx.at_key(Severity::Error, &path, "is too short", hint);
        }
        let peers = keys.peers.clone().unwrap_or_default();
        if peers.is_empty() && keys.join.iter().flatten().next().is_none() {
            let path = format!("{}.peers", cx.path());
            let hint = "name all nodes: peers = { edge-1 = \"10.0.0.1:7071\", … }, or with join those of a cluster that there is; a \
                        node without others needs no [cluster]";
            let at = cx.place_of(&path).unwrap_or(node.at);
            cx.log.error(at, path, "names nobody", hint);
        }
        check_addresses(&keys, cx);
        let tls = match (keys.cert, keys.key, keys.ca) {
            (Some(cert), Some(key), Some(ca)) => Some([cert, key, ca]),
            (None, None, None) => None,
            _ => {
                let path = format!("{}.cert", cx.path());
                let hint = "cert, key and ca are given together, or none of them";
                cx.at_key(Severity::Error, &path, "lacks the others", hint);
                return None;
            }
        };
        if tls.is_none() && !keys.bind.ip().is_loopback() {
            let path = format!("{}.bind", cx.path());
            let hint = "give cert, key and ca: what nodes say to each other must not be read or changed on its way";
            cx.at_key(Severity::Error, &path, "is not a loopback address", hint);
        }
        (cx.log.errors() == before).then_some(Self {
            name: keys.name,
            bind: keys.bind,
            peers,
            join: keys.join.unwrap_or_default(),
            advertise: keys.advertise,
            advertise_api: keys.advertise_api,
            spread: keys.spread,
            weight: keys.weight,
            token: keys.token,
            tls,
        })
    }

    fn keys(&self) -> ClusterKeys {
        let [cert, key, ca] = match &self.tls {
            Some(files) => files.clone().map(Some),
            None => [None, None, None],
        };
        ClusterKeys {
            name: self.name.clone(),
            bind: self.bind,
            peers: Some(self.peers.clone()).filter(|peers| !peers.is_empty()),
            join: Some(self.join.clone()).filter(|join| !join.is_empty()),
            advertise: self.advertise.clone(),
            advertise_api: self.advertise_api.clone(),
            spread: self.spread,
            weight: self.weight,
            token: self.token.clone(),
            cert,
            key,
            ca,
        }
    }
}

fn check_addresses(keys: &ClusterKeys, cx: &mut Reader<'_, '_>) {
    let hint = "a host and a port, such as \"10.0.0.1:7071\"";
    for (name, address) in keys.peers.iter().flatten() {
        if !is_address(address) || name.is_empty() || name.len() > 255 {
            let path = format!("{}.peers", cx.path());
            cx.at_key(Severity::Error, &path, "has an entry of another form", hint);
        }
    }
    for (key, addresses) in [
        ("join", keys.join.as_deref().unwrap_or_default()),
        ("advertise", keys.advertise.as_slice()),
        ("advertise_api", keys.advertise_api.as_slice()),
    ] {
        if !addresses.iter().all(|address| is_address(address)) {
            let path = format!("{}.{key}", cx.path());
            cx.at_key(Severity::Error, &path, "is of another form", hint);
        }
    }
    // Nobody reaches a node at "any address".
    if keys.peers.is_none() && keys.advertise.is_none() && keys.bind.ip().is_unspecified() {
        let path = format!("{}.bind", cx.path());
        let hint = "say with advertise where the others reach this node";
        cx.at_key(
            Severity::Error,
            &path,
            "is no address to be reached at",
            hint,
        );
    }
}

/// Whether it is a host and a port.
fn is_address(text: &str) -> bool {
    let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    text.len() <= 255 && matches!(port, Some(Ok(1..)))
}

/// What `[node]` must be like for `[cluster]`. Looks at the tree as written, so that it finds what it finds whatever else is wrong.
pub(crate) fn suits_node(root: &Node, log: &mut Log<'_>) {
    let Raw::Table(root) = &root.raw else { return };
    let (Some(cluster), Some(node)) = (below(root, "cluster"), below(root, "node")) else {
        return;
    };
    let name = match node.get("name").map(|entry| &entry.node) {
        Some(Node {
            at,
            raw: Raw::Text { text, .. },
        }) => Some((*at, text)),
        _ => None,
    };
    let peers = below(cluster, "peers").filter(|_| !cluster.contains_key("join"));
    if let (Some((at, name)), Some(peers)) = (name, peers)
        && !peers.contains_key(name)
    {
        let names: Vec<&str> = peers.keys().map(String::as_str).collect();
        let what = format!("is not in [cluster] peers ({})", names.join(", "));
        let hint = "correct it, add it there, or join a cluster that there is with cluster.join";
        log.error(at, "node.name", what, hint);
    }
}

fn below<'t>(table: &'t Table, key: &str) -> Option<&'t Table> {
    match &table.get(key)?.node.raw {
        Raw::Table(table) => Some(table),
        _ => None,
    }
}
