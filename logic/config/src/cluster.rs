//! `[cluster]`: the other nodes, and how they know each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use model::Secret;

use crate::declare::{declare, resolved};
use crate::fault::Severity;
use crate::reader::Reader;
use crate::rule::{absent, default, required};
use crate::tree::Node;
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
    /// All nodes by name, this one too, and where the others reach them.
    pub peers: BTreeMap<Box<str>, Box<str>>,
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
        /// All nodes by their `node.name`, this one too, and where the others reach them, as `"host:port"`. The same on all
        /// nodes. Three survive the loss of any one, five of any two.
        peers: BTreeMap<Box<str>, Box<str>> => required().restart(),
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

    fn resolve(keys: ClusterKeys, _: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let before = cx.log.errors();
        if keys.token.0.len() < SHORTEST_TOKEN {
            let path = format!("{}.token", cx.path());
            let hint = "16 characters at least: `openssl rand -hex 16` makes one";
            cx.at_key(Severity::Error, &path, "is too short", hint);
        }
        if keys.peers.is_empty() {
            let path = format!("{}.peers", cx.path());
            let hint = "name all nodes: peers = { edge-1 = \"10.0.0.1:7071\", … }; a node without others needs no [cluster]";
            cx.at_key(Severity::Error, &path, "is empty", hint);
        }
        for (name, address) in &keys.peers {
            let port = address
                .rsplit_once(':')
                .map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(1..))) || name.is_empty() || name.len() > 255 {
                let path = format!("{}.peers", cx.path());
                let hint = "a name, and a host and port such as \"10.0.0.1:7071\"";
                cx.at_key(Severity::Error, &path, "has an entry of another form", hint);
            }
        }
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
            peers: keys.peers,
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
            peers: self.peers.clone(),
            token: self.token.clone(),
            cert,
            key,
            ca,
        }
    }
}
