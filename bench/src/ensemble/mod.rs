//! Registries, of one node or several on this machine: the same disk, and every write synced before it is answered.

mod etcd;
mod pointsman;
mod zookeeper;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::clients::{Clients, Protocol, word};
use crate::process::Running;
use crate::scratch::Scratch;
use crate::usage::{Cpu, Memory};

/// How long a node may take to be ready.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a session may take to open while it is tried whether one does.
const TRIAL: Duration = Duration::from_secs(2);
/// Connections that pointsman's nodes take. ZooKeeper and etcd have no limit of their own, or it is lifted.
const CONNECTIONS: u64 = 120_000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Product {
    Pointsman,
    Etcd,
    ZooKeeper,
}

/// The nodes of one registry.
pub(crate) struct Ensemble {
    pub(crate) product: Product,
    nodes: Vec<Node>,
}

/// One node: how it is started, and its process.
struct Node {
    name: String,
    command: Command,
    /// Where its HTTP is spoken: pointsman's API, or etcd's clients.
    http: Option<SocketAddr>,
    /// Where ZooKeeper's protocol is spoken.
    sessions: Option<SocketAddr>,
    process: Option<Running>,
}

impl Product {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pointsman => "pointsman",
            Self::Etcd => "etcd",
            Self::ZooKeeper => "ZooKeeper",
        }
    }

    /// Why it cannot be started here, and what to do.
    pub(crate) fn missing(self) -> Option<String> {
        match self {
            Self::Pointsman => None,
            Self::Etcd => etcd::missing(),
            Self::ZooKeeper => zookeeper::missing(),
        }
    }

    /// What it is started with, where it differs from its defaults, and what it says of its version.
    pub(crate) fn settings(self) -> anyhow::Result<String> {
        match self {
            Self::Pointsman => pointsman::settings(),
            Self::Etcd => Ok(etcd::settings()),
            Self::ZooKeeper => Ok(zookeeper::settings()),
        }
    }
}

impl Ensemble {
    /// Starts so many nodes, with empty directories, without waiting for them.
    pub(crate) fn start(product: Product, count: usize, scratch: &Scratch) -> anyhow::Result<Self> {
        let directory = scratch.path().join(format!("{}-{count}", product.name()));
        std::fs::create_dir_all(&directory)?;
        let nodes = match product {
            Product::Pointsman => pointsman::nodes(count, &directory),
            Product::Etcd => etcd::nodes(count, &directory),
            Product::ZooKeeper => zookeeper::nodes(count, &directory),
        };
        let mut ensemble = Self {
            product,
            nodes: nodes?,
        };
        for node in &mut ensemble.nodes {
            node.start(scratch)?;
        }
        Ok(ensemble)
    }

    /// Waits until every node answers, and one leads.
    pub(crate) fn wait(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.nodes.iter_mut().try_for_each(Node::check)?;
            let ready = self.nodes.iter().all(|node| node.is_ready(self.product));
            if ready && self.leader().is_some() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} is not ready", self.product.name());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where clients of this protocol connect, on each node.
    pub(crate) fn addresses(&self, protocol: Protocol) -> Vec<SocketAddr> {
        let address = |node: &Node| match protocol {
            Protocol::ZooKeeper => node.sessions,
            Protocol::Etcd | Protocol::Native => node.http,
        };
        self.nodes.iter().filter_map(address).collect()
    }

    /// Which node leads; the only one does.
    pub(crate) fn leader(&self) -> Option<usize> {
        match self.nodes.len() {
            1 => Some(0),
            _ => {
                let leads = |node: &Node| node.leads(self.product).unwrap_or(false);
                self.nodes.iter().position(leads)
            }
        }
    }

    /// Kills a node as a power failure would; it is gone when this returns.
    pub(crate) fn kill(&mut self, number: usize) -> anyhow::Result<()> {
        let process = self.nodes[number].process.take();
        let process = process.context("it has been killed already")?;
        Ok(process.kill()?)
    }

    /// Starts it again.
    pub(crate) fn restart(&mut self, number: usize, scratch: &Scratch) -> anyhow::Result<()> {
        self.nodes[number].start(scratch)
    }

    /// What all nodes have used so far.
    pub(crate) fn cpu(&self) -> Cpu {
        let used = self.processes().map(Cpu::of);
        used.fold(Cpu::default(), |sum, cpu| sum + cpu)
    }

    /// Resident memory of all nodes, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        self.processes().map(|pid| Memory::of(pid).resident).sum()
    }

    fn processes(&self) -> impl Iterator<Item = u32> {
        let processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        processes.map(Running::pid)
    }
}

impl Node {
    fn start(&mut self, scratch: &Scratch) -> anyhow::Result<()> {
        let cores: Vec<usize> = (0..std::thread::available_parallelism()?.get()).collect();
        let started = Running::start(&self.name, &mut self.command, &cores, scratch);
        self.process = Some(started?);
        Ok(())
    }

    /// Fails if it has ended by itself.
    fn check(&mut self) -> anyhow::Result<()> {
        self.process.as_mut().map_or(Ok(()), Running::check)
    }

    fn is_ready(&self, product: Product) -> bool {
        let answers = match (product, self.http, self.sessions) {
            (Product::Pointsman, Some(api), _) => {
                read(api, "/readyz").is_ok() && self.leads(product).is_ok()
            }
            (Product::Etcd, Some(at), _) => {
                read(at, "/health").is_ok_and(|answer| answer.contains("\"true\""))
            }
            (_, _, Some(at)) => word(at, "srvr").is_ok_and(|answer| answer.contains("Mode: ")),
            _ => false,
        };
        // A node may lead already, or follow, and not take clients yet.
        answers && self.sessions.is_none_or(|at| takes_sessions(at).is_ok())
    }

    fn leads(&self, product: Product) -> anyhow::Result<bool> {
        Ok(match (product, self.http, self.sessions) {
            (Product::Pointsman, Some(api), _) => pointsman::leads(&read(api, "/v1/cluster")?)?,
            (Product::Etcd, Some(at), _) => {
                read(at, "/metrics")?.contains("\netcd_server_is_leader 1")
            }
            (_, _, Some(at)) => word(at, "srvr")?.contains("Mode: leader"),
            _ => false,
        })
    }
}

fn takes_sessions(at: SocketAddr) -> anyhow::Result<()> {
    Clients::open_within(TRIAL, Protocol::ZooKeeper, &[at], 1)?.leave()
}

fn read(at: SocketAddr, path: &str) -> anyhow::Result<String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(5)))
        .build()
        .into();
    let mut answer = agent.get(format!("http://{at}{path}")).call()?;
    Ok(answer.body_mut().read_to_string()?)
}

/// A name in the environment, or what is used without it.
fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.into())
}

/// What a program prints first when it is asked for its version.
fn first_line(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    printed.lines().next().map(Into::into)
}
