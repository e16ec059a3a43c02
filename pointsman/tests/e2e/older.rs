//! Data directories that older versions of the program have written: what was in them is there, and is gone on with.
//!
//! Each was made by a program of its time: everything that it knew is registered; there are two snapshots, a log that
//! begins before them, and something behind them. Beside it stands what its API said then. Files are compressed.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Home, Node, free_address, get, until};

/// A program's directory, by what it is called among the fixtures.
fn fixture(name: &str) -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/older");
    own.join(name)
}

fn unpack(name: &str, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(fixture(name)).expect("a fixture") {
        let path = entry.expect("a file").path();
        if path.extension().is_some_and(|e| e == "zst") {
            let packed = std::fs::read(&path).expect("a file");
            let bytes = zstd::decode_all(packed.as_slice()).expect("zstd");
            std::fs::write(to.join(path.file_stem().expect("a name")), bytes).expect("a file");
        }
    }
}

/// What its API said then, by service.
fn said(name: &str) -> Value {
    let text = std::fs::read_to_string(fixture(name).join("state.json")).expect("a file");
    serde_json::from_str(&text).expect("JSON")
}

/// Whether all that was said then is said now. What checks have found is found anew, and answers say more now.
fn assert_said(then: &Value, now: &Value, at: &str) {
    match (then, now) {
        (Value::Object(then), Value::Object(now)) => {
            let checked = then.get("check").is_some_and(|check| !check.is_null());
            for (key, then) in then {
                let found =
                    ["health", "reason", "modified", "role"].contains(&key.as_str()) && checked;
                if !found && key != "revision" && key != "counts" {
                    let now = now.get(key).unwrap_or(&Value::Null);
                    assert_said(then, now, &format!("{at}/{key}"));
                }
            }
        }
        (Value::Array(then), Value::Array(now)) => {
            assert_eq!(then.len(), now.len(), "{at}");
            for (index, (then, now)) in then.iter().zip(now).enumerate() {
                assert_said(then, now, &format!("{at}/{index}"));
            }
        }
        _ => assert_eq!(then, now, "{at}"),
    }
}

fn assert_all_said(name: &str, node: &Node) {
    for (service, then) in said(name).as_object().expect("services") {
        let now = get(node.api, &format!("/v1/services/{service}"));
        assert_eq!(now.status, 200, "{service}: {}", now.text());
        assert_said(then, &now.json(), service);
    }
}

/// Opens what it has left, goes on with it, and comes back to that.
fn assert_gone_on_with(name: &str, config: &str, also: impl Fn(&Node)) {
    let home = Home::new(config);
    unpack(name, home.data());
    let node = home.start();
    until("a leader", || {
        let answer = get(node.api, "/v1/services/shop?consistency=linearizable");
        (answer.status == 200).then_some(())
    });
    assert_all_said(name, &node);
    also(&node);
    let body = json!({ "address": "10.0.0.9", "port": 9, "persistent": true, "tier": 1 });
    node.register("today", "a", &body);
    node.kill();
    let node = home.start();
    assert_all_said(name, &node);
    also(&node);
    assert_eq!(node.read("/v1/services/today")["instances"][0]["tier"], 1);
}

#[test]
fn what_a_program_before_the_replicated_log_has_written_is_gone_on_with() {
    assert_gone_on_with("v2", "", |_| {});
}

#[test]
fn what_a_program_before_sessions_moved_has_written_is_gone_on_with_and_so_is_its_tree() {
    let zookeeper = "[front.zookeeper]\nbind = \"127.0.0.1:0\"\n";
    assert_gone_on_with("v5", zookeeper, |node| {
        let mut client = crate::harness::ZkClient::open(node.zookeeper(), 10_000);
        for (path, data) in [
            ("/config", "three"),
            ("/config/deep", ""),
            ("/locks/l-0000000000", "q"),
            ("/late", "l"),
        ] {
            assert_eq!(client.data(path), Ok(data.as_bytes().to_vec()), "{path}");
        }
        client.close();
    });
}

#[test]
fn what_a_cluster_has_written_that_did_not_say_what_its_members_read_is_gone_on_with() {
    let at = free_address();
    let config = format!(
        "[node]\nname = \"n1\"\n[cluster]\nbind = \"{at}\"\ntoken = \"a secret of the test\"\npeers = {{ n1 = \"{at}\" }}\n"
    );
    assert_gone_on_with("v6-cluster", &config, |node| {
        // The membership says it now.
        until("its format", || {
            let status = node.read("/v1/cluster");
            (status["format"] == status["nodes"][0]["format"] && status["leader"] == "n1")
                .then_some(())
        });
    });
}
