//! gRPC through the node, with the `h2` crate at both ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http_types::{HeaderMap, Request, Response};

use crate::harness::{Connection, Node, Origin, get, until};
use crate::http2::{connect, run, upload};
use crate::shared::{before, serving, silent};

/// A message in its frame.
fn message(text: &[u8]) -> Vec<u8> {
    [&[0], &(text.len() as u32).to_be_bytes()[..], text].concat()
}

async fn call(
    sender: &SendRequest<Bytes>,
    path: &str,
    timeout: Option<&str>,
) -> (ResponseFuture, SendStream<Bytes>) {
    let mut sender = sender.clone().ready().await.unwrap();
    let mut request = Request::builder()
        .method("POST")
        .uri(format!("http://shop.example{path}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers");
    if let Some(timeout) = timeout {
        request = request.header("grpc-timeout", timeout);
    }
    sender
        .send_request(request.body(()).unwrap(), false)
        .unwrap()
}

/// Answers each message with itself, as it comes; `/unary` when all is there; `/fails` without a message; `/sleeps` never;
/// `/stops` after one message never again.
async fn serve(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    assert_eq!(request.headers()["te"], "trailers");
    let path = request.uri().path().to_owned();
    let response = || Response::builder().header("content-type", "application/grpc+proto");
    match &*path {
        "/sleeps" => {
            let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            return;
        }
        "/fails" => {
            let response = response()
                .header("grpc-status", "5")
                .header("grpc-message", "none");
            let _ = respond.send_response(response.body(()).unwrap(), true);
            return;
        }
        _ => {}
    }
    let Ok(mut stream) = respond.send_response(response().body(()).unwrap(), false) else {
        return;
    };
    let mut up = request.into_body();
    let mut all = Vec::new();
    while let Some(Ok(part)) = up.data().await {
        let _ = up.flow_control().release_capacity(part.len());
        match &*path {
            "/unary" => all.extend_from_slice(&part),
            _ if upload(&mut stream, &part).await.is_err() => return,
            "/stops" => std::future::pending().await,
            _ => {}
        }
    }
    let _ = upload(&mut stream, &all).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    trailers.insert("grpc-message", "fine".parse().unwrap());
    let _ = stream.send_trailers(trailers);
}

fn origin() -> Origin {
    serving(|_| (), serve)
}

async fn next(body: &mut RecvStream) -> Option<Bytes> {
    let part = body.data().await?.unwrap();
    body.flow_control().release_capacity(part.len()).unwrap();
    Some(part)
}

/// What is left, and how it ended.
async fn rest(mut body: RecvStream) -> (Vec<u8>, String) {
    let mut all = Vec::new();
    while let Some(part) = next(&mut body).await {
        all.extend_from_slice(&part);
    }
    let trailers = body.trailers().await.unwrap().unwrap();
    (all, trailers["grpc-status"].to_str().unwrap().to_owned())
}

#[test]
fn calls_of_all_four_shapes_pass() {
    let origin = origin();
    let node = before(&[&origin], "");
    run(async {
        let (sender, _ending) = connect(node.web()).await;
        // One message each way; many, and one; one, and many.
        for count in [1, 5_000] {
            for path in ["/unary", "/echo"] {
                let (answer, mut stream) = call(&sender, path, None).await;
                let sent = message(b"hello").repeat(count);
                let up = async {
                    upload(&mut stream, &sent).await.unwrap();
                    stream.send_data(Bytes::new(), true).unwrap();
                };
                let down = async {
                    let answer = answer.await.unwrap();
                    assert_eq!(answer.headers()["content-type"], "application/grpc+proto");
                    rest(answer.into_body()).await
                };
                let ((), (back, status)) = tokio::join!(up, down);
                assert!(back == sent && status == "0", "{path} {count}");
            }
        }
        // None at all, said at once and said later.
        for later in [false, true] {
            let (answer, mut stream) = call(&sender, "/unary", None).await;
            if later {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            stream.send_data(Bytes::new(), true).unwrap();
            let answer = answer.await.unwrap().into_body();
            assert_eq!(rest(answer).await, (Vec::new(), "0".into()));
        }
        // Each message is answered before the next is sent.
        let (answer, mut stream) = call(&sender, "/echo", None).await;
        let mut answer = answer.await.unwrap().into_body();
        for number in 0..20 {
            let sent = message(format!("ping {number}").as_bytes());
            upload(&mut stream, &sent).await.unwrap();
            assert_eq!(next(&mut answer).await.unwrap(), sent);
        }
        stream.send_data(Bytes::new(), true).unwrap();
        assert_eq!(rest(answer).await, (Vec::new(), "0".into()));
    });
}

#[test]
fn an_answer_that_is_trailers_only_stays_so() {
    let origin = origin();
    let node = before(&[&origin], "");
    run(async {
        let (sender, _ending) = connect(node.web()).await;
        let (answer, mut stream) = call(&sender, "/fails", None).await;
        stream.send_data(Bytes::new(), true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "5");
        assert!(answer.body().is_end_stream());
    });
}

#[test]
fn a_deadline_is_passed_on_shorter_and_ends_what_comes_too_late() {
    let origin = origin();
    let node = before(&[&origin], "");
    run(async {
        let (sender, _ending) = connect(node.web()).await;
        let began = Instant::now();
        let (answer, mut stream) = call(&sender, "/sleeps", Some("300m")).await;
        stream.send_data(Bytes::new(), true).unwrap();
        let answer = answer.await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(300));
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["grpc-status"]),
            (200, &"4".parse().unwrap())
        );
        assert!(answer.body().is_end_stream());
        // With the request still open.
        let (answer, _stream) = call(&sender, "/sleeps", Some("200m")).await;
        assert_eq!(answer.await.unwrap().headers()["grpc-status"], "4");
        // In the middle of an answer.
        let (answer, mut stream) = call(&sender, "/stops", Some("400m")).await;
        upload(&mut stream, &message(b"one")).await.unwrap();
        let (all, status) = rest(answer.await.unwrap().into_body()).await;
        assert_eq!((all, status.as_str()), (message(b"one"), "4"));
    });
    let heard = origin.heard();
    let timeout = heard[0].header("grpc-timeout").unwrap();
    let (digits, unit) = timeout.split_at(timeout.len() - 1);
    let micros: u32 = digits.parse().unwrap();
    assert_eq!(unit, "u");
    assert!((100_000..300_000).contains(&micros), "{timeout}");
    let line = node.logged().until_line("\"target\":\"/stops\"");
    assert!(line.contains("deadline_passed"), "{line}");
    // It was not the instance's fault.
    assert_eq!(
        node.metric("pointsman_instance_ejected{service=\"shop\"}"),
        0.0
    );
}

