//! Certificates go in, and what is told of them comes out.

use serde_json::{Value, json};

use super::Server;

#[tokio::test]
async fn a_certificate_is_given_listed_without_its_key_and_removed() {
    let server = Server::start().await;
    let target = "/v1/certificates/shop";
    for status in [201, 200] {
        let body = json!({ "certificate": "a.example", "key": "b" });
        let answer = server.call("PUT", target, Some(body)).await;
        assert_eq!(answer.status, status);
        assert_eq!(
            answer.json(),
            json!({
                "name": "shop", "file": null, "hosts": ["a.example"],
                "expires": "1970-01-01T00:00:00Z", "used_by": ["listener web"],
            })
        );
    }
    let all = server.get("/v1/certificates").await.json();
    assert_eq!(all["certificates"].as_array().map(Vec::len), Some(1));
    assert!(!all.to_string().contains("key"), "{all}");
    // There is nothing to be had of a single one.
    assert_eq!(server.get(target).await.status, 405);
    assert_eq!(server.call("DELETE", target, None).await.status, 204);
    assert_eq!(server.call("DELETE", target, None).await.status, 404);
}

#[tokio::test]
async fn what_cannot_be_used_or_is_used_is_refused_with_the_reason() {
    let server = Server::start().await;
    let put = async |name: &str, body: Value| {
        let target = format!("/v1/certificates/{name}");
        server.call("PUT", &target, Some(body)).await
    };
    let bad = put("shop", json!({ "certificate": "a", "key": "c" })).await;
    assert_eq!(bad.status, 400);
    let problem = bad.json();
    assert_eq!(
        problem["type"],
        "urn:pointsman:problem:certificate-unusable"
    );
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("is not the key"), "{detail}");
    let odd = put("shop", json!({ "certificate": 1, "kei": "" })).await;
    assert_eq!(odd.status, 400);
    assert_eq!(odd.places(), ["#/certificate", "#/key", "#/kei"]);
    let name = put("..%2Fshop", json!({ "certificate": "a", "key": "b" })).await;
    assert_eq!(name.places(), ["certificate"]);
    assert_eq!(
        put("used", json!({ "certificate": "a", "key": "b" }))
            .await
            .status,
        201
    );
    let used = server.call("DELETE", "/v1/certificates/used", None).await;
    assert_eq!(used.status, 409);
    assert!(used.json().to_string().contains("listener web"));
    // A page of somebody else's may give none.
    let body = json!({ "certificate": "a", "key": "b" }).to_string();
    let headers = [
        ("Content-Type", "application/json"),
        ("Origin", "https://elsewhere.example"),
    ];
    let foreign = server
        .raw("PUT", "/v1/certificates/shop", &headers, Some(body))
        .await;
    assert_eq!(foreign.status, 403);
}
