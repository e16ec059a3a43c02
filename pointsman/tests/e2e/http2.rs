//! HTTP/2 from clients that are not ours: the `h2` crate, curl, and frames made by hand.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http_types::{HeaderMap, Request};
use rustix::process::Signal;

use crate::harness::{Connection, Heard, Home, Node, Origin, Reply, get, until};

const SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A node with these instances of `shop`.
pub(crate) fn before(origins: &[&Origin], settings: &str) -> Node {
    let config = format!("{}\n{settings}\n", crate::SHOP);
    let node = Home::new(&config).start();
    for (number, origin) in origins.iter().enumerate() {
        node.register("shop", &format!("i{number}"), &crate::lasting(origin));
    }
    node.until_eligible("/", origins.len());
    node
}

#[test]
fn the_bytes_of_a_request_are_logged_with_those_of_its_head() {
    let origin = echo();
    let node = before(&[&origin], "");
    let mut stream = TcpStream::connect(node.web()).unwrap();
    // POST, http, "/" and the authority "a", in static entries but for the last; then DATA.
    let head = [0x83, 0x86, 0x84, 0x41, 1, b'a'];
    let headers = [&[0, 0, head.len() as u8, 1, 4, 0, 0, 0, 1], &head[..]].concat();
    let data = [&[0, 0, 5, 0, 1, 0, 0, 0, 1], &b"hello"[..]].concat();
    stream
        .write_all(&[SETTINGS, &headers, &data].concat())
        .unwrap();
    let line = node.logged().until_line("\"version\":\"2\"");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["method"], &line["status"]),
        (&"POST".into(), &200.into())
    );
    assert_eq!(line["received"], head.len() + 5);
}

#[test]
fn a_request_of_many_that_is_cut_off_with_the_process_is_logged() {
    let silent = Origin::raw(|mut connection, _| while connection.line().is_ok() {});
    let node = before(&[&silent], "[node]\ndrain_timeout = \"100ms\"");
    let mut stream = TcpStream::connect(node.web()).unwrap();
    let head = [0x82, 0x86, 0x84, 0x41, 1, b'a'];
    let headers = [&[0, 0, head.len() as u8, 1, 5, 0, 0, 0, 1], &head[..]].concat();
    stream.write_all(&[SETTINGS, &headers].concat()).unwrap();
    let in_flight = "pointsman_instance_in_flight{service=\"shop\",instance=\"i0\"}";
    until("a request in flight", || {
        (node.metric(in_flight) == 1.0).then_some(())
    });
    let line: serde_json::Value = serde_json::from_str(&node.stop().logged).unwrap();
    assert_eq!(
        (&line["version"], &line["ended"]),
        (&"2".into(), &"drained".into())
    );
    assert_eq!(line["received"], head.len());
}

fn echo() -> Origin {
    Origin::answering(|request| Reply {
        body: request.body.clone(),
        ..Reply::text("")
    })
}

/// Answers every request with these bytes and closes.
fn saying(bytes: &'static [u8]) -> Origin {
    Origin::raw(move |mut connection, _: &Mutex<Vec<Heard>>| {
        while connection.line().is_ok_and(|line| !line.is_empty()) {}
        let _ = connection.try_send(bytes);
        let _ = connection.stream.shutdown(std::net::Shutdown::Write);
        while connection.take(1).is_ok() {}
    })
}

pub(crate) fn run<T>(task: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(async {
        let patient = tokio::time::timeout(Duration::from_secs(60), task);
        patient.await.expect("it ends")
    })
}

/// A connection, and how it ends.
pub(crate) async fn connect(to: SocketAddr) -> (SendRequest<Bytes>, Ending) {
    let socket = tokio::net::TcpStream::connect(to).await.unwrap();
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    (sender.ready().await.unwrap(), tokio::spawn(connection))
}

pub(crate) type Ending = tokio::task::JoinHandle<Result<(), h2::Error>>;

pub(crate) async fn ask(
    sender: &SendRequest<Bytes>,
    path: &str,
    end: bool,
) -> (ResponseFuture, SendStream<Bytes>) {
    let mut sender = sender.clone().ready().await.unwrap();
    let request = Request::builder().uri(format!("http://shop.example{path}"));
    let request = request.method(if end { "GET" } else { "POST" });
    sender.send_request(request.body(()).unwrap(), end).unwrap()
}

pub(crate) async fn body(mut stream: RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut whole = Vec::new();
    while let Some(part) = stream.data().await {
        let part = part?;
        whole.extend_from_slice(&part);
        stream.flow_control().release_capacity(part.len()).unwrap();
    }
    Ok(whole)
}

pub(crate) async fn text(answer: ResponseFuture) -> (u16, String) {
    let answer = answer.await.unwrap();
    let status = answer.status().as_u16();
    let body = body(answer.into_body()).await.unwrap();
    (status, String::from_utf8(body).unwrap())
}

