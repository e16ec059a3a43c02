//! What reads at any node of a cluster may be relied on for, while nodes are stopped.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::cluster::{Cluster, NAMES, ids, try_register};
use crate::harness::{Answer, Node, get, until};

fn read(node: &Node, demand: &str) -> Answer {
    get(node.api, &format!("/v1/services/s{demand}"))
}

fn listed(answer: &Answer) -> BTreeSet<String> {
    let answer = answer.json();
    let instances = answer["instances"].as_array().expect("a list");
    let ids = instances.iter().map(|i| i["id"].as_str().expect("an id"));
    ids.map(str::to_owned).collect()
}

/// The age in an answer's header, in milliseconds.
fn age(answer: &Answer) -> Option<u64> {
    let line = answer
        .head
        .lines()
        .find_map(|line| line.strip_prefix("x-pointsman-age-ms: "));
    line.expect("an age").parse().ok()
}

#[test]
fn a_linearizable_read_sees_what_was_written_through_another_node() {
    let cluster = Cluster::plain();
    let leader = cluster.leader();
    let nodes: Vec<&Node> = cluster.nodes.values().collect();
    for n in 0..60 {
        let id = format!("i-{n}");
        let written = try_register(nodes[n % 3], &id);
        assert_eq!(written.status, 201, "{}", written.text());
        let said = format!("x-pointsman-leader: {leader}");
        assert!(written.head.contains(&said), "{}", written.head);
        assert!(written.head.contains("x-pointsman-revision: "));
        let answer = read(nodes[(n + 1 + n / 3 % 2) % 3], "?consistency=linearizable");
        assert!(listed(&answer).contains(&id), "{id}: {}", answer.text());
    }
}

#[test]
fn a_node_that_cannot_be_sure_refuses_what_must_not_be_old_and_answers_the_rest() {
    let cluster = Cluster::plain();
    let leader = cluster.leader();
    assert_eq!(try_register(&cluster.nodes[leader], "a").status, 201);
    for left in [
        leader,
        NAMES.into_iter().find(|n| *n != leader).expect("one"),
    ] {
        let node = &cluster.nodes[left];
        until("a young copy", || {
            (read(node, "?max_stale=2s").status == 200).then_some(())
        });
        let others: Vec<&Node> = NAMES
            .iter()
            .filter(|n| **n != left)
            .map(|n| &cluster.nodes[n])
            .collect();
        others.iter().for_each(|other| other.signal(Signal::STOP));
        let refused = until("a copy that is too old", || {
            let answer = read(node, "?max_stale=700ms");
            (answer.status != 200).then_some(answer)
        });
        assert_eq!(refused.status, 503);
        let text = refused.text();
        assert!(
            text.contains("too-stale") && text.contains("pointsman cluster status"),
            "{text}"
        );
        let plain = read(node, "");
        assert_eq!(plain.status, 200);
        assert!(age(&plain).is_none_or(|age| age >= 700), "{}", plain.head);
        let refused = read(node, "?consistency=linearizable");
        assert_eq!(refused.status, 503);
        assert!(refused.text().contains("no-leader"), "{}", refused.text());
        others.iter().for_each(|other| other.signal(Signal::CONT));
        until("a majority", || {
            (read(node, "?consistency=linearizable").status == 200).then_some(())
        });
        cluster.leader();
    }
}

#[test]
fn a_follower_that_was_stopped_never_answers_with_something_older_than_demanded() {
    let cluster = Cluster::plain();
    let mut refusals = 0;
    for round in 0..4 {
        let leader = cluster.leader();
        let stopped = NAMES.into_iter().find(|n| *n != leader).expect("one");
        let writer = NAMES
            .iter()
            .find(|n| **n != leader && **n != stopped)
            .expect("one");
        let (stopped, writer) = (&cluster.nodes[stopped], &cluster.nodes[writer]);
        stopped.signal(Signal::STOP);
        let mut written = Vec::new();
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(1_500) {
            let id = format!("i-{round}-{}", written.len());
            assert_eq!(try_register(writer, &id).status, 201);
            written.push((id, Instant::now()));
        }
        stopped.signal(Signal::CONT);
        let resumed = Instant::now();
        while resumed.elapsed() < Duration::from_millis(500) {
            let asked = Instant::now();
            let answer = read(stopped, "?max_stale=100ms");
            if answer.status != 200 {
                refusals += 1;
                continue;
            }
            let there = listed(&answer);
            let old = Duration::from_millis(100);
            let due = written
                .iter()
                .filter(|(_, at)| asked.duration_since(*at) > old);
            for (id, at) in due {
                assert!(
                    there.contains(id),
                    "{id}, written {:?} before",
                    asked.duration_since(*at)
                );
            }
        }
        until("it has everything", || {
            let there: BTreeSet<String> = ids(stopped).into_iter().collect();
            written
                .iter()
                .all(|(id, _)| there.contains(id))
                .then_some(())
        });
    }
    eprintln!("refused {refusals} reads");
}