#[test]
fn an_instance_hears_that_nobody_waits_any_more() {
    let (origin, reset) = silent();
    let node = before(&[&origin], "");
    run(async {
        let (sender, _ending) = connect(node.web()).await;
        let (answer, _stream) = call(&sender, "/", Some("100m")).await;
        assert_eq!(answer.await.unwrap().headers()["grpc-status"], "4");
    });
    until("a reset", || *reset.lock().unwrap());
    assert_eq!(*reset.lock().unwrap(), Some(Reason::CANCEL));
}

#[test]
fn what_we_answer_ourselves_is_a_status_of_grpc() {
    let config = "[listener.web]\nbind = \"127.0.0.1:0\"\n\
                  [[listener.web.route]]\npath_prefix = \"/a\"\nservice = \"nobody\"\n\
                  [[listener.web.route]]\npath_prefix = \"/b\"\nanswer = { status = 403, body = \"no 100%\" }\n";
    let node = crate::harness::Home::new(config).start();
    run(async {
        let (sender, _ending) = connect(node.web()).await;
        for (path, status, part) in [
            ("/a", "14", "service nobody: "),
            ("/b", "7", "no 100%25"),
            ("/c", "12", "404: no route"),
        ] {
            let (answer, _stream) = call(&sender, path, None).await;
            let answer = answer.await.unwrap();
            let field = |name| answer.headers()[name].to_str().unwrap();
            assert_eq!(
                (answer.status().as_u16(), field("grpc-status")),
                (200, status)
            );
            assert_eq!(field("content-type"), "application/grpc+proto");
            assert!(
                field("grpc-message").contains(part),
                "{:?}",
                answer.headers()
            );
            assert!(answer.body().is_end_stream());
        }
    });
    let line = node.logged().until_line("\"target\":\"/a\"");
    assert!(line.contains("\"status\":503"), "{line}");
}

