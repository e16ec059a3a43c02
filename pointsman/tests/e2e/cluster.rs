//! Three nodes that are one registry, as processes: killed, stopped, and strangers among them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Answer, Connection, Home, Node, Origin, free_address, get, pointsman, until};
use crate::tls::Authority;

pub(crate) const NAMES: [&str; 3] = ["n1", "n2", "n3"];

/// Nodes of one configuration; each is told its name only.
pub(crate) struct Cluster {
    pub(crate) homes: BTreeMap<&'static str, Home>,
    pub(crate) nodes: BTreeMap<&'static str, Node>,
    config: String,
    peers: BTreeMap<&'static str, SocketAddr>,
}

impl Cluster {
    /// A cluster with something more in its configuration; `tls` is added to the table of the cluster.
    pub(crate) fn new(more: &str, tls: impl Fn(&Home)) -> Self {
        let peers = NAMES.map(|name| (name, free_address()));
        let list: Vec<String> = peers
            .iter()
            .map(|(name, at)| format!("{name} = \"{at}\""))
            .collect();
        let config = format!(
            "[node]\nname = \"${{NODE}}\"\n[cluster]\nbind = \"${{BIND}}\"\ntoken = \"a secret of the test\"\n\
             peers = {{ {} }}\n{more}",
            list.join(", ")
        );
        let homes = peers.map(|(name, at)| {
            // The API is where it was after a restart, too.
            let home = Home::new("")
                .env("NODE", name)
                .env("BIND", at.to_string())
                .env("TEST_API", free_address().to_string());
            home.configure(&config.replace("${HOME}", &home.path().display().to_string()));
            tls(&home);
            (name, home)
        });
        let mut cluster = Self {
            homes: homes.into(),
            nodes: BTreeMap::new(),
            config,
            peers: peers.into(),
        };
        for name in NAMES {
            cluster.start(name);
        }
        cluster
    }

    pub(crate) fn plain() -> Self {
        Self::new("", |_| {})
    }

    pub(crate) fn start(&mut self, name: &'static str) {
        self.nodes.insert(name, self.homes[name].start());
    }

    /// Gives a running node another configuration, with something more in its last table; returns what it says about that.
    pub(crate) fn reload(&self, name: &str, more: &str) -> String {
        self.nodes[name].reload(&format!("{}{more}", self.config))
    }

    /// A node that says it is one of them, and does not know their secret.
    pub(crate) fn stranger(&self) -> Node {
        let mine = free_address().to_string();
        let stranger = Home::new("").env("NODE", "n1").env("BIND", mine);
        let (secret, guess) = ("a secret of the test", "a guess of a stranger");
        stranger.configure(&self.config.replace(secret, guess));
        stranger.start()
    }

    /// A node of this home that is to be the first of a cluster.
    pub(crate) fn of_one(home: Home) -> Self {
        let at = free_address();
        home.configure(&format!(
            "[node]\nname = \"n1\"\n[cluster]\nbind = \"{at}\"\ntoken = \"a secret of the test\"\npeers = {{ n1 = \"{at}\" }}\n"
        ));
        Self {
            homes: BTreeMap::from([("n1", home)]),
            nodes: BTreeMap::new(),
            config: String::new(),
            peers: BTreeMap::from([("n1", at)]),
        }
    }

    /// Starts a node that is taken in by the cluster.
    pub(crate) fn join(&mut self, name: &'static str) {
        let at = free_address();
        let home = Home::new("").env("NODE", name).env("BIND", at.to_string());
        let members: Vec<String> = self.peers.values().map(|at| format!("\"{at}\"")).collect();
        let members = members.join(", ");
        home.configure(&format!(
            "[node]\nname = \"{name}\"\n[cluster]\nbind = \"{at}\"\ntoken = \"a secret of the test\"\njoin = [{members}]\n"
        ));
        self.homes.insert(name, home);
        self.start(name);
    }

    /// The leader that all running nodes agree on.
    pub(crate) fn leader(&self) -> &'static str {
        until("a leader that all know", || {
            let mut leaders = self.nodes.values().map(leader_of);
            let first = leaders.next()??;
            let same = leaders.all(|leader| leader.as_ref() == Some(&first));
            let name = self.nodes.keys().find(|name| **name == first)?;
            same.then_some(*name)
        })
    }

    pub(crate) fn other_than(&self, name: &str) -> &Node {
        let others = self.nodes.iter().find(|(other, _)| **other != name);
        others.expect("another one").1
    }
}

