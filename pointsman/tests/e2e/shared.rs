//! HTTP/2 towards instances that are not ours: the `h2` crate, and frames made by hand.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http_types::{HeaderMap, Request, Response};
use serde_json::json;

use crate::harness::{Answer, Heard, Home, Node, Origin, get, request, until};
use crate::http2::{ask, body, connect, run, text, upload};
use crate::tls::Authority;

/// A service of instances that speak HTTP/2.
pub(crate) const MANY: &str = "[service.shop]\nprotocol = \"h2\"\n";

/// An instance that serves every request of every connection with this.
pub(crate) fn serving<F, T>(
    settings: impl Fn(&mut Builder) + Send + Sync + 'static,
    serve: F,
) -> Origin
where
    F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> T + Clone + Send + Sync + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    Origin::raw(move |connection, heard: &Mutex<Vec<Heard>>| {
        let stream = connection.stream;
        stream.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream).unwrap();
            let mut builder = Builder::new();
            settings(&mut builder);
            let Ok(mut connection) = builder.handshake(stream).await else {
                return;
            };
            while let Some(Ok((request, respond))) = connection.accept().await {
                let head = format!("{} {}\r\n", request.method(), request.uri());
                let field = |(name, value): (&http_types::HeaderName, &http_types::HeaderValue)| {
                    format!("{name}: {}\r\n", value.to_str().unwrap_or("?"))
                };
                let fields: String = request.headers().iter().map(field).collect();
                let body = Vec::new();
                let head = head + &fields;
                heard.lock().unwrap().push(Heard { head, body });
                tokio::spawn(serve(request, respond));
            }
        });
    })
}

async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let Ok(mut stream) = respond.send_response(Response::new(()), false) else {
        return;
    };
    let mut up = request.into_body();
    while let Some(Ok(part)) = up.data().await {
        let _ = up.flow_control().release_capacity(part.len());
        if upload(&mut stream, &part).await.is_err() {
            return;
        }
    }
    let trailers = up.trailers().await.ok().flatten().unwrap_or_default();
    let _ = stream.send_trailers(trailers);
}

/// Says this, and counts connections.
fn named(name: &'static str) -> Origin {
    serving(
        |_| (),
        move |_, mut respond| async move {
            let response = Response::builder().header("x-speaks", "h2");
            let mut stream = respond
                .send_response(response.body(()).unwrap(), false)
                .unwrap();
            let _ = stream.send_data(Bytes::from_static(name.as_bytes()), true);
        },
    )
}

/// A node with these instances.
pub(crate) fn before(origins: &[&Origin], settings: &str) -> Node {
    crate::http2::before(origins, &format!("{MANY}{settings}"))
}

/// An instance made by hand: called with each connection, its number, and the request's frames read up to the end of
/// its head.
fn by_hand(serve: impl Fn(&mut TcpStream, usize) + Send + Sync + 'static) -> Origin {
    let connections = AtomicUsize::new(0);
    Origin::raw(move |connection, _: &Mutex<Vec<Heard>>| {
        let mut stream = connection.stream;
        let number = connections.fetch_add(1, SeqCst);
        let mut preface = [0; 24];
        if stream.read_exact(&mut preface).is_err() {
            return;
        }
        let _ = stream.write_all(&frame(4, 0, 0, &[]));
        serve(&mut stream, number);
    })
}

fn post(node: &Node, body: &str) -> Answer {
    let length = body.len();
    let head = format!("POST /order HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n");
    request(node.web(), format!("{head}Connection: close\r\n\r\n{body}"))
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Reads frames up to the next head of a request; its stream.
fn next_head(stream: &mut TcpStream) -> Option<u32> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).ok()?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        stream.read_exact(&mut vec![0; len]).ok()?;
        if head[3] == 1 {
            return Some(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        }
    }
}

/// `:status: 200`, and nothing else.
const OK: &[u8] = &[0x88];