#[test]
fn a_call_on_which_nothing_moves_is_not_cut_off() {
    let origin = origin();
    let config = "[listener.web.timeouts]\nstall = \"1s\"\n";
    let node = before(&[&origin], config);
    run(async {
        let (sender, _ending) = connect(node.web()).await;
        let (answer, mut stream) = call(&sender, "/echo", None).await;
        let mut answer = answer.await.unwrap().into_body();
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        upload(&mut stream, &message(b"late")).await.unwrap();
        assert_eq!(next(&mut answer).await.unwrap(), message(b"late"));
        stream.send_data(Bytes::new(), true).unwrap();
        assert_eq!(rest(answer).await.1, "0");
    });
}

/// A node that translates.
fn translating(origin: &Origin) -> Node {
    let node = before(
        &[origin],
        "[listener.web.http2]\nenabled = true\n[listener.plain]\nbind = \"127.0.0.1:0\"\nservice = \"shop\"\ngrpc_web = true\n",
    );
    assert_eq!(get(node.listener("plain"), "/x").status, 502);
    node
}

fn trailers_frame(text: &str) -> Vec<u8> {
    [
        &[0x80],
        &(text.len() as u32).to_be_bytes()[..],
        text.as_bytes(),
    ]
    .concat()
}

/// Takes calls, and nothing that is none.
fn strict() -> Origin {
    serving(
        |_| (),
        |request, mut respond| async move {
            match request.method().as_str() {
                "POST" => serve(request, respond).await,
                _ => respond.send_reset(Reason::PROTOCOL_ERROR),
            }
        },
    )
}

#[test]
fn browsers_call_in_their_own_form() {
    let origin = strict();
    let node = translating(&origin);
    let sent = message("hello ü".as_bytes());
    let end = trailers_frame("grpc-status:0\r\ngrpc-message:fine\r\n");
    let expected = [&sent[..], &end].concat();
    // Binary, over HTTP/1.1.
    let mut client = Connection::open(node.listener("plain"));
    for path in ["/unary", "/echo"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web+proto\r\n\
             X-Grpc-Web: 1\r\nContent-Length: {}\r\n\r\n",
            sent.len()
        );
        client.send([head.as_bytes(), &sent].concat());
        let answer = client.answer();
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("content-type"),
            Some("application/grpc-web+proto")
        );
        assert_eq!(answer.body, expected);
    }
    // Text, in two texts and in pieces.
    let (one, two) = sent.split_at(7);
    let text = STANDARD.encode(one) + &STANDARD.encode(two);
    let head = format!(
        "POST /unary HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web-text\r\nContent-Length: {}\r\n\r\n",
        text.len()
    );
    let mut client = Connection::open(node.listener("plain"));
    client.send(&head);
    for part in text.as_bytes().chunks(5) {
        client.send(part);
        std::thread::sleep(Duration::from_millis(2));
    }
    let answer = client.answer();
    assert_eq!(
        answer.header("content-type"),
        Some("application/grpc-web-text+proto")
    );
    let mut back = Vec::new();
    // Each piece is a text of its own.
    let body = String::from_utf8(answer.body.clone()).unwrap();
    for group in body.as_bytes().chunks(4) {
        back.extend(STANDARD.decode(group).unwrap());
    }
    assert_eq!(back, expected);
    // Without a message. (The last answer began before its request was whole, so that its connection ended with it.)
    let mut client = Connection::open(node.listener("plain"));
    let head = head.replace("/unary", "/fails");
    client.send(format!("{head}{text}"));
    let answer = client.answer();
    assert_eq!(answer.header("grpc-status"), Some("5"));
    assert!(answer.body.is_empty());
    // What is no Base64.
    client.send(head.replace(&text.len().to_string(), "4") + "AA*=");
    let answer = client.answer();
    assert_eq!(
        (answer.status, answer.header("grpc-status")),
        (200, Some("13"))
    );
    let heard = origin.heard();
    let heard = heard
        .iter()
        .find(|heard| heard.head.contains("/unary"))
        .unwrap();
    assert_eq!(heard.header("content-type"), Some("application/grpc+proto"));
}

#[test]
fn browsers_call_over_http_2_too_and_hear_of_deadlines() {
    let origin = strict();
    let node = translating(&origin);
    run(async {
        let (sender, _ending) = connect(node.listener("plain")).await;
        for (path, status) in [("/unary", 0), ("/stops", 4)] {
            let mut sender = sender.clone().ready().await.unwrap();
            let request = Request::builder()
                .method("POST")
                .uri(format!("http://shop.example{path}"))
                .header("content-type", "application/grpc-web")
                .header("grpc-timeout", "500m");
            let (answer, mut stream) = sender
                .send_request(request.body(()).unwrap(), false)
                .unwrap();
            upload(&mut stream, &message(b"x")).await.unwrap();
            stream.send_data(Bytes::new(), true).unwrap();
            let answer = answer.await.unwrap();
            assert_eq!(
                answer.headers()["content-type"],
                "application/grpc-web+proto"
            );
            let mut body = answer.into_body();
            let mut all = Vec::new();
            while let Some(part) = next(&mut body).await {
                all.extend_from_slice(&part);
            }
            let (sent, end) = all.split_at(6);
            assert_eq!(sent, message(b"x"));
            let text = String::from_utf8_lossy(&end[5..]);
            assert!(
                end[0] == 0x80 && text.starts_with(&format!("grpc-status:{status}")),
                "{text}"
            );
        }
    });
}