pub(crate) fn leader_of(node: &Node) -> Option<String> {
    node.read("/v1/cluster")["leader"]
        .as_str()
        .map(str::to_owned)
}

pub(crate) fn lasting() -> Value {
    json!({ "address": "127.0.0.1", "port": 1, "persistent": true })
}

pub(crate) fn try_register(node: &Node, id: &str) -> Answer {
    node.call("PUT", &format!("/v1/services/s/instances/{id}"), &lasting())
}

pub(crate) fn ids(node: &Node) -> Vec<String> {
    let answer = get(node.api, "/v1/services/s").json();
    let instances = answer["instances"].as_array().cloned().unwrap_or_default();
    instances
        .iter()
        .map(|i| i["id"].as_str().expect("an id").to_owned())
        .collect()
}

#[test]
fn three_nodes_of_one_configuration_answer_alike_and_say_how_they_are() {
    let cluster = Cluster::plain();
    let leader = cluster.leader();
    for (name, node) in &cluster.nodes {
        node.register("s", name, &lasting());
        // Whoever wrote it reads it there.
        assert!(node.health("s", name).is_some());
    }
    for node in cluster.nodes.values() {
        until("all three everywhere", || {
            (ids(node).len() == 3).then_some(())
        });
    }
    let api = cluster.nodes[leader].url();
    let said = pointsman(["cluster", "status", "--api", &api]);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success(), "{text}");
    assert!(text.contains(&format!("leader {leader}, term ")), "{text}");
    assert!(
        text.contains("VERSION") && text.contains(", in format "),
        "{text}"
    );
    let said = pointsman(["cluster", "status", "--json", "--api", &api]);
    let status: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    assert_eq!(status["nodes"].as_array().map(Vec::len), Some(3));
    assert_eq!(status["leader"], leader);
    // All have the same program: nothing is kept back.
    let written = status["format"].as_u64().expect("a format");
    for node in status["nodes"].as_array().expect("nodes") {
        assert_eq!(node["format"], written, "{status}");
    }
}

#[test]
fn a_killed_leader_is_followed_at_once_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::plain();
    let mut acknowledged = Vec::new();
    let mut gaps = Vec::new();
    for round in 0..5 {
        let leader = cluster.leader();
        let survivor = cluster.other_than(leader);
        for n in 0..20 {
            let id = format!("i-{round}-{n}");
            assert_eq!(try_register(survivor, &id).status, 201);
            acknowledged.push(id);
        }
        let killed = Instant::now();
        cluster.nodes.remove(leader).expect("it runs").kill();
        let survivor = cluster.other_than(leader);
        let id = format!("i-{round}-next");
        until("a write after the leader was killed", || {
            [200, 201]
                .contains(&try_register(survivor, &id).status)
                .then_some(())
        });
        gaps.push(killed.elapsed());
        acknowledged.push(id);
        for node in cluster.nodes.values() {
            until("what was acknowledged", || {
                let there = ids(node);
                acknowledged
                    .iter()
                    .all(|id| there.contains(id))
                    .then_some(())
            });
        }
        cluster.start(leader);
        let back = &cluster.nodes[leader];
        until("the one that came back has it too", || {
            (ids(back).len() == acknowledged.len()).then_some(())
        });
    }
    gaps.sort_unstable();
    eprintln!("from the kill to the next acknowledged write: {gaps:.0?}");
}

#[test]
fn a_leader_that_was_stopped_ends_no_lease_that_others_have_renewed() {
    let cluster = Cluster::new(
        "[guard]\nmax_loss = \"100%\"\nmax_loss_global = \"100%\"\n",
        |_| {},
    );
    let leader = cluster.leader();
    let node = cluster.other_than(leader);
    let lease = json!({ "ttl": "2s", "grace": "1h" });
    for id in ["alive", "silent"] {
        let body = json!({ "address": "127.0.0.1", "port": 1, "lease": lease });
        node.register("s", id, &body);
    }
    let beat = || {
        let answer = node.call(
            "POST",
            "/v1/services/s/instances/alive/heartbeat",
            &Value::Null,
        );
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(node.health("s", "alive").as_deref(), Some("passing"));
    };
    cluster.nodes[leader].signal(Signal::STOP);
    // The length of the stop is what is tested: the others elect another, and leases last for less.
    let stopped = Instant::now();
    while stopped.elapsed() < Duration::from_secs(6) {
        beat();
        std::thread::sleep(Duration::from_millis(200));
    }
    let next = leader_of(node).expect("another leader");
    assert_ne!(next, leader);
    cluster.nodes[leader].signal(Signal::CONT);
    let resumed = Instant::now();
    while resumed.elapsed() < Duration::from_secs(4) {
        beat();
        std::thread::sleep(Duration::from_millis(200));
    }
    until("the silent one is found out", || {
        beat();
        (node.health("s", "silent")? == "critical").then_some(())
    });
    let old = &cluster.nodes[leader];
    until("the old leader follows", || {
        (leader_of(old)? != leader).then_some(())
    });
    assert_eq!(old.health("s", "alive").as_deref(), Some("passing"));
}