pub(crate) async fn upload(stream: &mut SendStream<Bytes>, bytes: &[u8]) -> Result<(), h2::Error> {
    let mut rest = bytes;
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len());
        let Some(room) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else {
            return Err(Reason::CANCEL.into());
        };
        let (now, later) = rest.split_at(room?.min(rest.len()));
        stream.send_data(Bytes::copy_from_slice(now), false)?;
        rest = later;
    }
    Ok(())
}

#[test]
fn requests_of_one_connection_are_spread_over_the_instances() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let settings = "[service.shop]\npolicy = \"round_robin\"";
    let node = before(&[&a, &b], settings);
    let counts = run(async {
        let (sender, _ending) = connect(node.web()).await;
        let mut counts = BTreeMap::new();
        for _ in 0..20 {
            let (one, _) = ask(&sender, "/x", true).await;
            let (two, _) = ask(&sender, "/x", true).await;
            for answer in [one, two] {
                let (status, name) = text(answer).await;
                assert_eq!(status, 200);
                *counts.entry(name).or_insert(0) += 1;
            }
        }
        counts
    });
    assert_eq!(counts, BTreeMap::from([("a".into(), 20), ("b".into(), 20)]));
    let heard = &a.heard()[0];
    assert_eq!(heard.header("host"), Some("shop.example"));
    assert_eq!(heard.header("x-forwarded-for"), Some("127.0.0.1"));
    let line = node.logged().until_line("\"target\":\"/x\"");
    assert!(line.contains("\"version\":\"2\""), "{line}");
    let connections = "pointsman_listener_http2_connections_total{listener=\"web\"}";
    assert_eq!(node.metric(connections), 1.0);
}

#[test]
fn large_bodies_of_many_streams_arrive_as_they_were_sent() {
    let echo = echo();
    let node = before(&[&echo], "");
    run(async {
        let (sender, _ending) = connect(node.web()).await;
        let mut streams = Vec::new();
        for number in 0..6_usize {
            let sender = sender.clone();
            streams.push(tokio::spawn(async move {
                let sent: Vec<u8> = (0..number * 700_000).map(|n| (n % 251) as u8).collect();
                let (answer, mut stream) = ask(&sender, "/", false).await;
                upload(&mut stream, &sent).await.unwrap();
                stream.send_data(Bytes::new(), true).unwrap();
                let back = body(answer.await.unwrap().into_body()).await.unwrap();
                assert!(back == sent, "{number}: {} of {}", back.len(), sent.len());
            }));
        }
        for stream in streams {
            stream.await.unwrap();
        }
    });
}

#[test]
fn trailers_go_both_ways() {
    let origin = Origin::raw(|mut connection, heard| {
        let mut head = String::new();
        // The request's head, its chunks and its trailers.
        while !head.contains("x-sum: 7") {
            match connection.line() {
                Ok(line) => head += &(line + "\r\n"),
                Err(_) => return,
            }
        }
        let body = Vec::new();
        heard.lock().unwrap().push(Heard { head, body });
        let _ = connection.try_send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-left\r\n\r\n\
             2\r\nok\r\n0\r\nX-Left: 3\r\n\r\n",
        );
        let _ = connection.line();
    });
    let node = before(&[&origin], "");
    run(async {
        let (sender, _ending) = connect(node.web()).await;
        let (answer, mut stream) = ask(&sender, "/", false).await;
        upload(&mut stream, b"body").await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
        let mut answer = answer.await.unwrap().into_body();
        assert_eq!(answer.data().await.unwrap().unwrap(), "ok");
        assert!(answer.data().await.is_none());
        let trailers = answer.trailers().await.unwrap().unwrap();
        assert_eq!(trailers["x-left"], "3");
    });
    let heard = &origin.heard()[0];
    assert_eq!(heard.header("transfer-encoding"), Some("chunked"));
}

#[test]
fn a_stream_that_is_broken_off_takes_its_request_back_and_leaves_the_others_alone() {
    let (told, heard) = mpsc::channel();
    let origin = Origin::raw(move |mut connection, _| {
        let Ok(line) = connection.line() else { return };
        while connection.line().is_ok_and(|line| !line.is_empty()) {}
        if line.starts_with("GET /quick") {
            let _ = connection.try_send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            return;
        }
        let _ = told.send("asked");
        let _ = connection.is_closed().then(|| told.send("left"));
    });
    let node = before(&[&origin], "[service.shop]\nresponse_timeout = \"1h\"");
    run(async {
        let (sender, _ending) = connect(node.web()).await;
        let next = || heard.recv_timeout(Duration::from_secs(20));
        for _ in 0..3 {
            let (answer, mut stream) = ask(&sender, "/slow", true).await;
            // The connection's own task sends it.
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(next(), Ok("asked"));
            stream.send_reset(Reason::CANCEL);
            drop(answer);
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(next(), Ok("left"));
            let (answer, _) = ask(&sender, "/quick", true).await;
            assert_eq!(text(answer).await, (200, "ok".into()));
        }
    });
    let line = node.logged().until_line("/slow");
    assert!(line.contains("client_left"), "{line}");
}

