//! From registering to leaving.

use serde_json::{Value, json};

use crate::harness::{Connection, Home, Load, Origin, Reply, get, until};
use crate::{SHOP, lasting};

#[test]
fn an_instance_registers_is_watched_checked_sent_traffic_and_leaves() {
    let node = Home::new(SHOP).start();
    let origin = Origin::named("a");
    assert_eq!(get(node.web(), "/").status, 503);
    let mut watch = Watch::begin(&node.api, "shop", None);
    assert_eq!(watch.next().1["instances"], json!([]));

    let body = json!({
        "address": "127.0.0.1", "port": origin.port(), "weight": 3, "zone": "z",
        "tags": ["blue"], "metadata": { "version": "1" },
        "check": { "http": "/healthz", "interval": "100ms" },
    });
    node.register("shop", "a", &body);
    let (event, data) = watch.next();
    assert_eq!((&*event, &data["change"]), ("change", &json!("registered")));
    assert_eq!(data["instance"]["health"], "unknown");
    let (_, data) = watch.next();
    assert_eq!(data["change"], "health");
    assert_eq!(data["instance"]["health"], "passing");
    let seen = data["revision"].as_u64().expect("a revision");
    let found = node.read("/v1/services/shop?health=passing&tag=blue&zone=z");
    assert_eq!(found["instances"][0]["metadata"], json!({ "version": "1" }));
    assert_eq!(found["instances"][0]["weight"], 3);
    node.until_eligible("/", 1);
    let answer = get(node.web(), "/x");
    assert_eq!((answer.status, answer.text()), (200, "a"));
    assert_eq!(node.read("/v1/pick/shop")["id"], "a");
    assert!(origin.heard().iter().any(|r| r.path() == "/healthz"));

    let gone = node.call("DELETE", "/v1/services/shop/instances/a", &Value::Null);
    assert_eq!(gone.status, 204);
    assert_eq!(watch.next().1["change"], "removed");
    until("no traffic any more", || {
        (get(node.web(), "/").status == 503).then_some(())
    });
    assert_eq!(
        node.call("DELETE", "/v1/services/shop/instances/a", &Value::Null)
            .status,
        404
    );
    // Who lost the connection meanwhile gets what was missed.
    let mut again = Watch::begin(&node.api, "shop", Some(seen));
    assert_eq!(again.next().1["change"], "removed");
}

#[test]
fn the_three_calls_of_the_tutorial_work() {
    let node = Home::new("").start();
    let origin = Origin::answering(|request| Reply::text(&request.head));
    let body = json!({ "service_name": "s", "ip_address": "127.0.0.1", "port": origin.port() });
    let answer = node.call("POST", "/register", &body);
    assert_eq!(answer.status, 200);
    let expected = json!({ "status": "success", "message": "Service registered" });
    assert_eq!(answer.json(), expected);
    let expected = json!({
        "service_name": "s",
        "instances": [{ "ip_address": "127.0.0.1", "port": origin.port() }],
    });
    assert_eq!(node.read("/query?service_name=s"), expected);
    let question = json!({ "service_name": "s", "path": "/hello" });
    let answer = node.call("POST", "/load_balance", &question);
    assert_eq!(answer.status, 200);
    assert!(
        answer.text().starts_with("GET /hello HTTP/1.1"),
        "{}",
        answer.text()
    );
    let answer = node.call("POST", "/load_balance", &json!({ "service_name": "t" }));
    assert_eq!(answer.status, 503);
}

