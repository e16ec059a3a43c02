//! Which request goes where, and that `explain` says so.

use serde_json::Value;

use crate::harness::{Answer, Home, Node, Origin, request};

const ROUTES: &str = r#"
    [listener.web]
    bind = "127.0.0.1:0"
    service = "rest"

    [[listener.web.route]]
    name = "exact-host"
    host = "shop.example.com"
    service = "host"

    [[listener.web.route]]
    name = "wildcard"
    host = "*.example.com"
    service = "wild"

    [[listener.web.route]]
    name = "host-and-path"
    host = "shop.example.com"
    path_prefix = "/api"
    service = "api"

    [[listener.web.route]]
    name = "deeper"
    host = "shop.example.com"
    path_prefix = "/api/v2"
    service = "deep"

    [[listener.web.route]]
    name = "ping"
    path = "/ping"
    [listener.web.route.answer]
    status = 203
    body = "pong"
    content_type = "text/x-pong"

    [[listener.web.route]]
    name = "moved"
    path_prefix = "/old"
    [listener.web.route.redirect]
    status = 308
    location = "https://{host}/new{path}{query}"
"#;

/// Host, target, and the service, the status or the place it leads to, with the route's name.
const TABLE: &[(&str, &str, &str, &str)] = &[
    ("shop.example.com", "/", "host", "exact-host"),
    ("SHOP.example.com:8080", "/x", "host", "exact-host"),
    ("shop.example.com", "/apis", "host", "exact-host"),
    ("shop.example.com", "/api", "api", "host-and-path"),
    ("shop.example.com", "/api/x?q=1", "api", "host-and-path"),
    ("shop.example.com", "/api/v2/x", "deep", "deeper"),
    ("a.example.com", "/api", "wild", "wildcard"),
    ("a.b.example.com", "/", "wild", "wildcard"),
    ("example.com", "/", "rest", "web"),
    ("elsewhere.org", "/api", "rest", "web"),
    ("elsewhere.org", "/ping", "203", "ping"),
    ("elsewhere.org", "/ping/x", "rest", "web"),
    (
        "elsewhere.org",
        "/old/a?b=c",
        "https://elsewhere.org/new/old/a?b=c",
        "moved",
    ),
    ("shop.example.com", "/ping", "host", "exact-host"),
];

fn start() -> (Node, Vec<Origin>) {
    let node = Home::new(ROUTES).start();
    let origins = ["rest", "host", "wild", "api", "deep"].map(|service| {
        let origin = Origin::named(service);
        node.register(service, service, &crate::lasting(&origin));
        origin
    });
    for (host, path) in [
        ("shop.example.com", "/api/v2"),
        ("shop.example.com", "/api"),
        ("a.example.com", "/"),
        ("shop.example.com", "/"),
        ("x", "/"),
    ] {
        crate::harness::until("an eligible instance", || {
            (explained(&node, host, path)["service"]["chosen"].is_string()).then_some(())
        });
    }
    (node, origins.into())
}

fn ask(node: &Node, host: &str, target: &str) -> Answer {
    let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    request(node.web(), head)
}

fn explained(node: &Node, host: &str, target: &str) -> Value {
    let host = host.split(':').next().unwrap_or_default();
    let url = format!("http://{host}:{}{target}", node.web().port());
    let url = url.replace('?', "%3F").replace('&', "%26");
    node.read(&format!("/v1/explain?url={url}"))
}

#[test]
fn requests_take_the_most_specific_route_and_explain_says_the_same() {
    let (node, _origins) = start();
    for &(host, target, leads_to, route) in TABLE {
        let answer = ask(&node, host, target);
        let explained = explained(&node, host, target);
        let context = format!("{host}{target}: {} {explained}", answer.status);
        let reached = match answer.status {
            308 => answer.header("location").unwrap_or_default().to_owned(),
            203 => "203".into(),
            200 => answer.text().into(),
            other => panic!("{other}: {context}"),
        };
        assert_eq!(reached, leads_to, "{context}");
        let verdict = explained["verdict"].as_str().expect("a verdict");
        match answer.status {
            308 => assert!(verdict.contains("308"), "{context}"),
            203 => {
                assert_eq!(answer.text(), "pong");
                assert_eq!(answer.header("content-type"), Some("text/x-pong"));
                assert!(verdict.contains("203"), "{context}");
            }
            _ => {
                assert_eq!(explained["service"]["chosen"], leads_to, "{context}");
                assert!(
                    verdict.contains(&format!("instance {leads_to}")),
                    "{context}"
                );
            }
        }
        let name = explained["route"]["name"].as_str().expect("a name");
        assert!(name.starts_with(route), "{context}");
    }
}

#[test]
fn a_path_is_matched_as_it_was_meant_and_not_as_it_was_written() {
    let (node, _origins) = start();
    // Another writing of a path must not get around its route; what cannot be told apart for sure is refused.
    for target in ["/%61pi", "/x/../api", "//api", "/./api"] {
        let answer = ask(&node, "shop.example.com", target);
        let reached = (answer.status, answer.text().trim_end().to_owned());
        let acceptable = [(200, "api".to_owned()), (200, "host".to_owned())];
        assert!(
            acceptable.contains(&reached) || [400, 308].contains(&reached.0),
            "{target}: {reached:?}"
        );
    }
}

#[test]
fn without_a_route_there_is_404_and_explain_says_why() {
    let config = "[listener.web]\nbind = \"127.0.0.1:0\"\n\
        [[listener.web.route]]\npath_prefix = \"/a\"\nservice = \"a\"\n";
    let node = Home::new(config).start();
    assert_eq!(ask(&node, "x", "/b").status, 404);
    let verdict = explained(&node, "x", "/b")["verdict"].to_string();
    assert!(verdict.contains("404"), "{verdict}");
    assert_eq!(ask(&node, "x", "/a").status, 503);
    let verdict = explained(&node, "x", "/a")["verdict"].to_string();
    assert!(verdict.contains("503"), "{verdict}");
}
