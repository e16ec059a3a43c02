//! Who belongs to a cluster, and who leads it, changed from the command line while it works.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Cluster, ids, leader_of, try_register};
use crate::harness::{Home, Node, free_address, pointsman, request, until};

/// Runs `pointsman cluster …` at a node; returns whether it went well, and what it said.
fn at<const N: usize>(node: &Node, args: [&str; N]) -> (bool, String) {
    let url = node.url();
    let mut all = vec!["cluster"];
    all.extend(args);
    all.extend(["--api", &url]);
    let output = std::process::Command::new(crate::harness::binary())
        .args(all)
        .output()
        .expect("the program starts");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

fn well<const N: usize>(node: &Node, args: [&str; N]) -> String {
    let (well, said) = at(node, args);
    assert!(well, "{args:?}: {said}");
    said
}

fn voters(node: &Node) -> Vec<String> {
    let status = node.read("/v1/cluster");
    let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
    let voters = nodes.iter().filter(|n| n["votes"] == true);
    voters
        .map(|n| n["name"].as_str().expect("a name").to_owned())
        .collect()
}

#[test]
fn a_leader_that_is_told_to_stop_hands_over_first_and_no_write_fails() {
    let mut cluster = Cluster::plain();
    let mut gaps = Vec::new();
    for round in 0..5 {
        let leader = cluster.leader();
        let api = cluster.other_than(leader).api;
        let over = Arc::new(AtomicBool::new(false));
        let writing = std::thread::spawn({
            let over = over.clone();
            move || {
                let (mut longest, mut last, mut n) = (Duration::ZERO, Instant::now(), 0);
                while !over.load(Relaxed) {
                    let body = r#"{"address":"127.0.0.1","port":1,"persistent":true}"#;
                    let answer = request(
                        api,
                        format!(
                            "PUT /v1/services/s/instances/i-{round}-{n} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                            body.len()
                        ),
                    );
                    assert_eq!(answer.status, 201, "{}", answer.text());
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                    n += 1;
                }
                longest
            }
        });
        let stopped = cluster.nodes.remove(leader).expect("it runs").stop();
        assert!(stopped.status.success(), "{}", stopped.said);
        until("another leads", || {
            let next = leader_of(cluster.other_than(leader))?;
            (next != leader).then_some(())
        });
        over.store(true, Relaxed);
        gaps.push(writing.join().expect("no write fails"));
        cluster.start(leader);
    }
    gaps.sort_unstable();
    eprintln!("the longest that a write took while its leader was stopped: {gaps:.0?}");
    // As long as an election would take, which is not needed here.
    assert!(gaps[2] < Duration::from_millis(600), "{gaps:?}");
}

#[test]
fn the_lead_is_transferred_to_whom_it_is_asked_for() {
    let cluster = Cluster::plain();
    for _ in 0..3 {
        let leader = cluster.leader();
        let to = cluster.nodes.keys().find(|n| **n != leader).expect("one");
        let said = at(&cluster.nodes[to], ["transfer", "--to", to]);
        assert_eq!(said, (true, format!("{to} leads now\n")));
        assert_eq!(cluster.leader(), *to);
    }
    let leader = cluster.leader();
    let (well, said) = at(&cluster.nodes[leader], ["transfer", "--to", "n9"]);
    assert!(
        !well && said.contains("there is no node n9; there are"),
        "{said}"
    );
}

#[test]
fn nodes_join_are_promoted_and_go_and_the_status_says_how_they_are() {
    let mut cluster = Cluster::plain();
    cluster.leader();
    assert_eq!(try_register(&cluster.nodes["n1"], "before").status, 201);
    cluster.join("n4");
    let observer = &cluster.nodes["n4"];
    until("the observer has what there is", || {
        (ids(observer) == ["before"]).then_some(())
    });
    assert_eq!(try_register(observer, "through").status, 201);
    assert_eq!(voters(observer), ["n1", "n2", "n3"]);
    until("all well", || {
        let (well, said) = at(observer, ["status"]);
        let well = well && said.lines().skip(2).all(|line| line.ends_with("well"));
        let line = said.lines().find(|line| line.starts_with("n4 "))?;
        (well && line.contains("observer") && line.contains("iB ")).then_some(())
    });
    let (_, said) = at(observer, ["status", "--json"]);
    let status: Value = serde_json::from_str(&said).expect("JSON");
    for node in status["nodes"].as_array().expect("nodes") {
        assert!(
            node["disk_free"].as_u64().is_some_and(|free| free > 0),
            "{said}"
        );
        assert!(
            node["disk_used"].as_u64().is_some_and(|used| used > 0),
            "{said}"
        );
        assert!(
            node["age_ms"].is_number() && node["answers"] == true,
            "{said}"
        );
    }
    assert!(well(observer, ["promote", "n4"]).contains("n4 is a voter now: one of 4"));
    // The leader goes, and hands over first.
    let leader = cluster.leader();
    let asked = cluster.other_than(leader);
    let said = well(asked, ["remove", leader]);
    assert!(
        said.contains("3 voters stay, which survive the loss of 1"),
        "{said}"
    );
    assert_eq!(voters(asked).len(), 3);
    let gone = &cluster.nodes[leader];
    gone.said()
        .until_line("does not belong to the cluster any more");
    let answer = crate::harness::get(gone.api, "/v1/services/s?max_stale=10s");
    assert_eq!(answer.status, 503);
    assert!(
        answer.text().contains("pointsman cluster wipe"),
        "{}",
        answer.text()
    );
    assert_eq!(try_register(gone, "nowhere").status, 503);
    // A dead node is replaced.
    cluster.nodes.remove(leader);
    let next = cluster.leader();
    let dead = *cluster.nodes.keys().find(|n| **n != next).expect("one");
    cluster.nodes.remove(dead).expect("it runs").kill();
    cluster.join("n5");
    let asked = &cluster.nodes[next];
    until("what to do about it", || {
        let (well, said) = at(asked, ["status"]);
        let advice = format!("If it is lost: `pointsman cluster remove {dead}`");
        (!well && said.contains(&advice)).then_some(())
    });
    well(asked, ["remove", dead]);
    until("the new one is there", || {
        (ids(&cluster.nodes["n5"]).len() == 2).then_some(())
    });
    well(asked, ["promote", "n5"]);
    // It hears of that a moment after the majority.
    until("it knows that it votes", || {
        (voters(&cluster.nodes["n5"]).len() == 3).then_some(())
    });
    assert_eq!(try_register(&cluster.nodes["n5"], "after").status, 201);
}

#[test]
fn a_node_is_added_as_a_voter_by_its_address() {
    let mut cluster = Cluster::plain();
    let leader = cluster.leader();
    let (added, said) = at(&cluster.nodes[leader], ["add", "n4", "127.0.0.1:1"]);
    assert!(
        !added && said.contains("n4 is not reached at 127.0.0.1:1"),
        "{said}"
    );
    cluster.join("n4");
    // It has asked for it itself; whoever adds it makes it a voter.
    let address = cluster.homes["n4"].environment("BIND");
    let asked = cluster.other_than(leader);
    let said = well(asked, ["add", "n4", &address]);
    assert!(said.contains("n4 is a voter"), "{said}");
    assert_eq!(voters(asked).len(), 4);
}

#[test]
fn changes_at_the_same_time_are_made_one_after_the_other() {
    let mut cluster = Cluster::plain();
    let leader = cluster.leader();
    cluster.join("n4");
    cluster.join("n5");
    // The new ones ask to be observers themselves meanwhile.
    std::thread::scope(|scope| {
        for (through, name) in [("n1", "n4"), ("n2", "n5"), ("n3", "n5")] {
            let through = &cluster.nodes[through];
            let address = cluster.homes[name].environment("BIND");
            scope.spawn(move || well(through, ["add", name, &address]));
        }
    });
    assert_eq!(voters(&cluster.nodes[leader]).len(), 5);
}

#[test]
fn a_cluster_begins_when_all_its_nodes_are_there_and_not_before() {
    let peers = [("n1", free_address()), ("n2", free_address())];
    let list: Vec<String> = peers
        .iter()
        .map(|(name, at)| format!("{name} = \"{at}\""))
        .collect();
    let homes = peers.map(|(name, at)| {
        Home::new(&format!(
            "[node]\nname = \"{name}\"\n[cluster]\nbind = \"{at}\"\ntoken = \"a secret of the test\"\npeers = {{ {} }}",
            list.join(", ")
        ))
    });
    let first = homes[0].start();
    first
        .said()
        .until_line("to begin a cluster, all nodes of [cluster] peers must run");
    assert_eq!(leader_of(&first), None);
    let (well, said) = at(&first, ["status"]);
    assert!(
        !well && said.contains("all nodes of [cluster] peers must run"),
        "{said}"
    );
    let second = homes[1].start();
    until("they begin", || leader_of(&second));
    first
        .said()
        .until_line("this node takes part in the cluster");
    let said = pointsman(["cluster", "status", "--api", &first.url()]);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        text.contains("two voters survive the loss of none"),
        "{text}"
    );
}

