//! Several nodes in one process: who belongs to them, who leads, and what may be relied on when they are read.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cluster::{Node, ReadError};
use registry::Command;
use registry::replication::Change;

use crate::nodes::{Nodes, key, until};

fn register(id: &str) -> Command {
    crate::nodes::register(id, 1, None)
}

fn has(node: &Node, id: &str) -> bool {
    let id = id.parse().unwrap();
    node.read(|registry| registry.instance(&key(), &id).is_some())
}

fn remove(name: &str) -> Change {
    Change::Remove {
        name: name.into(),
        force: false,
    }
}

fn add(name: &str, address: &str, observer: bool) -> Change {
    Change::Add {
        name: name.into(),
        address: address.into(),
        observer,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linearizable_read_sees_what_was_written_through_any_other_node_before() {
    let nodes = Nodes::three("linearizable");
    nodes.leader().await;
    for i in 0..150 {
        let writer = nodes.running.values().nth(i % 3).unwrap();
        let reader = nodes.running.values().nth((i / 3) % 3).unwrap();
        let id = format!("i-{i}");
        writer.submit(register(&id)).await.unwrap();
        reader.catch_up().await.unwrap();
        assert!(has(reader, &id), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_age_is_known_while_there_is_a_majority_and_grows_without() {
    let mut nodes = Nodes::three("age");
    let leader = nodes.leader().await;
    for node in nodes.running.values() {
        node.no_older_than(Duration::from_secs(2)).await.unwrap();
        assert!(node.age().unwrap() <= Duration::from_secs(2));
        // Less than how often it is measured: it is asked for.
        let mut young = false;
        for _ in 0..50 {
            young |= node.no_older_than(Duration::from_millis(40)).await.is_ok();
        }
        assert!(young);
    }
    for name in ["n0", "n1", "n2"].into_iter().filter(|n| *n != leader) {
        nodes.stop(name);
    }
    let alone = &nodes.running[&leader];
    let wanted = Duration::from_millis(300);
    until("too old a copy", || {
        alone.age().is_none_or(|age| age > wanted)
    })
    .await;
    let refused = alone.no_older_than(wanted).await.unwrap_err();
    assert!(matches!(refused, ReadError::TooOld { age: Some(age), .. } if age > wanted));
    let refused = alone.catch_up().await.unwrap_err();
    assert_eq!(refused, ReadError::Unconfirmed { trouble: None });
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_goes_where_it_is_sent_and_writes_go_on() {
    let nodes = Nodes::three("transfer");
    let mut gaps = Vec::new();
    for round in 0..6 {
        let leader = nodes.leader().await;
        let target = nodes.other_than(&leader);
        let writer = nodes.running[&target].clone();
        let writing = tokio::spawn(async move {
            let (mut worst, mut last) = (Duration::ZERO, Instant::now());
            for i in 0..300 {
                writer
                    .submit(register(&format!("i-{round}-{i}")))
                    .await
                    .unwrap();
                worst = worst.max(last.elapsed());
                last = Instant::now();
            }
            worst
        });
        tokio::time::sleep(Duration::from_millis(30)).await;
        // Any node may be asked.
        let asked = &nodes.running[&target];
        let to = Some(target.as_str().into());
        let said = asked.change_cluster(Change::Transfer { to }).await.unwrap();
        assert_eq!(*said, format!("{target} leads now"));
        gaps.push(writing.await.unwrap());
        assert_eq!(nodes.leader().await, target);
    }
    gaps.sort_unstable();
    eprintln!("the longest a write took while the lead was handed over: {gaps:.1?}");
    let leader = nodes.leader().await;
    nodes.running[&leader].hand_over().await;
    until("another one leads", || {
        let other = nodes.other_than(&leader);
        nodes.running[&other]
            .status()
            .leader
            .is_some_and(|now| now != leader)
    })
    .await;
    let to = Some("n9".into());
    let refused = nodes.running[&leader]
        .change_cluster(Change::Transfer { to })
        .await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("no node n9; there are n0, n1, n2")
            || refused.contains("there is no node n9"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_just_taken_the_lead_can_be_asked_to_pass_it_on() {
    let nodes = Nodes::three("passing");
    let mut leader = nodes.leader().await;
    for _ in 0..20 {
        let target = nodes.other_than(&leader);
        let to = Some(target.as_str().into());
        let said = nodes.running[&leader].change_cluster(Change::Transfer { to });
        assert_eq!(*said.await.unwrap(), format!("{target} leads now"));
        leader = target;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_as_an_observer_is_promoted_and_removed() {
    let mut nodes = Nodes::three("join");
    nodes.leader().await;
    nodes.running["n0"]
        .submit(register("before"))
        .await
        .unwrap();
    nodes.join("n3", "n1");
    until("the observer has what there is", || {
        has(&nodes.running["n3"], "before")
    })
    .await;
    let observer = &nodes.running["n3"];
    // It takes writes, and reads may be as strict as anywhere.
    observer.submit(register("through")).await.unwrap();
    observer.catch_up().await.unwrap();
    assert_eq!(observer.leader().as_deref(), Some(&*nodes.leader().await));
    until("it knows who votes", || {
        nodes.voters("n0") == ["n0", "n1", "n2"]
    })
    .await;
    let promote = || Change::Promote { name: "n3".into() };
    let said = observer.change_cluster(promote()).await.unwrap();
    assert!(
        said.contains("one of 4, which survive the loss of 1"),
        "{said}"
    );
    until("it knows who votes", || {
        nodes.voters("n3") == ["n0", "n1", "n2", "n3"]
    })
    .await;
    // The leader itself, by way of another.
    let leader = nodes.leader().await;
    let asked = nodes.other_than(&leader);
    nodes.running[&asked]
        .change_cluster(remove(&leader))
        .await
        .unwrap();
    until("another leads", || {
        let status = nodes.running[&asked].status();
        status.leader.is_some_and(|l| l != leader) && nodes.voters(&asked).len() == 3
    })
    .await;
    // It says so, and does not answer as if it knew.
    let out = &nodes.running[&leader];
    until("it knows", || {
        let trouble = out.trouble().unwrap_or_default();
        trouble.contains("does not belong to the cluster any more")
    })
    .await;
    assert_eq!(out.age(), None);
    assert!(out.no_older_than(Duration::from_millis(500)).await.is_err());
    assert!(out.submit(register("nowhere")).await.is_err());
    assert!(!has(&nodes.running[&asked], "nowhere"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_lost_its_disk_takes_no_part_until_it_was_removed() {
    let mut nodes = Nodes::three("lost");
    nodes.leader().await;
    nodes.running["n0"].submit(register("a")).await.unwrap();
    // The first by name, which is the one that begins clusters.
    nodes.stop("n0");
    nodes.lose_disk("n0");
    nodes.start("n0");
    let rest = nodes.leader_among(&["n1", "n2"]).await;
    until("it says what to do", || {
        let trouble = nodes.running["n0"].trouble().unwrap_or_default();
        trouble.contains("pointsman cluster remove n0")
    })
    .await;
    // Without it, and with one of the others away, there is no majority: it must not make one.
    let away = if rest == "n1" { "n2" } else { "n1" };
    nodes.stop(away);
    let left = &nodes.running[&rest];
    assert!(left.submit(register("b")).await.is_err());
    assert!(!has(&nodes.running["n0"], "a"));
    nodes.start(away);
    nodes.leader_among(&["n1", "n2"]).await;
    let left = &nodes.running[&rest];
    left.change_cluster(remove("n0")).await.unwrap();
    until("it is taken in again", || has(&nodes.running["n0"], "a")).await;
    let promote = Change::Promote { name: "n0".into() };
    nodes.running["n0"].change_cluster(promote).await.unwrap();
    until("it knows who votes", || {
        nodes.voters("n0") == ["n0", "n1", "n2"]
    })
    .await;
    assert_eq!(nodes.running["n0"].trouble(), None);
    assert_eq!(nodes.running["n0"].notes(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_leave_no_majority_is_refused_and_so_is_who_is_not_there() {
    let mut nodes = Nodes::three("refused");
    let leader = nodes.leader().await;
    let mut others = ["n0", "n1", "n2"].into_iter().filter(|n| *n != leader);
    let (dead, alive) = (others.next().unwrap(), others.next().unwrap());
    nodes.stop(dead);
    let refuses = async |change: Change| {
        let refused = nodes.running[&leader].change_cluster(change).await;
        refused.unwrap_err().to_string()
    };
    until("the leader has noticed", || {
        let status = nodes.running[&leader].status();
        let silent =
            |n: &cluster::NodeStatus| n.name == dead && n.heard_ms.is_none_or(|ms| ms > 2_100);
        status.nodes.iter().any(silent)
    })
    .await;
    let why = refuses(remove(alive)).await;
    assert!(
        why.contains("of the 2 voters that would stay, 1 answer"),
        "{why}"
    );
    let why = refuses(remove("n7")).await;
    assert!(why.contains("there is no node n7; there are"), "{why}");
    let why = refuses(add("n3", &nodes.addresses["n3"], false)).await;
    assert!(why.contains("n3 is not reached at"), "{why}");
    let why = refuses(add("n3", &nodes.addresses[alive], false)).await;
    assert!(why.contains("it means another node"), "{why}");
    // The dead one may go, and a new one takes its place.
    nodes.running[&leader]
        .change_cluster(remove(dead))
        .await
        .unwrap();
    nodes.join("n3", &leader);
    let address = nodes.addresses["n3"].clone();
    nodes.running[alive]
        .change_cluster(add("n3", &address, false))
        .await
        .unwrap();
    until("it knows that it votes", || nodes.voters("n3").len() == 3).await;
    // Whoever comes back finds itself out.
    nodes.start(dead);
    until("it knows", || {
        let trouble = nodes.running[dead].trouble().unwrap_or_default();
        trouble.contains("does not belong to the cluster any more")
    })
    .await;
    nodes.running[&leader].submit(register("a")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_say_how_all_of_them_are() {
    let mut nodes = Nodes::three("overview");
    let leader = nodes.leader().await;
    nodes.running["n0"].submit(register("a")).await.unwrap();
    for node in nodes.running.values() {
        node.no_older_than(Duration::from_secs(5)).await.unwrap();
        let status = node.overview().await;
        for node in &status.nodes {
            let report = node.report.as_ref().unwrap();
            assert!(report.free.is_some_and(|free| free > 0));
            assert!(report.used.is_some_and(|used| used > 0));
            assert!(node.behind.is_some_and(|behind| behind < 10));
        }
    }
    let dead = nodes.other_than(&leader);
    nodes.stop(&dead);
    let status = nodes.running[&leader].overview().await;
    let silent: Vec<&str> = status
        .nodes
        .iter()
        .filter(|n| n.report.is_none())
        .map(|n| &*n.name)
        .collect();
    assert_eq!(silent, [dead]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_stale_configuration_follows_the_cluster_and_says_so() {
    let mut nodes = Nodes::three("stale");
    nodes.leader().await;
    nodes.stop("n2");
    let mut peers: BTreeMap<String, String> = nodes.addresses.clone();
    peers.remove("n4");
    peers.remove("n1");
    nodes.open("n2", peers, Vec::new());
    nodes.leader().await;
    nodes.running["n2"].submit(register("a")).await.unwrap();
    let notes = nodes.running["n2"].notes().join("\n");
    assert!(
        notes.contains("n3 is no member, n1 belongs to it, too"),
        "{notes}"
    );
    until("it knows who votes", || {
        nodes.voters("n2") == ["n0", "n1", "n2"]
    })
    .await;
}

impl Nodes {
    /// The leader that these know.
    async fn leader_among(&self, names: &[&str]) -> String {
        let mut found = String::new();
        until("a leader among them", || {
            let leaders = names.iter().map(|name| self.running[*name].status().leader);
            let leaders: Vec<String> = leaders.flatten().collect();
            found = leaders.first().cloned().unwrap_or_default();
            leaders.len() == names.len()
                && leaders.iter().all(|l| *l == found)
                && names.contains(&&*found)
        })
        .await;
        found
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_age_of_a_leaders_copy_is_measured_without_being_asked_for() {
    let nodes = Nodes::three("measured");
    nodes.leader().await;
    until("young copies", || {
        let ages = nodes.running.values().map(Node::age);
        let mut ages = ages.collect::<Vec<_>>();
        ages.sort_unstable();
        ages[0].is_some_and(|age| age < Duration::from_millis(400))
            && ages[2].is_some_and(|age| age < Duration::from_millis(400))
    })
    .await;
}
