//! What every call does when all is well.

use serde_json::json;

use super::Server;

#[tokio::test]
async fn an_instance_is_registered_read_replaced_patched_and_removed() {
    let server = Server::start().await;
    let target = "/v1/services/shop/instances/a";
    let whole = json!({
        "address": "Db-1.Internal", "port": 8080, "weight": 5, "zone": "eu-1", "tags": ["b", "a", "b"],
        "metadata": { "version": "1.2", "Größe": "1" },
        "lease": { "ttl": "20s", "grace": "1m" },
        "check": {
            "http": "/healthz?x=1", "method": "HEAD", "host": "shop.example", "headers": { "X-Key": "1" },
            "status": ["200-299", 304], "body": "ok", "port": 81, "interval": "5s", "timeout": "1s",
            "rise": 1, "fall": 2
        },
        "enabled": false, "drain": true
    });
    let created = server.call("PUT", target, Some(whole.clone())).await;
    assert_eq!(created.status, 201);
    assert_eq!(created.header("location"), Some(target));
    assert_eq!(created.revision(), 1);
    let record = created.json();
    for (name, value) in [
        ("namespace", json!("default")),
        ("service", json!("shop")),
        ("id", json!("a")),
        ("address", json!("db-1.internal")),
        ("tags", json!(["a", "b"])),
        ("persistent", json!(false)),
        ("health", json!("unknown")),
        ("reason", json!("no check has answered yet")),
        ("created", json!(1)),
    ] {
        assert_eq!(record[name], value, "{name}");
    }
    for name in [
        "port", "weight", "zone", "metadata", "lease", "enabled", "drain",
    ] {
        assert_eq!(record[name], whole[name], "{name}");
    }
    for name in [
        "http", "method", "host", "headers", "body", "port", "interval", "timeout", "rise", "fall",
    ] {
        assert_eq!(record["check"][name], whole["check"][name], "{name}");
    }
    assert_eq!(record["check"]["status"], json!(["200-299", "304"]));
    assert!(record["registered_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(server.get(target).await.json(), record);

    let plain = json!({ "address": "10.0.0.1", "port": 80, "zone": null, "persistent": true });
    let replaced = server.call("PUT", target, Some(plain)).await;
    assert_eq!((replaced.status, replaced.revision()), (200, 2));
    assert_eq!(replaced.header("location"), None);
    assert_eq!(replaced.json()["lease"], json!(null));
    assert_eq!(replaced.json()["metadata"], json!({}));
    assert_eq!(replaced.json()["health"], "passing");

    let change =
        json!({ "weight": 7, "drain": true, "tags": ["x"], "metadata": { "a": "1", "b": "2" } });
    let patched = server.call("PATCH", target, Some(change)).await.json();
    assert_eq!(
        (&patched["weight"], &patched["drain"]),
        (&json!(7), &json!(true))
    );
    assert_eq!(patched["metadata"], json!({ "a": "1", "b": "2" }));

    assert_eq!(server.call("DELETE", target, None).await.status, 204);
    assert_eq!(server.get(target).await.problem(), "no-such-instance");
    assert_eq!(server.call("DELETE", target, None).await.status, 404);
}

#[tokio::test]
async fn a_registration_that_names_no_lease_gets_the_default_one() {
    let server = Server::start().await;
    let record = server.put("shop", "a").await.json();
    assert_eq!(record["lease"], json!({ "ttl": "15s", "grace": "30s" }));
    assert_eq!(record["persistent"], false);
}

#[tokio::test]
async fn a_merge_patch_keeps_what_it_leaves_out_and_resets_what_is_null() {
    let server = Server::start().await;
    let target = "/v1/services/shop/instances/a";
    let body = json!({ "address": "::1", "port": 1, "weight": 9, "tags": ["t"], "drain": true,
        "enabled": false, "metadata": { "a": "1", "b": "2" } });
    server.call("PUT", target, Some(body)).await;
    let patch = async |change| server.call("PATCH", target, Some(change)).await.json();
    let patched = patch(json!({ "metadata": { "a": null, "c": "3" } })).await;
    assert_eq!(patched["metadata"], json!({ "b": "2", "c": "3" }));
    assert_eq!(patched["weight"], 9);
    let patched =
        patch(json!({ "weight": null, "drain": null, "enabled": null, "tags": null })).await;
    assert_eq!(patched["weight"], 1);
    assert_eq!(patched["drain"], false);
    assert_eq!(patched["enabled"], true);
    assert_eq!(patched["tags"], json!([]));
    assert_eq!(patched["metadata"], json!({ "b": "2", "c": "3" }));
    assert_eq!(
        patch(json!({ "metadata": null })).await["metadata"],
        json!({})
    );
    let before = server.get(target).await.json();
    assert_eq!(patch(json!({})).await, before);
}

#[tokio::test]
async fn patches_of_metadata_at_the_same_time_lose_nothing() {
    let server = Server::start().await;
    server.put("shop", "a").await;
    let target = "/v1/services/shop/instances/a";
    let patches = (0..40).map(|n| {
        let change = json!({ "metadata": { n.to_string(): "x" } });
        server.call("PATCH", target, Some(change))
    });
    for answer in futures_util::future::join_all(patches).await {
        assert_eq!(answer.status, 200);
    }
    let metadata = &server.get(target).await.json()["metadata"];
    assert_eq!(metadata.as_object().unwrap().len(), 40);
}

#[tokio::test]
async fn instances_are_filtered_by_health_tags_and_zone() {
    let server = Server::start().await;
    for (id, more) in [
        ("a", json!({ "tags": ["x", "y"], "zone": "1" })),
        ("b", json!({ "tags": ["x"], "zone": "2" })),
        ("c", json!({ "check": { "tcp": true } })),
    ] {
        let mut body = json!({ "address": "10.0.0.1", "port": 80 });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let target = format!("/v1/services/shop/instances/{id}");
        assert_eq!(server.call("PUT", &target, Some(body)).await.status, 201);
    }
    for (query, expected) in [
        ("", "abc"),
        ("?health=passing", "ab"),
        ("?health=unknown", "c"),
        ("?health=passing,unknown", "abc"),
        ("?health=critical", ""),
        ("?tag=x", "ab"),
        ("?tag=x&tag=y", "a"),
        ("?zone=2", "b"),
        ("?zone=2&tag=y", ""),
    ] {
        let list = server
            .get(&format!("/v1/services/shop{query}"))
            .await
            .json();
        let ids = list["instances"].as_array().unwrap().iter();
        let ids: String = ids.map(|i| i["id"].as_str().unwrap()).collect();
        assert_eq!(ids, expected, "{query}");
    }
}

#[tokio::test]
async fn namespaces_are_separate_worlds() {
    let server = Server::start().await;
    let body = json!({ "address": "10.0.0.1", "port": 80 });
    let target = "/v1/services/shop/instances/a?namespace=blue";
    let created = server.call("PUT", target, Some(body)).await;
    assert_eq!(created.header("location"), Some(target));
    assert_eq!(
        server.get("/v1/services/shop").await.json()["instances"],
        json!([])
    );
    let list = server.get("/v1/services/shop?namespace=blue").await.json();
    assert_eq!(list["instances"].as_array().unwrap().len(), 1);
    assert_eq!(
        server.get("/v1/services").await.json()["services"],
        json!([])
    );
    let services = server.get("/v1/services?namespace=blue").await.json();
    assert_eq!(
        services["services"],
        json!([{ "namespace": "blue", "service": "shop", "instances": 1, "passing": 1, "warning": 0,
            "unknown": 0, "critical": 0, "unresolved": 0, "modified": 1 }])
    );
}

#[tokio::test]
async fn a_list_too_long_for_one_piece_is_whole() {
    let server = Server::start().await;
    let mut registered = 0;
    for count in [255, 256, 257, 512, 600] {
        while registered < count {
            server.put("shop", &registered.to_string()).await;
            registered += 1;
        }
        let list = server.get("/v1/services/shop").await.json();
        let ids: std::collections::BTreeSet<_> = list["instances"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| i["id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(ids.len(), count);
    }
}

#[tokio::test]
async fn whoever_registers_again_takes_back_nothing_that_an_operator_has_decided() {
    let server = Server::start().await;
    server.put("shop", "a").await;
    let target = "/v1/services/shop/instances/a";
    let patch = json!({ "drain": true, "enabled": false });
    assert_eq!(server.call("PATCH", target, Some(patch)).await.status, 200);
    let kept = server.put("shop", "a").await.json();
    assert_eq!(
        (&kept["drain"], &kept["enabled"]),
        (&json!(true), &json!(false))
    );
    let named = json!({ "address": "10.0.0.1", "port": 80, "drain": false, "enabled": true });
    let changed = server.call("PUT", target, Some(named)).await.json();
    assert_eq!(
        (&changed["drain"], &changed["enabled"]),
        (&json!(false), &json!(true))
    );
}

#[tokio::test]
async fn heartbeats_renew_and_unknown_instances_are_told_to_register() {
    let server = Server::start().await;
    server.put("shop", "a").await;
    let body = json!({ "address": "10.0.0.1", "port": 80, "persistent": true });
    server
        .call("PUT", "/v1/services/shop/instances/p", Some(body))
        .await;
    let beat = async |id: &str| {
        let target = format!("/v1/services/shop/instances/{id}/heartbeat");
        server.call("POST", &target, None).await
    };
    assert_eq!(beat("a").await.json(), json!({ "status": "renewed" }));
    assert_eq!(beat("p").await.json(), json!({ "status": "persistent" }));
    assert_eq!(
        (beat("x").await.status, beat("x").await.problem()),
        (404, "no-such-instance".into())
    );

    let beats = json!({ "beats": [
        { "service": "shop", "id": "a" },
        { "service": "shop", "id": "x", "namespace": "blue" },
        { "service": "sh\u{6f}p", "id": "p" },
        { "namespace": "default", "service": "shop", "id": "a" },
    ] });
    let outcome = server.call("POST", "/v1/heartbeats", Some(beats)).await;
    assert_eq!(outcome.status, 200);
    assert_eq!(
        outcome.json(),
        json!({ "renewed": 2, "persistent": 1, "failed": [
            { "namespace": "blue", "service": "shop", "id": "x", "reason": "no_such_instance" }
        ] })
    );
    let none = server
        .call("POST", "/v1/heartbeats", Some(json!({ "beats": [] })))
        .await;
    assert_eq!(
        none.json(),
        json!({ "renewed": 0, "persistent": 0, "failed": [] })
    );
}

#[tokio::test]
async fn a_pick_names_one_instance_or_why_there_is_none() {
    let server = Server::start().await;
    let empty = server.get("/v1/pick/shop").await;
    assert_eq!((empty.status, empty.problem()), (503, "no-instance".into()));
    assert!(
        empty.json()["detail"]
            .as_str()
            .unwrap()
            .contains("no instances")
    );
    let body = json!({ "address": "db.internal", "port": 80, "zone": "z", "tags": ["t"], "metadata": { "k": "v" } });
    server
        .call("PUT", "/v1/services/shop/instances/a", Some(body))
        .await;
    assert_eq!(
        server.get("/v1/pick/shop").await.json(),
        json!({ "namespace": "default", "service": "shop", "id": "a", "address": "db.internal", "port": 80,
            "weight": 1, "zone": "z", "tags": ["t"], "metadata": { "k": "v" }, "health": "passing", "role": null })
    );
}

#[tokio::test]
async fn explain_understands_urls_addresses_methods_and_clients() {
    let server = Server::start().await;
    server.put("shop", "a").await;
    let explained = server
        .get("/v1/explain?url=http://Shop.example.com/api%3Fx=1&method=POST&client=::1")
        .await;
    let explained = explained.json();
    assert_eq!(explained["service"]["chosen"], "a");
    let verdict = explained["verdict"].as_str().unwrap();
    for part in [
        "\"http\"",
        "\"shop.example.com\"",
        "Some(80)",
        "\"/api?x=1\"",
        "\"POST\"",
        "Some(::1)",
    ] {
        assert!(verdict.contains(part), "{part} in {verdict}");
    }
    for (url, parts) in [
        (
            "10.0.0.1:5432",
            ["scheme: None", "\"10.0.0.1\"", "Some(5432)"],
        ),
        ("[::1]:80", ["scheme: None", "\"::1\"", "Some(80)"]),
        ("https://a", ["\"https\"", "\"/\"", "Some(443)"]),
        ("a.example/x", ["\"http\"", "\"/x\"", "Some(80)"]),
    ] {
        let explained = server.get(&format!("/v1/explain?url={url}")).await.json();
        let verdict = explained["verdict"].as_str().unwrap();
        for part in parts {
            assert!(verdict.contains(part), "{url}: {part} in {verdict}");
        }
    }
}

#[tokio::test]
async fn the_node_tells_metrics_liveness_readiness_and_its_calls() {
    let server = Server::start().await;
    let metrics = server.get("/metrics").await;
    assert!(
        metrics
            .header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    assert!(metrics.text().contains("up 1"));
    assert_eq!(
        server.get("/healthz").await.json(),
        json!({ "status": "live" })
    );
    assert_eq!(
        server.get("/readyz").await.json(),
        json!({ "status": "ready" })
    );
    *server.memory.not_ready.lock().unwrap() = Some("No table yet.".into());
    let not_ready = server.get("/readyz").await;
    assert_eq!(
        (not_ready.status, not_ready.problem()),
        (503, "not-ready".into())
    );
    assert_eq!(not_ready.json()["detail"], "No table yet.");
    assert_eq!(server.get("/healthz").await.status, 200);
    assert!(server.get("/").await.text().contains("/v1/pick/{service}"));
    let head = server.call("HEAD", "/", None).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn the_tutorials_calls_work_word_for_word() {
    let server = Server::start().await;
    let body = json!({ "service_name": "shop", "ip_address": "10.0.0.1", "port": 8080 });
    for _ in 0..2 {
        let registered = server.call("POST", "/register", Some(body.clone())).await;
        assert_eq!(registered.status, 200);
        assert_eq!(
            registered.text(),
            r#"{"message":"Service registered","status":"success"}"#
        );
    }
    let found = server.get("/query?service_name=shop").await;
    assert_eq!(
        found.text(),
        r#"{"service_name":"shop","instances":[{"ip_address":"10.0.0.1","port":8080}]}"#
    );
    let record = server
        .get("/v1/services/shop/instances/10.0.0.1:8080")
        .await
        .json();
    assert_eq!(
        (&record["persistent"], &record["check"]["tcp"]),
        (&json!(true), &json!(true))
    );
    let none = server.get("/query?service_name=other").await;
    assert_eq!(none.text(), r#"{"service_name":"other","instances":[]}"#);
    let six = json!({ "service_name": "six", "ip_address": "::1", "port": 1 });
    assert_eq!(
        server.call("POST", "/register", Some(six)).await.status,
        200
    );
    let found = server.get("/query?service_name=six").await.json();
    assert_eq!(
        found["instances"],
        json!([{ "ip_address": "::1", "port": 1 }])
    );
    assert_eq!(
        server
            .get("/v1/services/six/instances/[::1]:1")
            .await
            .status,
        200
    );
}
