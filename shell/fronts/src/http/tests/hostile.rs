//! Clients that are slow, many, or mean.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::super::Arrivals;
use super::wire::{answer, exchange};
use super::{LONG, Options, Server};

async fn ends(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = timeout(LONG, stream.read_to_end(&mut rest)).await.unwrap();
    rest
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_in_order() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let beat = "POST /v1/heartbeats HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\n\r\n{\"beats\":[]}";
    let requests = format!(
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n{beat}GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n"
    );
    stream.write_all(requests.as_bytes()).await.unwrap();
    let mut reader = BufReader::new(stream);
    for status in [200, 200, 404] {
        assert_eq!(answer(&mut reader, false).await.status, status);
    }
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let options = Options {
        idle_timeout: Duration::from_millis(200),
        ..Options::default()
    };
    let server = Server::with(options, 10).await;
    let idle = TcpStream::connect(server.address).await.unwrap();
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
    tokio::join!(ends(idle), ends(slow));
}

#[tokio::test]
async fn a_body_that_never_ends_is_cut_off() {
    let options = Options {
        body_timeout: Duration::from_millis(200),
        ..Options::default()
    };
    let server = Server::with(options, 10).await;
    let request = "PUT /v1/services/a/instances/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{";
    let answer = exchange(server.address, request.into()).await;
    assert_eq!((answer.status, answer.problem()), (408, "too-slow".into()));
}

#[tokio::test]
async fn a_head_too_long_is_refused() {
    let server = Server::start().await;
    let request = format!("GET /{} HTTP/1.1\r\n", "x".repeat(100 << 10));
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let _ = stream.write_all(request.as_bytes()).await;
    let rest = ends(stream).await;
    assert!(
        rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"),
        "{rest:?}"
    );
}

/// A server that has as many clients as it may have, and these.
async fn full(arrivals: &Arc<Arrivals>) -> (Server, Vec<TcpStream>) {
    let options = Options {
        max_connections: 2,
        arrivals: Arc::clone(arrivals),
        ..Options::default()
    };
    let server = Server::with(options, 10).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(TcpStream::connect(server.address).await.unwrap());
    }
    until(|| arrivals.full.load(Relaxed)).await;
    (server, clients)
}

async fn until(condition: impl Fn() -> bool) {
    let met = timeout(LONG, async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    met.await.unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_get_one_short_answer_each() {
    let arrivals = Arc::default();
    let (server, clients) = full(&arrivals).await;
    // What an operator asks for, and what keeps instances alive.
    assert_eq!(server.get("/healthz").await.status, 200);
    assert_eq!(server.get("/v1/cluster").await.status, 200);
    assert_eq!(server.put("shop", "a").await.status, 201);
    // One is enough, whatever the client would like.
    let mut kept = TcpStream::connect(server.address).await.unwrap();
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2);
    kept.write_all(request.as_bytes()).await.unwrap();
    let answers = String::from_utf8(ends(kept).await).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 1, "{answers}");
    // Who would stay is refused, and has a seat once others leave.
    for target in [
        "/v1/services/shop/watch",
        "/v1/services/shop?after=1&wait=1s",
    ] {
        let refused = server.get(target).await;
        let told = (refused.status, refused.problem());
        assert_eq!(told, (503, "full".into()), "{target}");
    }
    drop(clients);
    until(|| !arrivals.full.load(Relaxed)).await;
    let polled = server.get("/v1/services/shop?after=0&wait=1s").await;
    assert_eq!(polled.status, 200);
}

#[tokio::test]
async fn connections_beyond_the_spare_ones_wait_for_those_that_say_nothing_to_be_cut_off() {
    let arrivals = Arc::default();
    let (server, clients) = full(&arrivals).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    assert_eq!(server.get("/healthz").await.status, 200);
    assert!(ends(silent.remove(0)).await.is_empty());
    drop(clients);
}

#[tokio::test]
async fn large_bodies_beyond_the_room_for_them_are_refused_and_small_ones_are_not() {
    let server = Server::start().await;
    let size = 4 << 20;
    let head = format!(
        "POST /v1/heartbeats HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
    );
    let mut held = Vec::new();
    // 32 bodies of 4 MiB are all the room there is.
    for _ in 0..32 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&[b' '; 64 << 10]).await.unwrap();
        held.push(stream);
    }
    sleep(Duration::from_millis(200)).await;
    let mut request = head.clone().into_bytes();
    request.extend([b' '; 64 << 10]);
    let refused = exchange(server.address, request.clone()).await;
    assert_eq!(
        (refused.status, refused.problem()),
        (503, "overloaded".into())
    );
    assert_eq!(refused.header("retry-after"), Some("1"));
    server.put("shop", "a").await;
    drop(held);
    sleep(Duration::from_millis(200)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&request).await.unwrap();
    stream
        .write_all(&vec![b' '; size - (64 << 10)])
        .await
        .unwrap();
    let mut reader = BufReader::new(stream);
    assert_eq!(
        timeout(LONG, answer(&mut reader, false))
            .await
            .unwrap()
            .status,
        400
    );
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_shutdown() {
    let mut server = Server::start().await;
    let idle = TcpStream::connect(server.address).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    server.shut_down();
    server.stopped().await;
    ends(idle).await;
}