#[test]
fn an_instance_whose_lease_ran_out_turns_critical_and_is_removed_after_the_grace() {
    let node = Home::new(SHOP).start();
    let (quick, kept) = (Origin::named("quick"), Origin::named("kept"));
    let lease = json!({ "ttl": "1s", "grace": "1s" });
    for (id, origin) in [("quick", &quick), ("kept", &kept)] {
        let port = origin.port();
        let body = json!({ "address": "127.0.0.1", "port": port, "lease": lease });
        node.register("shop", id, &body);
    }
    node.until_eligible("/", 2);
    let load = Load::start(node.web(), 2, "/");
    let beat = |id: &str| {
        let path = format!("/v1/services/shop/instances/{id}/heartbeat");
        node.call("POST", &path, &Value::Null).status
    };
    until("quick being critical", || {
        assert_eq!(beat("kept"), 200);
        (node.health("shop", "quick")? == "critical").then_some(())
    });
    let text = node.read("/v1/services/shop/instances/quick");
    assert!(
        text["reason"]
            .as_str()
            .is_some_and(|r| r.contains("heartbeat")),
        "{text}"
    );
    until("quick being gone", || {
        assert_eq!(beat("kept"), 200);
        node.health("shop", "quick").is_none().then_some(())
    });
    assert_eq!(beat("quick"), 404);
    assert_eq!(node.health("shop", "kept").as_deref(), Some("passing"));
    let many =
        json!({ "beats": [{ "service": "shop", "id": "kept" }, { "service": "shop", "id": "x" }] });
    let outcome = node.call("POST", "/v1/heartbeats", &many).json();
    assert_eq!(
        (&outcome["renewed"], &outcome["failed"][0]["id"]),
        (&json!(1), &json!("x"))
    );
    load.finish().assert_whole();
}

#[test]
fn a_late_heartbeat_wakes_an_expired_instance() {
    let node = Home::new(SHOP).start();
    let lease = json!({ "ttl": "1s", "grace": "1h" });
    let body = json!({ "address": "127.0.0.1", "port": 1, "lease": lease });
    node.register("shop", "a", &body);
    node.until_health("shop", "a", "critical");
    let path = "/v1/services/shop/instances/a/heartbeat";
    assert_eq!(
        node.call("POST", path, &Value::Null).json()["status"],
        "woken"
    );
    node.until_health("shop", "a", "passing");
}

#[test]
fn traffic_leaves_a_draining_a_weightless_and_a_removed_instance_without_a_failed_request() {
    let node = Home::new(SHOP).start();
    let origins = ["a", "b", "c"].map(Origin::named);
    for (id, origin) in ["a", "b", "c"].iter().zip(&origins) {
        node.register("shop", id, &lasting(origin));
    }
    node.until_eligible("/", 3);
    let load = Load::start(node.web(), 4, "/");
    load.further(300);
    let path = |id: &str| format!("/v1/services/shop/instances/{id}");
    let changes: [(&str, &str, Value, usize); 5] = [
        ("PATCH", "a", json!({ "drain": true }), 2),
        ("PATCH", "b", json!({ "weight": 0 }), 1),
        ("PATCH", "a", json!({ "drain": false }), 2),
        ("PATCH", "a", json!({ "enabled": false }), 1),
        ("DELETE", "b", Value::Null, 1),
    ];
    for (method, id, body, eligible) in changes {
        let answer = node.call(method, &path(id), &body);
        assert!([200, 204].contains(&answer.status), "{}", answer.text());
        node.until_eligible("/", eligible);
        // Requests that began before may end on it still.
        load.round();
        let before = origins.each_ref().map(|o| o.heard().len());
        load.further(200);
        let after = origins.each_ref().map(|o| o.heard().len());
        let busy = (0..3).filter(|&i| after[i] > before[i]).count();
        assert_eq!(busy, eligible, "{method} {id} {body}: {before:?} {after:?}");
    }
    let tally = load.finish();
    tally.assert_whole();
    assert!(
        tally.of("b") > 0 && tally.of("c") > tally.of("b"),
        "{tally:?}"
    );
}

#[test]
fn traffic_leaves_an_instance_that_fails_its_check_and_comes_back() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    let node = Home::new(SHOP).start();
    let ill = Arc::new(AtomicBool::new(false));
    let state = ill.clone();
    let patient = Origin::answering(move |request| {
        let probe = request.path() == "/healthz";
        let status = if probe && state.load(Relaxed) {
            500
        } else {
            200
        };
        Reply {
            status,
            ..Reply::text("patient")
        }
    });
    let other = Origin::named("other");
    let check = json!({ "http": "/healthz", "interval": "100ms", "fall": 2, "rise": 2 });
    let body = json!({ "address": "127.0.0.1", "port": patient.port(), "check": check });
    node.register("shop", "patient", &body);
    node.register("shop", "other", &lasting(&other));
    node.until_eligible("/", 2);
    let load = Load::start(node.web(), 2, "/");
    ill.store(true, Relaxed);
    node.until_health("shop", "patient", "critical");
    let record = node.read("/v1/services/shop/instances/patient");
    assert!(
        record["reason"].as_str().is_some_and(|r| r.contains("500")),
        "{record}"
    );
    node.until_eligible("/", 1);
    load.round();
    let served = |origin: &Origin| origin.heard().iter().filter(|r| r.path() == "/").count();
    let before = served(&patient);
    load.further(200);
    assert_eq!(served(&patient), before);
    ill.store(false, Relaxed);
    node.until_health("shop", "patient", "passing");
    until("traffic again", || {
        (served(&patient) > before).then_some(())
    });
    load.finish().assert_whole();
}

