//! Long polls and conditional requests.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use super::Server;

#[tokio::test]
async fn a_poll_for_something_older_is_answered_at_once() {
    let server = Server::start().await;
    server.put("shop", "a").await;
    let answer = server.get("/v1/services/shop?after=0&wait=5m").await;
    assert_eq!((answer.status, answer.revision()), (200, 1));
    assert_eq!(answer.json()["revision"], 1);
    assert_eq!(answer.header("etag"), Some("\"1\""));
}

#[tokio::test]
async fn a_poll_wakes_when_its_service_changes_and_not_when_others_do() {
    let server = Server::start().await;
    server.put("shop", "a").await;
    let poll = server.get("/v1/services/shop?after=1&wait=5m");
    let change = async {
        sleep(Duration::from_millis(50)).await;
        server.put("other", "x").await;
        sleep(Duration::from_millis(50)).await;
        server.put("shop", "b").await;
    };
    let (answer, ()) = tokio::join!(poll, change);
    assert_eq!(answer.revision(), 3);
    assert_eq!(answer.json()["instances"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_poll_without_news_ends_with_its_time() {
    let server = Server::start().await;
    server.put("shop", "a").await;
    let started = Instant::now();
    let answer = server.get("/v1/services/shop?after=1&wait=200ms").await;
    assert!(started.elapsed() >= Duration::from_millis(200));
    assert_eq!((answer.status, answer.revision()), (200, 1));
}

#[tokio::test]
async fn a_poll_learns_that_the_last_instance_went_and_then_waits() {
    let server = Server::start().await;
    server.put("shop", "a").await;
    let poll = server.get("/v1/services/shop?after=1&wait=5m");
    let removal = async {
        sleep(Duration::from_millis(50)).await;
        server
            .call("DELETE", "/v1/services/shop/instances/a", None)
            .await
    };
    let (answer, _) = tokio::join!(poll, removal);
    assert_eq!(answer.json()["instances"], json!([]));
    assert_eq!(answer.revision(), 2);
    // Changes of others are no news about a service that is not there.
    server.put("other", "x").await;
    let again = server.get("/v1/services/shop?after=2&wait=100ms").await;
    assert_eq!(again.revision(), 2);
    // And whoever slept through the removal learns of it at once.
    let late = server.get("/v1/services/shop?after=1&wait=5m").await;
    assert!(late.revision() > 1);
}

#[tokio::test]
async fn a_poll_for_a_service_that_does_not_exist_yet_sees_it_come() {
    let server = Server::start().await;
    let nothing = server.get("/v1/services/shop").await;
    assert_eq!((nothing.status, nothing.revision()), (200, 0));
    let poll = server.get("/v1/services/shop?after=0&wait=5m");
    let change = async {
        sleep(Duration::from_millis(50)).await;
        server.put("shop", "a").await;
    };
    let (answer, ()) = tokio::join!(poll, change);
    assert_eq!(answer.json()["instances"][0]["id"], "a");
}

#[tokio::test]
async fn a_poll_after_a_revision_that_has_not_been_is_told_so_and_not_at_once() {
    let server = Server::start().await;
    server.put("shop", "a").await;
    for service in ["shop", "none"] {
        let started = Instant::now();
        let answer = server
            .get(&format!("/v1/services/{service}?after=1000&wait=5m"))
            .await;
        assert_eq!(
            (answer.status, answer.problem()),
            (409, "no-such-revision".into())
        );
        // Or a client that asks again whatever the answer is would keep the node busy.
        assert!(started.elapsed() >= Duration::from_millis(900));
        let detail = answer.json()["detail"].to_string();
        assert!(
            detail.contains("is at revision 1, so 1000 is not"),
            "{detail}"
        );
    }
}

#[tokio::test]
async fn a_poll_after_a_revision_of_another_service_waits() {
    let server = Server::start().await;
    server.put("shop", "a").await;
    server.put("other", "x").await;
    // The catalog, say, was read at this revision.
    let poll = server.get("/v1/services/shop?after=2&wait=5m");
    let change = async {
        sleep(Duration::from_millis(50)).await;
        server.put("shop", "b").await;
    };
    let (answer, ()) = tokio::join!(poll, change);
    assert_eq!(answer.revision(), 3);
}

#[tokio::test]
async fn a_poll_after_what_this_node_has_yet_to_hear_of_waits_for_it() {
    let server = Server::start().await;
    server.put("shop", "a").await;
    let poll = server.get("/v1/services/shop?after=2&wait=5m");
    let told = async {
        sleep(Duration::from_millis(50)).await;
        server.put("shop", "b").await;
        sleep(Duration::from_millis(50)).await;
        server.put("shop", "c").await;
    };
    let (answer, ()) = tokio::join!(poll, told);
    assert_eq!((answer.status, answer.revision()), (200, 3));
}

#[tokio::test]
async fn a_node_that_cannot_know_whether_a_revision_has_been_says_so() {
    let server = Server::start().await;
    server.put("shop", "a").await;
    *server.memory.age.lock().unwrap() = None;
    let answer = server.get("/v1/services/shop?after=2&wait=5m").await;
    assert_eq!(answer.status, 503);
}

#[tokio::test]
async fn what_the_client_has_already_is_not_sent_again() {
    let server = Server::start().await;
    server.put("shop", "a").await;
    for tag in ["\"1\"", "W/\"1\"", "\"0\", \"1\"", "*"] {
        let answer = server
            .raw("GET", "/v1/services/shop", &[("If-None-Match", tag)], None)
            .await;
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{tag}");
        assert_eq!(answer.header("etag"), Some("\"1\""));
    }
    let answer = server
        .raw(
            "GET",
            "/v1/services/shop",
            &[("If-None-Match", "\"0\"")],
            None,
        )
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_shutdown_answers_polls_and_refuses_nothing_halfway() {
    let mut server = Server::start().await;
    server.put("shop", "a").await;
    let address = server.address;
    let poll = tokio::spawn(async move {
        let request = "GET /v1/services/shop?after=1&wait=5m HTTP/1.1\r\nHost: [::1]\r\n\r\n";
        super::wire::exchange(address, request.into()).await
    });
    sleep(Duration::from_millis(100)).await;
    server.shut_down();
    server.stopped().await;
    assert_eq!(poll.await.unwrap().revision(), 1);
}
