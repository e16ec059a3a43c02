//! What several nodes promise together, while they come and go.

use std::time::{Duration, Instant};

use cluster::{ClusterOptions, Durability, Node, SubmitError};
use model::{Health, Revision};
use registry::Heartbeat;

use crate::nodes::{Nodes, SOON, key, register, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_on_any_node_is_read_on_all() {
    let cluster = Nodes::three("any");
    let leader = cluster.leader().await;
    for (i, node) in cluster.running.values().enumerate() {
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
    let status = cluster.running[&leader].status();
    assert_eq!(status.nodes.len(), 3);
    assert!(status.nodes.iter().all(|n| n.votes));
    assert_eq!(status.leader.as_deref(), Some(status.node.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_a_leader_loses_nothing_and_it_comes_back() {
    let mut cluster = Nodes::three("loss");
    let mut written = 0;
    for round in 0..3 {
        let leader = cluster.leader().await;
        for _ in 0..20 {
            let node = cluster.running.values().nth(written % 3).unwrap();
            node.submit(register(&format!("i-{written}"), 1, None))
                .await
                .unwrap();
            written += 1;
        }
        cluster.stop(&leader);
        let other = cluster.running.values().nth(round % 2).unwrap();
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
    let revision = cluster.running.values().map(Node::revision).max().unwrap();
    cluster.same_everywhere(revision).await;
    let node = cluster.running.values().next().unwrap();
    assert_eq!(node.service(&key()).unwrap().instance_count(), written + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_written_and_reading_goes_on() {
    let mut cluster = Nodes::three("majority");
    let leader = cluster.leader().await;
    cluster.running[&leader]
        .submit(register("a", 1, None))
        .await
        .unwrap();
    cluster.same_everywhere(Revision(1)).await;
    for name in ["n0", "n1", "n2"].into_iter().filter(|n| *n != leader) {
        cluster.stop(name);
    }
    let alone = &cluster.running[&leader];
    let refused = alone.submit(register("b", 1, None)).await.unwrap_err();
    assert!(
        matches!(refused, SubmitError::NoLeader | SubmitError::Interrupted),
        "{refused}"
    );
    assert_eq!(alone.service(&key()).unwrap().instance_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_for_longer_than_the_log_goes_back_gets_a_snapshot() {
    let mut cluster = Nodes::tuned("snapshot", |options| {
        (options.segment_size, options.snapshot_after) = (16 << 10, 32 << 10);
    });
    cluster.leader().await;
    cluster.running["n0"]
        .submit(register("first", 1, None))
        .await
        .unwrap();
    cluster.same_everywhere(Revision(1)).await;
    cluster.stop("n2");
    cluster.leader().await;
    for i in 0..2_000_u16 {
        let one = register(&format!("i-{}", i % 50), i, None);
        cluster.running["n0"].submit(one).await.unwrap();
    }
    until("snapshots", || {
        let nodes = ["n0", "n1"].iter();
        nodes
            .clone()
            .all(|n| cluster.running[*n].stats().snapshots >= 3)
    })
    .await;
    // A leader keeps what it has begun to send to somebody who does not answer; a new one has nothing of it.
    for name in ["n0", "n1"] {
        cluster.stop(name);
        cluster.start(name);
        cluster.leader().await;
    }
    cluster.start("n2");
    let mut watch = cluster.running["n2"].watch(&key());
    cluster.same_everywhere(Revision(2_001)).await;
    assert!(watch.changed().await.is_ok());
    let behind = cluster.running["n2"].events_since(Revision(1), Some(&key()));
    let stats = cluster.running["n2"].stats();
    assert!(behind.is_err() || stats.snapshots == 0, "{stats:?}");
    // And it is there after a restart, alone with what is on its disk.
    cluster.stop("n2");
    let files: Vec<_> = std::fs::read_dir(cluster.directory.join("n2"))
        .unwrap()
        .collect();
    assert!(!files.is_empty());
    cluster.start("n2");
    assert!(cluster.running["n2"].revision() > Revision(1));
    cluster.same_everywhere(Revision(2_001)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_lease_ends_whose_heartbeats_reach_any_node_whoever_leads() {
    const TTL: Duration = Duration::from_millis(1_500);
    let mut cluster = Nodes::three("leases");
    let first = cluster.leader().await;
    let keeper = cluster
        .running
        .keys()
        .find(|n| **n != first)
        .unwrap()
        .clone();
    let node = cluster.running[&keeper].clone();
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
    let cluster = Nodes::three("strangers");
    let leader = cluster.leader().await;
    type Change = fn(&mut ClusterOptions);
    // Somebody who only looks whether the port is open is none.
    for node in cluster.running.values() {
        let looked = std::net::TcpStream::connect(node.status().nodes[0].address.as_str());
        drop(looked.unwrap());
    }
    let wrong: [(&str, Change); 2] = [
        ("its token is another", |c| c.token = "guessed".into()),
        ("it belongs to another cluster", |c| c.name = "other".into()),
    ];
    for (why, change) in wrong {
        let mut options = cluster.options("n0", cluster.founders(), Vec::new());
        options.durability = Durability::Disk(cluster.directory.join("stranger"));
        let own = options.cluster.as_mut().unwrap();
        change(own);
        own.bind = "127.0.0.1:0".parse().unwrap();
        let stranger = Node::open(&options).unwrap();
        until(why, || {
            let refused = cluster.running.values().filter_map(|n| n.status().refused);
            let refused: Vec<_> = refused.collect();
            assert!(
                refused.iter().all(|why| !why.contains("greet")),
                "{refused:?}"
            );
            refused.iter().any(|refused| refused.contains(why))
        })
        .await;
        assert_eq!(stranger.status().leader, None);
        stranger.shutdown();
        let _ = std::fs::remove_dir_all(cluster.directory.join("stranger"));
    }
    assert_eq!(cluster.leader().await, leader);
}
