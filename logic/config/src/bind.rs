//! No two listeners on one address.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::reader::Log;
use crate::top::Api;
use crate::tree::{At, Entry, Node, Raw, Table, join};

/// Looks at the tree as written, so that it finds what it finds whatever else is wrong.
pub(crate) fn no_two_alike(root: &Node, log: &mut Log<'_>) {
    let Some(root) = table(root) else { return };
    // UDP has ports of its own.
    let mut binds: BTreeMap<(SocketAddr, bool), (String, Option<At>)> = BTreeMap::new();
    match root.get("api").and_then(|api| bind(&api.node)) {
        Some((address, at)) => binds.insert((address, false), ("api.bind".into(), Some(at))),
        None => binds.insert((Api::DEFAULT_BIND, false), ("api.bind".into(), None)),
    };
    let listeners = root.get("listener").and_then(|l| table(&l.node));
    for (name, listener) in listeners.into_iter().flatten() {
        let Some((address, at)) = bind(&listener.node) else {
            continue;
        };
        // Port 0 is another free port each time.
        if address.port() == 0 {
            continue;
        }
        let path = format!("{}.bind", join("listener", name));
        let place = (address, is_udp(&listener.node));
        let Some((other, place)) = binds.get(&place) else {
            binds.insert(place, (path, Some(at)));
            continue;
        };
        let place = match place {
            Some(at) => format!("at {}", log.place(*at)),
            None => "by default".into(),
        };
        let what = format!("is the address of {other} too, set {place}");
        log.error(
            at,
            path,
            what,
            "give one of the two another address or port",
        );
    }
}

fn table(node: &Node) -> Option<&Table> {
    match &node.raw {
        Raw::Table(table) => Some(table),
        _ => None,
    }
}

fn bind(node: &Node) -> Option<(SocketAddr, At)> {
    let Entry { node, .. } = table(node)?.get("bind")?;
    match &node.raw {
        Raw::Text { text, .. } => Some((text.parse().ok()?, node.at)),
        _ => None,
    }
}

fn is_udp(node: &Node) -> bool {
    let protocol = table(node).and_then(|listener| listener.get("protocol"));
    protocol.is_some_and(|entry| matches!(&entry.node.raw, Raw::Text { text, .. } if text == "udp"))
}