#[test]
fn the_check_of_a_configuration_finds_a_node_that_is_no_member() {
    let cluster = "[cluster]\nbind = \"127.0.0.1:0\"\ntoken = \"a secret of the test\"\npeers = { a = \"127.0.0.1:7071\" }\n";
    for (node, said) in [
        ("", "is not in [cluster] peers (a)"),
        ("[node]\nname = \"b\"\n", "is not in [cluster] peers (a)"),
        (
            "[node]\nname = \"a\"\ndurability = \"memory\"\n",
            "must remember what it voted for",
        ),
    ] {
        let home = Home::new(&format!("{node}{cluster}"));
        let (valid, found) = home.run(&["config", "check"]);
        assert!(!valid && found.contains(said), "{found}");
    }
    let home = Home::new(&format!("[node]\nname = \"a\"\n{cluster}"));
    let (valid, found) = home.run(&["config", "check"]);
    assert!(valid, "{found}");
}

#[test]
fn a_lead_that_nobody_takes_goes_to_another_and_writes_go_on() {
    let cluster = Cluster::plain();
    let leader = cluster.leader();
    let mut others = cluster.nodes.keys().filter(|name| **name != leader);
    let (frozen, awake) = (others.next().expect("one"), others.next().expect("another"));
    cluster.nodes[frozen].signal(rustix::process::Signal::STOP);
    // The leader has heard of it a moment ago, and finds out.
    let (well, said) = at(&cluster.nodes[leader], ["transfer", "--to", frozen]);
    assert!(
        !well
            && (said.contains(&format!("{awake} has taken the lead instead"))
                || said.contains("does not answer")),
        "{said}"
    );
    assert_eq!(try_register(&cluster.nodes[leader], "a").status, 201);
    assert_eq!(try_register(&cluster.nodes[awake], "b").status, 201);
    cluster.nodes[frozen].signal(rustix::process::Signal::CONT);
    until("it has both", || {
        (ids(&cluster.nodes[frozen]).len() == 2).then_some(())
    });
}