/// A server that says of `shop.Cart` that it is what the number says, and knows no other.
fn checked(status: &Arc<std::sync::atomic::AtomicU8>) -> Origin {
    let status = status.clone();
    serving(
        |_| (),
        move |request, mut respond| {
            let status = status.clone();
            async move {
                if request.uri().path() != "/grpc.health.v1.Health/Check" {
                    let response = Response::builder().status(404).body(()).unwrap();
                    let _ = respond.send_response(response, true);
                    return;
                }
                let mut up = request.into_body();
                let mut asked = Vec::new();
                while let Some(Ok(part)) = up.data().await {
                    asked.extend_from_slice(&part);
                }
                let known = asked == message(b"\x0a\x09shop.Cart");
                let response = Response::builder().header("content-type", "application/grpc");
                if !known {
                    let response = response.header("grpc-status", "5").body(()).unwrap();
                    let _ = respond.send_response(response, true);
                    return;
                }
                let mut stream = respond
                    .send_response(response.body(()).unwrap(), false)
                    .unwrap();
                let status = status.load(std::sync::atomic::Ordering::SeqCst);
                stream
                    .send_data(message(&[8, status]).into(), false)
                    .unwrap();
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                let _ = stream.send_trailers(trailers);
            }
        },
    )
}

#[test]
fn instances_are_asked_by_grpc_whether_they_are_well() {
    let status = Arc::new(std::sync::atomic::AtomicU8::new(1));
    let origin = checked(&status);
    let every = "interval = \"100ms\"\nrise = 1\nfall = 1\n";
    let config = format!(
        "{}[service.shop.check]\ngrpc = \"shop.Cart\"\n{every}[[service.shop.instance]]\nid = \"i\"\naddress = \"{}\"\n\
         [service.other.check]\ngrpc = \"\"\n{every}[[service.other.instance]]\nid = \"i\"\naddress = \"{}\"\n",
        crate::SHOP,
        origin.address,
        origin.address,
    );
    let node = crate::harness::Home::new(&config).start();
    node.until_health("shop", "i", "passing");
    node.until_health("other", "i", "critical");
    status.store(2, std::sync::atomic::Ordering::SeqCst);
    node.until_health("shop", "i", "critical");
    let instance = node.read("/v1/services/shop").to_string();
    assert!(instance.contains("NOT_SERVING"), "{instance}");
    status.store(1, std::sync::atomic::Ordering::SeqCst);
    node.until_health("shop", "i", "passing");
    // By the API, too.
    let registration = serde_json::json!({
        "address": "127.0.0.1", "port": origin.port(), "persistent": true,
        "check": { "grpc": "shop.Cart", "interval": "100ms" },
    });
    node.register("more", "j", &registration);
    node.until_health("more", "j", "passing");
    let shown = node.read("/v1/services/more").to_string();
    assert!(shown.contains("\"grpc\":\"shop.Cart\""), "{shown}");
}

