use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cluster::{ClusterOptions, Durability, Node, Options};
use model::{Host, Instance, Lease, Revision, ServiceKey, Timestamp, Weight};
use registry::{Command, Registry, snapshot};

/// Long enough for a busy machine; nothing waits for it to pass.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Nodes, running or not, and where they are.
pub(crate) struct Nodes {
    pub(crate) directory: PathBuf,
    pub(crate) addresses: BTreeMap<String, String>,
    pub(crate) running: BTreeMap<String, Node>,
    tune: fn(&mut Options),
}

impl Nodes {
    /// `n0` to `n2` begin a cluster; there are addresses for `n3` and `n4` too.
    pub(crate) fn three(test: &str) -> Self {
        Self::tuned(test, |_| {})
    }

    /// The same with other options.
    pub(crate) fn tuned(test: &str, tune: fn(&mut Options)) -> Self {
        let unique = format!("pointsman-{test}-{}", std::process::id());
        let directory = std::env::temp_dir().join(unique);
        let _ = std::fs::remove_dir_all(&directory);
        // All are bound at once, so that they are different.
        let bound: Vec<TcpListener> = (0..5)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let addresses = bound.iter().enumerate().map(|(i, listener)| {
            let address = listener.local_addr().unwrap().to_string();
            (format!("n{i}"), address)
        });
        let mut nodes = Self {
            directory,
            addresses: addresses.collect(),
            running: BTreeMap::new(),
            tune,
        };
        drop(bound);
        for name in ["n0", "n1", "n2"] {
            nodes.start(name);
        }
        nodes
    }

    /// Nodes that are started from now on have these options.
    pub(crate) fn tune(&mut self, tune: fn(&mut Options)) {
        self.tune = tune;
    }

    pub(crate) fn start(&mut self, name: &str) {
        self.open(name, self.founders(), Vec::new());
    }

    pub(crate) fn founders(&self) -> BTreeMap<String, String> {
        let founders = self.addresses.iter().take(3);
        founders.map(|(n, a)| (n.clone(), a.clone())).collect()
    }

    /// Starts a node that joins by asking this one.
    pub(crate) fn join(&mut self, name: &str, member: &str) {
        let member = self.addresses[member].clone();
        self.open(name, BTreeMap::new(), vec![member]);
    }

    pub(crate) fn open(&mut self, name: &str, peers: BTreeMap<String, String>, join: Vec<String>) {
        let node = Node::open(&self.options(name, peers, join)).unwrap();
        self.running.insert(name.into(), node);
    }

    pub(crate) fn options(
        &self,
        name: &str,
        peers: BTreeMap<String, String>,
        join: Vec<String>,
    ) -> Options {
        let mut options = Options::new(Durability::Disk(self.directory.join(name)));
        options.cluster = Some(ClusterOptions {
            node: name.into(),
            name: "test".into(),
            token: "a secret of the test".into(),
            bind: self.addresses[name].parse().unwrap(),
            peers,
            join,
            address: self.addresses[name].clone(),
            tls: None,
            format: registry::FORMAT,
        });
        (self.tune)(&mut options);
        options
    }

    pub(crate) fn stop(&mut self, name: &str) {
        self.running.remove(name).unwrap().shutdown();
    }

    /// Loses a stopped node's disk.
    pub(crate) fn lose_disk(&self, name: &str) {
        std::fs::remove_dir_all(self.directory.join(name)).unwrap();
    }

    pub(crate) async fn leader(&self) -> String {
        let mut found = None;
        until("a leader that all know", || {
            let mut leaders = self.running.values().map(|node| node.status().leader);
            found = leaders.next().flatten();
            let running = found
                .as_ref()
                .is_some_and(|name| self.running.contains_key(name));
            running && leaders.all(|leader| leader == found)
        })
        .await;
        found.unwrap()
    }

    pub(crate) fn other_than(&self, name: &str) -> String {
        let mut others = self.running.keys();
        others.find(|other| **other != name).unwrap().clone()
    }

    /// The voters, as a node knows them.
    pub(crate) fn voters(&self, name: &str) -> Vec<String> {
        let nodes = self.running[name].status().nodes;
        let voters = nodes.into_iter().filter(|node| node.votes);
        voters.map(|node| node.name).collect()
    }

    pub(crate) async fn same_everywhere(&self, revision: Revision) {
        until("all are at the same revision", || {
            self.running.values().all(|n| n.revision() >= revision)
        })
        .await;
        let mut dumps = self.running.values().map(|n| n.read(dump));
        let first = dumps.next().unwrap();
        assert!(dumps.all(|dump| dump == first));
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.running.values().for_each(Node::shutdown);
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn dump(registry: &Registry) -> Vec<u8> {
    let mut bytes = Vec::new();
    snapshot::write(registry, snapshot::Version::LATEST, |piece| {
        bytes.extend_from_slice(piece);
        Ok::<_, ()>(())
    })
    .unwrap();
    bytes
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < SOON, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn key() -> ServiceKey {
    ServiceKey::in_default("shop".parse().unwrap())
}

pub(crate) fn register(id: &str, weight: u16, ttl: Option<Duration>) -> Command {
    Command::Register {
        key: key(),
        instance: Box::new(Instance {
            id: id.parse().unwrap(),
            host: Host::Ip("10.0.0.1".parse().unwrap()),
            port: 80.try_into().unwrap(),
            weight: Weight(weight),
            tier: 0,
            zone: None,
            tags: Box::default(),
            metadata: None,
            lease: ttl.map(|ttl| Lease {
                ttl,
                grace: ttl * 100,
            }),
            check: None,
            enabled: true,
            drain: false,
        }),
        at: Timestamp(1),
    }
}