#[test]
fn clients_of_either_version_share_connections_to_an_instance() {
    let origin = named("a");
    let node = before(&[&origin], "");
    let answer = get(node.web(), "/one?two=3");
    assert_eq!((answer.status, answer.text()), (200, "a"));
    assert_eq!(answer.header("x-speaks"), Some("h2"));
    run(async {
        let (sender, _ending) = connect(node.web()).await;
        let mut answers = Vec::new();
        for _ in 0..50 {
            answers.push(ask(&sender, "/many", true).await.0);
        }
        for answer in answers {
            assert_eq!(text(answer).await, (200, "a".into()));
        }
    });
    let heard = &origin.heard()[0];
    assert!(heard.head.contains("/one?two=3"), "{}", heard.head);
    assert_eq!(heard.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(heard.header("connection"), None);
    assert!(origin.heard().len() >= 51);
    let line = node.logged().until_line("\"target\":\"/many\"");
    assert!(line.contains("\"attempts\":1"), "{line}");
}

#[test]
fn requests_of_a_connection_are_balanced_one_by_one() {
    let (a, b) = (named("a"), named("b"));
    let node = before(&[&a, &b], "policy = \"round_robin\"\n");
    let counts = run(async {
        let (sender, _ending) = connect(node.web()).await;
        let mut counts = BTreeMap::new();
        for _ in 0..20 {
            let (answer, _) = ask(&sender, "/", true).await;
            *counts.entry(text(answer).await.1).or_insert(0) += 1;
        }
        counts
    });
    assert_eq!(counts, BTreeMap::from([("a".into(), 10), ("b".into(), 10)]));
}

#[test]
fn large_bodies_go_both_ways_and_slow_readers_stop_only_themselves() {
    // What is stuck at the instance takes the room of its connection there.
    let roomy = |builder: &mut Builder| {
        builder.initial_connection_window_size(16 << 20);
    };
    let origin = serving(roomy, echo);
    let node = before(&[&origin], "");
    run(async {
        let (sender, _ending) = connect(node.web()).await;
        // One that sends and reads nothing: what it sent waits in windows.
        let (slow, mut stuck) = ask(&sender, "/slow", false).await;
        let filled =
            tokio::time::timeout(Duration::from_secs(1), upload(&mut stuck, &[7; 9 << 20]));
        assert!(filled.await.is_err(), "nobody keeps nine megabytes");
        let (sender, _ending) = connect(node.web()).await;
        let mut streams = Vec::new();
        for number in 0..6_usize {
            let sender = sender.clone();
            streams.push(tokio::spawn(async move {
                let sent: Vec<u8> = (0..number * 700_000).map(|n| (n % 251) as u8).collect();
                let (answer, mut stream) = ask(&sender, "/", false).await;
                let up = async {
                    upload(&mut stream, &sent).await.unwrap();
                    let mut trailers = HeaderMap::new();
                    trailers.insert("x-sum", "7".parse().unwrap());
                    stream.send_trailers(trailers).unwrap();
                };
                let down = async {
                    let mut answer = answer.await.unwrap().into_body();
                    let mut back = Vec::new();
                    while let Some(part) = answer.data().await {
                        let part = part.unwrap();
                        back.extend_from_slice(&part);
                        answer.flow_control().release_capacity(part.len()).unwrap();
                    }
                    let trailers = answer.trailers().await.unwrap().unwrap();
                    assert_eq!(trailers["x-sum"], "7");
                    back
                };
                let ((), back) = tokio::join!(up, down);
                assert!(back == sent, "{number}: {} of {}", back.len(), sent.len());
            }));
        }
        for stream in streams {
            stream.await.unwrap();
        }
        drop((slow, stuck));
    });
}

#[test]
fn trailers_of_a_client_in_chunks_arrive_and_come_back() {
    let origin = serving(|_| (), echo);
    let node = before(&[&origin], "");
    let mut client = crate::harness::Connection::open(node.web());
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n0\r\nX-Sum: 9\r\n\r\n",
    );
    let mut all = String::new();
    while !all.contains("x-sum: 9") {
        all += &(client.line().unwrap() + "\n");
    }
    assert!(all.contains("Transfer-Encoding: chunked"), "{all}");
    assert!(all.contains("abc"), "{all}");
    assert_eq!(origin.heard()[0].header("te"), Some("trailers"));
}

/// An origin that never answers, and with what a request to it was broken off.
pub(crate) fn silent() -> (Origin, Arc<Mutex<Option<Reason>>>) {
    let reset = Arc::new(Mutex::new(None));
    let seen = reset.clone();
    let origin = serving(
        |_| (),
        move |_, mut respond| {
            let seen = seen.clone();
            async move {
                let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                *seen.lock().unwrap() = reason.ok();
            }
        },
    );
    (origin, reset)
}

