//! Who gets how much.

use std::collections::BTreeMap;

use serde_json::json;

use crate::harness::{Connection, Home, Load, Node, Origin, Reply, until};

/// A node with one worker, and two instances of which the first has three times the other's weight.
fn three_to_one(policy: &str, origins: [&Origin; 2]) -> Node {
    let config = format!(
        "[node]\nworkers = 1\n{}\n[service.shop]\npolicy = {policy:?}\n",
        crate::SHOP
    );
    let node = Home::new(&config).start();
    for (id, origin, weight) in [("a", origins[0], 3), ("b", origins[1], 1)] {
        let mut body = crate::lasting(origin);
        body["weight"] = json!(weight);
        node.register("shop", id, &body);
    }
    node.until_eligible("/", 2);
    node
}

fn shares(node: &Node, requests: usize) -> BTreeMap<String, usize> {
    let mut connection = Connection::open(node.web());
    let mut shares = BTreeMap::new();
    for _ in 0..requests {
        let answer = connection.get("/");
        assert_eq!(answer.status, 200);
        *shares.entry(answer.text().to_owned()).or_default() += 1;
    }
    shares
}

#[test]
fn round_robin_gives_every_instance_exactly_its_weight() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let shares = shares(&three_to_one("round_robin", [&a, &b]), 400);
    assert!((299..=301).contains(&shares["a"]), "{shares:?}");
}

#[test]
fn least_conn_goes_by_weight_when_nobody_is_busy() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let shares = shares(&three_to_one("least_conn", [&a, &b]), 400);
    assert!((299..=301).contains(&shares["a"]), "{shares:?}");
}

#[test]
fn random_comes_near_the_weights() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let shares = shares(&three_to_one("random", [&a, &b]), 1_200);
    // Six standard deviations of a binomial with n = 1200 and p = 3/4: once in five hundred million runs.
    assert!((810..=990).contains(&shares["a"]), "{shares:?}");
}

#[test]
fn least_conn_spares_an_instance_that_is_busy() {
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let busy = Origin::answering(move |request| {
        if request.path() == "/wait" {
            // Until the test is done, whether it says so or ends.
            let _ = gate.lock().unwrap().recv();
        }
        Reply::text("busy")
    });
    let idle = Origin::named("idle");
    let node = Home::new(crate::SHOP).start();
    node.register("shop", "busy", &crate::lasting(&busy));
    node.until_eligible("/", 1);
    let mut held: Vec<_> = (0..1).map(|_| Connection::open(node.web())).collect();
    for connection in &mut held {
        connection.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let in_flight = "pointsman_instance_in_flight{service=\"shop\",instance=\"busy\"}";
    until("a request in flight", || {
        (node.metric(in_flight) == 1.0).then_some(())
    });
    node.register("shop", "idle", &crate::lasting(&idle));
    node.until_eligible("/", 2);
    let shares = shares(&node, 100);
    assert_eq!(shares.get("idle"), Some(&100), "{shares:?}");
    release.send(()).expect("somebody waits");
    assert_eq!(held[0].answer().text(), "busy");
}

#[test]
fn a_change_of_weights_takes_effect_while_traffic_flows() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let node = three_to_one("round_robin", [&a, &b]);
    let load = Load::start(node.web(), 2, "/");
    load.further(100);
    let path = "/v1/services/shop/instances/a";
    assert_eq!(
        node.call("PATCH", path, &json!({ "weight": 1 })).status,
        200
    );
    until("even shares", || {
        let before = [a.heard().len(), b.heard().len()];
        load.further(100);
        let after = [a.heard().len(), b.heard().len()];
        let (a, b) = (after[0] - before[0], after[1] - before[1]);
        (a.abs_diff(b) <= (a + b) / 10).then_some(())
    });
    load.finish().assert_whole();
}
