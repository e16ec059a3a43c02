//! Commands, what they print and how they exit.

use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{Directory, Home, Node, Origin, binary, pointsman, until};

fn ask<const N: usize>(node: &Node, args: [&str; N]) -> Output {
    Command::new(binary())
        .args(args)
        .args(["--api", &node.url()])
        .stdin(Stdio::null())
        .output()
        .expect("the program starts")
}

fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.lines().count(), 1, "one line for scripts: {text}");
    serde_json::from_str(&text).expect("JSON")
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn error_of(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_instance_is_registered_listed_drained_explained_and_deregistered() {
    let node = Home::new(crate::SHOP).start();
    let origin = Origin::named("a");
    let address = origin.address.to_string();
    let output = ask(
        &node,
        [
            "instance",
            "register",
            "shop",
            "a",
            "--address",
            &address,
            "--weight",
            "2",
            "--zone",
            "z",
            "--tag",
            "t",
            "--meta",
            "k=v",
            "--persistent",
            "--json",
        ],
    );
    let record = json_of(&output);
    assert_eq!(
        (&record["weight"], &record["metadata"]["k"]),
        (&json!(2), &json!("v"))
    );
    assert_eq!(
        (&record["zone"], &record["tags"][0]),
        (&json!("z"), &json!("t"))
    );
    let again = ask(
        &node,
        [
            "instance",
            "register",
            "shop",
            "a",
            "--address",
            &address,
            "--persistent",
        ],
    );
    assert_eq!(text_of(&again), "registered\n");

    let list = json_of(&ask(&node, ["service", "list", "--json"]));
    assert_eq!(
        (
            &list["services"][0]["service"],
            &list["services"][0]["passing"]
        ),
        (&json!("shop"), &json!(1))
    );
    assert!(
        text_of(&ask(&node, ["service", "list"]))
            .lines()
            .any(|l| l.starts_with("shop"))
    );
    let show = json_of(&ask(&node, ["service", "show", "shop", "--json"]));
    assert_eq!(show["instances"][0]["port"], origin.port());
    let shown = text_of(&ask(&node, ["instance", "list", "shop"]));
    assert!(
        shown.contains(&address) && shown.contains("passing"),
        "{shown}"
    );

    node.until_eligible("/", 1);
    let url = format!("http://{}/x", node.web());
    let explained = json_of(&ask(&node, ["explain", &url, "--json"]));
    assert_eq!(explained["service"]["chosen"], "a");
    let text = text_of(&ask(&node, ["explain", &url]));
    assert!(
        text.contains("goes to instance a of service shop") && text.contains("eligible"),
        "{text}"
    );

    let drained = json_of(&ask(&node, ["instance", "drain", "shop", "a", "--json"]));
    assert_eq!(drained["drain"], true);
    assert!(text_of(&ask(&node, ["service", "show", "shop"])).contains("draining"));
    assert!(
        ask(&node, ["instance", "drain", "shop", "a", "--undo"])
            .status
            .success()
    );
    assert!(
        ask(&node, ["instance", "deregister", "shop", "a"])
            .status
            .success()
    );
    let error = error_of(&ask(&node, ["instance", "deregister", "shop", "a"]));
    assert!(
        error.contains("404") && error.contains("never registered"),
        "{error}"
    );
    // Scripts ask whether there is anybody by the exit code.
    assert_eq!(
        ask(&node, ["service", "show", "shop"]).status.code(),
        Some(1)
    );
}

#[test]
fn other_namespaces_are_other_services() {
    let node = Home::new("").start();
    let output = ask(
        &node,
        [
            "instance",
            "register",
            "s",
            "a",
            "--address",
            "127.0.0.1:1",
            "--persistent",
            "--namespace",
            "team",
            "--json",
        ],
    );
    assert_eq!(json_of(&output)["namespace"], "team");
    assert_eq!(ask(&node, ["service", "show", "s"]).status.code(), Some(1));
    let list = json_of(&ask(
        &node,
        ["service", "list", "--namespace", "team", "--json"],
    ));
    assert_eq!(list["services"][0]["service"], "s");
}

#[test]
fn mistakes_and_absent_nodes_are_told_with_a_way_out() {
    let node = Home::new("").start();
    let error = error_of(&ask(
        &node,
        ["instance", "register", "s", "a", "--address", "noport"],
    ));
    assert!(error.contains("host:port"), "{error}");
    let error = error_of(&ask(
        &node,
        [
            "instance",
            "register",
            "s",
            "a",
            "--address",
            "a b:1",
            "--ttl",
            "5",
        ],
    ));
    assert!(
        error.contains("/address") && error.contains("/lease/ttl"),
        "{error}"
    );
    let output = pointsman(["service", "list", "--api", "http://127.0.0.1:1"]);
    let error = error_of(&output);
    assert!(
        error.contains("127.0.0.1:1") && error.contains("pointsman serve"),
        "{error}"
    );
    assert_eq!(pointsman(["no-such-command"]).status.code(), Some(2));
}

#[test]
fn a_node_that_is_frozen_keeps_no_command_from_the_next_nor_for_ever() {
    let (frozen, well) = (Home::new("").start(), Home::new("").start());
    frozen.signal(Signal::STOP);
    let both = format!("{},{}", frozen.url(), well.url());
    let output = pointsman(["service", "list", "--json", "--api", &both]);
    assert!(json_of(&output)["services"].is_array());
    let output = pointsman(["cluster", "status", "--api", &frozen.url()]);
    let text = error_of(&output);
    assert!(text.contains("no node answers in time at"), "{text}");
}

#[test]
fn watch_prints_every_change_as_a_line() {
    let node = Home::new("").start();
    let (mut watcher, lines) = spawn(&node, ["watch", "s", "--json"]);
    until("the snapshot", || {
        lines.text().contains("\"instances\":[]").then_some(())
    });
    node.register("s", "a", &json!({ "address": "127.0.0.1", "port": 1 }));
    until("the registration", || {
        lines
            .text()
            .contains("\"change\":\"registered\"")
            .then_some(())
    });
    for line in lines.text().lines() {
        serde_json::from_str::<Value>(line).expect("a line of JSON");
    }
    watcher.kill().expect("it runs");
    watcher.wait().expect("its end");
}

fn spawn<const N: usize>(node: &Node, args: [&str; N]) -> (Child, crate::harness::Said) {
    let mut child = Command::new(binary())
        .args(args)
        .env("POINTSMAN_API", node.url())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let lines = crate::harness::Said::default();
    lines.follow(child.stdout.take().expect("a pipe"));
    (child, lines)
}

#[test]
fn a_wrapped_command_is_registered_as_long_as_it_runs() {
    let node = Home::new("").start();
    let directory = Directory::new();
    let gate = directory.path().join("gate");
    let script = format!(
        "until [ -e {} ]; do sleep 0.01; done; exit 7",
        gate.display()
    );
    let (mut wrapped, _lines) = spawn(
        &node,
        [
            "instance",
            "register",
            "s",
            "a",
            "--address",
            "127.0.0.1:1",
            "--ttl",
            "1s",
            "--",
            "sh",
            "-c",
            &script,
        ],
    );
    node.until_health("s", "a", "passing");
    // Longer than its lease: heartbeats keep it.
    let heartbeats = node.metric("pointsman_registry_heartbeats_total");
    until("some heartbeats", || {
        assert_eq!(node.health("s", "a").as_deref(), Some("passing"));
        (node.metric("pointsman_registry_heartbeats_total") >= heartbeats + 4.0).then_some(())
    });
    directory.write("gate", "");
    until("deregistered", || {
        node.health("s", "a").is_none().then_some(())
    });
    assert_eq!(wrapped.wait().expect("its end").code(), Some(7));
}

#[test]
fn a_wrapper_that_is_told_to_stop_deregisters_and_then_stops_the_command() {
    let node = Home::new("").start();
    let directory = Directory::new();
    let told = directory.path().join("told");
    let listens = directory.path().join("listens");
    let script = format!(
        "trap 'echo told > {}; exit 3' TERM; touch {}; while :; do sleep 0.01; done",
        told.display(),
        listens.display()
    );
    let (mut wrapped, _lines) = spawn(
        &node,
        [
            "instance",
            "register",
            "s",
            "a",
            "--address",
            "127.0.0.1:1",
            "--",
            "sh",
            "-c",
            &script,
        ],
    );
    node.until_health("s", "a", "passing");
    until("the command", || listens.exists().then_some(()));
    kill_process(Pid::from_child(&wrapped), Signal::TERM).expect("it runs");
    assert_eq!(wrapped.wait().expect("its end").code(), Some(3));
    assert!(told.exists());
    assert_eq!(node.health("s", "a"), None);
}

#[test]
fn a_wrapper_of_nothing_fails() {
    let node = Home::new("").start();
    let error = error_of(&ask(
        &node,
        [
            "instance",
            "register",
            "s",
            "a",
            "--address",
            "127.0.0.1:1",
            "--api",
            "http://127.0.0.1:1",
            "--",
            "/no/such/program",
        ],
    ));
    assert!(error.contains("/no/such/program"), "{error}");
    assert_eq!(node.health("s", "a"), None);
}

#[test]
fn config_check_tells_all_faults_at_once_and_show_prints_what_check_accepts() {
    let directory = Directory::new();
    let bad = directory.write(
        "bad.toml",
        "[listener.web]\nbind = \"nowhere\"\nmax_fields = 1\n\
        [[listener.web.route]]\nservice = \"a b\"\n[node]\nworkers = 0\nnmae = \"x\"\n",
    );
    let bad = bad.display().to_string();
    let output = pointsman(["config", "check", "-c", &bad]);
    assert_eq!(output.status.code(), Some(1));
    let text = text_of(&output);
    for place in [":2:", ":3:", ":5:", ":7:", ":8:"] {
        assert!(text.contains(&format!("{bad}{place}")), "{place} in {text}");
    }
    assert!(text.contains("name"), "the near name: {text}");
    assert!(text.contains("not valid: 5 error(s)"), "{text}");
    let output = pointsman(["config", "check", "--json", "-c", &bad]);
    assert_eq!(output.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found["valid"], false);
    assert_eq!(found["faults"].as_array().map(Vec::len), Some(5), "{found}");

    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../pointsman.example.toml");
    assert_eq!(
        pointsman(["config", "check", "--no-files", "-c", example])
            .status
            .code(),
        Some(0)
    );
    let shown = pointsman(["config", "show", "-c", example]);
    assert!(shown.status.success());
    let shown = directory.write("shown.toml", &shown.stdout);
    let again = pointsman(["config", "show", "-c", &shown.display().to_string()]);
    assert_eq!(
        text_of(&again),
        std::fs::read_to_string(&shown).expect("the file")
    );

    let missing = pointsman(["config", "check", "-c", "/no/such/file.toml"]);
    assert!(error_of(&missing).contains("/no/such/file.toml"));
    let schema: Value =
        serde_json::from_slice(&pointsman(["config", "schema"]).stdout).expect("JSON");
    assert!(schema["properties"]["listener"].is_object());
}

#[test]
fn completions_the_manual_the_version_and_help_are_printed() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = pointsman(["completions", shell]);
        assert!(
            output.status.success() && text_of(&output).contains("deregister"),
            "{shell}"
        );
    }
    let manual = text_of(&pointsman(["man"]));
    assert!(
        manual.contains(".TH pointsman 1") && manual.contains("explain"),
        "{manual}"
    );
    let version = text_of(&pointsman(["--version"]));
    assert_eq!(
        version.trim(),
        format!("pointsman {}", env!("CARGO_PKG_VERSION"))
    );
    for command in [
        "serve", "demo", "config", "service", "instance", "watch", "explain",
    ] {
        let help = pointsman([command, "--help"]);
        assert!(
            help.status.success() && text_of(&help).contains("Usage:"),
            "{command}"
        );
    }
}