#[test]
fn an_answer_that_comes_before_the_body_has_ended_is_heard() {
    let early =
        saying(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n");
    let node = before(&[&early], "");
    run(async {
        let (sender, _ending) = connect(node.web()).await;
        let (answer, mut stream) = ask(&sender, "/", false).await;
        upload(&mut stream, b"beginning").await.unwrap();
        assert_eq!(text(answer).await, (413, "no\n".into()));
        let reset = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
        assert_eq!(reset.unwrap(), Reason::NO_ERROR);
    });
}

#[test]
fn an_answer_that_is_cut_short_is_never_taken_for_whole() {
    for short in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\nhello"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let origin = saying(short);
        let node = before(&[&origin], "");
        run(async {
            let (sender, _ending) = connect(node.web()).await;
            let (answer, _) = ask(&sender, "/", true).await;
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), 200);
            let fault = body(answer.into_body()).await.unwrap_err();
            assert_eq!(fault.reason(), Some(Reason::INTERNAL_ERROR));
            // The connection goes on.
            let (answer, _) = ask(&sender, "/", true).await;
            assert!(answer.await.is_ok());
        });
    }
}

#[test]
fn a_node_that_stops_says_goodbye_and_serves_what_it_has_taken() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let slow = Origin::answering(move |_| {
        let _ = gate.lock().unwrap().recv();
        Reply::text("done")
    });
    let node = before(&[&slow], "");
    run(async {
        let (sender, ending) = connect(node.web()).await;
        let (_idle, idle_ending) = connect(node.web()).await;
        let (answer, _) = ask(&sender, "/", true).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let in_flight = "pointsman_instance_in_flight{service=\"shop\",instance=\"i0\"}";
        until("a request in flight", || {
            (node.metric(in_flight) == 1.0).then_some(())
        });
        node.signal(Signal::TERM);
        // Without a request there is nothing to wait for.
        idle_ending.await.unwrap().unwrap();
        release.send(()).unwrap();
        assert_eq!(text(answer).await, (200, "done".into()));
        ending.await.unwrap().unwrap();
    });
    let ended = node.finish();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
}

#[test]
fn websocket_goes_through_a_stream() {
    let origin = Origin::raw(|mut connection, heard| {
        let mut head = String::new();
        while let Ok(line) = connection.line() {
            if line.is_empty() {
                break;
            }
            head += &(line + "\r\n");
        }
        let body = Vec::new();
        heard.lock().unwrap().push(Heard { head, body });
        let _ = connection.try_send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
        );
        while let Ok(line) = connection.line() {
            let line: String = line.chars().rev().collect();
            if connection.try_send(line + "\n").is_err() {
                return;
            }
        }
    });
    let node = before(&[&origin], "");
    run(async {
        let (sender, _ending) = connect(node.web()).await;
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let request = Request::builder()
            .method("CONNECT")
            .uri("http://shop.example/chat")
            .extension(h2::ext::Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13");
        let mut ready = sender.clone().ready().await.unwrap();
        let (answer, mut stream) = ready
            .send_request(request.body(()).unwrap(), false)
            .unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
        assert!(!answer.headers().contains_key("sec-websocket-accept"));
        let mut back = answer.into_body();
        for said in ["abc\n", "xyz\n"] {
            stream
                .send_data(Bytes::from_static(said.as_bytes()), false)
                .unwrap();
            let heard = back.data().await.unwrap().unwrap();
            let expected: String = said.trim().chars().rev().collect();
            assert_eq!(heard, expected + "\n");
        }
        stream.send_data(Bytes::new(), true).unwrap();
        assert_eq!(body(back).await.unwrap(), b"", "both sides have ended");
    });
    let heard = &origin.heard()[0];
    assert!(
        heard.head.starts_with("GET /chat HTTP/1.1"),
        "{}",
        heard.head
    );
    assert_eq!(heard.header("upgrade"), Some("websocket"));
    assert_eq!(heard.header("sec-websocket-key").map(str::len), Some(24));
}

/// A frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// GET / of `a`, compressed.
const GET: &[u8] = b"\x82\x86\x84\x41\x01a";

/// Reads frames until the connection ends; the code of the GOAWAY.
fn goodbye(stream: &mut TcpStream) -> Option<u32> {
    let mut code = None;
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            return code;
        }
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; len];
        if stream.read_exact(&mut payload).is_err() {
            return code;
        }
        if head[3] == 7 {
            code = payload[4..]
                .first_chunk()
                .map(|code| u32::from_be_bytes(*code));
        }
    }
}

