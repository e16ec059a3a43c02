//! When there are no descriptors left, or too many clients of the API.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use serde_json::json;

use crate::harness::{Connection, Home, Origin, Reply, free_address, get, pointsman, until};
use crate::{SHOP, lasting};

#[test]
fn clients_that_take_all_descriptors_leave_some_for_the_api_and_for_checks() {
    let node = Home::new(SHOP).descriptors(256).start();
    let origin = Origin::named("a");
    let check = json!({ "tcp": true, "interval": "100ms", "fall": 1, "rise": 1 });
    let body = json!({ "address": "127.0.0.1", "port": origin.port(), "check": check });
    node.register("shop", "a", &body);
    node.until_eligible("/", 1);
    let mut crowd: Vec<_> = (0..300).map(|_| Connection::open(node.web())).collect();
    let said = node.said().until_line("descriptors: more than ");
    assert!(
        said.contains("of 256 files and sockets") && said.contains("LimitNOFILE"),
        "{said}"
    );
    assert!(node.metric("pointsman_listener_rests_total") > 0.0);
    assert!(node.metric("pointsman_descriptors_in_use") >= 192.0);
    assert_eq!(node.metric("pointsman_descriptors_limit"), 256.0);
    // The API answers, checks go on, and who was accepted is served.
    assert_eq!(get(node.api, "/healthz").status, 200);
    assert_eq!(crowd[0].get("/").text(), "a");
    let probed = |n: usize| {
        let path = format!("/v1/services/shop/instances/b{n}");
        assert!([200, 201].contains(&node.call("PUT", &path, &body).status));
        node.until_health("shop", &format!("b{n}"), "passing");
    };
    (0..3).for_each(probed);
    crowd.truncate(1);
    node.said()
        .until_line("descriptors: listeners accept clients again");
    assert_eq!(get(node.web(), "/").status, 200);
}

#[test]
fn want_of_descriptors_is_no_instances_fault() {
    let node = Home::new(SHOP).descriptors(256).start();
    let origin = Origin::named("a");
    let check =
        json!({ "tcp": true, "interval": "100ms", "timeout": "100ms", "fall": 1, "rise": 1 });
    let body = json!({ "address": "127.0.0.1", "port": origin.port(), "check": check });
    node.register("shop", "a", &body);
    node.until_health("shop", "a", "passing");
    // The API itself is what takes them all here: nothing is kept from it.
    let mut crowd: Vec<_> = (0..300).map(|_| Connection::open(node.api)).collect();
    node.said()
        .until_line("pointsman: descriptors: checks wait for files or memory");
    node.said()
        .until_line("pointsman: api: clients of the API wait");
    crowd.drain(..100);
    node.said()
        .until_line("pointsman: descriptors: checks go on");
    assert!(
        !node.said().text().contains("is critical"),
        "{}",
        node.said().text()
    );
    assert!(node.metric("pointsman_checks_postponed_total") > 0.0);
    assert_eq!(node.health("shop", "a").as_deref(), Some("passing"));
}

#[test]
fn connections_that_cannot_be_made_for_want_of_descriptors_eject_nobody() {
    let node = Home::new(&format!("[node]\nworkers = 1\n{SHOP}"))
        .descriptors(256)
        .start();
    let open = Arc::new(AtomicBool::new(false));
    let gate = open.clone();
    let origin = Origin::answering(move |_| {
        until("the gate", || gate.load(SeqCst).then_some(()));
        Reply::text("a")
    });
    node.register("shop", "a", &lasting(&origin));
    node.until_eligible("/", 1);
    let mut crowd: Vec<_> = (0..140).map(|_| Connection::open(node.web())).collect();
    // Before the first of them takes another descriptor.
    until("all are accepted", || {
        (node.metric("pointsman_worker_connections{worker=\"0\"}") >= 140.0).then_some(())
    });
    for client in &mut crowd {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    until("all are taken but for the rest", || {
        (node.metric("pointsman_descriptors_in_use") >= 224.0).then_some(())
    });
    open.store(true, SeqCst);
    let answers = crowd.iter_mut().map(|client| client.answer().status);
    let answers: Vec<_> = answers.collect();
    let refused = answers.iter().filter(|status| **status == 502).count();
    let good = answers.iter().filter(|status| **status == 200).count();
    assert!(
        refused > 0 && good > 0 && refused + good == 140,
        "{answers:?}"
    );
    let ejections = "pointsman_service_ejections_total{service=\"shop\",reason=\"unreachable\"}";
    assert_eq!(node.metric(ejections), 0.0);
    assert_eq!(get(node.api, "/healthz").status, 200);
}

#[test]
fn as_many_clients_of_the_api_as_may_be_are_told_of() {
    let node = Home::new("[api]\nmax_connections = 20\n").start();
    let mut crowd: Vec<_> = (0..25).map(|_| Connection::open(node.api)).collect();
    let said = node
        .said()
        .until_line("pointsman: api: 20 clients are connected to the API");
    assert!(said.contains("raise api.max_connections"), "{said}");
    // Who has to see to it gets in.
    let status = pointsman(["cluster", "status", "--api", &node.url()]);
    assert!(status.status.success(), "{status:?}");
    assert_eq!(node.metric("pointsman_api_full"), 1.0);
    crowd.clear();
    node.said()
        .until_line("pointsman: api: there is room at the API again");
    assert_eq!(node.metric("pointsman_api_full"), 0.0);
}

#[test]
fn a_listener_that_is_its_own_instance_is_refused_if_configured_and_leaves_the_api_alone_if_registered()
 {
    let at = free_address();
    let listener =
        format!("[listener.web]\nbind = \"{at}\"\nprotocol = \"tcp\"\nservice = \"shop\"\n");
    let own = format!("[[service.shop.instance]]\naddress = \"{at}\"\n");
    let said = Home::new(&format!("{listener}{own}")).refusal();
    assert!(said.contains("is where listener.web listens"), "{said}");

    let brief = format!("{listener}[listener.web.tcp]\ndrain = \"1s\"\n");
    let node = Home::new(&brief).descriptors(256).start();
    let body = json!({ "address": "127.0.0.1", "port": at.port(), "persistent": true });
    node.register("shop", "itself", &body);
    node.until_instances("web", 1);
    let client = Connection::open(at);
    node.said().until_line("descriptors: more than ");
    assert_eq!(get(node.api, "/healthz").status, 200);
    // Who removes it is heard, and the loop ends.
    let path = "/v1/services/shop/instances/itself";
    assert_eq!(node.call("DELETE", path, &json!(null)).status, 204);
    drop(client);
    until("descriptors are free again", || {
        (node.metric("pointsman_descriptors_in_use") < 100.0).then_some(())
    });
}
