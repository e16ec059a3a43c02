//! Several services behind one route, and one that stands in for another.

use crate::harness::{Answer, Home, Node, Origin, Reply, request, until};

/// A service with one instance, which answers with its name.
fn service(name: &str, port: u16) -> String {
    format!("[[service.{name}.instance]]\naddress = \"127.0.0.1:{port}\"\n")
}

fn routed(route: &str) -> String {
    format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\n[[listener.web.route]]\nname = \"all\"\n{route}\n"
    )
}

fn ask(node: &Node, fields: &str) -> Answer {
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n");
    request(node.web(), head)
}

fn user(n: usize) -> String {
    format!("Cookie: a=b; user=u{n}\r\n")
}

/// Who gets each of so many users.
fn sides(node: &Node, users: usize) -> Vec<String> {
    let side = |n| ask(node, &user(n)).text().to_owned();
    (0..users).map(side).collect()
}

#[test]
fn a_canary_gets_its_share_and_a_larger_one_keeps_who_is_there() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let config = |weights: (u16, u16)| {
        let (a, b) = weights;
        let route = format!(
            "services = [{{ service = \"old\", weight = {a} }}, {{ service = \"new\", weight = {b} }}]\nsticky = \"cookie:user\""
        );
        let services = service("old", old.port()) + &service("new", new.port());
        format!("[node]\nhash_secret = \"x\"\n{}{services}", routed(&route))
    };
    let node = Home::new(&config((80, 20))).start();
    node.until_eligible("/", 1);
    let before = sides(&node, 200);
    let few = before.iter().filter(|side| *side == "new").count();
    assert!((15..=70).contains(&few), "{few} of 200");
    assert_eq!(sides(&node, 50), before[..50], "clients stay");
    let given = |service: &str| {
        node.metric(&format!(
            "pointsman_route_split_total{{listener=\"web\",route=\"all\",service=\"{service}\"}}"
        ))
    };
    assert_eq!(given("old") + given("new"), 250.0);
    for (n, side) in before.iter().enumerate().take(20) {
        let explained = node.read(&format!(
            "/v1/explain?url=http://{}/&headers=Cookie:%20user=u{n}",
            node.web()
        ));
        assert_eq!(explained["service"]["service"], **side, "{explained}");
        let lines = explained["filters"].to_string();
        assert!(lines.contains("old (80), new (20)"), "{lines}");
        assert!(lines.contains("by the cookie user"), "{lines}");
    }
    assert!(node.reload(&config((50, 50))).contains("is in effect"));
    let after = sides(&node, 200);
    let more = after.iter().filter(|side| *side == "new").count();
    assert!(more > few + 20, "{few}, then {more}");
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after || after == "new", "{before} to {after}");
    }
    // Who has no cookie of that name goes by the weights.
    let spread: Vec<_> = (0..40).map(|_| ask(&node, "").text().to_owned()).collect();
    assert!(spread.contains(&"old".into()) && spread.contains(&"new".into()));
    // And the counts have outlived the change.
    assert_eq!(given("old") + given("new"), 490.0);
}

#[test]
fn a_client_that_gets_a_cookie_stays_on_its_side() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let route = "services = [{ service = \"old\" }, { service = \"new\" }]\nsticky = \"cookie\"";
    let services = service("old", old.port()) + &service("new", new.port());
    let node = Home::new(&(routed(route) + &services)).start();
    node.until_eligible("/", 1);
    let mut seen = Vec::new();
    for _ in 0..12 {
        let first = ask(&node, "");
        let set = first.header("set-cookie").expect("a cookie").to_owned();
        assert!(set.starts_with("pointsman-split="), "{set}");
        let cookie = format!("Cookie: {}\r\n", set.split(';').next().unwrap());
        for _ in 0..3 {
            let again = ask(&node, &cookie);
            assert_eq!(again.text(), first.text());
            assert_eq!(again.header("set-cookie"), None);
        }
        seen.push(first.text().to_owned());
    }
    assert!(seen.contains(&"old".into()) && seen.contains(&"new".into()));
}

#[test]
fn whoever_has_the_canarys_cookie_gets_the_canary() {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let routes = "service = \"old\"\n[[listener.web.route]]\nname = \"canary\"\nservice = \"new\"\n\
                  cookie = [{ name = \"canary\", value = \"1\" }]";
    let services = service("old", old.port()) + &service("new", new.port());
    let node = Home::new(&(routed(routes) + &services)).start();
    node.until_eligible("/", 1);
    assert_eq!(ask(&node, "").text(), "old");
    assert_eq!(ask(&node, "Cookie: x=1; canary=1\r\n").text(), "new");
    assert_eq!(ask(&node, "Cookie: canary=0\r\n").text(), "old");
    let explained = node.read(&format!("/v1/explain?url=http://{}/", node.web()));
    let why = explained["passed_over"][0]["why"].as_str().unwrap();
    assert_eq!(why, "the cookie canary is not as it wants it");
}

