//! Clients that are slow, many, or mean.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

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

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let options = Options {
        max_connections: 2,
        ..Options::default()
    };
    let server = Server::with(options, 10).await;
    let first = TcpStream::connect(server.address).await.unwrap();
    let second = TcpStream::connect(server.address).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut third = tokio::spawn(exchange(server.address, request.into()));
    assert!(
        timeout(Duration::from_millis(200), &mut third)
            .await
            .is_err()
    );
    drop(first);
    assert_eq!(third.await.unwrap().status, 200);
    drop(second);
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
