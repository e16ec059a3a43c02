//! A node that did not run for a while.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Home, until};

const TTL: Duration = Duration::from_secs(2);

#[test]
fn a_node_that_was_stopped_for_longer_than_the_leases_expires_nobody_who_is_alive() {
    let home = Home::new("[guard]\nmax_loss = \"100%\"\nmax_loss_global = \"100%\"\n");
    let node = home.start();
    let ttl = format!("{}s", TTL.as_secs());
    let alive: Vec<String> = (0..20).map(|n| format!("i{n}")).collect();
    for id in alive.iter().map(String::as_str).chain(["dead"]) {
        let lease = json!({ "ttl": ttl, "grace": "1h" });
        node.register(
            "s",
            id,
            &json!({ "address": "127.0.0.1", "port": 1, "lease": lease }),
        );
    }
    let beats: Vec<Value> = alive
        .iter()
        .map(|id| json!({ "service": "s", "id": id }))
        .collect();
    let beats = json!({ "beats": beats });
    let api = node.api;
    let over = std::sync::atomic::AtomicBool::new(false);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        // As clients are: they send, wait for the answer however long it takes, and send again.
        scope.spawn(|| {
            while !over.load(relaxed) {
                let text = beats.to_string();
                let head = format!(
                    "POST /v1/heartbeats HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
                    text.len()
                );
                assert_eq!(crate::harness::request(api, head).status, 200);
                std::thread::sleep(TTL / 4);
            }
        });
        let mut watch = crate::harness::Connection::open(api);
        watch.send("GET /v1/services/s/watch HTTP/1.0\r\nHost: localhost\r\n\r\n");
        node.signal(Signal::STOP);
        // The length of the stop is what is tested: there is nothing to wait for.
        let stopped = Instant::now();
        while stopped.elapsed() < TTL * 2 {
            std::thread::sleep(TTL / 10);
        }
        node.signal(Signal::CONT);
        // Who is really gone is found out in the end, which shows that leases run out again.
        until("the dead one found out", || {
            (node.health("s", "dead")? == "critical").then_some(())
        });
        // One more lease: had anybody been wrongly condemned, it would have been by now.
        let after = Instant::now();
        while after.elapsed() < TTL + TTL / 2 {
            for id in &alive {
                assert_eq!(node.health("s", id).as_deref(), Some("passing"), "{id}");
            }
        }
        over.store(true, relaxed);
    });
    let events = crate::harness::get(node.api, "/v1/services/s")
        .text()
        .to_owned();
    let list: Value = serde_json::from_str(&events).expect("JSON");
    for instance in list["instances"].as_array().expect("a list") {
        // A record that nobody has touched since it was registered: not expired in between and woken again.
        let untouched = instance["created"] == instance["modified"];
        assert!(untouched || instance["id"] == "dead", "{instance}");
    }
}
