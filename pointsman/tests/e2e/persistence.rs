//! Requests of one client stay at one instance.

use std::collections::BTreeSet;

use serde_json::json;

use crate::harness::{Answer, Home, Node, Origin, Reply, request};

fn origins() -> [Origin; 4] {
    ["a", "b", "c", "d"].map(Origin::named)
}

fn config(origins: &[Origin], persistence: &str) -> String {
    let instances: String = origins
        .iter()
        .zip(["a", "b", "c", "d"])
        .map(|(origin, id)| {
            let port = origin.port();
            format!("[[service.shop.instance]]\nid = {id:?}\naddress = \"127.0.0.1:{port}\"\n")
        })
        .collect();
    format!(
        "{}[service.shop]\npolicy = \"round_robin\"\n[service.shop.persistence]\n{persistence}\n{instances}",
        crate::SHOP
    )
}

fn start(home: &Home, count: usize) -> Node {
    let node = home.start();
    node.until_eligible("/", count);
    node
}

fn ask(node: &Node, target: &str, fields: &str) -> Answer {
    let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n");
    request(node.web(), head)
}

/// The cookie of an answer as a client sends it back.
fn cookie(answer: &Answer) -> String {
    let set = answer.header("set-cookie").expect("a cookie");
    format!("Cookie: other=1; {}\r\n", set.split(';').next().unwrap())
}

fn explained(node: &Node, cookie: &str) -> serde_json::Value {
    let header = cookie.trim().replace(' ', "%20");
    node.read(&format!(
        "/v1/explain?url=http://{}/&headers={header}",
        node.web()
    ))
}

#[test]
fn a_cookie_keeps_requests_at_an_instance_and_holds_after_a_restart_and_on_another_node() {
    let origins = origins();
    let home = Home::new(&config(&origins, "cookie = \"stay\"\nlifetime = \"1h\""));
    let node = start(&home, 4);
    let first = ask(&node, "/", "");
    let set = first.header("set-cookie").unwrap();
    assert!(set.starts_with("stay="), "{set}");
    assert!(
        set.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"),
        "{set}"
    );
    let cookie = cookie(&first);
    for _ in 0..20 {
        let again = ask(&node, "/", &cookie);
        assert_eq!(
            (again.text(), again.header("set-cookie")),
            (first.text(), None)
        );
    }
    // Those without are spread.
    let spread: BTreeSet<_> = (0..20)
        .map(|_| ask(&node, "/", "").text().to_owned())
        .collect();
    assert_eq!(spread.len(), 4);
    assert_eq!(
        explained(&node, &cookie)["service"]["chosen"],
        *first.text()
    );
    // What nobody gave is worth nothing.
    let forged = ask(&node, "/", "Cookie: stay=AAAAAAAAAAAAAAAAAAAAAA\r\n");
    assert!(forged.header("set-cookie").is_some());
    node.stop();
    let node = start(&home, 4);
    (0..8).for_each(|_| assert_eq!(ask(&node, "/", &cookie).text(), first.text()));
    // A node that has the same secret, and no file of the other's.
    let secret = format!(
        "[node]\nsession_secret = \"shared\"\n{}",
        config(&origins, "")
    );
    let nodes = [start(&Home::new(&secret), 4), start(&Home::new(&secret), 4)];
    let first = ask(&nodes[0], "/", "");
    let cookie = self::cookie(&first);
    (0..8).for_each(|_| assert_eq!(ask(&nodes[1], "/", &cookie).text(), first.text()));
}

#[test]
fn sessions_stay_at_an_instance_that_drains_and_move_on_when_it_is_gone() {
    let mut origins = origins();
    let node = start(&Home::new(&config(&origins, "")), 4);
    let first = ask(&node, "/", "");
    let (name, cookie) = (first.text().to_owned(), cookie(&first));
    let path = format!("/v1/services/shop/instances/{name}");
    assert_eq!(
        node.call("PATCH", &path, &json!({ "drain": true })).status,
        200
    );
    node.until_eligible("/", 3);
    for _ in 0..12 {
        assert_eq!(ask(&node, "/", &cookie).text(), name);
        assert_ne!(ask(&node, "/", "").text(), name);
    }
    let gone = ["a", "b", "c", "d"]
        .iter()
        .position(|n| *n == name)
        .unwrap();
    origins[gone].stop();
    let moved = ask(&node, "/", &cookie);
    assert_eq!(moved.status, 200);
    assert_ne!(moved.text(), name);
    let cookie = self::cookie(&moved);
    (0..8).for_each(|_| assert_eq!(ask(&node, "/", &cookie).text(), moved.text()));
}

#[test]
fn clients_are_known_again_by_their_address_a_field_or_a_parameter() {
    let origins = origins();
    for (by, with, without) in [
        ("header:x-session", ("/", "X-Session: 7\r\n"), ("/", "")),
        ("query:session", ("/?session=7", ""), ("/", "")),
    ] {
        let node = start(&Home::new(&config(&origins, &format!("by = {by:?}"))), 4);
        let first = ask(&node, with.0, with.1);
        assert_eq!(first.header("set-cookie"), None);
        for _ in 0..20 {
            assert_eq!(ask(&node, with.0, with.1).text(), first.text(), "{by}");
        }
        let spread = (0..20).map(|_| ask(&node, without.0, without.1).text().to_owned());
        assert_eq!(spread.collect::<BTreeSet<_>>().len(), 4, "{by}");
    }
    let node = start(&Home::new(&config(&origins, "by = \"source_ip\"")), 4);
    let all: BTreeSet<_> = (0..20)
        .map(|_| ask(&node, "/", "").text().to_owned())
        .collect();
    assert_eq!(all.len(), 1);
}

#[test]
fn an_answer_of_our_own_gives_no_cookie() {
    let mut origin = Origin::answering(|_| Reply::text("a"));
    let node = start(&Home::new(&config(std::slice::from_ref(&origin), "")), 1);
    origin.stop();
    let answer = ask(&node, "/", "");
    assert_eq!((answer.status, answer.header("set-cookie")), (502, None));
}
