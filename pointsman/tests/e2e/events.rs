//! What an operator hears of on standard error.

use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::json;

use crate::cluster::{Cluster, NAMES, leader_of};
use crate::harness::{Home, Node, Origin, Reply, free_address, get, until};
use crate::tls::{Authority, connect, trusting};
use crate::{SHOP, lasting};

/// How many of its lines have these words in them.
fn lines(node: &Node, words: &str) -> usize {
    let said = node.said().text();
    said.lines().filter(|line| line.contains(words)).count()
}

#[test]
fn instances_that_turn_critical_are_told_with_the_reason_and_so_is_that_they_are_well() {
    let node = Home::new(SHOP).start();
    let mut origin = Origin::named("a");
    let check = json!({ "tcp": true, "interval": "100ms", "fall": 1, "rise": 1 });
    let body = json!({ "address": "127.0.0.1", "port": origin.port(), "check": check });
    node.register("shop", "a", &body);
    node.until_health("shop", "a", "passing");
    origin.stop();
    let said = node
        .said()
        .until_line("health: instance a of service shop is critical");
    assert!(said.contains("refused"), "{said}");
    origin.start();
    node.said()
        .until_line("pointsman: health: instance a of service shop is passing again");
    // One that was well all the time is not told of.
    assert_eq!(lines(&node, "passing again"), 1);
}

#[test]
fn a_storm_of_instances_that_turn_critical_is_cut_short_and_counted() {
    let node = Home::new("").start();
    let closed = free_address().port();
    let check = json!({ "tcp": true, "interval": "500ms", "fall": 1 });
    let body = json!({ "address": "127.0.0.1", "port": closed, "check": check });
    for number in 0..200 {
        node.register("shop", &format!("i{number}"), &body);
    }
    let said = node.said().until_line("more of these were not shown");
    let words: Vec<_> = said.split_whitespace().collect();
    let hidden: usize = words[2].parse().expect("a number");
    let shown = lines(&node, "is critical");
    assert_eq!(words[1], "health:");
    assert!(
        hidden > 100 && (20..100).contains(&shown),
        "{hidden} hidden, {shown} shown"
    );
}

#[test]
fn instances_that_are_left_out_and_services_that_ignore_health_are_told_of() {
    let sick = Origin::answering(|_| Reply {
        status: 500,
        ..Reply::text("sick")
    });
    let node = Home::new(&format!("{SHOP}[service.shop]\npanic_below = \"60%\"\n")).start();
    let closed = free_address().port();
    let check = json!({ "tcp": true, "interval": "100ms", "fall": 1 });
    node.register("shop", "sick", &lasting(&sick));
    let body = json!({ "address": "127.0.0.1", "port": closed, "check": check });
    node.register("shop", "down", &body);
    node.said()
        .until_line("panic: less than 60 % of service shop is healthy");
    let path = "/v1/services/shop/instances/down";
    assert_eq!(node.call("DELETE", path, &json!(null)).status, 204);
    node.said()
        .until_line("panic: the health of service shop counts again");
    until("an ejection", || {
        get(node.web(), "/");
        (lines(
            &node,
            "ejection: instance sick of service shop is left out for",
        ) > 0)
            .then_some(())
    });
}

