//! Checks in a cluster: all nodes check, and the verdicts of the one that leads hold.

use rustix::process::Signal;
use serde_json::json;

use crate::cluster::{Cluster, NAMES, leader_of};
use crate::harness::{Origin, get, until};

#[test]
fn who_takes_the_lead_finds_out_what_it_has_seen_before() {
    let cluster = Cluster::plain();
    let leader = cluster.leader();
    let mut origin = Origin::named("a");
    let check =
        json!({ "tcp": true, "interval": "100ms", "timeout": "100ms", "rise": 1, "fall": 1 });
    let body = json!({ "address": "127.0.0.1", "port": origin.port(), "persistent": true, "check": check });
    let node = cluster.other_than(leader);
    node.register("s", "a", &body);
    node.until_health("s", "a", "passing");
    // The others notice while nobody leads, and long before they elect anybody.
    cluster.nodes[leader].signal(Signal::STOP);
    origin.stop();
    until("another leads", || {
        (leader_of(node)? != leader).then_some(())
    });
    node.until_health("s", "a", "critical");
    cluster.nodes[leader].signal(Signal::CONT);
    cluster.nodes[leader].until_health("s", "a", "critical");
    // One verdict, whoever looks at it later.
    let revision = node.read("/v1/services/s")["revision"].clone();
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(node.read("/v1/services/s")["revision"], revision);
}

#[test]
fn what_fails_in_the_traffic_of_any_node_is_checked_at_once_by_whoever_leads() {
    let web = "[listener.web]\nbind = \"127.0.0.1:0\"\nservice = \"s\"\n";
    let cluster = Cluster::new(web, |_| {});
    let leader = cluster.leader();
    let mut origin = Origin::named("a");
    // Nobody would look again for an hour.
    let check = json!({ "tcp": true, "interval": "1h", "timeout": "100ms", "rise": 1, "fall": 1 });
    let body = json!({ "address": "127.0.0.1", "port": origin.port(), "persistent": true, "check": check });
    let node = cluster.other_than(leader);
    node.register("s", "a", &body);
    node.until_health("s", "a", "passing");
    until("traffic", || {
        (get(node.web(), "/").status == 200).then_some(())
    });
    origin.stop();
    until("its failure is known to all", || {
        get(node.web(), "/");
        (cluster.nodes[leader].health("s", "a")? == "critical").then_some(())
    });
}

#[test]
fn while_nobody_leads_a_node_goes_by_what_its_own_checks_find() {
    let web = "[listener.web]\nbind = \"127.0.0.1:0\"\nservice = \"s\"\n";
    let mut cluster = Cluster::new(web, |_| {});
    let leader = cluster.leader();
    let stays = NAMES.into_iter().find(|n| *n != leader).expect("one");
    let ids = ["a", "b", "c"];
    let mut origins = ids.map(Origin::named);
    for (origin, id) in origins.iter().zip(ids) {
        let check =
            json!({ "tcp": true, "interval": "100ms", "timeout": "1s", "rise": 1, "fall": 1 });
        let body = json!({ "address": "127.0.0.1", "port": origin.port(), "persistent": true, "check": check });
        cluster.nodes[leader].register("s", id, &body);
        cluster.nodes[stays].until_health("s", id, "passing");
    }
    let others = NAMES.into_iter().filter(|name| *name != stays);
    for name in others.clone() {
        cluster.nodes.remove(name).expect("it runs").kill();
    }
    let node = &cluster.nodes[stays];
    node.said().until_line("nobody leads");
    node.until_eligible("/", 3);
    origins[0].stop();
    node.until_eligible("/", 2);
    origins[0].start();
    node.until_eligible("/", 3);
    // Nor does it believe that most are down: it may be cut off itself.
    origins[0].stop();
    node.until_eligible("/", 2);
    origins[1].stop();
    node.until_eligible("/", 3);
    origins[1].start();
    node.until_eligible("/", 2);
    // Whoever leads then hears of it, and writes it.
    for name in others {
        cluster.start(name);
    }
    let node = &cluster.nodes[stays];
    node.until_health("s", "a", "critical");
    node.until_eligible("/", 2);
}
