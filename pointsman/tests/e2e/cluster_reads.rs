//! What reads at any node of a cluster may be relied on for, while nodes are stopped.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::cluster::{Cluster, NAMES, ids, lasting, try_register};
use crate::harness::{Answer, Connection, Node, get, until};

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
    for (name, node) in &cluster.nodes {
        let leads = node.metric("pointsman_registry_leads");
        assert!((leads > 0.0) == (*name == leader), "{name}");
        assert!(node.metric("pointsman_registry_age_seconds") < 20.0);
    }
    for n in 0..60 {
        let id = format!("i-{n}");
        let written = try_register(nodes[n % 3], &id);
        assert_eq!(written.status, 201, "{}", written.text());
        let said = format!("x-pointsman-leader: {leader}");
        assert!(written.head.contains(&said), "{}", written.head);
        assert!(written.head.contains("x-pointsman-revision: "));
        let answer = read(nodes[(n + 1 + n / 3 % 2) % 3], "?consistency=linearizable");
        assert!(listed(&answer).contains(&id), "{id}: {}", answer.text());
        // What is picked by is made from it, too.
        let other = nodes[(n + 1 + n / 3 % 2) % 3];
        let picked = format!("/v1/pick/only-{n}?consistency=linearizable");
        nodes[n % 3].register(&format!("only-{n}"), "it", &lasting());
        assert_eq!(get(other.api, &picked).status, 200, "{n}");
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

/// When a write was acknowledged, by its number.
type Acknowledged = Arc<Mutex<Vec<Instant>>>;

/// How many of the writes a list has, which are numbered from zero on: one that is missing among them is a fault.
fn count(answer: &Answer) -> usize {
    let there = listed(answer);
    let numbers: BTreeSet<usize> = there
        .iter()
        .filter_map(|id| id.strip_prefix("w-")?.parse().ok())
        .collect();
    let count = numbers.len();
    assert_eq!(numbers.last().map_or(0, |last| last + 1), count, "a gap");
    count
}

/// Asks in a loop, and holds every answer against what was acknowledged before it was asked for.
fn ask(
    api: SocketAddr,
    demand: &str,
    old: Duration,
    acknowledged: &Acknowledged,
    over: &AtomicBool,
) -> u32 {
    let mut answered = 0;
    while !over.load(Relaxed) {
        let asked = Instant::now();
        let due = {
            let acknowledged = acknowledged.lock().expect("times");
            acknowledged
                .iter()
                .take_while(|at| asked.duration_since(**at) >= old)
                .count()
        };
        let answer = Connection::try_open(api).ok().and_then(|mut connection| {
            let path = format!("/v1/services/s{demand}");
            connection.try_get("localhost", &path).ok()
        });
        let Some(answer) = answer.filter(|answer| answer.status == 200) else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let found = count(&answer);
        assert!(
            found >= due,
            "{api}{demand}: {found} writes are there, and {due} were acknowledged"
        );
        answered += 1;
    }
    answered
}

#[test]
fn no_read_breaks_its_promise_while_nodes_are_killed_stopped_and_told_to_lead() {
    let mut cluster = Cluster::plain();
    cluster.leader();
    let apis: Vec<SocketAddr> = NAMES.iter().map(|name| cluster.nodes[name].api).collect();
    let acknowledged = Acknowledged::default();
    let over = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    for api in &apis {
        for (demand, old) in [("?consistency=linearizable", 0), ("?max_stale=300ms", 300)] {
            let (api, old) = (*api, Duration::from_millis(old));
            let (acknowledged, over) = (acknowledged.clone(), over.clone());
            readers.push(std::thread::spawn(move || {
                ask(api, demand, old, &acknowledged, &over)
            }));
        }
    }
    let writing = std::thread::spawn({
        let (apis, acknowledged, over) = (apis.clone(), acknowledged.clone(), over.clone());
        move || {
            let body = r#"{"address":"127.0.0.1","port":1,"persistent":true}"#;
            for n in 0.. {
                // The same again until somebody says that it is there.
                for api in apis.iter().cycle().skip(n % 3) {
                    if over.load(Relaxed) {
                        return n;
                    }
                    let request = format!(
                        "PUT /v1/services/s/instances/w-{n} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    let answer = Connection::try_open(*api).ok().and_then(|mut connection| {
                        connection.try_send(request).ok()?;
                        connection.try_answer().ok()
                    });
                    if answer.is_some_and(|answer| answer.status < 300) {
                        break;
                    }
                }
                acknowledged.lock().expect("times").push(Instant::now());
                std::thread::sleep(Duration::from_millis(2));
            }
            unreachable!("it is over before")
        }
    });
    let written = || acknowledged.lock().expect("times").len();
    for round in 0..9 {
        let leader = cluster.leader();
        let before = written();
        std::thread::sleep(Duration::from_millis(300));
        until("writes go on", || (written() > before + 15).then_some(()));
        match round % 3 {
            0 => {
                cluster.nodes.remove(leader).expect("it runs").kill();
                std::thread::sleep(Duration::from_millis(200));
                cluster.start(leader);
            }
            1 => {
                cluster.nodes[leader].signal(Signal::STOP);
                std::thread::sleep(Duration::from_millis(1_300));
                cluster.nodes[leader].signal(Signal::CONT);
            }
            _ => {
                let to = NAMES.into_iter().find(|name| *name != leader).expect("one");
                cluster.nodes[to].call(
                    "POST",
                    &format!("/v1/cluster/transfer?to={to}"),
                    &Value::Null,
                );
            }
        }
    }
    cluster.leader();
    over.store(true, Relaxed);
    let written = writing.join().expect("writes");
    let answered: Vec<u32> = readers
        .into_iter()
        .map(|r| r.join().expect("what was promised"))
        .collect();
    eprintln!("{written} writes, and reads that held: {answered:?}");
    assert!(
        written > 100 && answered.iter().all(|answered| *answered > 20),
        "{written} {answered:?}"
    );
}
