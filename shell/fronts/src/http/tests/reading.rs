//! How new what is read is, and what is demanded of it; and changes of the cluster.

use std::time::Duration;

use serde_json::json;

use super::Server;

#[tokio::test]
async fn answers_say_how_old_they_may_be_and_who_leads() {
    let server = Server::start().await;
    server.put("shop", "a").await;
    for path in [
        "/v1/services",
        "/v1/services/shop",
        "/v1/services/shop/instances/a",
        "/v1/pick/shop",
        "/v1/cluster",
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.header("x-pointsman-age-ms"), Some("75"), "{path}");
        assert_eq!(answer.header("x-pointsman-leader"), Some("n1"), "{path}");
    }
    let deleted = server.call("DELETE", "/v1/services/shop/instances/a", None);
    let deleted = deleted.await;
    assert_eq!(deleted.header("x-pointsman-leader"), Some("n1"));
    assert_eq!(deleted.revision(), 2);
    *server.memory.age.lock().unwrap() = None;
    let answer = server.get("/v1/services/shop").await;
    assert_eq!(answer.header("x-pointsman-age-ms"), Some("unknown"));
}

#[tokio::test]
async fn what_may_be_older_than_demanded_is_refused() {
    let server = Server::start().await;
    server.put("shop", "a").await;
    for path in [
        "/v1/services",
        "/v1/services/shop",
        "/v1/services/shop/instances/a",
        "/v1/pick/shop",
    ] {
        let with = async |demand: &str| server.get(&format!("{path}?{demand}")).await.status;
        *server.memory.age.lock().unwrap() = Some(Duration::from_millis(75));
        assert_eq!(with("max_stale=2s").await, 200, "{path}");
        assert_eq!(with("consistency=local").await, 200, "{path}");
        assert_eq!(with("consistency=linearizable").await, 200, "{path}");
        assert_eq!(with("max_stale=50ms").await, 503, "{path}");
        *server.memory.age.lock().unwrap() = None;
        assert_eq!(with("max_stale=1h").await, 503, "{path}");
        assert_eq!(with("consistency=linearizable").await, 503, "{path}");
        for wrong in [
            "max_stale=x",
            "max_stale=2h",
            "consistency=strong",
            "consistency=linearizable&max_stale=1s",
        ] {
            assert_eq!(with(wrong).await, 400, "{path} {wrong}");
        }
    }
    let answer = server.get("/v1/services/shop/watch?max_stale=1s").await;
    assert_eq!(answer.status, 503);
    let body = answer.json();
    assert_eq!(body["type"], "urn:pointsman:problem:too-stale");
}

#[tokio::test]
async fn changes_of_the_cluster_are_passed_on_as_they_were_asked_for() {
    let server = Server::start().await;
    let body = json!({ "address": "10.0.0.4:7071" });
    for (method, path, body, change) in [
        (
            "PUT",
            "/v1/cluster/nodes/n%204",
            Some(body),
            "Add { name: \"n 4\", address: \"10.0.0.4:7071\", observer: false }",
        ),
        (
            "DELETE",
            "/v1/cluster/nodes/n4?force=true",
            None,
            "Remove { name: \"n4\", force: true }",
        ),
        (
            "POST",
            "/v1/cluster/nodes/n4/promote",
            None,
            "Promote { name: \"n4\" }",
        ),
        (
            "POST",
            "/v1/cluster/transfer?to=n2",
            None,
            "Transfer { to: Some(\"n2\") }",
        ),
        (
            "POST",
            "/v1/cluster/transfer",
            None,
            "Transfer { to: None }",
        ),
    ] {
        let answer = server.call(method, path, body).await;
        assert_eq!(answer.json()["message"], change);
    }
    let wrong = json!({ "address": "10.0.0.4", "observers": true });
    let answer = server
        .call("PUT", "/v1/cluster/nodes/n4", Some(wrong))
        .await;
    assert_eq!(
        (
            answer.status,
            answer.json()["errors"].as_array().unwrap().len()
        ),
        (400, 2)
    );
    let answer = server.get("/v1/cluster/snapshot").await;
    assert_eq!(answer.text(), "all of it");
}