#[test]
fn what_a_client_breaks_off_is_broken_off_at_the_instance() {
    let (origin, reset) = silent();
    let node = before(&[&origin], "");
    run(async {
        let (sender, _ending) = connect(node.web()).await;
        let (answer, mut stream) = ask(&sender, "/", false).await;
        while origin.heard().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stream.send_reset(Reason::CANCEL);
        drop(answer);
        while reset.lock().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert_eq!(*reset.lock().unwrap(), Some(Reason::CANCEL));
}

/// Connections that break off all that they ask for, each no more than a client may, until those were so many requests.
async fn break_off(to: SocketAddr, most: usize) {
    let mut broken = 0;
    while broken < most {
        let (sender, _ending) = connect(to).await;
        for _ in 0..4 {
            let mut asked = Vec::new();
            for _ in 0..50 {
                asked.push(ask(&sender, "/never", true).await);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            for (_, stream) in &mut asked {
                stream.send_reset(Reason::CANCEL);
            }
            broken += asked.len();
        }
    }
}

#[test]
fn clients_that_break_off_all_they_ask_for_cost_others_nothing_at_an_instance_that_counts() {
    // Ours counts, too: 500 and it ends the connection as a flood; and the library behind it bears 20 that it had no time to look
    // at, which on a busy machine are soon there.
    let origin = serving(
        |_| (),
        |request, mut respond| async move {
            if request.uri().path() == "/never" {
                let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            } else {
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                let _ = stream.send_data(Bytes::from_static(b"ok"), true);
            }
        },
    );
    let behind = before(&[&origin], "");
    let node = crate::http2::before(&[], MANY);
    let there = json!({ "address": "127.0.0.1", "port": behind.web().port(), "persistent": true });
    node.register("shop", "behind", &there);
    node.until_eligible("/", 1);
    run(async {
        let storm = tokio::spawn(break_off(node.web(), 4_000));
        let (sender, _ending) = connect(node.web()).await;
        while !storm.is_finished() {
            let (answer, _) = ask(&sender, "/", true).await;
            assert_eq!(text(answer).await, (200, "ok".into()));
        }
        storm.await.unwrap();
    });
    let floods = "pointsman_listener_http2_floods_total{listener=\"web\"}";
    assert_eq!(behind.metric(floods), 0.0);
}

#[test]
fn an_instance_that_takes_one_at_a_time_gets_as_many_connections_as_it_needs() {
    let busy: Arc<Mutex<(usize, usize)>> = Arc::default();
    let counted = busy.clone();
    let settings = |builder: &mut Builder| {
        builder.max_concurrent_streams(1);
    };
    let origin = serving(settings, move |_, mut respond| {
        let counted = counted.clone();
        async move {
            counted.lock().unwrap().0 += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
            counted.lock().unwrap().1 += 1;
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            let _ = stream.send_data(Bytes::from_static(b"ok"), true);
        }
    });
    let node = before(&[&origin], "");
    run(async {
        let (sender, _ending) = connect(node.web()).await;
        let mut answers = Vec::new();
        for _ in 0..20 {
            answers.push(ask(&sender, "/", true).await.0);
        }
        for answer in answers {
            assert_eq!(text(answer).await, (200, "ok".into()));
        }
    });
    // None was refused and sent again.
    assert_eq!(*busy.lock().unwrap(), (20, 20));
    assert_eq!(
        node.metric("pointsman_service_retries_total{service=\"shop\"}"),
        0.0
    );
}

#[test]
fn what_an_instance_that_leaves_has_not_looked_at_is_asked_again() {
    let origin = by_hand(|stream, number| {
        while let Some(id) = next_head(stream) {
            if number == 0 {
                // GOAWAY: nothing was looked at.
                let _ = stream.write_all(&frame(7, 0, 0, &[0; 8]));
                return;
            }
            let _ = stream.write_all(&frame(1, 5, id, OK));
        }
    });
    let node = before(&[&origin], "");
    let answer = post(&node, "one");
    assert_eq!(answer.status, 200);
}

#[test]
fn what_an_instance_refuses_is_asked_of_another() {
    let refusing = by_hand(|stream, _| {
        while let Some(id) = next_head(stream) {
            let _ = stream.write_all(&frame(3, 0, id, &7u32.to_be_bytes()));
        }
    });
    let other = named("other");
    let node = before(&[&refusing, &other], "policy = \"round_robin\"\n");
    for _ in 0..6 {
        let answer = post(&node, "one");
        assert_eq!((answer.status, answer.text()), (200, "other"));
    }
}

#[test]
fn an_instance_that_breaks_the_protocol_costs_its_own_requests_only() {
    type Fault = (&'static str, fn(u32) -> Vec<u8>);
    let faults: [Fault; 8] = [
        ("a frame that is too large", |_| vec![0xff; 9]),
        ("a body without a head", |id| frame(0, 1, id, b"x")),
        ("no status", |id| frame(1, 5, id, &[])),
        ("an answer to nothing", |_| frame(1, 5, 99, OK)),
        ("a head that is no compression", |id| {
            frame(1, 5, id, &[0xff; 8])
        }),
        ("a promise", |id| frame(5, 4, id, &[0, 0, 0, 2, 0x82])),
        ("a window over all bounds", |_| {
            frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff])
        }),
        ("HTTP/1.1", |_| {
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()
        }),
    ];
    for (what, fault) in faults {
        let origin = by_hand(move |stream, number| {
            while let Some(id) = next_head(stream) {
                // Its answers are good at first.
                let bytes = match number {
                    0 if id == 1 => frame(1, 5, id, OK),
                    _ => fault(id),
                };
                if stream.write_all(&bytes).is_err() {
                    return;
                }
            }
        });
        let node = before(&[&origin], "");
        assert_eq!(get(node.web(), "/").status, 200, "{what}");
        let answer = post(&node, "x");
        assert_eq!(answer.status, 502, "{what}: {}", answer.text());
        node.stop();
        let well = named("well");
        let node = before(&[&origin, &well], "policy = \"round_robin\"\n");
        for _ in 0..4 {
            let answer = get(node.web(), "/");
            assert_eq!((answer.status, answer.text()), (200, "well"), "{what}");
        }
    }
}

#[test]
fn an_answer_that_is_cut_short_is_never_taken_for_whole() {
    let origin = by_hand(|stream, _| {
        while let Some(id) = next_head(stream) {
            let _ = stream.write_all(&frame(1, 4, id, OK));
            let _ = stream.write_all(&frame(0, 0, id, &[b'x'; 1000]));
            std::thread::sleep(Duration::from_millis(200));
            let _ = stream.write_all(&frame(3, 0, id, &2u32.to_be_bytes()));
        }
    });
    let node = before(&[&origin], "");
    run(async {
        let (sender, _ending) = connect(node.web()).await;
        let (answer, _) = ask(&sender, "/", true).await;
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(body(answer.into_body()).await.is_err());
    });
}

#[test]
fn informational_answers_and_early_ones_are_passed_on() {
    let origin = by_hand(|stream, _| {
        while let Some(id) = next_head(stream) {
            // 103 with a link, then 413 without waiting for the body, which is not wanted.
            let mut hints = vec![0x08, 3];
            hints.extend(b"103\0\x04link\x02</");
            let _ = stream.write_all(&frame(1, 4, id, &hints));
            let mut large = vec![0x08, 3];
            large.extend(b"413");
            let _ = stream.write_all(&frame(1, 5, id, &large));
            let _ = stream.write_all(&frame(3, 0, id, &[0; 4]));
        }
    });
    let node = before(&[&origin], "");
    let mut client = crate::harness::Connection::open(node.web());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc");
    assert_eq!(client.line().unwrap(), "HTTP/1.1 103");
    assert_eq!(client.line().unwrap(), "link: </");
    assert_eq!(client.line().unwrap(), "");
    assert_eq!(client.line().unwrap(), "HTTP/1.1 413");
}

#[test]
fn answers_without_bodies_end_where_they_should() {
    let origin = serving(
        |_| (),
        |request, mut respond| async move {
            let path = request.uri().path().trim_start_matches('/');
            let status: u16 = path.parse().unwrap_or(200);
            let response = Response::builder()
                .status(status)
                .header("content-length", "5");
            let bodiless = request.method() == "HEAD" || status == 304;
            let response = match bodiless {
                true => response,
                false => Response::builder().status(status),
            };
            let _ = respond.send_response(response.body(()).unwrap(), true);
        },
    );
    let node = before(&[&origin], "");
    let mut client = crate::harness::Connection::open(node.web());
    for (method, path, length) in [
        ("HEAD", "/200", Some("5")),
        ("GET", "/204", None),
        ("GET", "/304", Some("5")),
        ("GET", "/200", Some("0")),
    ] {
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let mut head = Vec::new();
        loop {
            let line = client.line().unwrap();
            if line.is_empty() {
                break;
            }
            head.push(line.to_ascii_lowercase());
        }
        let expected = length.map(|length| format!("content-length: {length}"));
        let found = head.iter().find(|line| line.starts_with("content-length"));
        assert_eq!(found, expected.as_ref(), "{method} {path}: {head:?}");
    }
}

#[test]
fn idle_connections_are_closed_after_their_time() {
    let ended = Arc::new(AtomicUsize::new(0));
    let seen = ended.clone();
    let origin = by_hand(move |stream, _| {
        while let Some(id) = next_head(stream) {
            let _ = stream.write_all(&frame(1, 5, id, OK));
        }
        seen.fetch_add(1, SeqCst);
    });
    let node = before(&[&origin], "keep_alive = \"300ms\"\n");
    assert_eq!(get(node.web(), "/").status, 200);
    until("its end", || (ended.load(SeqCst) > 0).then_some(()));
    assert_eq!(get(node.web(), "/").status, 200);
}

#[test]
fn with_tls_the_version_is_agreed_upon_and_may_be_the_older_one() {
    let authority = Authority::new();
    let origin = Origin::named("behind");
    for many in [true, false] {
        let home = Home::new("");
        authority.sign(&["localhost"]).write(&home, "tls");
        let at = |file: &str| home.path().join(file).display().to_string();
        home.configure(&format!(
            "[listener.web]\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\nservice = \"shop\"\n\
             tls.certificates = [{{ cert = \"{}\", key = \"{}\" }}]\nhttp2.enabled = {many}\n",
            at("tls.pem"),
            at("tls.key"),
        ));
        let inner = home.start();
        inner.register("shop", "i", &crate::lasting(&origin));
        let front = Home::new("");
        std::fs::write(front.path().join("ca.pem"), &authority.pem).unwrap();
        front.configure(&format!(
            "{}\n{MANY}[service.shop.tls]\nca = \"{}\"\nserver_name = \"localhost\"\n",
            crate::SHOP,
            front.path().join("ca.pem").display(),
        ));
        let outer = front.start();
        let instance = serde_json::json!({
            "address": "127.0.0.1", "port": inner.listener("web").port(), "persistent": true,
        });
        outer.register("shop", "i", &instance);
        until("an instance", || {
            (get(outer.web(), "/").status == 200).then_some(())
        });
        for _ in 0..5 {
            assert_eq!(get(outer.web(), "/told").text(), "behind");
        }
        let line = inner.logged().until_line("\"target\":\"/told\"");
        let version = if many {
            "\"version\":\"2\""
        } else {
            "\"version\":\"1.1\""
        };
        assert!(line.contains(version), "{line}");
        let connections = "pointsman_listener_http2_connections_total{listener=\"web\"}";
        assert_eq!(inner.metric(connections) > 0.0, many);
    }
}

#[test]
fn a_node_that_stops_ends_what_it_began() {
    let origin = serving(
        |_| (),
        |_, mut respond| async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            let _ = stream.send_data(Bytes::from_static(b"late"), true);
        },
    );
    let node = before(&[&origin], "");
    run(async {
        let (sender, _ending) = connect(node.web()).await;
        let (answer, _) = ask(&sender, "/", true).await;
        while origin.heard().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        node.signal(rustix::process::Signal::TERM);
        assert_eq!(text(answer).await, (200, "late".into()));
    });
}

#[test]
fn instances_that_come_and_go_cost_no_request_that_may_be_repeated() {
    let (mut restarting, steady) = (named("a"), named("b"));
    let node = before(
        &[&restarting, &steady],
        "policy = \"round_robin\"\nretry_budget = \"100%\"\n",
    );
    let address = node.web();
    let over = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let over = over.clone();
            std::thread::spawn(move || {
                run(async {
                    let (sender, _ending) = connect(address).await;
                    let mut answered = 0;
                    while over.load(SeqCst) == 0 {
                        let mut answers = Vec::new();
                        for _ in 0..10 {
                            answers.push(ask(&sender, "/", true).await.0);
                        }
                        for answer in answers {
                            let (status, text) = text(answer).await;
                            assert_eq!(status, 200, "{text}");
                            answered += 1;
                        }
                    }
                    answered
                })
            })
        })
        .collect();
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(150));
        restarting.stop();
        std::thread::sleep(Duration::from_millis(50));
        restarting.start();
    }
    over.store(1, SeqCst);
    let answered: usize = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .sum();
    assert!(answered > 100, "{answered}");
}

#[test]
fn websocket_goes_to_such_an_instance_in_the_older_version() {
    let origin = Origin::raw(|mut connection, _: &Mutex<Vec<Heard>>| {
        let mut head = String::new();
        loop {
            match connection.line() {
                Ok(line) if line.is_empty() => break,
                Ok(line) => head += &(line.to_ascii_lowercase() + "\n"),
                Err(_) => return,
            }
        }
        assert!(head.contains("upgrade: websocket"), "{head}");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x01\x02hi";
        let _ = connection.try_send(answer);
        while connection.take(1).is_ok() {}
    });
    let node = before(&[&origin], "");
    let mut client = crate::harness::Connection::open(node.web());
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    );
    let head = client.try_head().unwrap();
    assert_eq!(head.status, 101);
    assert_eq!(client.take(4).unwrap(), b"\x01\x02hi");
}