#[test]
fn handshakes_that_fail_are_told_with_the_listener_and_the_cause_and_a_flood_of_them_is_not() {
    let (authority, other) = (Authority::new(), Authority::new());
    let home = Home::new("");
    authority.sign(&["web.example"]).write(&home, "web");
    let at = home.path().display();
    home.configure(&format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\n\
         tls = {{ certificates = [{{ cert = \"{at}/web.pem\", key = \"{at}/web.key\" }}] }}\n\
         [[listener.web.route]]\nanswer = {{ body = \"hello\" }}\n"
    ));
    let node = home.start();
    // Whoever only looks whether somebody listens is not told of.
    for _ in 0..50 {
        drop(TcpStream::connect(node.web()));
    }
    let mut client = connect(node.web(), &trusting(&[&other], None), "web.example");
    assert!(std::io::Write::write_all(&mut client, b"x").is_err());
    let said = node
        .said()
        .until_line("tls: listener web: no TLS handshake with 127.0.0.1:");
    assert!(said.contains("received fatal alert"), "{said}");
    for _ in 0..200 {
        let mut client = TcpStream::connect(node.web()).unwrap();
        let _ = std::io::Write::write_all(&mut client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let _ = std::io::Read::read_to_end(&mut client, &mut Vec::new());
    }
    let failed = "pointsman_listener_tls_failed_total{listener=\"web\"}";
    until("all have failed", || {
        (node.metric(failed) >= 251.0).then_some(())
    });
    assert!(lines(&node, "no TLS handshake") < 100);
}

#[test]
fn a_name_that_does_not_resolve_is_told_of() {
    let node = Home::new(&format!(
        "{SHOP}[[service.shop.instance]]\naddress = \"nowhere.invalid:80\"\n"
    ))
    .start();
    let said = node
        .said()
        .until_line("name: nowhere.invalid does not resolve: ");
    assert!(
        said.ends_with("its instances get no traffic until it does"),
        "{said}"
    );
    // It is asked for again and again, and said once.
    assert_eq!(lines(&node, "nowhere.invalid"), 1);
}

#[test]
fn leases_that_the_guard_holds_over_are_told_of_and_when_it_ends() {
    let guard = "[guard]\nmax_loss = \"10%\"\nmax_loss_global = \"10%\"\nfree_losses = 0\n";
    let node = Home::new(guard).start();
    let origin = Origin::named("a");
    let lease = json!({ "ttl": "1s", "grace": "1s" });
    let body = json!({ "address": "127.0.0.1", "port": origin.port(), "lease": lease });
    for number in 0..10 {
        node.register("shop", &format!("i{number}"), &body);
    }
    let said = node.said().until_line("pointsman: guard: ");
    assert!(said.contains("held over"), "{said}");
    let beats: Vec<_> = (0..10)
        .map(|number| json!({ "service": "shop", "id": format!("i{number}") }))
        .collect();
    until("nothing is held", || {
        node.call("POST", "/v1/heartbeats", &json!({ "beats": beats }));
        (lines(&node, "guard: no leases are held over any more") > 0).then_some(())
    });
}

#[test]
fn a_cluster_tells_who_leads_that_nobody_does_and_who_was_turned_away() {
    let mut cluster = Cluster::plain();
    let leader = cluster.leader();
    let others: Vec<_> = NAMES.into_iter().filter(|name| *name != leader).collect();
    cluster.nodes[leader]
        .said()
        .until_line("cluster: this node leads now, in term ");
    for other in &others {
        let said = cluster.nodes[other].said();
        said.until_line(&format!("cluster: {leader} leads now, in term "));
    }
    let stranger = cluster.stranger();
    until("it was turned away", || {
        let said = |node: &Node| lines(node, "peer: 127.0.0.1:") > 0;
        cluster.nodes.values().any(said).then_some(())
    });
    drop(stranger);
    // Two of three are gone: who is left says that it leads no more, or that nobody does.
    for other in &others {
        cluster.nodes.remove(other).unwrap().kill();
    }
    let left = cluster.nodes[leader].said();
    left.until_line("cluster: this node leads no more");
    left.until_line("cluster: nobody leads: without a majority");
    cluster.start(others[0]);
    let newest = until("somebody leads", || leader_of(&cluster.nodes[leader]));
    let before = lines(&cluster.nodes[leader], "leads now, in term");
    assert!(before >= 1, "{newest}");
    until("that is told", || {
        let said = cluster.nodes[leader].said().text();
        let (_, after) = said.split_once("nobody leads")?;
        after.contains("leads now, in term").then_some(())
    });
}

#[test]
fn a_leader_that_was_stopped_hears_that_another_leads() {
    let cluster = Cluster::plain();
    let leader = cluster.leader();
    cluster.nodes[leader]
        .said()
        .until_line("this node leads now");
    cluster.nodes[leader].signal(Signal::STOP);
    let other = cluster.other_than(leader);
    until("another leads", || {
        leader_of(other).filter(|name| name != leader)
    });
    cluster.nodes[leader].signal(Signal::CONT);
    cluster.nodes[leader]
        .said()
        .until_line("cluster: this node leads no more");
}

#[test]
fn reloads_that_fail_and_keys_that_wait_for_a_restart_are_counted() {
    let node = Home::new(SHOP).start();
    let reloads = |outcome: &str| {
        node.metric(&format!(
            "pointsman_config_reloads_total{{outcome=\"{outcome}\"}}"
        ))
    };
    let (last, pending) = (
        "pointsman_config_last_reload_successful",
        "pointsman_config_restart_pending",
    );
    assert_eq!((node.metric(last), node.metric(pending)), (1.0, 0.0));
    let said = node.reload("[listener.web]\nbind = 7\n");
    assert!(said.contains("configuration stays"), "{said}");
    until("a failed reload", || {
        (reloads("failed") == 1.0).then_some(())
    });
    assert_eq!((node.metric(last), reloads("done")), (0.0, 0.0));
    node.reload(&format!("{SHOP}[registry]\nlease_ttl = \"20s\"\n"));
    until("a good reload", || (reloads("done") == 1.0).then_some(()));
    assert_eq!((node.metric(last), node.metric(pending)), (1.0, 1.0));
    // What holds again needs no restart.
    node.reload(SHOP);
    until("another", || (reloads("done") == 2.0).then_some(()));
    assert_eq!(node.metric(pending), 0.0);
}
