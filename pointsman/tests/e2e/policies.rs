//! Who gets how much.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use crate::harness::{Connection, Home, Load, Node, Origin, Reply, binary, until};

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
    let config = format!("{}\n[service.shop]\npolicy = \"least_conn\"\n", crate::SHOP);
    let node = Home::new(&config).start();
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
fn least_time_spares_an_instance_that_reports_what_others_send_it() {
    for (report, few) in [
        ("TEXT named_metrics.in_flight=400", true),
        (r#"JSON {"named_metrics": {"in_flight": 400}}"#, true),
        ("TEXT named_metrics.other=400", false),
    ] {
        let busy = Origin::answering(move |_| Reply {
            fields: format!("endpoint-load-metrics: {report}\r\n"),
            ..Reply::text("busy")
        });
        // So slow that nobody would go there who had not heard of the others' requests.
        let idle = Origin::answering(|_| {
            std::thread::sleep(Duration::from_millis(25));
            Reply::text("idle")
        });
        let settings = "load_report = \"named_metrics.in_flight\"";
        let config = format!(
            "[node]\nworkers = 1\n{}\n[service.shop]\n{settings}\n",
            crate::SHOP
        );
        let node = Home::new(&config).start();
        for (id, origin) in [("busy", &busy), ("idle", &idle)] {
            node.register("shop", id, &crate::lasting(origin));
        }
        node.until_eligible("/", 2);
        let shares = shares(&node, 40);
        let busy = shares.get("busy").copied().unwrap_or_default();
        assert_eq!(busy < 20, few, "{report}: {shares:?}");
    }
}

#[test]
fn a_header_decides_where_a_request_goes_and_goes_on_doing_so() {
    let origins: Vec<_> = ["a", "b", "c"].map(Origin::named).into();
    let config = format!(
        "[node]\nhash_secret = \"s\"\n{}\n[service.shop]\npolicy = \"consistent_hash\"\nhash_on = \"header:X-User\"\n",
        crate::SHOP
    );
    let node = Home::new(&config).start();
    let register = |n: usize| {
        let id = ["a", "b", "c"][n];
        node.register("shop", id, &crate::lasting(&origins[n]));
    };
    (0..2).for_each(register);
    node.until_eligible("/", 2);
    let mut connection = Connection::open(node.web());
    let mut owners = || -> Vec<String> {
        let ask = |user: usize| {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX-User: {user}\r\n\r\n");
            connection.send(&head);
            connection.answer().text().to_owned()
        };
        (0..60).map(ask).collect()
    };
    let before = owners();
    assert_eq!(owners(), before);
    for id in ["a", "b"] {
        // A fair coin comes down less than 12 times in 60 once in a million.
        assert!(
            before.iter().filter(|o| *o == id).count() >= 12,
            "{before:?}"
        );
    }
    register(2);
    node.until_eligible("/", 3);
    let after = owners();
    let moved = before.iter().zip(&after).filter(|(b, a)| b != a);
    assert!(
        moved.clone().all(|(_, to)| to == "c"),
        "{before:?} {after:?}"
    );
    assert!(moved.count() > 0);
}

/// What a key is made of, and a path and a field with a number in it.
const KEYS: [[&str; 3]; 4] = [
    ["url", "/p?n=#", "A: b"],
    ["header:X-User", "/", "X-User: #"],
    ["cookie:user", "/", "Cookie: a=b; user=#"],
    ["query:user", "/?a=b&user=#", "A: b"],
];

#[test]
fn a_key_of_any_kind_has_its_instance_and_explain_names_it() {
    let origins = ["a", "b", "c"].map(Origin::named);
    for [on, path, field] in KEYS {
        let config = format!(
            "{}\n[service.shop]\npolicy = \"consistent_hash\"\nhash_on = {on:?}\n",
            crate::SHOP
        );
        let node = Home::new(&config).start();
        for (id, origin) in ["a", "b", "c"].into_iter().zip(&origins) {
            node.register("shop", id, &crate::lasting(origin));
        }
        node.until_eligible("/", 3);
        let mut connection = Connection::open(node.web());
        let mut ask = |path: &str, field: &str| {
            connection.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"));
            connection.answer().text().to_owned()
        };
        let mut owners = BTreeSet::new();
        for n in 0..60 {
            let [path, field] = [path, field].map(|part| part.replace('#', &n.to_string()));
            let owner = ask(&path, &field);
            assert_eq!(ask(&path, &field), owner, "{on}");
            if n < 20 {
                let url = format!("http://{}{path}", node.web());
                let explained = explained(&node, &url, &field);
                assert!(
                    explained.contains(&format!("instance {owner} ")),
                    "{on}: {explained}"
                );
            }
            owners.insert(owner);
        }
        // With 60 keys, one of three instances has none once in ten thousand million runs.
        assert_eq!(owners.len(), 3, "{on}");
        // Requests without it go anywhere; all have a path.
        let without: BTreeSet<_> = (0..60).map(|_| ask("/?a=b", "Cookie: a=b")).collect();
        assert_eq!(without.len(), if on == "url" { 1 } else { 3 }, "{on}");
    }
}

#[test]
fn explain_names_the_instance_that_a_client_has_by_its_address() {
    let origins = ["a", "b", "c"].map(Origin::named);
    let config = format!(
        "{}\n[listener.stream]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nservice = \"shop\"\n\
         [service.shop]\npolicy = \"maglev\"\n",
        crate::SHOP
    );
    let node = Home::new(&config).start();
    for (id, origin) in ["a", "b", "c"].into_iter().zip(&origins) {
        node.register("shop", id, &crate::lasting(origin));
    }
    node.until_eligible("/", 3);
    let owner = shares(&node, 20);
    assert_eq!(owner.len(), 1);
    let owner = owner.keys().next().expect("one");
    for at in [node.web(), node.listener("stream")] {
        for _ in 0..20 {
            let url = format!("/v1/explain?url=http://{at}/&client=127.0.0.1");
            let verdict = node.read(&url)["verdict"].to_string();
            assert!(verdict.contains(&format!("instance {owner} ")), "{verdict}");
        }
    }
}

/// Where a request with this field goes, as `pointsman explain` says it.
fn explained(node: &Node, url: &str, field: &str) -> String {
    let mut command = std::process::Command::new(binary());
    command.args(["explain", url, "--api", &node.url(), "--header", field]);
    let output = command.output().expect("the program starts");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_own_zone_has_the_traffic_while_it_can_take_it() {
    let (near, far) = (Origin::named("near"), Origin::named("far"));
    let config = format!("[node]\nzone = \"a\"\n{}", crate::SHOP);
    let node = Home::new(&config).start();
    for (origin, zone) in [(&near, "a"), (&far, "b")] {
        let mut body = crate::lasting(origin);
        body["zone"] = json!(zone);
        node.register("shop", zone, &body);
    }
    node.until_eligible("/", 2);
    assert_eq!(shares(&node, 50).get("near"), Some(&50));
    let path = "/v1/services/shop/instances/a";
    assert_eq!(
        node.call("PATCH", path, &json!({ "drain": true })).status,
        200
    );
    until("traffic in the other zone", || {
        (shares(&node, 10).get("far") == Some(&10)).then_some(())
    });
}

#[test]
fn a_spare_instance_has_no_traffic_until_the_first_tier_has_no_room() {
    let (first, spare) = (Origin::named("first"), Origin::named("spare"));
    let home = Home::new(crate::SHOP);
    let node = home.start();
    for (origin, tier) in [(&first, 0), (&spare, 1)] {
        let mut body = crate::lasting(origin);
        body["tier"] = json!(tier);
        node.register("shop", if tier == 0 { "first" } else { "spare" }, &body);
    }
    node.until_eligible("/", 2);
    assert_eq!(shares(&node, 50).get("first"), Some(&50));
    // It is remembered which is which.
    node.kill();
    let node = home.start();
    node.until_eligible("/", 2);
    assert_eq!(shares(&node, 50).get("first"), Some(&50));
    let path = "/v1/services/shop/instances/first";
    let drained = node.call("PATCH", path, &json!({ "drain": true }));
    assert_eq!(drained.status, 200);
    until("traffic for the spare one", || {
        (shares(&node, 10).get("spare") == Some(&10)).then_some(())
    });
}

#[test]
fn with_too_few_healthy_all_get_requests_and_explain_says_so() {
    let origins = ["a", "b", "c"].map(Origin::named);
    let config = format!(
        "{}\n[service.shop]\npolicy = \"round_robin\"\npanic_below = \"50%\"\n",
        crate::SHOP
    );
    let node = Home::new(&config).start();
    // Their checks find nobody, though they would answer.
    let check = json!({ "tcp": true, "port": 1, "interval": "100ms", "fall": 1 });
    for (id, origin) in ["a", "b", "c"].into_iter().zip(&origins) {
        let mut body = crate::lasting(origin);
        if id != "a" {
            body["check"] = check.clone();
        }
        node.register("shop", id, &body);
    }
    node.until_health("shop", "b", "critical");
    node.until_health("shop", "c", "critical");
    until("requests for all of them", || {
        (shares(&node, 30).len() == 3).then_some(())
    });
    let explained = explained(&node, &format!("http://{}/", node.web()), "A: b");
    let taken = explained.matches("taken for healthy: too few are").count();
    assert_eq!(taken, 2, "{explained}");
}

#[test]
fn this_node_uses_a_subset_of_the_instances_and_says_of_which() {
    let origins = ["a", "b", "c", "d"].map(Origin::named);
    let config = format!(
        "{}\n[service.shop]\npolicy = \"round_robin\"\nsubset = 2\n",
        crate::SHOP
    );
    let node = Home::new(&config).start();
    for (id, origin) in ["a", "b", "c", "d"].into_iter().zip(&origins) {
        node.register("shop", id, &crate::lasting(origin));
    }
    let explained = until("two of four in use", || {
        let explained = explained(&node, &format!("http://{}/", node.web()), "A: b");
        (explained.matches("not in the subset").count() == 2).then_some(explained)
    });
    let shares = shares(&node, 40);
    assert_eq!(shares.len(), 2, "{shares:?} {explained}");
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
