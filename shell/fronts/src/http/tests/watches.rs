//! Server-sent events.

use std::time::Duration;

use model::{Health, Incarnation};
use registry::{Command, Verdict};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::time::sleep;

use super::wire::Watch;
use super::{Options, Server};
use crate::http::Elsewhere;

const TARGET: &str = "/v1/services/shop/watch";

#[tokio::test]
async fn a_watch_begins_with_everything_and_goes_on_with_every_change() {
    let server = Server::start().await;
    server.put("shop", "a").await;
    let mut watch = Watch::open(server.address, TARGET, None).await;
    let first = watch.next().await.unwrap();
    assert_eq!((&*first.event, first.id), ("snapshot", Some(1)));
    assert_eq!(first.data["instances"][0]["id"], "a");
    server.put("shop", "b").await;
    server.put("other", "x").await;
    server
        .call(
            "PATCH",
            "/v1/services/shop/instances/b",
            Some(json!({ "weight": 3 })),
        )
        .await;
    server
        .call("DELETE", "/v1/services/shop/instances/a", None)
        .await;
    for (id, change, instance) in [
        (2, "registered", "b"),
        (4, "changed", "b"),
        (5, "removed", "a"),
    ] {
        let sent = watch.next().await.unwrap();
        assert_eq!((&*sent.event, sent.id), ("change", Some(id)));
        assert_eq!(sent.data["revision"], id);
        assert_eq!(sent.data["change"], change);
        assert_eq!(sent.data["instance"]["id"], instance);
    }
}

#[tokio::test]
async fn a_watch_of_nothing_sees_the_service_come_and_go() {
    let server = Server::start().await;
    let mut watch = Watch::open(server.address, TARGET, None).await;
    assert_eq!(watch.next().await.unwrap().data["instances"], json!([]));
    server.put("shop", "a").await;
    server
        .call("DELETE", "/v1/services/shop/instances/a", None)
        .await;
    assert_eq!(watch.next().await.unwrap().data["change"], "registered");
    assert_eq!(watch.next().await.unwrap().data["change"], "removed");
}

#[tokio::test]
async fn a_watch_resumes_after_the_last_event_it_saw() {
    let server = Server::start().await;
    for id in ["a", "b", "c"] {
        server.put("shop", id).await;
    }
    let mut watch = Watch::open(server.address, TARGET, Some(1)).await;
    for id in [2, 3] {
        let sent = watch.next().await.unwrap();
        assert_eq!((&*sent.event, sent.id), ("change", Some(id)));
    }
    server.put("shop", "d").await;
    assert_eq!(watch.next().await.unwrap().id, Some(4));
    let mut up_to_date = Watch::open(server.address, TARGET, Some(4)).await;
    server.put("shop", "e").await;
    assert_eq!(up_to_date.next().await.unwrap().id, Some(5));
}

#[tokio::test]
async fn a_gap_that_history_cannot_fill_is_closed_by_a_snapshot() {
    let server = Server::with(Options::default(), 2).await;
    for id in ["a", "b", "c", "d"] {
        server.put("shop", id).await;
    }
    for last in [1, 1_000] {
        let mut watch = Watch::open(server.address, TARGET, Some(last)).await;
        let sent = watch.next().await.unwrap();
        assert_eq!((&*sent.event, sent.id), ("snapshot", Some(4)), "{last}");
    }
}

#[tokio::test]
async fn only_the_last_change_of_a_revision_can_be_resumed_from() {
    let server = Server::start().await;
    let body = json!({ "address": "10.0.0.1", "port": 80, "check": { "tcp": true } });
    for id in ["a", "b"] {
        let target = format!("/v1/services/shop/instances/{id}");
        server.call("PUT", &target, Some(body.clone())).await;
    }
    let mut watch = Watch::open(server.address, TARGET, Some(2)).await;
    let verdict = |id: &str, revision| Verdict {
        role: None,
        key: model::ServiceKey::in_default("shop".parse().unwrap()),
        id: id.parse().unwrap(),
        incarnation: Incarnation(revision),
        health: Health::Critical,
        reason: Some("connection refused".into()),
    };
    server
        .memory
        .apply(&Command::SetHealth(vec![verdict("a", 1), verdict("b", 2)]));
    let (first, second) = (watch.next().await.unwrap(), watch.next().await.unwrap());
    assert_eq!((first.id, second.id), (None, Some(3)));
    assert_eq!(second.data["change"], "health");
    assert_eq!(second.data["instance"]["reason"], "connection refused");
}

