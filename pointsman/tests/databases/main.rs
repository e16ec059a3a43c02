//! Checks that speak to real servers: PostgreSQL, Redis and MariaDB, as Debian packages them, with replicas and
//! failovers; and what loads them, through a listener. They take seconds to start, so that they have a step of their own:
//! `cargo test --test databases`.

#[path = "../harness/mod.rs"]
mod harness;

mod documented;
mod load;
mod mariadb;
mod postgresql;
mod redis;
mod server;

use serde_json::Value;

use harness::{Node, get, until};

/// What the API says of an instance.
fn instance(node: &Node, id: &str) -> Value {
    node.read(&format!("/v1/services/db/instances/{id}"))
}

/// Waits until the check has found the instance well, and in this role.
fn until_role(node: &Node, id: &str, role: &str) {
    until(&format!("{id} as a {role}"), || {
        let instance = instance(node, id);
        (instance["health"] == "passing" && instance["role"] == role).then_some(())
    });
}

/// Waits until it is well, though its check could not find out its role.
fn until_well_without_role(node: &Node, id: &str) {
    until(&format!("{id} being well"), || {
        let instance = instance(node, id);
        let reason = instance["reason"].as_str().unwrap_or_default();
        assert!(instance["health"] != "critical", "{id}: {reason}");
        (instance["health"] == "passing").then(|| assert_eq!(instance["role"], Value::Null))
    });
}

/// Waits until it is critical for a reason with these words.
fn until_critical(node: &Node, id: &str, words: &str) {
    until(&format!("{id} being critical: {words}"), || {
        let instance = instance(node, id);
        let reason = instance["reason"].as_str().unwrap_or_default();
        (instance["health"] == "critical" && reason.contains(words)).then_some(())
    });
}

/// The instance that gets what is for this role; `None` if nobody does.
fn pick(node: &Node, role: &str) -> Option<String> {
    let answer = get(node.api, &format!("/v1/pick/db?role={role}"));
    (answer.status == 200).then(|| answer.json()["id"].as_str().expect("an id").to_owned())
}

fn until_picked(node: &Node, role: &str, id: Option<&str>) {
    until(&format!("{id:?} picked as {role}"), || {
        (pick(node, role).as_deref() == id).then_some(())
    });
}

/// What explain says about an instance, asked about the listener of that name.
fn why(node: &Node, listener: &str, id: &str) -> String {
    let url = format!("/v1/explain?url={}", node.listener(listener));
    let explained = node.read(&url);
    let instances = explained["service"]["instances"]
        .as_array()
        .expect("instances");
    let found = instances.iter().find(|i| i["id"] == id);
    found.unwrap_or_else(|| panic!("{id} in {explained}"))["why"]
        .as_str()
        .expect("a reason")
        .to_owned()
}

/// The service `db` with two listeners, one for each role.
const VIEWS: &str = r#"
    [listener.writes]
    bind = "127.0.0.1:0"
    protocol = "tcp"
    service = "db"
    role = "primary"
    [listener.reads]
    bind = "127.0.0.1:0"
    protocol = "tcp"
    service = "db"
    role = "replica"
"#;

/// Two instances and how they are checked.
fn two(check: &str, a: u16, b: u16) -> String {
    format!(
        "{VIEWS}[service.db.check]\n{check}\ninterval = \"200ms\"\ntimeout = \"200ms\"\n\
         [[service.db.instance]]\nid = \"a\"\naddress = \"127.0.0.1:{a}\"\n\
         [[service.db.instance]]\nid = \"b\"\naddress = \"127.0.0.1:{b}\"\n"
    )
}
