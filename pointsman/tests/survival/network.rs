//! Machines with wires between them that can be cut: network namespaces of Linux.
//!
//! Every test has its own five: the node's, two instances', a client's, and a router between all of them. A cut is
//! silent, as when a machine loses its power behind a switch: nobody is told that there is no way.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::harness::in_space;
use crate::skip;

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Node,
    A,
    B,
    Client,
}

use Place::{A, B, Client, Node};

/// The machines of a test. They go when it ends.
pub(crate) struct Network {
    name: String,
}

/// What namespaces are called, so that those of a test that was killed can be told by the next.
const PREFIX: &str = "pointsman-";

const ROUTER: &str = "router";

/// Runs `test` at the node's machine, or says why it cannot.
pub(crate) fn with_network(test: &str, run: impl FnOnce(&Network) + Send) {
    sweep();
    let network = match Network::lay() {
        Ok(network) => network,
        Err(why) => return skip(test, &format!("no network namespaces: {why}")),
    };
    network.at(Node, || run(&network));
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Node => "node",
            A => "a",
            B => "b",
            Client => "client",
        }
    }

    /// The router's end of its wire.
    fn wire(self) -> String {
        format!("to-{}", self.name())
    }

    /// Its address.
    pub(crate) fn address(self) -> String {
        format!("10.99.{}.2", self as u8)
    }
}

impl Network {
    fn lay() -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let network = Self {
            name: format!("{PREFIX}{}-{number}", std::process::id()),
        };
        let router = network.space(ROUTER);
        ip(&["netns", "add", &router])?;
        for place in [Node, A, B, Client] {
            network.join(&router, place)?;
        }
        network.inside(ROUTER, || {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").map_err(|e| e.to_string())
        })?;
        Ok(network)
    }

    fn join(&self, router: &str, place: Place) -> Result<(), String> {
        let (space, wire) = (self.space(place.name()), &place.wire());
        let subnet = format!("10.99.{}", place as u8);
        let (gateway, own) = (format!("{subnet}.1"), format!("{subnet}.2/24"));
        ip(&["netns", "add", &space])?;
        let veth = ["type", "veth", "peer", "name", "eth0", "netns", &space];
        ip(&[&["-n", router, "link", "add", wire][..], &veth].concat())?;
        ip(&[
            "-n",
            router,
            "addr",
            "add",
            &format!("{gateway}/24"),
            "dev",
            wire,
        ])?;
        ip(&["-n", router, "link", "set", wire, "up"])?;
        // Takes over when the wire is cut: otherwise the router would say so.
        let nowhere = ["blackhole", &format!("{subnet}.0/24"), "metric", "9999"];
        ip(&[&["-n", router, "route", "add"][..], &nowhere].concat())?;
        ip(&["-n", &space, "addr", "add", &own, "dev", "eth0"])?;
        ip(&["-n", &space, "link", "set", "lo", "up"])?;
        ip(&["-n", &space, "link", "set", "eth0", "up"])?;
        ip(&["-n", &space, "route", "add", "default", "via", &gateway])
    }

    fn space(&self, place: &str) -> String {
        format!("{}-{place}", self.name)
    }

    /// Runs `work` there. Sockets that it makes stay there, wherever they are used.
    pub(crate) fn at<T: Send>(&self, place: Place, work: impl FnOnce() -> T + Send) -> T {
        self.inside(place.name(), work)
    }

    fn inside<T: Send>(&self, place: &str, work: impl FnOnce() -> T + Send) -> T {
        in_space(&self.space(place), work)
    }

    /// Cuts a machine off.
    pub(crate) fn cut(&self, place: Place) {
        let router = self.space(ROUTER);
        ip(&["-n", &router, "link", "set", &place.wire(), "down"]).expect("a wire");
    }

    /// Gives the node's machine another address.
    pub(crate) fn add_address(&self, address: &str) {
        let (node, address) = (self.space(Node.name()), format!("{address}/24"));
        ip(&["-n", &node, "addr", "add", &address, "dev", "eth0"]).expect("an address");
    }

    /// Mends what was cut.
    pub(crate) fn mend(&self, place: Place) {
        let router = self.space(ROUTER);
        ip(&["-n", &router, "link", "set", &place.wire(), "up"]).expect("a wire");
    }

    /// What goes from one machine to another is lost from now on; what comes back is not.
    pub(crate) fn swallow(&self, from: Place, to: Place) {
        let (router, from, to) = (self.space(ROUTER), from.address(), to.address());
        let rule = ["rule", "add", "from", &from, "to", &to, "blackhole"];
        ip(&[&["-n", &router][..], &rule].concat()).expect("a rule");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for place in [Node.name(), A.name(), B.name(), Client.name(), ROUTER] {
            // One that never came to be cannot go.
            let _ = ip(&["netns", "del", &self.space(place)]);
        }
    }
}

/// Removes what tests that were killed left behind.
fn sweep() {
    for entry in std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let pid: Option<u32> = rest.split('-').next().and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = ip(&["netns", "del", &name]);
        }
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    let mut command = Command::new("ip");
    let done = command.args(args).stdin(Stdio::null()).output();
    let done = done.map_err(|e| format!("ip: {e}"))?;
    match done.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&done.stderr);
            Err(format!("ip {}: {}", args.join(" "), said.trim()))
        }
    }
}
