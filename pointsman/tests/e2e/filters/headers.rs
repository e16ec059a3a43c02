//! Fields, paths and hosts that are changed; redirects.

use super::{Ask, BOTH, all, before, mirror};
use crate::harness::{Home, Load, Origin};

fn field<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let named = lines.filter(|(n, _)| n.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.trim()).collect()
}

#[test]
fn requests_lose_get_and_change_fields() {
    let origin = mirror();
    let node = before(
        &origin,
        r#"filters.request_headers = { remove = ["cookie"], set = { X-User = "{client}", X-At = "{scheme}://{authority}{path}{query}" }, add = { Via = "2 {host}" } }"#,
    );
    let sent = [
        ("cookie", "secret=1"),
        ("x-user", "root"),
        ("x_user", "root"),
        ("via", "1 before"),
        ("accept", "*/*"),
    ];
    for speaks in BOTH {
        let answer = Ask::get("/a%20b?c=d").with(&sent).of(&node, speaks);
        let head = answer.text();
        assert!(head.starts_with("GET /a%20b?c=d HTTP/1.1"), "{head}");
        assert_eq!(field(head, "cookie"), [""; 0], "{head}");
        assert_eq!(field(head, "x-user"), ["127.0.0.1"], "{head}");
        assert_eq!(field(head, "x_user"), [""; 0], "{head}");
        assert_eq!(
            field(head, "x-at"),
            ["http://shop.example:80/a%20b?c=d"],
            "{head}"
        );
        assert_eq!(field(head, "via"), ["1 before", "2 shop.example"], "{head}");
        assert_eq!(field(head, "accept"), ["*/*"], "{head}");
        assert_eq!(field(head, "host"), ["shop.example:80"], "{head}");
    }
}

#[test]
fn answers_lose_get_and_change_fields_whoever_makes_them() {
    let mut origin = mirror();
    let node = before(
        &origin,
        r#"filters.response_headers = { remove = ["server"], set = { X-Twice = "once", Strict-Transport-Security = "max-age=60" }, add = { X-For = "{method} {path}" } }
           [[listener.web.route]]
           path = "/fixed"
           answer = { body = "fixed" }
           filters.response_headers = { set = { Content-Type = "text/x-fixed" } }"#,
    );
    for speaks in BOTH {
        let answer = Ask::get("/x").of(&node, speaks);
        assert_eq!(answer.status, 200);
        assert_eq!(all(&answer, "server"), [""; 0]);
        assert_eq!(all(&answer, "x-twice"), ["once"]);
        assert_eq!(all(&answer, "x-for"), ["GET /x"]);
        assert_eq!(all(&answer, "content-type"), ["text/plain"]);
        assert_eq!(all(&answer, "strict-transport-security"), ["max-age=60"]);
        let fixed = Ask::get("/fixed").of(&node, speaks);
        assert_eq!(
            (fixed.text(), all(&fixed, "content-type")),
            ("fixed", vec!["text/x-fixed"])
        );
        assert_eq!(all(&fixed, "x-for"), [""; 0]);
    }
    origin.stop();
    let answer = Ask::get("/x").of(&node, BOTH[0]);
    assert_eq!(
        (answer.status, all(&answer, "x-for")),
        (502, vec!["GET /x"])
    );
}

#[test]
fn paths_and_hosts_are_rewritten() {
    let origin = mirror();
    let routes = r#"
        filters.host = "inner.example"
        [[listener.web.route]]
        path_prefix = "/api"
        service = "shop"
        filters.rewrite = { prefix = "/" }
        [[listener.web.route]]
        path_prefix = "/old"
        service = "shop"
        filters.rewrite = { prefix = "/new/" }
        [[listener.web.route]]
        path_regex = "/user/.*"
        service = "shop"
        filters.rewrite = { regex = "^/user/([a-z]+)/", to = "/u/$1/" }
        [[listener.web.route]]
        path_prefix = "/one"
        service = "shop"
        filters.rewrite = { path = "/index.html" }
    "#;
    let node = before(&origin, routes);
    for speaks in BOTH {
        for (target, expected, host) in [
            ("/x?y", "/x?y", "inner.example"),
            ("/api", "/", "shop.example:80"),
            ("/api/a?b=c", "/a?b=c", "shop.example:80"),
            ("/%61pi/a", "/a", "shop.example:80"),
            ("/old/a", "/new/a", "shop.example:80"),
            ("/user/ann/b?c", "/u/ann/b?c", "shop.example:80"),
            ("/one/two?x", "/index.html?x", "shop.example:80"),
        ] {
            let answer = Ask::get(target).of(&node, speaks);
            let head = answer.text();
            assert!(
                head.starts_with(&format!("GET {expected} HTTP/1.1")),
                "{target}: {head}"
            );
            assert_eq!(field(head, "host"), [host], "{head}");
            assert_eq!(
                field(head, "x-forwarded-host"),
                ["shop.example:80"],
                "{head}"
            );
        }
    }
    let explained = node.read(&format!("/v1/explain?url=http://{}/api/x", node.web()));
    assert_eq!(
        explained["filters"][0],
        "the path's prefix \"/api\" becomes \"\""
    );
}

#[test]
fn redirects_change_a_part_of_the_address() {
    let config = r#"
        [listener.web]
        bind = "127.0.0.1:0"
        [[listener.web.route]]
        redirect = { scheme = "https" }
        [[listener.web.route]]
        path_prefix = "/host"
        redirect = { host = "new.example", status = 308 }
        [[listener.web.route]]
        path_prefix = "/path"
        redirect = { path = "/else", status = 303 }
        [[listener.web.route]]
        path_prefix = "/all"
        redirect = { location = "/{{{method}}}" }
    "#;
    let node = Home::new(config).start();
    for speaks in BOTH {
        for (target, status, location) in [
            ("/a?b", 307, "https://shop.example/a?b"),
            ("/host?b", 308, "http://new.example/host?b"),
            ("/path?b", 303, "http://shop.example:80/else?b"),
            ("/all", 307, "/{GET}"),
        ] {
            let answer = Ask::get(target).of(&node, speaks);
            assert_eq!(
                (answer.status, all(&answer, "location")),
                (status, vec![location])
            );
        }
    }
}

#[test]
fn changes_of_filters_under_load_fail_no_request() {
    let origin = Origin::named("shop");
    let config = |n: usize| {
        super::config(
            &origin,
            &format!("filters.response_headers = {{ set = {{ X-Number = \"{n}\" }} }}"),
        )
    };
    let node = Home::new(&config(0)).start();
    node.until_eligible("/", 1);
    let load = Load::start(node.web(), 3, "/");
    for n in 1..=100 {
        let said = node.reload(&config(n));
        assert!(said.contains("in effect"), "{said}");
    }
    load.further(50);
    load.finish().assert_whole();
    let answer = Ask::get("/").of(&node, BOTH[0]);
    assert_eq!(all(&answer, "x-number"), ["100"]);
}
