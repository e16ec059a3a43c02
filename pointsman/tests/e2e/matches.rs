//! Routes that want more of a request than its host and path.

use serde_json::Value;

use crate::harness::{Home, Node, request};

const ROUTES: &str = r#"
    [listener.web]
    bind = "127.0.0.1:0"
    trusted_peers = ["127.0.0.1"]

    [[listener.web.route]]
    name = "rest"
    answer = { body = "rest" }

    [[listener.web.route]]
    name = "writes"
    method = ["POST", "PUT"]
    answer = { body = "writes" }

    [[listener.web.route]]
    name = "canary"
    header = [{ name = "X-Canary", value = "always" }]
    answer = { body = "canary" }

    [[listener.web.route]]
    name = "newer"
    header = [{ name = "X-Canary", value = "always" }, { name = "X-Version", regex = "[2-9]\\.[0-9]+" }]
    answer = { body = "newer" }

    [[listener.web.route]]
    name = "debug"
    query = [{ name = "debug" }]
    answer = { body = "debug" }

    [[listener.web.route]]
    name = "inside"
    source = ["10.0.0.0/8"]
    answer = { body = "inside" }

    [[listener.web.route]]
    name = "users"
    path_regex = "/users/[0-9]+"
    answer = { body = "users" }

    [[listener.web.route]]
    name = "root"
    path = "/users/0"
    answer = { body = "root" }

    [[listener.web.route]]
    name = "below"
    path_prefix = "/users"
    answer = { body = "below" }
"#;

/// Method, target, fields, and the route that has it.
const TABLE: &[(&str, &str, &str, &str)] = &[
    ("GET", "/", "", "rest"),
    ("PUT", "/", "", "writes"),
    ("GET", "/", "x-canary: always", "canary"),
    ("GET", "/", "X-Canary: never", "rest"),
    ("GET", "/", "X-Canary: always\nX-Version: 2.1", "newer"),
    ("GET", "/", "X-Canary: always\nX-Version: 1.1", "canary"),
    ("GET", "/?a=b&debug", "", "debug"),
    ("GET", "/?debugging=1", "", "rest"),
    ("GET", "/", "X-Forwarded-For: 9.9.9.9, 10.1.1.1", "inside"),
    ("GET", "/", "X-Forwarded-For: 10.1.1.1, 9.9.9.9", "rest"),
    ("GET", "/users/7", "", "users"),
    ("GET", "/users/%37", "", "users"),
    ("GET", "/users/0", "", "root"),
    ("GET", "/users/x", "", "below"),
];

fn explained(node: &Node, method: &str, target: &str, fields: &str) -> Value {
    let target = target
        .replace('%', "%25")
        .replace('?', "%3F")
        .replace('&', "%26");
    let fields = fields.replace('\n', "%0A").replace(' ', "%20");
    let headers = match fields.is_empty() {
        true => String::new(),
        false => format!("&headers={fields}"),
    };
    let url = format!("http://127.0.0.1:{}{target}", node.web().port());
    node.read(&format!(
        "/v1/explain?client=127.0.0.1&method={method}&url={url}{headers}"
    ))
}

#[test]
fn requests_take_the_route_that_wants_most_of_what_they_have_and_explain_says_so() {
    let node = Home::new(ROUTES).start();
    for &(method, target, fields, route) in TABLE {
        let lines: String = fields.lines().map(|line| format!("{line}\r\n")).collect();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n{lines}\r\n"
        );
        let answer = request(node.web(), head);
        assert_eq!(
            (answer.status, answer.text()),
            (200, route),
            "{method} {target} {fields}"
        );
        let explained = explained(&node, method, target, fields);
        assert_eq!(explained["route"]["name"], route, "{explained}");
    }
}

#[test]
fn explain_says_of_each_route_why_it_was_passed_over() {
    let node = Home::new(ROUTES).start();
    let explained = explained(&node, "GET", "/", "X-Canary: always");
    let passed: Vec<_> = explained["passed_over"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|passed| {
            (
                passed["id"].as_str().unwrap(),
                passed["why"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        passed,
        [
            ("root", "it serves another path"),
            ("users", "it serves another path"),
            ("below", "it serves another path"),
            ("writes", "it wants another method"),
            ("newer", "the header field X-Version is not as it wants it"),
        ]
    );
}