#[test]
fn a_long_poll_ends_with_the_change_it_waited_for() {
    let node = Home::new("").start();
    node.register("s", "a", &json!({ "address": "127.0.0.1", "port": 1 }));
    let revision = node.read("/v1/services/s")["revision"]
        .as_u64()
        .expect("one");
    let mut waiting = Connection::open(node.api);
    let path = format!("/v1/services/s?after={revision}&wait=60s");
    waiting.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    node.register("other", "x", &json!({ "address": "127.0.0.1", "port": 1 }));
    node.register("s", "b", &json!({ "address": "127.0.0.1", "port": 2 }));
    let answer = waiting.answer().json();
    assert_eq!(answer["instances"].as_array().map(Vec::len), Some(2));
}

#[test]
fn instances_of_the_configuration_need_no_registration_and_go_with_it() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let config = |origin: &Origin| {
        let port = origin.port();
        format!("{SHOP}\n[[service.shop.instance]]\naddress = \"127.0.0.1:{port}\"\nweight = 2\n")
    };
    let node = Home::new(&config(&a)).start();
    assert_eq!(get(node.web(), "/").text(), "a");
    let listed = &node.read("/v1/services/shop")["instances"];
    assert_eq!(listed[0]["id"], format!("127.0.0.1:{}", a.port()));
    assert_eq!(
        (&listed[0]["weight"], &listed[0]["persistent"]),
        (&json!(2), &json!(true))
    );
    let said = node.reload(&config(&b));
    assert!(said.contains("is in effect"), "{said}");
    assert_eq!(get(node.web(), "/").text(), "b");
    assert_eq!(
        node.read("/v1/services/shop")["instances"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
}

#[test]
fn what_was_registered_is_there_after_a_restart_and_what_left_is_not() {
    let origin = Origin::named("a");
    let home = Home::new(SHOP);
    let node = home.start();
    node.register("shop", "a", &lasting(&origin));
    node.register("shop", "b", &lasting(&origin));
    node.register(
        "shop",
        "leased",
        &json!({ "address": "127.0.0.1", "port": 1, "lease": { "ttl": "1h" } }),
    );
    node.call("DELETE", "/v1/services/shop/instances/b", &Value::Null);
    node.call(
        "PATCH",
        "/v1/services/shop/instances/a",
        &json!({ "weight": 7, "metadata": { "k": "v" } }),
    );
    let before = node.read("/v1/services/shop");
    assert!(node.stop().status.success());
    let node = home.start();
    assert_eq!(node.read("/v1/services/shop"), before);
    node.call(
        "PATCH",
        "/v1/services/shop/instances/leased",
        &json!({ "enabled": false }),
    );
    node.until_eligible("/", 1);
    assert_eq!(get(node.web(), "/").text(), "a");
}

/// A watch as server-sent events.
struct Watch(Connection);

impl Watch {
    fn begin(api: &std::net::SocketAddr, service: &str, last: Option<u64>) -> Self {
        let mut connection = Connection::open(*api);
        let last = last.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let head =
            format!("GET /v1/services/{service}/watch HTTP/1.0\r\nHost: localhost\r\n{last}\r\n");
        connection.send(head);
        assert_eq!(connection.try_head().expect("an answer").status, 200);
        Self(connection)
    }

    /// The next event and what it says.
    fn next(&mut self) -> (String, Value) {
        let (mut event, mut data) = (String::new(), Value::Null);
        loop {
            let line = self.0.line().expect("an event");
            match line.split_once(": ") {
                Some(("event", name)) => event = name.into(),
                Some(("data", text)) => data = serde_json::from_str(text).expect("JSON"),
                _ if line.is_empty() && !data.is_null() => return (event, data),
                _ => {}
            }
        }
    }
}