#[test]
fn a_service_without_instances_is_stood_in_for() {
    let spare = Origin::named("spare");
    let route = "service = \"shop\"\nfallback = \"spare\"";
    let node = Home::new(&(routed(route) + &service("spare", spare.port()))).start();
    until("the one that stands in", || {
        (ask(&node, "").text() == "spare").then_some(())
    });
    let given = "pointsman_route_fallback_total{listener=\"web\",route=\"all\",service=\"spare\"}";
    assert!(node.metric(given) >= 1.0);
    let explained = node.read(&format!("/v1/explain?url=http://{}/", node.web()));
    let verdict = explained["verdict"].as_str().unwrap();
    assert!(
        verdict.contains("another stands in: goes to instance"),
        "{verdict}"
    );
    assert_eq!(explained["service"]["service"], "spare");
    let line = node.logged().until_line("\"target\"");
    assert!(line.contains("\"service\":\"spare\""), "{line}");
    // As soon as there is an instance, it has the requests.
    let shop = Origin::named("shop");
    node.register("shop", "a", &crate::lasting(&shop));
    until("the service itself", || {
        (ask(&node, "").text() == "shop").then_some(())
    });
}

#[test]
fn instances_that_are_gone_are_stood_in_for_and_have_the_requests_when_they_are_back() {
    let spare = Origin::named("spare");
    let mut shop = Origin::named("shop");
    let route = "service = \"shop\"\nfallback = \"spare\"";
    let services = service("shop", shop.port()) + &service("spare", spare.port());
    let quick = "[service.shop.ejection]\ntime = \"100ms\"\nmax_time = \"100ms\"\n";
    let node = Home::new(&(routed(route) + &services + quick)).start();
    node.until_eligible("/", 1);
    assert_eq!(ask(&node, "").text(), "shop");
    shop.stop();
    for _ in 0..30 {
        let answer = ask(&node, "");
        assert_eq!((answer.status, answer.text()), (200, "spare"));
    }
    shop.start();
    until("the service itself", || {
        (ask(&node, "").text() == "shop").then_some(())
    });
}

#[test]
fn what_may_not_be_repeated_goes_nowhere_else_and_one_that_stands_in_has_no_stand_in() {
    // Takes requests and breaks off.
    let rude = Origin::raw(
        |mut connection, _| {
            while connection.line().is_ok_and(|line| !line.is_empty()) {}
        },
    );
    let spare = Origin::answering(|_| Reply::text("spare"));
    let routes = "service = \"rude\"\nfallback = \"spare\"\n\
                  [[listener.web.route]]\npath = \"/loop\"\nservice = \"gone\"\nfallback = \"away\"\n\
                  [[listener.web.route]]\npath = \"/away\"\nservice = \"away\"\nfallback = \"gone\"\n\
                  [service.rude.ejection]\nfailures = 0";
    let services = service("rude", rude.port()) + &service("spare", spare.port());
    let node = Home::new(&(routed(routes) + "\n" + &services)).start();
    node.until_eligible("/", 1);
    let post = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(request(node.web(), post).status, 502);
    assert_eq!(spare.heard().len(), 0);
    assert_eq!(ask(&node, "").text(), "spare");
    let looped = "GET /loop HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = request(node.web(), looped);
    assert_eq!(answer.status, 503);
    assert!(
        answer.text().contains("service away: "),
        "{}",
        answer.text()
    );
}

#[test]
fn a_service_without_room_is_stood_in_for_only_where_that_is_wanted() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    let open = Arc::new(AtomicBool::new(false));
    let wait = open.clone();
    let busy = Origin::answering(move |_| {
        until("it is let go", || wait.load(SeqCst).then_some(()));
        Reply::text("busy")
    });
    let spare = Origin::named("spare");
    let routes = "service = \"busy\"\nfallback = \"spare\"\n\
                  [[listener.web.route]]\npath = \"/strict\"\nservice = \"busy\"\nfallback = \"spare\"\nfallback_on = [\"unavailable\"]\n\
                  [service.busy.limits]\nmax_requests = 1\nwait = \"10ms\"";
    let services = service("busy", busy.port()) + &service("spare", spare.port());
    let node = Home::new(&(routed(routes) + "\n" + &services)).start();
    node.until_eligible("/", 1);
    until("the limit holds", || {
        (node.metric("pointsman_service_limit{service=\"busy\"}") > 0.0).then_some(())
    });
    let web = node.web();
    let first = std::thread::spawn(move || crate::harness::get(web, "/"));
    until("it is under way", || {
        (node.metric("pointsman_service_admitted{service=\"busy\"}") == 1.0).then_some(())
    });
    assert_eq!(ask(&node, "").text(), "spare");
    assert_eq!(crate::harness::get(node.web(), "/strict").status, 503);
    open.store(true, SeqCst);
    assert_eq!(first.join().unwrap().text(), "busy");
}
