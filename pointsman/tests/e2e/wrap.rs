//! Commands that are registered as long as they run, at whichever node answers.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::cluster::Cluster;
use crate::harness::{Directory, Home, Said, binary, free_address, pointsman, until};

/// A wrapper of a command that says that it runs, and ends with 7 when it is let go.
struct Wrapped {
    child: Child,
    said: Said,
    directory: Directory,
}

impl Wrapped {
    fn new(more: &[&str]) -> Self {
        let directory = Directory::new();
        let at = directory.path().display();
        let script =
            format!("touch {at}/runs; until [ -e {at}/gate ]; do sleep 0.01; done; exit 7");
        let mut child = Command::new(binary())
            .args(["instance", "register", "s", "a", "--address", "127.0.0.1:1"])
            .args(more)
            .args(["--", "sh", "-c", &script])
            .env_remove("POINTSMAN_API")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let said = Said::default();
        said.follow(child.stderr.take().expect("a pipe"));
        Self {
            child,
            said,
            directory,
        }
    }

    fn runs(&self) -> PathBuf {
        self.directory.path().join("runs")
    }

    /// Lets the command go; what the wrapper exits with.
    fn end(&mut self) -> Option<i32> {
        self.directory.write("gate", "");
        self.child.wait().expect("its end").code()
    }
}

#[test]
fn a_command_runs_where_no_node_answers_and_is_registered_once_one_does() {
    let api = free_address().to_string();
    let mut wrapped = Wrapped::new(&["--api", &api]);
    until("the command", || wrapped.runs().exists().then_some(()));
    wrapped.said.until_line("a is not registered at present");
    let node = Home::new("").env("TEST_API", &api).start();
    node.until_health("s", "a", "passing");
    wrapped.said.until_line("a is registered");
    let said = wrapped.said.text();
    assert_eq!(said.lines().count(), 2, "each is said once: {said}");
    assert_eq!(wrapped.end(), Some(7));
    assert_eq!(node.health("s", "a"), None);
}

#[test]
fn a_registration_that_is_refused_is_told_before_the_command_runs() {
    let node = Home::new("").start();
    let mut wrapped = Wrapped::new(&["--api", &node.url(), "--ttl", "5"]);
    assert_eq!(wrapped.child.wait().expect("its end").code(), Some(1));
    let said = wrapped.said.until_line("/lease/ttl");
    assert!(!wrapped.runs().exists(), "{said}");
}

#[test]
fn heartbeats_go_on_at_the_next_node_when_one_is_killed() {
    let mut cluster = Cluster::plain();
    let leader = cluster.leader();
    let apis =
        [&cluster.nodes[leader], cluster.other_than(leader)].map(|node| node.api.to_string());
    let mut wrapped = Wrapped::new(&["--api", &apis.join(","), "--ttl", "3s"]);
    cluster.other_than(leader).until_health("s", "a", "passing");
    cluster.nodes.remove(leader).expect("it runs").kill();
    let left = cluster
        .nodes
        .values()
        .find(|node| node.api.to_string() == apis[1]);
    let left = left.expect("the second node");
    let heartbeats = || left.metric("pointsman_registry_heartbeats_total");
    let before = heartbeats();
    until("heartbeats at the second", || {
        (heartbeats() >= before + 3.0).then_some(())
    });
    left.until_health("s", "a", "passing");
    assert_eq!(wrapped.end(), Some(7));
    until("deregistered", || {
        left.health("s", "a").is_none().then_some(())
    });
}

#[test]
fn several_apis_are_asked_in_turn_with_and_without_a_scheme() {
    let node = Home::new("").start();
    let (there, dead) = (node.api.to_string(), free_address().to_string());
    for apis in [
        vec!["--api", &there],
        vec!["--api", &dead, "--api", &there],
        vec!["--api", &format!("http://{dead}/,{there}")],
    ] {
        let output = Command::new(binary())
            .args(["service", "list"])
            .args(&apis)
            .output();
        let output = output.expect("the program starts");
        assert!(output.status.success(), "{apis:?}: {output:?}");
    }
    for (odd, why) in [
        ("ftp://a:1", "http://HOST:PORT"),
        ("a b:1", "HOST:PORT"),
        ("https://a", "http"),
    ] {
        let output = pointsman(["service", "list", "--api", odd]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(2) && said.contains(why),
            "{said}"
        );
    }
}