#[test]
fn without_a_majority_reading_and_watching_go_on_and_writing_is_refused() {
    let mut cluster = Cluster::plain();
    let leader = cluster.leader();
    cluster.nodes[leader].register("s", "a", &lasting());
    until("the word of the others", || {
        (cluster.nodes[leader].metric("pointsman_registry_leads") == 1.0).then_some(())
    });
    for name in NAMES.into_iter().filter(|name| *name != leader) {
        cluster.nodes.remove(name).expect("it runs").kill();
    }
    let node = &cluster.nodes[leader];
    let answer = try_register(node, "b");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(ids(node), ["a"]);
    let mut watch = Connection::open(node.api);
    watch.send("GET /v1/services/s/watch HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let told = until("advice", || {
        let said = pointsman(["cluster", "status", "--api", &node.url()]);
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        (!said.status.success() && text.contains("no node leads")).then_some(text)
    });
    let answer = get(node.api, "/v1/services/s");
    assert_eq!(answer.header("X-Pointsman-Leader"), None);
    assert_eq!(node.metric("pointsman_registry_leads"), 0.0);
    // It answers, and so is not among those that are to be started; and nobody could be removed.
    assert!(
        !told.contains(&format!("{leader} does not answer")),
        "{told}"
    );
    assert!(!told.contains("cluster remove"), "{told}");
}

#[test]
fn without_a_majority_traffic_goes_on_and_avoids_what_fails() {
    let web = "[listener.web]\nbind = \"127.0.0.1:0\"\nservice = \"s\"\n";
    let mut cluster = Cluster::new(web, |_| {});
    let leader = cluster.leader();
    let (mut first, second) = (Origin::named("first"), Origin::named("second"));
    for (id, port) in [("first", first.port()), ("second", second.port())] {
        let check = json!({ "tcp": true, "interval": "100ms", "timeout": "1s" });
        let body =
            json!({ "address": "127.0.0.1", "port": port, "persistent": true, "check": check });
        cluster.nodes[leader].register("s", id, &body);
        cluster.nodes[leader].until_health("s", id, "passing");
    }
    let stays = NAMES.into_iter().find(|n| *n != leader).expect("one");
    for id in ["first", "second"] {
        cluster.nodes[stays].until_health("s", id, "passing");
    }
    for name in NAMES.into_iter().filter(|name| *name != stays) {
        cluster.nodes.remove(name).expect("it runs").kill();
    }
    let node = &cluster.nodes[stays];
    node.said()
        .until_line("nobody leads: without a majority nothing can be registered; traffic goes on");
    for _ in 0..20 {
        assert_eq!(get(node.web(), "/").status, 200);
    }
    first.stop();
    for _ in 0..20 {
        let answer = get(node.web(), "/");
        assert_eq!((answer.status, answer.text()), (200, "second"));
    }
}

#[test]
fn strangers_are_refused_and_both_sides_say_why() {
    let cluster = Cluster::plain();
    cluster.leader();
    let stranger = cluster.stranger();
    until("a node says so", || {
        let refused = cluster
            .nodes
            .values()
            .map(|n| n.read("/v1/cluster")["refused"].clone());
        let mut refused = refused.filter_map(|why| why.as_str().map(str::to_owned));
        refused
            .any(|why| why.contains("its token is another"))
            .then_some(())
    });
    assert_eq!(leader_of(&stranger), None);
    assert_eq!(try_register(&stranger, "x").status, 503);
    assert!(cluster.nodes.values().all(|node| ids(node).is_empty()));
}

