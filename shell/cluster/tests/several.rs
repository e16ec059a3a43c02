//! Several nodes in one process, over loopback.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cluster::{ClusterOptions, Durability, Node, Options, SubmitError};
use model::{Health, Host, Instance, Lease, Revision, ServiceKey, Timestamp, Weight};
use registry::{Command, Heartbeat};

/// Long enough for a busy machine; nothing waits for it to pass.
const SOON: Duration = Duration::from_secs(30);

/// The nodes of a cluster, running or not.
struct Cluster {
    directory: PathBuf,
    peers: BTreeMap<String, String>,
    nodes: BTreeMap<String, Node>,
    tune: fn(&mut Options),
}

impl Cluster {
    fn new(test: &str, size: usize, tune: fn(&mut Options)) -> Self {
        let unique = format!("pointsman-{test}-{}", std::process::id());
        let directory = std::env::temp_dir().join(unique);
        let _ = std::fs::remove_dir_all(&directory);
        // All are bound at once, so that they are different.
        let bound: Vec<TcpListener> = (0..size)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let peers = bound.iter().enumerate().map(|(i, listener)| {
            let address = listener.local_addr().unwrap().to_string();
            (format!("n{i}"), address)
        });
        let mut cluster = Self {
            directory,
            peers: peers.collect(),
            nodes: BTreeMap::new(),
            tune,
        };
        drop(bound);
        for name in cluster.peers.clone().into_keys() {
            cluster.start(&name);
        }
        cluster
    }

    fn options(&self, name: &str) -> Options {
        let mut options = Options::new(Durability::Disk(self.directory.join(name)));
        let bind: SocketAddr = self.peers[name].parse().unwrap();
        options.cluster = Some(ClusterOptions {
            node: name.into(),
            name: "test".into(),
            token: "a secret of the test".into(),
            bind,
            peers: self.peers.clone(),
            join: Vec::new(),
            address: self.peers[name].clone(),
            tls: None,
        });
        (self.tune)(&mut options);
        options
    }

    fn start(&mut self, name: &str) {
        let node = Node::open(&self.options(name)).unwrap();
        self.nodes.insert(name.into(), node);
    }

    fn stop(&mut self, name: &str) {
        self.nodes.remove(name).unwrap().shutdown();
    }

    async fn leader(&self) -> String {
        let mut found = None;
        until("a leader that all know", || {
            let mut leaders = self.nodes.values().map(|node| node.status().leader);
            found = leaders.next().flatten();
            let running = found
                .as_ref()
                .is_some_and(|name| self.nodes.contains_key(name));
            running && leaders.all(|leader| leader == found)
        })
        .await;
        found.unwrap()
    }

