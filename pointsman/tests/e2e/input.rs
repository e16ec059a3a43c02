//! Faulty calls of the API: refused with every fault, and nothing changes.

use serde_json::{Value, json};

use crate::harness::{Home, get, request};

/// Method, path, body, status, and what the answer says.
const FAULTY: &[(&str, &str, &str, u16, &str)] = &[
    ("PUT", "/v1/services/s/instances/x", "", 400, ""),
    ("PUT", "/v1/services/s/instances/x", "{", 400, ""),
    ("PUT", "/v1/services/s/instances/x", "[]", 400, ""),
    ("PUT", "/v1/services/s/instances/x", "{}", 400, "/address"),
    (
        "PUT",
        "/v1/services/s/instances/x",
        r#"{"address":"127.0.0.1","port":0}"#,
        400,
        "/port",
    ),
    (
        "PUT",
        "/v1/services/s/instances/x",
        r#"{"address":"127.0.0.1","port":65536}"#,
        400,
        "/port",
    ),
    (
        "PUT",
        "/v1/services/s/instances/x",
        r#"{"address":"127.0.0.1","port":1,"prot":2}"#,
        400,
        "/prot",
    ),
    (
        "PUT",
        "/v1/services/s/instances/x",
        r#"{"address":"127.0.0.1","port":1,"port":2}"#,
        400,
        "port",
    ),
    (
        "PUT",
        "/v1/services/s/instances/x",
        r#"{"address":"a b","port":1}"#,
        400,
        "/address",
    ),
    (
        "PUT",
        "/v1/services/s/instances/x",
        r#"{"address":"127.0.0.1","port":1,"weight":-1}"#,
        400,
        "/weight",
    ),
    (
        "PUT",
        "/v1/services/s/instances/x",
        r#"{"address":"127.0.0.1","port":1,"lease":{"ttl":"0s"}}"#,
        400,
        "/lease/ttl",
    ),
    (
        "PUT",
        "/v1/services/s/instances/x",
        r#"{"address":"127.0.0.1","port":1,"check":{}}"#,
        400,
        "/check",
    ),
    (
        "PUT",
        "/v1/services/s%20t/instances/x",
        r#"{"address":"127.0.0.1","port":1}"#,
        400,
        "service",
    ),
    (
        "PUT",
        "/v1/services/s/instances/x?namespace=",
        r#"{"address":"127.0.0.1","port":1}"#,
        400,
        "namespace",
    ),
    (
        "PATCH",
        "/v1/services/s/instances/a",
        r#"{"weight":70000}"#,
        400,
        "/weight",
    ),
    (
        "PATCH",
        "/v1/services/s/instances/a",
        r#"{"address":"10.0.0.1"}"#,
        400,
        "/address",
    ),
    (
        "PATCH",
        "/v1/services/s/instances/none",
        r#"{"weight":1}"#,
        404,
        "never registered",
    ),
    (
        "DELETE",
        "/v1/services/s/instances/none",
        "",
        404,
        "never registered",
    ),
    (
        "POST",
        "/v1/services/s/instances/none/heartbeat",
        "",
        404,
        "never registered",
    ),
    (
        "POST",
        "/v1/heartbeats",
        r#"{"beats":[{"service":"s"}]}"#,
        400,
        "/beats/0/id",
    ),
    (
        "POST",
        "/register",
        r#"{"service_name":"s","ip_address":"x y","port":"z"}"#,
        400,
        "/ip_address",
    ),
    ("GET", "/query", "", 400, "service_name"),
    ("GET", "/v1/services/s?health=fine", "", 400, "health"),
    ("GET", "/v1/explain", "", 400, "url"),
    ("POST", "/v1/services", "", 405, "Allow"),
    ("GET", "/v2/services", "", 404, "openapi"),
];

#[test]
fn faulty_calls_are_refused_with_the_place_of_the_fault_and_change_nothing() {
    let home = Home::new("");
    let node = home.start();
    node.register(
        "s",
        "a",
        &json!({ "address": "127.0.0.1", "port": 1, "persistent": true }),
    );
    let before = node.read("/v1/services/s");
    for (method, path, body, status, says) in FAULTY {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let answer = request(node.api, head);
        let context = format!(
            "{method} {path} {body}: {} {}",
            answer.status,
            answer.text()
        );
        assert_eq!(answer.status, *status, "{context}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{context}"
        );
        assert!(answer.text().contains(says), "{says} in {context}");
        assert_eq!(answer.json()["status"], *status, "{context}");
    }
    assert_eq!(node.read("/v1/services/s"), before);
    node.kill();
    assert_eq!(home.start().read("/v1/services/s"), before);
}

#[test]
fn bodies_that_are_too_long_too_deep_or_cut_short_are_refused() {
    let node = Home::new("").start();
    let put = |body: &str| {
        node.call("PUT", "/v1/services/s/instances/a", &Value::Null)
            .status
            .min(body.len() as u16)
    };
    assert_eq!(put(&"x".repeat(1000)), 400);
    let long = format!("{{\"address\":\"{}\"}}", "x".repeat(2 << 20));
    let send = |body: &str, length: usize| {
        let head = format!(
            "PUT /v1/services/s/instances/a HTTP/1.1\r\nHost: localhost\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        let mut connection = crate::harness::Connection::open(node.api);
        connection.send(head);
        // It may be refused before it is all sent.
        let _ = connection.try_send(body);
        if body.len() < length {
            connection.end_sending();
        }
        connection.try_answer().map(|a| a.status)
    };
    assert_eq!(send(&long, long.len()), Ok(413));
    let deep = "[".repeat(100_000);
    assert_eq!(send(&deep, deep.len()), Ok(400));
    // Cut short: refused, or nobody is there to be told.
    let cut = r#"{"address":"127.0.0.1","port":1}"#;
    assert_ne!(send(cut, cut.len() + 1), Ok(201));
    assert_eq!(node.health("s", "a"), None);
    assert_eq!(get(node.api, "/readyz").status, 200);
}

#[test]
fn the_description_of_the_api_lists_what_there_is() {
    let node = Home::new("").start();
    let description = node.read("/openapi.json");
    assert_eq!(description["openapi"], "3.1.0");
    let answer = get(node.api, "/");
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("pointsman"));
    assert_eq!(get(node.api, "/healthz").status, 200);
}
