//! Bad input of every kind: what is answered, which field is named, and that nothing changes.

use model::{HostPattern, Revision};
use serde_json::{Value, json};

use super::{Options, Server, wire};
use crate::{Directory, Reason, Refused};

const INSTANCE: &str = "/v1/services/shop/instances/a";

/// Sends each body, and expects a 400 that names exactly these places.
async fn refuse(method: &str, target: &str, table: &[(Value, &[&str])]) {
    let server = Server::start().await;
    server.put("shop", "a").await;
    let before = server.memory.registry().revision();
    for (body, places) in table {
        let answer = server.call(method, target, Some(body.clone())).await;
        assert_eq!(
            (answer.status, answer.problem()),
            (400, "invalid".into()),
            "{body}"
        );
        assert_eq!(answer.places(), *places, "{body}: {}", answer.text());
    }
    assert_eq!(server.memory.registry().revision(), before);
}

#[tokio::test]
async fn a_wrong_registration_has_all_its_wrong_fields_named() {
    let with = |name: &str, value: Value| {
        let mut body = json!({ "address": "10.0.0.1", "port": 80 });
        body[name] = value;
        body
    };
    let many: Value = (0..200)
        .map(|n| (n.to_string(), json!("x")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let tags: Value = (0..65).map(|n| n.to_string()).collect::<Vec<_>>().into();
    refuse("PUT", INSTANCE, &[
        (json!({}), &["#/address", "#/port"]),
        (json!([]), &["#"]),
        (json!("x"), &["#"]),
        (json!(null), &["#"]),
        (
            json!({ "address": 5, "port": "80", "weight": -1, "zone": [], "tags": "a", "metadata": [], "lease": 5,
                "check": true, "persistent": "no", "enabled": 1, "drain": {}, "wieght": 1 }),
            &["#/address", "#/port", "#/weight", "#/zone", "#/tags", "#/metadata", "#/persistent", "#/lease",
                "#/check", "#/enabled", "#/drain", "#/wieght"],
        ),
        (json!({ "address": null, "port": null }), &["#/address", "#/port"]),
        (with("port", json!(0)), &["#/port"]),
        (with("port", json!(70_000)), &["#/port"]),
        (with("port", json!(80.5)), &["#/port"]),
        (with("port", json!(1e30)), &["#/port"]),
        (with("address", json!("")), &["#/address"]),
        (with("address", json!("10.0.0.300")), &["#/address"]),
        (with("address", json!("10.0.0.1:80")), &["#/address"]),
        (with("address", json!("x".repeat(10_000))), &["#/address"]),
        (with("weight", json!(70_000)), &["#/weight"]),
        (with("zone", json!("")), &["#/zone"]),
        (with("zone", json!("a\nb")), &["#/zone"]),
        (with("tags", json!(["a", ""])), &["#/tags"]),
        (with("tags", json!(["a", 5])), &["#/tags"]),
        (with("tags", tags), &["#/tags"]),
        (with("metadata", json!({ "a": 5, "b~/ü": null, "": "x" })), &["#/metadata/", "#/metadata/a", "#/metadata/b~0~1%C3%BC"]),
        (with("metadata", many), &["#/metadata"]),
        (with("metadata", json!({ "a": "x".repeat(5_000) })), &["#/metadata/a"]),
        (with("lease", json!({ "ttl": "0s" })), &["#/lease/ttl"]),
        (with("lease", json!({ "ttl": "999ms" })), &["#/lease/ttl"]),
        (with("lease", json!({ "ttl": "25h" })), &["#/lease/ttl"]),
        (with("lease", json!({ "ttl": 15 })), &["#/lease/ttl"]),
        (with("lease", json!({ "ttl": "15", "grace": "x", "tll": 1 })), &["#/lease/ttl", "#/lease/grace", "#/lease/tll"]),
        (json!({ "address": "::1", "port": 1, "persistent": true, "lease": {} }), &["#/lease"]),
        (with("id", json!("b")), &["#/id"]),
    ])
    .await;
}

#[tokio::test]
async fn a_wrong_check_has_all_its_wrong_fields_named() {
    let table = [
        (json!({}), vec!["#/check"]),
        (json!({ "tcp": false }), vec!["#/check"]),
        (json!({ "tcp": true, "http": "/" }), vec!["#/check"]),
        (json!({ "http": "no-slash" }), vec!["#/check/http"]),
        (json!({ "http": "/a b" }), vec!["#/check/http"]),
        (json!({ "http": "/a\r\nX: y" }), vec!["#/check/http"]),
        (
            json!({ "tcp": true, "method": "GET", "body": "x" }),
            vec!["#/check/method", "#/check/body"],
        ),
        (json!({ "protocol": "gopher" }), vec!["#/check/protocol"]),
        (json!({ "grpc": "a\nb" }), vec!["#/check/grpc"]),
        (json!({ "grpc": "", "host": "a" }), vec!["#/check/host"]),
        (json!({ "udp": true, "protocol": "smtp" }), vec!["#/check"]),
        (
            json!({ "protocol": "smtp", "user": "u", "send": "x" }),
            vec!["#/check/send", "#/check/user"],
        ),
        (
            json!({ "protocol": "redis", "password": "p", "database": "0" }),
            vec!["#/check/database"],
        ),
        (
            json!({ "protocol": "redis", "user": "u" }),
            vec!["#/check/user"],
        ),
        (
            json!({ "protocol": "postgresql", "password": "p" }),
            vec!["#/check/password"],
        ),
        (
            json!({ "protocol": "mysql", "user": "a\u{0}b", "password": "" }),
            vec!["#/check/user", "#/check/password"],
        ),
        (json!({ "udp": true, "send": "" }), vec!["#/check/send"]),
        (
            json!({ "http": "/", "method": "G T" }),
            vec!["#/check/method"],
        ),
        (
            json!({ "http": "/", "method": "CONNECT" }),
            vec!["#/check/method"],
        ),
        (json!({ "http": "/", "host": "a/b" }), vec!["#/check/host"]),
        (
            json!({ "http": "/", "headers": { "Content-Length": "1", "X Y": "1", "A": "b\r\nc", "B": 1, "C": "ok" } }),
            vec![
                "#/check/headers/A",
                "#/check/headers/B",
                "#/check/headers/Content-Length",
                "#/check/headers/X%20Y",
            ],
        ),
        (json!({ "http": "/", "status": [] }), vec!["#/check/status"]),
        (json!({ "http": "/", "status": 99 }), vec!["#/check/status"]),
        (
            json!({ "http": "/", "status": "399-200" }),
            vec!["#/check/status"],
        ),
        (
            json!({ "tcp": true, "port": 0, "interval": "1ms", "timeout": "0s", "rise": 0, "fall": 1001, "rize": 1 }),
            vec![
                "#/check/port",
                "#/check/interval",
                "#/check/timeout",
                "#/check/rise",
                "#/check/fall",
                "#/check/rize",
            ],
        ),
    ];
    let table: Vec<_> = table
        .iter()
        .map(|(check, places)| {
            (
                json!({ "address": "::1", "port": 1, "check": check }),
                &**places,
            )
        })
        .collect();
    refuse("PUT", INSTANCE, &table).await;
}

#[tokio::test]
async fn a_wrong_patch_has_all_its_wrong_fields_named() {
    let many: Value = (0..129)
        .map(|n| (n.to_string(), json!("x")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    refuse("PATCH", INSTANCE, &[
        (json!([]), &["#"]),
        (json!({ "weight": 70_000, "drain": "x", "enabled": 0, "tags": [1], "metadata": { "a": 1 } }),
            &["#/weight", "#/drain", "#/enabled", "#/tags", "#/metadata/a"]),
        (json!({ "metadata": 5 }), &["#/metadata"]),
        (json!({ "metadata": many }), &["#/metadata"]),
        (json!({ "address": "::1" }), &["#/address"]),
    ])
    .await;
}

#[tokio::test]
async fn wrong_heartbeats_have_all_their_wrong_fields_named() {
    refuse("POST", "/v1/heartbeats", &[
        (json!({}), &["#/beats"]),
        (json!({ "beats": {} }), &["#/beats"]),
        (json!({ "beats": [5, { "service": "a" }, { "id": "a b", "service": "" }, { "service": "a", "id": "b", "x": 1 }] }),
            &["#/beats/0", "#/beats/1/id", "#/beats/2/service", "#/beats/2/id", "#/beats/3/x"]),
        (json!({ "beats": [], "bats": 1 }), &["#/bats"]),
    ])
    .await;
}

#[tokio::test]
async fn wrong_tutorial_calls_have_all_their_wrong_fields_named() {
    refuse(
        "POST",
        "/register",
        &[
            (json!({}), &["#/service_name", "#/ip_address", "#/port"]),
            (
                json!({ "service_name": "a b", "ip_address": "1.2.3", "port": 0 }),
                &["#/service_name", "#/ip_address", "#/port"],
            ),
            (
                json!({ "service_name": "a", "ip_address": "::1", "port": 1, "ports": 2 }),
                &["#/ports"],
            ),
        ],
    )
    .await;
    refuse(
        "POST",
        "/load_balance",
        &[
            (json!({}), &["#/service_name"]),
            (
                json!({ "service_name": "", "path": "x", "method": "TRACE", "bdy": 1 }),
                &["#/service_name", "#/path", "#/method", "#/bdy"],
            ),
            (json!({ "service_name": "a", "path": "/a#b" }), &["#/path"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn wrong_parameters_are_all_named() {
    let server = Server::start().await;
    let long = format!("/v1/services/{}", "x".repeat(10_000));
    for (target, places) in [
        ("/v1/services/a%20b", vec!["service"]),
        (&long, vec!["service"]),
        ("/v1/services/%FF", vec!["path"]),
        ("/v1/services?namespace=", vec!["namespace"]),
        ("/v1/services?name=x", vec!["name"]),
        ("/v1/services/a?helth=passing", vec!["helth"]),
        (
            "/v1/services/a?health=well&after=x&wait=5&namespace=%20",
            vec!["namespace", "health", "after", "wait"],
        ),
        ("/v1/services/a?after=1&wait=6m", vec!["wait"]),
        ("/v1/services/a?wait=1s", vec!["wait"]),
        ("/v1/services/a?zone=1&zone=2", vec!["zone"]),
        ("/v1/services/a?after=-1", vec!["after"]),
        ("/v1/services/a?after=99999999999999999999", vec!["after"]),
        (
            "/v1/services/a%20/instances/b%20?x=1",
            vec!["service", "id", "x"],
        ),
        ("/v1/services/a/watch?health=passing", vec!["health"]),
        ("/v1/pick/%C3%BC", vec!["service"]),
        ("/v1/explain", vec!["url"]),
        (
            "/v1/explain?url=%20&method=G%20T&client=x&alpn=h2,",
            vec!["url", "method", "client", "alpn"],
        ),
        ("/v1/explain?url=ftp://a/b", vec!["url"]),
        ("/v1/explain?url=a", vec!["url"]),
        ("/v1/explain?url=http://u@a/", vec!["url"]),
        ("/query", vec!["service_name"]),
        ("/query?service_name=a%20b", vec!["service_name"]),
    ] {
        let answer = server.get(target).await;
        assert_eq!(
            (answer.status, answer.problem()),
            (400, "invalid".into()),
            "{target}"
        );
        assert_eq!(answer.places(), places, "{target}");
    }
    let answer = server
        .raw(
            "GET",
            "/v1/services/a/watch",
            &[("Last-Event-ID", "x")],
            None,
        )
        .await;
    assert_eq!(
        (answer.status, answer.places()),
        (400, vec!["Last-Event-ID".into()])
    );
}

#[tokio::test]
async fn path_query_and_body_are_complained_about_together() {
    let server = Server::start().await;
    let target = "/v1/services/a%20b/instances/c?x=1";
    let answer = server.call("PUT", target, Some(json!({ "port": 0 }))).await;
    assert_eq!(answer.places(), ["service", "#/address", "#/port", "x"]);
}

#[tokio::test]
async fn a_misspelled_field_is_answered_with_the_near_name() {
    let server = Server::start().await;
    let detail = async |name: &str| {
        let body = json!({ "address": "::1", "port": 1, name: 1 });
        let answer = server.call("PUT", INSTANCE, Some(body)).await.json();
        answer["errors"][0]["detail"].as_str().unwrap().to_owned()
    };
    assert!(detail("wieght").await.contains("did you mean \"weight\"?"));
    assert!(
        detail("persistant")
            .await
            .contains("did you mean \"persistent\"?")
    );
    assert!(
        detail("q")
            .await
            .contains("known are address, port, weight")
    );
}

#[tokio::test]
async fn what_is_no_json_is_answered_with_line_and_column() {
    let server = Server::start().await;
    for (body, part) in [
        ("", "is missing"),
        ("{", "line 1 column 1"),
        (
            "{\n  \"address\": \"::1\",\n  port: 1\n}",
            "line 3 column 3",
        ),
        ("{\"address\":\"::1\",\"port\":1} x", "line 1 column"),
        ("{\"port\":1e999}", "line 1 column"),
        ("{\"zone\":\"\\ud800\"}", "line 1 column"),
        (&"[".repeat(200), "line 1 column 128"),
        (
            &format!("[{}0]", "0,".repeat(30_000)),
            "more than 20000 items",
        ),
    ] {
        let answer = server.raw("PUT", INSTANCE, &[], Some(body.into())).await;
        assert_eq!(
            (answer.status, answer.places()),
            (400, vec!["#".into()]),
            "{body:.40}"
        );
        assert!(answer.text().contains(part), "{}", answer.text());
    }
    let mut request = format!(
        "PUT {INSTANCE} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 4\r\n\r\n"
    )
    .into_bytes();
    request.extend(b"\"\xff\xfe\"");
    assert_eq!(wire::exchange(server.address, request).await.status, 400);
    assert_eq!(server.memory.registry().revision(), Revision(0));
}

#[tokio::test]
async fn a_key_written_twice_is_refused_wherever_it_is() {
    let server = Server::start().await;
    let keys: String = (0..20).map(|n| format!("\"{n}\":\"\",")).collect();
    for (body, place) in [
        (
            r#"{"address":"::1","port":1,"port":2}"#.to_owned(),
            "#/port",
        ),
        (
            r#"{"address":"::1","port":1,"lease":{"ttl":"5s","ttl":"6s"}}"#.to_owned(),
            "#/lease/ttl",
        ),
        (
            format!(r#"{{"address":"::1","port":1,"metadata":{{{keys}"7":""}}}}"#),
            "#/metadata/7",
        ),
    ] {
        let answer = server.raw("PUT", INSTANCE, &[], Some(body)).await;
        assert_eq!((answer.status, answer.places()), (400, vec![place.into()]));
    }
    let beats = r#"{"beats":[{"service":"a","id":"b","id":"c"}]}"#;
    let answer = server
        .raw("POST", "/v1/heartbeats", &[], Some(beats.into()))
        .await;
    assert_eq!(answer.places(), ["#/beats/0/id"]);
}

#[tokio::test]
async fn a_thousand_faults_make_a_short_answer() {
    let server = Server::start().await;
    let body: Value = (0..10_000)
        .map(|n| (format!("x{n}"), json!(1)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let answer = server.call("PUT", INSTANCE, Some(body)).await;
    assert_eq!(answer.places().len(), 50);
}

#[tokio::test]
async fn bodies_of_other_kinds_are_refused() {
    let server = Server::start().await;
    let body = || Some(r#"{"address":"::1","port":1}"#.to_owned());
    for headers in [
        [("Content-Type", "text/plain")],
        [("Content-Type", "application/x-www-form-urlencoded")],
        [("Content-Encoding", "gzip")],
    ] {
        let answer = server.raw("PUT", INSTANCE, &headers, body()).await;
        assert_eq!(
            (answer.status, answer.problem()),
            (415, "media-type".into())
        );
    }
    assert_eq!(server.memory.registry().revision(), Revision(0));
    for kind in [
        "application/json; charset=utf-8",
        "Application/Merge-Patch+JSON",
        "application/json",
    ] {
        assert!(
            server
                .raw("PUT", INSTANCE, &[("Content-Type", kind)], body())
                .await
                .status
                < 300
        );
    }
}

#[tokio::test]
async fn bodies_beyond_the_limit_are_refused_with_the_limit() {
    let server = Server::start().await;
    for (method, target, limit, words) in [
        ("PUT", INSTANCE, 1 << 20, "1MiB"),
        ("POST", "/v1/heartbeats", 4 << 20, "4MiB"),
    ] {
        let within = server
            .raw(method, target, &[], Some(" ".repeat(limit)))
            .await;
        assert_eq!(within.status, 400);
        let beyond = server
            .raw(method, target, &[], Some(" ".repeat(limit + 1)))
            .await;
        assert_eq!((beyond.status, beyond.problem()), (413, "too-large".into()));
        assert!(beyond.json()["detail"].as_str().unwrap().contains(words));
    }
    // Without an announcement it is found out on the way.
    let mut request = format!("PUT {INSTANCE} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..300 {
        request.extend(b"1000\r\n");
        request.extend([b' '; 0x1000]);
        request.extend(b"\r\n");
    }
    assert_eq!(wire::exchange(server.address, request).await.status, 413);
}

#[tokio::test]
async fn wrong_methods_are_answered_with_the_possible_ones() {
    let server = Server::start().await;
    for (method, target, allow) in [
        ("POST", "/v1/services", "GET,HEAD"),
        ("PUT", "/v1/heartbeats", "POST"),
        ("POST", INSTANCE, "PUT,GET,HEAD,PATCH,DELETE"),
        ("GET", "/register", "POST"),
        ("OPTIONS", "/", "GET,HEAD"),
        ("BREW", "/healthz", "GET,HEAD"),
    ] {
        let answer = server.call(method, target, None).await;
        assert_eq!(
            (answer.status, answer.problem()),
            (405, "method-not-allowed".into())
        );
        assert_eq!(answer.header("allow"), Some(allow), "{method} {target}");
    }
}

#[tokio::test]
async fn unknown_paths_are_problems_too() {
    let server = Server::start().await;
    for target in [
        "/nope",
        "/v1",
        "/v1/services/a/",
        "/v1//services",
        "/v2/services",
        "/healthz/",
    ] {
        let answer = server.get(target).await;
        assert_eq!(
            (answer.status, answer.problem()),
            (404, "no-such-path".into()),
            "{target}"
        );
    }
}

#[tokio::test]
async fn a_foreign_web_page_changes_nothing() {
    let server = Server::start().await;
    let body = || Some(r#"{"service_name":"a","ip_address":"::1","port":1}"#.to_owned());
    for origin in ["https://evil.example", "null", "http://127.0.0.1"] {
        let answer = server
            .raw("POST", "/register", &[("Origin", origin)], body())
            .await;
        assert_eq!(
            (answer.status, answer.problem()),
            (403, "foreign-origin".into())
        );
    }
    // A name that its owner has had lead here since the page was loaded.
    let body = body().unwrap_or_default();
    let rebound = format!(
        "POST /register HTTP/1.1\r\nHost: evil.example:7070\r\nOrigin: http://evil.example:7070\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = wire::exchange(server.address, rebound.clone().into_bytes()).await;
    assert_eq!(
        (answer.status, answer.problem()),
        (421, "unknown-host".into())
    );
    // Where every name is answered to, it may still be anybody's.
    let names = vec![HostPattern::Any].into();
    let open = Options {
        names,
        ..Options::default()
    };
    let open = Server::with(open, 10).await;
    let answer = wire::exchange(open.address, rebound.into_bytes()).await;
    assert_eq!(
        (answer.status, answer.problem()),
        (403, "foreign-origin".into())
    );
    assert_eq!(open.memory.registry().revision(), Revision(0));
    assert_eq!(server.memory.registry().revision(), Revision(0));
    let own = format!("http://{}", server.address);
    assert_eq!(
        server
            .raw("POST", "/register", &[("Origin", &own)], Some(body))
            .await
            .status,
        200
    );
    let read = server
        .raw(
            "GET",
            "/v1/services",
            &[("Origin", "https://evil.example")],
            None,
        )
        .await;
    assert_eq!(read.status, 200);
}

#[tokio::test]
async fn a_registry_that_refuses_says_why_and_when_to_try_again() {
    let server = Server::start().await;
    server.put("shop", "a").await;
    for (reason, status, name, retry) in [
        (Reason::Overloaded, 503, "overloaded", Some("1")),
        (Reason::NotWritten, 503, "not-written", Some("5")),
        (Reason::ReadOnly, 503, "read-only", Some("60")),
        (Reason::NoLeader, 503, "no-leader", Some("1")),
        (Reason::Interrupted, 503, "interrupted", Some("1")),
        (Reason::Closing, 503, "closing", Some("2")),
        (Reason::TooNew, 409, "older-nodes", None),
        (Reason::TooLarge, 413, "too-large", None),
    ] {
        let detail = "the disk is full".to_owned();
        *server.memory.refuse.lock().unwrap() = Some(Refused { reason, detail });
        for (method, body) in [
            ("PUT", Some(json!({ "address": "::1", "port": 1 }))),
            ("PATCH", Some(json!({ "weight": 2 }))),
            ("DELETE", None),
        ] {
            let answer = server.call(method, INSTANCE, body).await;
            assert_eq!((answer.status, answer.problem()), (status, name.into()));
            assert_eq!(answer.header("retry-after"), retry);
            assert_eq!(answer.json()["detail"], "the disk is full");
        }
    }
}