    async fn same_everywhere(&self, revision: Revision) {
        until("all are at the same revision", || {
            self.nodes.values().all(|n| n.revision() >= revision)
        })
        .await;
        let mut dumps = self.nodes.values().map(|n| n.read(dump));
        let first = dumps.next().unwrap();
        assert!(dumps.all(|dump| dump == first));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.values() {
            node.shutdown();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn dump(registry: &registry::Registry) -> Vec<u8> {
    let mut bytes = Vec::new();
    registry::snapshot::write(registry, registry::snapshot::Version::LATEST, |piece| {
        bytes.extend_from_slice(piece);
        Ok::<_, ()>(())
    })
    .unwrap();
    bytes
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < SOON, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn key() -> ServiceKey {
    ServiceKey::in_default("shop".parse().unwrap())
}

fn register(id: &str, weight: u16, ttl: Option<Duration>) -> Command {
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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_on_any_node_is_read_on_all() {
    let cluster = Cluster::new("any", 3, |_| {});
    let leader = cluster.leader().await;
    for (i, node) in cluster.nodes.values().enumerate() {
        let committed = node
            .submit(register(&format!("i-{i}"), 1, None))
            .await
            .unwrap();
        // Whoever wrote it reads it where it was written.
        assert!(node.revision() >= committed.revision);
        assert!(
            node.service(&key())
                .unwrap()
                .instance(&format!("i-{i}").parse().unwrap())
                .is_some()
        );
    }
    cluster.same_everywhere(Revision(3)).await;
    let status = cluster.nodes[&leader].status();
    assert_eq!(status.nodes.len(), 3);
    assert!(status.nodes.iter().all(|n| n.votes));
    assert_eq!(status.leader.as_deref(), Some(status.node.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_a_leader_loses_nothing_and_it_comes_back() {
    let mut cluster = Cluster::new("loss", 3, |_| {});
    let mut written = 0;
    for round in 0..3 {
        let leader = cluster.leader().await;
        for _ in 0..20 {
            let node = cluster.nodes.values().nth(written % 3).unwrap();
            node.submit(register(&format!("i-{written}"), 1, None))
                .await
                .unwrap();
            written += 1;
        }
        cluster.stop(&leader);
        let other = cluster.nodes.values().nth(round % 2).unwrap();
        // What could not be answered may be there or not.
        loop {
            match other.submit(register("after", round as u16, None)).await {
                Ok(_) => break,
                Err(why) => assert!(
                    matches!(why, SubmitError::NoLeader | SubmitError::Interrupted),
                    "{why}"
                ),
            }
        }
        cluster.start(&leader);
    }
    let revision = cluster.nodes.values().map(Node::revision).max().unwrap();
    cluster.same_everywhere(revision).await;
    let node = cluster.nodes.values().next().unwrap();
    assert_eq!(node.service(&key()).unwrap().instance_count(), written + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_written_and_reading_goes_on() {
    let mut cluster = Cluster::new("majority", 3, |_| {});
    let leader = cluster.leader().await;
    cluster.nodes[&leader]
        .submit(register("a", 1, None))
        .await
        .unwrap();
    cluster.same_everywhere(Revision(1)).await;
    for name in ["n0", "n1", "n2"].into_iter().filter(|n| *n != leader) {
        cluster.stop(name);
    }
    let alone = &cluster.nodes[&leader];
    let refused = alone.submit(register("b", 1, None)).await.unwrap_err();
    assert!(
        matches!(refused, SubmitError::NoLeader | SubmitError::Interrupted),
        "{refused}"
    );
    assert_eq!(alone.service(&key()).unwrap().instance_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_for_longer_than_the_log_goes_back_gets_a_snapshot() {
    let mut cluster = Cluster::new("snapshot", 3, |options| {
        (options.segment_size, options.snapshot_after) = (16 << 10, 32 << 10);
    });
    cluster.leader().await;
    cluster.nodes["n0"]
        .submit(register("first", 1, None))
        .await
        .unwrap();
    cluster.same_everywhere(Revision(1)).await;
    cluster.stop("n2");
    cluster.leader().await;
    for i in 0..2_000_u16 {
        let one = register(&format!("i-{}", i % 50), i, None);
        cluster.nodes["n0"].submit(one).await.unwrap();
    }
    until("snapshots", || {
        let nodes = ["n0", "n1"].iter();
        nodes
            .clone()
            .all(|n| cluster.nodes[*n].stats().snapshots >= 3)
    })
    .await;
    // A leader keeps what it has begun to send to somebody who does not answer; a new one has nothing of it.
    for name in ["n0", "n1"] {
        cluster.stop(name);
        cluster.start(name);
        cluster.leader().await;
    }
    cluster.start("n2");
    let mut watch = cluster.nodes["n2"].watch(&key());
    cluster.same_everywhere(Revision(2_001)).await;
    assert!(watch.changed().await.is_ok());
    let behind = cluster.nodes["n2"].events_since(Revision(1), Some(&key()));
    let stats = cluster.nodes["n2"].stats();
    assert!(behind.is_err() || stats.snapshots == 0, "{stats:?}");
    // And it is there after a restart, alone with what is on its disk.
    cluster.stop("n2");
    let files: Vec<_> = std::fs::read_dir(cluster.directory.join("n2"))
        .unwrap()
        .collect();
    assert!(!files.is_empty());
    cluster.start("n2");
    assert!(cluster.nodes["n2"].revision() > Revision(1));
    cluster.same_everywhere(Revision(2_001)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_lease_ends_whose_heartbeats_reach_any_node_whoever_leads() {
    const TTL: Duration = Duration::from_millis(1_500);
    let mut cluster = Cluster::new("leases", 3, |_| {});
    let first = cluster.leader().await;
    let keeper = cluster.nodes.keys().find(|n| **n != first).unwrap().clone();
    let node = cluster.nodes[&keeper].clone();
    node.submit(register("alive", 1, Some(TTL))).await.unwrap();
    node.submit(register("silent", 1, Some(TTL))).await.unwrap();
    let alive = [(key(), "alive".parse().unwrap())];
    let health = |id: &str| {
        let id = id.parse().unwrap();
        node.read(|r| r.instance(&key(), &id).map(|record| record.health()))
    };
    let began = Instant::now();
    let mut stopped = false;
    while began.elapsed() < TTL * 4 || health("silent") != Some(Health::Critical) {
        assert_eq!(node.heartbeat(&alive), [Heartbeat::Renewed]);
        assert_eq!(health("alive"), Some(Health::Passing));
        assert!(began.elapsed() < SOON);
        if !stopped && began.elapsed() > TTL {
            cluster.stop(&first);
            stopped = true;
        }
        tokio::time::sleep(TTL / 15).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_and_told_why() {
    let cluster = Cluster::new("strangers", 3, |_| {});
    let leader = cluster.leader().await;
    type Change = fn(&mut ClusterOptions);
    let wrong: [(&str, Change); 2] = [
        ("its token is another", |c| c.token = "guessed".into()),
        ("it belongs to another cluster", |c| c.name = "other".into()),
    ];
    for (why, change) in wrong {
        let mut options = cluster.options("n0");
        options.durability = Durability::Disk(cluster.directory.join("stranger"));
        let own = options.cluster.as_mut().unwrap();
        change(own);
        own.bind = "127.0.0.1:0".parse().unwrap();
        let stranger = Node::open(&options).unwrap();
        until(why, || {
            let refused = cluster.nodes.values().filter_map(|n| n.status().refused);
            refused.into_iter().any(|refused| refused.contains(why))
        })
        .await;
        assert_eq!(stranger.status().leader, None);
        stranger.shutdown();
        let _ = std::fs::remove_dir_all(cluster.directory.join("stranger"));
    }
    assert_eq!(cluster.leader().await, leader);
}