#[test]
fn output_into_a_closed_pipe_is_no_panic() {
    let mut child = Command::new(binary())
        .args(["config", "schema"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("its end");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!error.contains("panicked"), "{error}");
}

#[test]
fn the_demo_judges_itself() {
    let output = pointsman([
        "demo",
        "--check",
        "--json",
        "--requests",
        "3000",
        "--listen",
        "127.0.0.1:0",
        "--api",
        "127.0.0.1:0",
    ]);
    let found = json_of(&output);
    assert_eq!(
        (&found["ok"], &found["failed"]),
        (&json!(true), &json!(0)),
        "{found}"
    );
}

#[test]
fn every_page_that_a_manual_page_refers_to_is_there() {
    let directory = Directory::new();
    let at = directory.path().display().to_string();
    let output = pointsman(["man", &at]);
    assert!(output.status.success(), "{output:?}");
    let read = |name: &str| std::fs::read_to_string(directory.path().join(name));
    let mut open = vec!["pointsman.1".to_owned()];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(name) = open.pop() {
        let page = read(&name).unwrap_or_else(|e| panic!("{name}: {e}"));
        // As roff writes it: `pointsman\-cluster\-status(1)`.
        let page = page.replace('\\', "");
        let words = page.split(|c: char| c.is_whitespace() || c == ',');
        let pages = words.filter_map(|word| word.strip_suffix("(1)"));
        let pages: Vec<String> = pages.map(|page| format!("{page}.1")).collect();
        open.extend(pages.into_iter().filter(|page| seen.insert(page.clone())));
    }
    assert!(seen.contains("pointsman-cluster-status.1"), "{seen:?}");
}