#[test]
fn floods_are_ended_and_counted_and_the_others_stay_served() {
    let origin = Origin::named("shop");
    let node = before(&[&origin], "");
    let reset = |stream: u32| {
        let mut bytes = frame(1, 5, stream, GET);
        bytes.extend(frame(3, 0, stream, &[0, 0, 0, 8]));
        bytes
    };
    let floods: [Box<dyn Fn(u32) -> Vec<u8>>; 4] = [
        Box::new(move |n| reset(2 * n + 1)),
        Box::new(|_| frame(6, 0, 0, &[0; 8])),
        Box::new(|_| frame(4, 0, 0, &[])),
        Box::new(|n| match n {
            0 => frame(1, 1, 1, GET),
            _ => frame(9, 0, 1, &[0; 900]),
        }),
    ];
    for (number, flood) in floods.iter().enumerate() {
        let mut attacker = TcpStream::connect(node.web()).unwrap();
        attacker
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        attacker.write_all(SETTINGS).unwrap();
        let mut reader = attacker.try_clone().unwrap();
        let said = std::thread::spawn(move || goodbye(&mut reader));
        for n in 0..20_000 {
            // It is cut off at some point.
            if attacker.write_all(&flood(n)).is_err() {
                break;
            }
        }
        assert_eq!(
            said.join().unwrap(),
            Some(11),
            "ENHANCE_YOUR_CALM for {number}"
        );
        let floods = "pointsman_listener_http2_floods_total{listener=\"web\"}";
        until("it is counted", || {
            (node.metric(floods) == (number + 1) as f64).then_some(())
        });
        assert_eq!(get(node.web(), "/").text(), "shop");
    }
}

#[test]
fn a_client_that_opens_no_window_is_ended_and_costs_little() {
    let origin = Origin::answering(|_| Reply {
        body: vec![b'x'; 4 << 20],
        ..Reply::text("")
    });
    let settings = "[listener.web.timeouts]\nstall = \"1s\"";
    let node = before(&[&origin], settings);
    let mut client = TcpStream::connect(node.web()).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let no_window = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    client.write_all(&SETTINGS[..24]).unwrap();
    client.write_all(&no_window).unwrap();
    for n in 0..20 {
        client.write_all(&frame(1, 5, 2 * n + 1, GET)).unwrap();
    }
    let mut resets = 0;
    while resets < 20 {
        let mut head = [0; 9];
        client.read_exact(&mut head).unwrap();
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        client.read_exact(&mut vec![0; len]).unwrap();
        resets += u32::from(head[3] == 3);
    }
    node.logged().until_line("client_too_slow");
    let in_flight = "pointsman_instance_in_flight{service=\"shop\",instance=\"i0\"}";
    until("nothing in flight", || {
        (node.metric(in_flight) == 0.0).then_some(())
    });
}

#[test]
fn a_head_that_is_too_large_gets_431_and_the_next_one_its_answer() {
    let origin = Origin::named("shop");
    let node = before(&[&origin], "");
    run(async {
        let (sender, _ending) = connect(node.web()).await;
        let request = Request::builder()
            .uri("http://shop.example/")
            .header("x-long", "x".repeat(12_000))
            .header("x-longer", "x".repeat(12_000));
        let mut ready = sender.clone().ready().await.unwrap();
        let (answer, _) = ready.send_request(request.body(()).unwrap(), true).unwrap();
        assert_eq!(text(answer).await.0, 431);
        let (answer, _) = ask(&sender, "/", true).await;
        assert_eq!(text(answer).await, (200, "shop".into()));
    });
}

#[test]
fn a_listener_that_does_not_speak_it_says_so() {
    let origin = Origin::named("shop");
    let node = before(&[&origin], "[listener.web.http2]\nenabled = false");
    let mut client = Connection::open(node.web());
    client.send(SETTINGS);
    assert_eq!(client.answer().status, 505);
}

#[test]
fn curl_is_served_and_shown_early_hints() {
    let origin = Origin::raw(|mut connection, _| {
        while connection.line().is_ok_and(|line| !line.is_empty()) {}
        let _ = connection.try_send(
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        );
    });
    let node = before(&[&origin], "");
    let curl = Command::new("curl")
        .args(["-sSi", "--http2-prior-knowledge"])
        .arg(format!("http://{}/", node.web()))
        .output();
    // Where there is none, it cannot be asked.
    let Ok(curl) = curl else { return };
    let said = String::from_utf8_lossy(&curl.stdout);
    assert!(said.starts_with("HTTP/2 103"), "{said}");
    assert!(said.contains("link: </a.css>"), "{said}");
    assert!(
        said.contains("HTTP/2 200") && said.ends_with("hello"),
        "{said}"
    );
}
