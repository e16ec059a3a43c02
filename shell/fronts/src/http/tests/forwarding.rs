//! `/load_balance`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::{Options, Server};

/// An instance that answers every connection with these bytes, and keeps what it was asked.
async fn instance(answer: &'static str) -> (u16, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 64 << 10];
            let n = stream.read(&mut buffer).await.unwrap();
            kept.lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&buffer[..n]));
            if answer.is_empty() {
                sleep(super::LONG).await;
            }
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (port, asked)
}

async fn register(server: &Server, id: &str, port: u16) {
    let body = json!({ "address": "127.0.0.1", "port": port });
    let target = format!("/v1/services/shop/instances/{id}");
    assert_eq!(server.call("PUT", &target, Some(body)).await.status, 201);
}

/// A port on which nobody listens.
async fn dead() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn a_request_is_forwarded_and_its_answer_returned_without_hop_by_hop_fields() {
    let server = Server::start().await;
    let (port, asked) = instance(
        "HTTP/1.1 418 Teapot\r\nContent-Type: text/x-tea\r\nContent-Length: 3\r\nConnection: close, X-Hop\r\n\
         X-Hop: 1\r\nKeep-Alive: timeout=5\r\nServer: secret\r\nProxy-Authenticate: Basic\r\n\r\ntea",
    )
    .await;
    register(&server, "a", port).await;
    let body = json!({ "service_name": "shop", "path": "/brew?n=1", "method": "PUT", "body": { "b": [1, 2.5], "a": null } });
    let answer = server.call("POST", "/load_balance", Some(body)).await;
    assert_eq!((answer.status, answer.text()), (418, "tea"));
    assert_eq!(answer.header("content-type"), Some("text/x-tea"));
    assert_eq!(answer.header("x-pointsman-instance"), Some("a"));
    for name in ["x-hop", "keep-alive", "server", "proxy-authenticate"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    let asked = asked.lock().unwrap().clone();
    assert!(asked.starts_with("PUT /brew?n=1 HTTP/1.1\r\n"), "{asked}");
    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/json"));
    assert!(
        head.to_lowercase()
            .contains(&format!("host: 127.0.0.1:{port}"))
    );
    assert_eq!(
        serde_json::from_str::<Value>(body).unwrap(),
        json!({ "a": null, "b": [1, 2.5] })
    );
    let stats = server.memory.stats(&"a".parse().unwrap());
    assert_eq!(
        (stats.requests(), stats.in_flight(), stats.failures()),
        (1, 0, 0)
    );
}

#[tokio::test]
async fn the_method_is_get_without_a_body_and_post_with_one() {
    let server = Server::start().await;
    let (port, asked) =
        instance("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    register(&server, "a", port).await;
    for body in [
        json!({ "service_name": "shop" }),
        json!({ "service_name": "shop", "body": "hello" }),
    ] {
        assert_eq!(
            server
                .call("POST", "/load_balance", Some(body))
                .await
                .status,
            200
        );
    }
    let asked = asked.lock().unwrap().clone();
    assert!(asked.contains("GET / HTTP/1.1") && asked.contains("POST / HTTP/1.1"));
    assert!(asked.contains("text/plain") && asked.ends_with("hello"));
}

#[tokio::test]
async fn an_instance_that_cannot_be_reached_is_passed_over_for_the_next() {
    let server = Server::start().await;
    register(&server, "a", dead().await).await;
    let (port, _) =
        instance("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
    register(&server, "b", port).await;
    let body = json!({ "service_name": "shop" });
    let answer = server.call("POST", "/load_balance", Some(body)).await;
    assert_eq!(
        (answer.status, answer.header("x-pointsman-instance")),
        (200, Some("b"))
    );
    let stats = server.memory.stats(&"a".parse().unwrap());
    assert_eq!(
        (
            stats.failures(),
            stats.connect_failures(),
            stats.in_flight()
        ),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn failures_are_told_apart() {
    let options = Options {
        forward_timeout: Duration::from_millis(300),
        ..Options::default()
    };
    let server = Server::with(options, 100).await;
    let body = || Some(json!({ "service_name": "shop" }));
    let none = server.call("POST", "/load_balance", body()).await;
    assert_eq!((none.status, none.problem()), (503, "no-instance".into()));
    register(&server, "a", dead().await).await;
    let dead = server.call("POST", "/load_balance", body()).await;
    assert_eq!(
        (dead.status, dead.problem()),
        (502, "instance-failed".into())
    );
    assert_eq!(dead.json()["passed_over"][0]["id"], "a");
    server
        .call("DELETE", "/v1/services/shop/instances/a", None)
        .await;
    let (port, _) = instance("not HTTP at all\r\n\r\n").await;
    register(&server, "b", port).await;
    assert_eq!(
        server.call("POST", "/load_balance", body()).await.status,
        502
    );
    server
        .call("DELETE", "/v1/services/shop/instances/b", None)
        .await;
    let (port, _) = instance("").await;
    register(&server, "c", port).await;
    let slow = server.call("POST", "/load_balance", body()).await;
    assert_eq!(
        (slow.status, slow.problem()),
        (504, "instance-too-slow".into())
    );
    assert_eq!(server.memory.stats(&"c".parse().unwrap()).in_flight(), 0);
}