#[test]
fn nodes_with_certificates_of_their_authority_trust_each_other_and_nobody_else() {
    let authority = Authority::new();
    let tls = "cert = \"${HOME}/node.pem\"\nkey = \"${HOME}/node.key\"\nca = \"${HOME}/ca.pem\"\n";
    let files = |authority: &Authority, home: &Home| {
        authority.sign(&["127.0.0.1"]).write(home, "node");
        std::fs::write(home.path().join("ca.pem"), &authority.pem).expect("a file");
    };
    let cluster = Cluster::new(tls, |home| files(&authority, home));
    let leader = cluster.leader();
    cluster.other_than(leader).register("s", "a", &lasting());
    for node in cluster.nodes.values() {
        until("everywhere", || (ids(node) == ["a"]).then_some(()));
    }
    // One who knows the token, and has a certificate of somebody else.
    let stranger = Home::new("")
        .env("NODE", "n2")
        .env("BIND", free_address().to_string());
    let at = stranger.path().display().to_string();
    stranger.configure(&cluster.config.replace("${HOME}", &at));
    let other = Authority::new();
    other.sign(&["127.0.0.1"]).write(&stranger, "node");
    std::fs::write(stranger.path().join("ca.pem"), &authority.pem).expect("a file");
    let stranger = stranger.start();
    until("it is refused", || {
        let refused = cluster
            .nodes
            .values()
            .map(|n| n.read("/v1/cluster")["refused"].clone());
        let mut refused = refused.filter_map(|why| why.as_str().map(str::to_owned));
        refused.any(|why| why.contains("was refused")).then_some(())
    });
    assert_eq!(leader_of(&stranger), None);
}

#[test]
fn a_node_whose_certificate_the_others_cannot_take_says_so_and_what_to_do() {
    let (authority, other) = (Authority::new(), Authority::new());
    let tls = "cert = \"${HOME}/node.pem\"\nkey = \"${HOME}/node.key\"\nca = \"${HOME}/ca.pem\"\n";
    let cluster = Cluster::new(tls, |home| {
        let name = home.environment("NODE");
        let identity = match &*name {
            "n2" => authority.sign(&["10.0.0.9"]),
            "n3" => other.sign(&["127.0.0.1"]),
            _ => authority.sign(&["127.0.0.1"]),
        };
        identity.write(home, "node");
        std::fs::write(home.path().join("ca.pem"), &authority.pem).expect("a file");
    });
    let status = |name: &str| {
        let api = cluster.nodes[name].url();
        let output = pointsman(["cluster", "status", "--api", &api]);
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    for (name, why) in [
        (
            "n2",
            "the others reach this node as 127.0.0.1; make it anew with that in its subjectAltName",
        ),
        ("n3", "no authority in [cluster] ca has signed it"),
    ] {
        cluster.nodes[name].said().until_line(why);
        let told = status(name);
        assert!(told.contains("node.pem") && told.contains(why), "{told}");
        assert!(!told.contains("of the 0 voters"), "{told}");
        // Nor is it the other that was refused.
        until("what the others say of it", || {
            let told = status(name);
            told.contains("did not take the certificate of this node")
                .then_some(())
        });
    }
    assert!(!status("n1").contains("may refuse this node's certificate"));
}

#[test]
fn what_a_cluster_cannot_be_is_refused_with_what_to_do() {
    let peers = "peers = { a = \"127.0.0.1:7071\", b = \"127.0.0.1:7072\" }\ntoken = \"a secret of the test\"\n";
    for (config, said) in [
        (
            format!("[node]\nname = \"c\"\n[cluster]\nbind = \"127.0.0.1:0\"\n{peers}"),
            "is not in [cluster] peers (a, b)",
        ),
        (
            format!("[cluster]\nbind = \"0.0.0.0:0\"\n{peers}"),
            "give cert, key and ca",
        ),
        (
            format!(
                "[node]\nname = \"a\"\ndurability = \"memory\"\n[cluster]\nbind = \"127.0.0.1:0\"\n{peers}"
            ),
            "must remember what it voted for",
        ),
        (
            "[cluster]\nbind = \"127.0.0.1:0\"\npeers = { a = \"127.0.0.1\" }\ntoken = \"short\"\n"
                .into(),
            "is too short",
        ),
    ] {
        let refused = Home::new(&config).refusal();
        assert!(refused.contains(said), "{said}: {refused}");
    }
}