#[test]
fn checks_speak_tls_where_requests_do() {
    let status = Arc::new(std::sync::atomic::AtomicU8::new(1));
    let origin = checked(&status);
    let authority = crate::tls::Authority::new();
    let home = crate::harness::Home::new("");
    authority.sign(&["localhost"]).write(&home, "tls");
    let at = |file: &str| home.path().join(file).display().to_string();
    home.configure(&format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\nservice = \"shop\"\n\
         tls.certificates = [{{ cert = \"{}\", key = \"{}\" }}]\n[service.shop]\nprotocol = \"h2\"\n",
        at("tls.pem"),
        at("tls.key"),
    ));
    // Another node takes its TLS off.
    let inner = home.start();
    inner.register("shop", "i", &crate::lasting(&origin));
    inner.until_eligible("/", 1);
    std::fs::write(home.path().join("ca.pem"), &authority.pem).unwrap();
    let service = |name: &str, tls: &str, check: &str| {
        format!(
            "[service.{name}]\nprotocol = \"h2\"\ntls = {{ ca = \"{}\", {tls} }}\n\
             check = {{ {check}, interval = \"100ms\", rise = 1, fall = 1 }}\n\
             [[service.{name}.instance]]\nid = \"i\"\naddress = \"{}\"\n",
            at("ca.pem"),
            inner.listener("web"),
        )
    };
    let named = "server_name = \"localhost\"";
    let config = [
        crate::SHOP.to_owned(),
        service("calls", named, "grpc = \"shop.Cart\""),
        service("pages", named, "http = \"/\", status = [\"404\"]"),
        service("bytes", named, "tcp = true"),
        service("stranger", "server_name = \"other.example\"", "tcp = true"),
        service(
            "clear",
            "checks = false, server_name = \"other.example\"",
            "tcp = true",
        ),
    ];
    let node = crate::harness::Home::new(&config.concat()).start();
    node.until_health("calls", "i", "passing");
    node.until_health("bytes", "i", "passing");
    node.until_health("stranger", "i", "critical");
    node.until_health("clear", "i", "passing");
    let why = node.read("/v1/services/stranger").to_string();
    assert!(why.contains("no TLS with"), "{why}");
    node.until_health("pages", "i", "passing");
}

/// Has no time for the first two calls.
async fn flaky(request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let mut respond = respond;
    if CALLS.fetch_add(1, SeqCst) >= 2 {
        return serve(request, respond).await;
    }
    let response = Response::builder()
        .header("content-type", "application/grpc+proto")
        .header("grpc-status", "14");
    let _ = respond.send_response(response.body(()).unwrap(), true);
}

#[test]
fn a_call_that_is_here_whole_is_tried_again_on_the_statuses_that_are_named() {
    let origin = serving(|_| (), flaky);
    let node = before(&[&origin], "retry_on = [\"grpc:unavailable\"]");
    run(async {
        let (sender, _ending) = connect(node.web()).await;
        let (answer, mut stream) = call(&sender, "/unary", None).await;
        stream.send_data(message(b"hello").into(), true).unwrap();
        let answer = answer.await.unwrap().into_body();
        assert_eq!(rest(answer).await, (message(b"hello"), "0".into()));
    });
    let retries = "pointsman_service_retries_total{service=\"shop\"}";
    assert_eq!(node.metric(retries), 2.0);
}

/// Is broken: says so at once, or (below `/late`) after a message.
async fn broken(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let response = Response::builder().header("content-type", "application/grpc+proto");
    if request.uri().path() != "/late" {
        let response = response.header("grpc-status", "14");
        let _ = respond.send_response(response.body(()).unwrap(), true);
        return;
    }
    let mut stream = respond
        .send_response(response.body(()).unwrap(), false)
        .unwrap();
    let _ = stream.send_data(message(b"hello").into(), false);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "13".parse().unwrap());
    let _ = stream.send_trailers(trailers);
}

#[test]
fn calls_that_say_that_something_is_broken_open_the_circuit() {
    for path in ["/early", "/late"] {
        let origin = serving(|_| (), broken);
        let breaker = "circuit_breaker = { min_requests = 4, open_for = \"1h\" }";
        let node = before(&[&origin], breaker);
        run(async {
            let (sender, _ending) = connect(node.web()).await;
            let mut heard = Vec::new();
            for _ in 0..5 {
                let (answer, mut stream) = call(&sender, path, None).await;
                let _ = stream.send_data(message(b"hello").into(), true);
                let answer = answer.await.unwrap();
                let said = answer.headers().get("grpc-message");
                heard.push(said.map(|said| said.to_str().unwrap().to_owned()));
                let mut body = answer.into_body();
                while next(&mut body).await.is_some() {}
                // The end of the one before has been counted when the next begins.
                until("it was counted", || {
                    let counted = |code| {
                        let name = "pointsman_service_duration_seconds_count";
                        node.metric(&format!("{name}{{service=\"shop\",code=\"{code}\"}}"))
                    };
                    let asked = counted("2xx") + counted("5xx");
                    (asked as usize >= heard.len()).then_some(())
                });
            }
            let refused = heard.pop().unwrap().unwrap_or_default();
            assert!(
                refused.contains("circuit of service shop is open"),
                "{path}: {refused}"
            );
            assert!(heard.iter().all(Option::is_none), "{path}: {heard:?}");
        });
    }
}