#[tokio::test]
async fn many_watchers_all_see_every_change_in_order() {
    let server = Server::start().await;
    let watchers = (0..100).map(|_| async {
        let mut watch = Watch::open(server.address, TARGET, None).await;
        let snapshot = watch.next().await.unwrap();
        let mut last = snapshot.id.unwrap();
        while last < 50 {
            let sent = watch.next().await.unwrap();
            assert_eq!((&*sent.event, sent.id), ("change", Some(last + 1)));
            last += 1;
        }
    });
    let changes = async {
        for n in 0..50 {
            server.put("shop", &n.to_string()).await;
        }
    };
    tokio::join!(futures_util::future::join_all(watchers), changes);
}

#[tokio::test]
async fn a_slow_reader_gets_a_fresh_snapshot_and_pins_little() {
    let server = Server::start().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    let request = format!("GET {TARGET} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    // More than the sockets hold, in more batches than are kept: it has not read a byte.
    let big = "x".repeat(4_000);
    for n in 0..3_000 {
        let metadata = json!({ "a": big, "b": big, "c": big, "d": big, "n": n.to_string() });
        let body = json!({ "address": "10.0.0.1", "port": 80, "metadata": metadata });
        server
            .call("PUT", "/v1/services/shop/instances/a", Some(body))
            .await;
    }
    assert_eq!(server.watchers.behind(32), 1);
    let mut watch = Watch::read(stream).await;
    let (mut changes, mut snapshots) = (0, 0);
    loop {
        let sent = watch.next().await.unwrap();
        match &*sent.event {
            "snapshot" => snapshots += 1,
            _ => changes += 1,
        }
        if sent.id == Some(3_000) {
            break;
        }
    }
    assert!(snapshots >= 2 && changes < 3_000, "{snapshots} {changes}");
    assert_eq!(server.watchers.behind(1), 0);
}

#[tokio::test]
async fn a_shutdown_ends_watches() {
    let mut server = Server::start().await;
    let mut watch = Watch::open(server.address, TARGET, None).await;
    watch.next().await.unwrap();
    server.shut_down();
    assert!(watch.next().await.is_none());
    server.stopped().await;
}

#[tokio::test]
async fn a_watch_that_is_sent_elsewhere_ends_with_where_and_goes_on_there_where_it_was() {
    let server = Server::start().await;
    server.put("shop", "a").await;
    let mut watch = Watch::open(server.address, TARGET, None).await;
    let named = format!("{TARGET}?home=checkout");
    let mut at_home = Watch::open(server.address, &named, None).await;
    for watch in [&mut watch, &mut at_home] {
        assert_eq!(watch.next().await.unwrap().id, Some(1));
    }
    assert_eq!(server.watchers.count(), 2);
    let to = Elsewhere {
        node: "n2".into(),
        api: "10.0.0.2:7070".into(),
    };
    // A watch that has just come is left alone, and one by name always.
    assert_eq!(server.watchers.send_away(vec![to.clone(); 2]), 0);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(server.watchers.send_away(vec![to.clone(); 2]), 1);
    let last = watch.next().await.unwrap();
    assert_eq!((&*last.event, last.id), ("elsewhere", None));
    let data = json!({ "node": "n2", "api": "http://10.0.0.2:7070" });
    assert_eq!(last.data, data);
    assert!(watch.next().await.is_none());
    server.put("shop", "b").await;
    assert_eq!(at_home.next().await.unwrap().id, Some(2));
    let mut again = Watch::open(server.address, TARGET, Some(1)).await;
    assert_eq!(again.next().await.unwrap().id, Some(2));
    // Its home has changed.
    let far = |name: &str| (name == "checkout").then(|| to.clone());
    assert_eq!(server.watchers.send_home(9, &far), 1);
    assert_eq!(&*at_home.next().await.unwrap().event, "elsewhere");
}

#[tokio::test]
async fn a_subscriber_whose_home_is_another_node_is_told_where_and_once() {
    let server = Server::start().await;
    let target = format!("{TARGET}?namespace=default&home=far%26away");
    let answer = server.call("GET", &target, None).await;
    assert_eq!(answer.status, 307);
    let location = format!("http://n2.example:7070{target}&from=n1");
    assert_eq!(answer.header("location"), Some(&*location));
    let target = format!("{target}&from=n2");
    let mut served = Watch::open(server.address, &target, None).await;
    assert_eq!(&*served.next().await.unwrap().event, "snapshot");
    let home = server.call("GET", "/v1/cluster/home?name=far", None).await;
    let said =
        json!({ "name": "far", "node": "n2", "api": "http://n2.example:7070", "here": false });
    assert_eq!(home.json(), said);
    assert_eq!(
        server.call("GET", "/v1/cluster/home", None).await.status,
        400
    );
}
