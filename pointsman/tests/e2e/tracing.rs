//! Traces: contexts that are passed on, spans that are begun here, and the collector that gets them. What it gets is decoded by
//! OpenTelemetry's own messages.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use http_types::Response;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use serde_json::Value as Json;

use crate::harness::{Connection, Heard, Home, Node, Origin, Reply, get, request, until};
use crate::http2::{ask, connect, run, text};
use crate::shared::{MANY, serving};
use crate::tcp::Instance;
use crate::tls::{Authority, tls_instance};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn asked(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: shop.example:81\r\n{fields}Connection: close\r\n\r\n")
}

/// A configuration with traces to this collector.
fn traced(collector: &Origin, more: &str) -> String {
    let endpoint = format!("http://{}", collector.address);
    format!(
        "{}\n[telemetry.traces]\nendpoint = {endpoint:?}\n{more}",
        crate::SHOP
    )
}

/// A collector that takes everything.
fn collector() -> Origin {
    Origin::answering(|_| took())
}

fn took() -> Reply {
    Reply {
        status: 200,
        fields: "Content-Type: application/x-protobuf\r\n".into(),
        body: Vec::new(),
    }
}

fn exported(collector: &Origin) -> Vec<Span> {
    let messages = collector.heard();
    let spans = messages.iter().flat_map(|message| {
        assert_eq!(message.path(), "/v1/traces");
        let kind = message.header("content-type");
        assert_eq!(kind, Some("application/x-protobuf"));
        decoded(message)
    });
    spans.collect()
}

fn decoded(message: &Heard) -> Vec<Span> {
    let request = ExportTraceServiceRequest::decode(&*message.body).expect("OTLP");
    let resources = request.resource_spans.into_iter();
    let scopes = resources.flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

fn attributes(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |a: &KeyValue| match a.value.as_ref().and_then(|v| v.value.clone()) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("an odd value: {other:?}"),
    };
    attributes.iter().map(|a| (&*a.key, text(a))).collect()
}

/// The span of a request, and those of its attempts in their order.
fn until_exported(collector: &Origin, path: &str) -> (Span, Vec<Span>) {
    until(&format!("the spans of {path}"), || {
        let spans = exported(collector);
        let server = spans.iter().find(|span| {
            let server = span.kind() == SpanKind::Server;
            server
                && attributes(&span.attributes)
                    .get("url.path")
                    .is_some_and(|p| p == path)
        })?;
        let below = spans.iter().filter(|s| s.parent_span_id == server.span_id);
        let mut below: Vec<_> = below.cloned().collect();
        below.sort_by_key(|span| span.start_time_unix_nano);
        Some((server.clone(), below))
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn one_origin(node: &Node) -> Origin {
    let origin = Origin::named("a");
    node.register("shop", "a", &crate::lasting(&origin));
    node.until_eligible("/", 1);
    origin
}

fn last(origin: &Origin, path: &str) -> Heard {
    let heard = origin.heard();
    let found = heard.into_iter().rev().find(|heard| heard.path() == path);
    found.expect("the instance was asked")
}

#[test]
fn without_tracing_contexts_are_passed_on_as_they_came_and_logged() {
    let node = Home::new(crate::SHOP).start();
    let origin = one_origin(&node);
    let fields = format!("traceparent: {PARENT}\r\ntracestate: a=1 , b=2\r\ntracestate: c=3\r\n");
    assert_eq!(request(node.web(), asked("/kept", &fields)).status, 200);
    let heard = last(&origin, "/kept");
    assert_eq!(heard.header("traceparent"), Some(PARENT));
    assert!(
        heard
            .head
            .contains("tracestate: a=1 , b=2\r\ntracestate: c=3\r\n")
    );
    let line: Json = serde_json::from_str(&node.logged().until_line("/kept")).expect("JSON");
    assert_eq!(line["trace_id"], TRACE);
    assert_eq!(line["span_id"], Json::Null);
    assert_eq!(request(node.web(), asked("/none", "")).status, 200);
    assert_eq!(last(&origin, "/none").header("traceparent"), None);
    let line: Json = serde_json::from_str(&node.logged().until_line("/none")).expect("JSON");
    assert_eq!(line["trace_id"], Json::Null);
}

#[test]
fn strangers_are_not_believed_where_only_trusted_peers_are() {
    let listener = |trusted: &str| {
        format!(
            "[listener.web]\nbind = \"127.0.0.1:0\"\nservice = \"shop\"\ntrace_context = \"trusted_peers\"\n\
             trusted_peers = [{trusted}]\n"
        )
    };
    let home = Home::new(&listener(""));
    let node = home.start();
    let origin = one_origin(&node);
    let fields = format!("traceparent: {PARENT}\r\ntracestate: a=1\r\n");
    assert_eq!(request(node.web(), asked("/stranger", &fields)).status, 200);
    let heard = last(&origin, "/stranger");
    assert_eq!(heard.header("traceparent"), None);
    assert_eq!(heard.header("tracestate"), None);
    let line: Json = serde_json::from_str(&node.logged().until_line("/stranger")).expect("JSON");
    assert_eq!(line["trace_id"], Json::Null);
    node.reload(&listener("\"127.0.0.1/32\""));
    assert_eq!(request(node.web(), asked("/peer", &fields)).status, 200);
    assert_eq!(last(&origin, "/peer").header("traceparent"), Some(PARENT));
}

#[test]
fn a_request_is_a_span_of_the_trace_that_it_comes_from() {
    let collector = collector();
    let more = "service_name = \"edge\"\nresource = { \"deployment.environment.name\" = \"test\" }\n\
                headers = { x-key = \"secret\" }\n";
    let node = Home::new(&traced(&collector, more)).start();
    let origin = one_origin(&node);
    let fields = format!("traceparent: {PARENT}\r\ntracestate: a=1 , b=2\r\nUser-Agent: ua\r\n");
    assert_eq!(
        request(node.web(), asked("/x?secret=1", &fields)).status,
        200
    );
    let (server, tries) = until_exported(&collector, "/x");
    assert_eq!(hex(&server.trace_id), TRACE);
    assert_eq!(hex(&server.parent_span_id), "b7ad6b7169203331");
    assert_eq!(server.trace_state, "a=1,b=2");
    assert_eq!(server.name, "GET web");
    assert!(server.status.is_none(), "{server:?}");
    let about = attributes(&server.attributes);
    for (key, value) in [
        ("http.request.method", "GET"),
        ("url.scheme", "http"),
        ("url.path", "/x"),
        ("server.address", "shop.example"),
        ("server.port", "81"),
        ("http.response.status_code", "200"),
        ("network.peer.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("user_agent.original", "ua"),
        ("pointsman.service", "shop"),
        ("pointsman.listener", "web"),
    ] {
        assert_eq!(about.get(key).map(String::as_str), Some(value), "{about:?}");
    }
    let [one] = &tries[..] else {
        panic!("one attempt: {tries:?}");
    };
    assert_eq!(one.kind(), SpanKind::Client);
    assert!(one.start_time_unix_nano >= server.start_time_unix_nano);
    assert!(one.end_time_unix_nano <= server.end_time_unix_nano);
    let about = attributes(&one.attributes);
    assert_eq!(about["network.peer.port"], origin.port().to_string());
    assert_eq!(about["url.full"], format!("http://{}/x", origin.address));
    assert!(!about.contains_key("http.request.resend_count"));
    assert!(about.contains_key("pointsman.connect_us"), "{about:?}");
    // The instance is told of the attempt's span, and everybody of the trace.
    let heard = last(&origin, "/x?secret=1");
    let told = format!("00-{TRACE}-{}-01", hex(&one.span_id));
    assert_eq!(heard.header("traceparent"), Some(&*told));
    assert_eq!(heard.header("tracestate"), Some("a=1,b=2"));
    let line: Json = serde_json::from_str(&node.logged().until_line("/x?secret")).expect("JSON");
    assert_eq!(
        (&line["trace_id"], &line["span_id"]),
        (&TRACE.into(), &hex(&server.span_id).into())
    );
    let message = &collector.heard()[0];
    assert_eq!(message.header("x-key"), Some("secret"));
    assert!(!message.body.windows(8).any(|w| w == b"secret=1"));
    let message = ExportTraceServiceRequest::decode(&*message.body).expect("OTLP");
    let resource = message.resource_spans[0]
        .resource
        .as_ref()
        .expect("a resource");
    let resource = attributes(&resource.attributes);
    assert_eq!(resource["service.name"], "edge");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(resource["deployment.environment.name"], "test");
    assert!(resource.contains_key("service.instance.id"));
    assert!(node.metric("pointsman_trace_spans_exported_total") >= 2.0);
}

#[test]
fn each_attempt_of_a_retried_request_is_a_span_of_its_own() {
    let collector = collector();
    let home = Home::new(&traced(
        &collector,
        "[service.shop]\npolicy = \"round_robin\"\n",
    ));
    let node = home.start();
    let good = Origin::named("good");
    // It takes a request, and goes without an answer.
    let bad = Origin::raw(|mut connection, heard| {
        let request = crate::harness::read_request(&mut connection);
        heard.lock().unwrap().extend(request);
    });
    node.register("shop", "good", &crate::lasting(&good));
    node.until_eligible("/", 1);
    node.register("shop", "bad", &crate::lasting(&bad));
    node.until_eligible("/", 2);
    let path = (0..20).map(|n| format!("/try-{n}")).find(|path| {
        assert_eq!(request(node.web(), asked(path, "")).text(), "good");
        bad.heard().iter().any(|heard| heard.path() == path)
    });
    let path = path.expect("one that went to the bad one first");
    let (server, tries) = until_exported(&collector, &path);
    let [first, second] = &tries[..] else {
        panic!("two attempts: {tries:?}");
    };
    assert!(server.parent_span_id.is_empty(), "the trace begins here");
    assert!(server.status.is_none());
    let about = attributes(&first.attributes);
    assert_eq!(about["pointsman.instance"], "bad");
    assert_eq!(about["error.type"], "instance_left");
    assert!(!about.contains_key("http.response.status_code"));
    assert_eq!(first.status.as_ref().map(|status| status.code), Some(2));
    let about = attributes(&second.attributes);
    assert_eq!(about["pointsman.instance"], "good");
    assert_eq!(about["http.request.resend_count"], "1");
    assert_eq!(about["http.response.status_code"], "200");
    assert!(about.contains_key("pointsman.first_byte_us"));
    // Each instance heard of its own attempt.
    for (origin, span) in [(&bad, first), (&good, second)] {
        let told = format!("00-{}-{}-03", hex(&server.trace_id), hex(&span.span_id));
        assert_eq!(last(origin, &path).header("traceparent"), Some(&*told));
    }
    assert_ne!(first.span_id, second.span_id);
    let line: Json = serde_json::from_str(&node.logged().until_line(&path)).expect("JSON");
    let logged = line["tries"].as_array().expect("attempts");
    assert_eq!((&line["attempts"], logged.len()), (&2.into(), 2));
    assert_eq!(
        (&logged[0]["instance"], &logged[0]["ended"]),
        (&"bad".into(), &"instance_left".into())
    );
    assert_eq!(logged[0]["address"], bad.address.to_string());
    assert_eq!(
        (&logged[1]["instance"], &logged[1]["status"]),
        (&"good".into(), &200.into())
    );
    let at = |n: usize| logged[n]["at_us"].as_u64().expect("a number");
    assert!(at(1) >= at(0) + logged[0]["duration_us"].as_u64().expect("a number"));
    assert!(logged[1]["first_byte_us"].is_u64(), "{line}");
}

#[test]
fn what_is_not_sampled_is_passed_on_as_such_and_not_exported() {
    let collector = collector();
    let home = Home::new(&traced(&collector, "sample = \"0%\"\n"));
    let node = home.start();
    let origin = one_origin(&node);
    assert_eq!(get(node.web(), "/here").status, 200);
    let told = last(&origin, "/here");
    let told = told.header("traceparent").expect("a context");
    assert!(told.starts_with("00-") && told.ends_with("-02"), "{told}");
    let unsampled = format!("traceparent: {}00\r\n", &PARENT[..53]);
    assert_eq!(request(node.web(), asked("/there", &unsampled)).status, 200);
    let told = last(&origin, "/there");
    let told = told.header("traceparent").expect("a context");
    assert!(told.contains(TRACE) && told.ends_with("-00"), "{told}");
    assert!(!told.contains("b7ad6b7169203331"), "{told}");
    // What began elsewhere is recorded if it is there, and a new share holds at once.
    let sampled = format!("traceparent: {PARENT}\r\n");
    assert_eq!(request(node.web(), asked("/sampled", &sampled)).status, 200);
    until_exported(&collector, "/sampled");
    node.reload(&traced(&collector, "sample = \"100%\"\n"));
    assert_eq!(get(node.web(), "/now").status, 200);
    until_exported(&collector, "/now");
    let paths: Vec<_> = exported(&collector)
        .iter()
        .filter_map(|span| attributes(&span.attributes).remove("url.path"))
        .collect();
    assert_eq!(paths, ["/sampled", "/now"]);
}

#[test]
fn a_context_that_is_none_is_replaced_by_a_new_one() {
    let collector = collector();
    let node = Home::new(&traced(&collector, "")).start();
    let origin = one_origin(&node);
    for (path, fields) in [
        (
            "/odd",
            "traceparent: 00-xyz\r\ntracestate: a=1\r\n".to_owned(),
        ),
        (
            "/twice",
            format!("traceparent: {PARENT}\r\ntraceparent: {PARENT}\r\ntracestate: a=1\r\n"),
        ),
        ("/state", "tracestate: a=1\r\n".to_owned()),
    ] {
        assert_eq!(request(node.web(), asked(path, &fields)).status, 200);
        let heard = last(&origin, path);
        let parents = heard.head.matches("traceparent: ").count();
        assert_eq!(
            (parents, heard.header("tracestate")),
            (1, None),
            "{heard:?}"
        );
        let told = heard.header("traceparent").expect("a context");
        assert!(told.len() == 55 && !told.contains(TRACE), "{told}");
    }
}

#[test]
fn a_collector_that_is_away_costs_no_request_and_gets_its_spans_when_it_is_back() {
    let mut collector = collector();
    collector.stop();
    let node = Home::new(&traced(&collector, "")).start();
    let _origin = one_origin(&node);
    let mut connection = Connection::open(node.web());
    for _ in 0..100 {
        assert_eq!(connection.get("/early").status, 200);
    }
    until("a failed attempt to send", || {
        (node.metric("pointsman_trace_export_failures_total") > 0.0).then_some(())
    });
    node.said().until_line("traces cannot be sent to");
    collector.start();
    until_exported(&collector, "/early");
    until("all of them", || {
        let spans = exported(&collector);
        let servers = spans.iter().filter(|span| span.kind() == SpanKind::Server);
        (servers.count() >= 100).then_some(())
    });
    assert_eq!(node.metric("pointsman_trace_requests_lost_total"), 0.0);
}

#[test]
fn a_collector_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    let status = Arc::new(AtomicU16::new(503));
    let answer = status.clone();
    let collector = Origin::answering(move |_| Reply {
        status: answer.load(Relaxed),
        fields: "Retry-After: 1\r\n".into(),
        body: Vec::new(),
    });
    let node = Home::new(&traced(&collector, "")).start();
    let _origin = one_origin(&node);
    assert_eq!(get(node.web(), "/busy").status, 200);
    let first = until("an attempt", || collector.heard().into_iter().next());
    status.store(200, Relaxed);
    let second = until("another attempt", || collector.heard().into_iter().nth(1));
    assert_eq!(first.body, second.body, "the same spans");
    until("them taken", || {
        (node.metric("pointsman_trace_spans_exported_total") == 2.0).then_some(())
    });
    status.store(400, Relaxed);
    assert_eq!(get(node.web(), "/refused").status, 200);
    let lost = "pointsman_trace_spans_lost_total{why=\"refused\"}";
    until("them refused", || (node.metric(lost) == 2.0).then_some(()));
    assert_eq!(collector.heard().len(), 3);
}

#[test]
fn spans_that_a_slow_collector_leaves_no_room_for_are_counted_and_no_request_waits() {
    let stuck = Arc::new(AtomicBool::new(true));
    let is_stuck = stuck.clone();
    let collector = Origin::answering(move |_| {
        while is_stuck.load(Relaxed) {
            std::thread::yield_now();
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
        took()
    });
    let node = Home::new(&traced(&collector, "queue = 1024\ntimeout = \"60s\"\n")).start();
    let _origin = one_origin(&node);
    let mut connection = Connection::open(node.web());
    let lost = "pointsman_trace_requests_lost_total";
    let mut asked = 0;
    // In flight are 2,048 spans and a batch, waiting 1,024 requests: with five thousand nobody has room.
    while asked < 5_000 {
        for _ in 0..500 {
            assert_eq!(connection.get("/slow").status, 200);
        }
        asked += 500;
    }
    let lost = until("some lost", || {
        let lost = node.metric(lost);
        (lost > 0.0).then_some(lost)
    });
    assert!(lost < 5_000.0, "{lost}");
    stuck.store(false, Relaxed);
    until("the rest", || {
        let rest = 5_000.0 - node.metric("pointsman_trace_requests_lost_total");
        (node.metric("pointsman_trace_spans_exported_total") == 2.0 * rest).then_some(())
    });
}

#[test]
fn the_last_spans_are_sent_before_the_end_and_a_collector_that_hangs_does_not_keep_it() {
    let collector = collector();
    let node = Home::new(&traced(&collector, "")).start();
    let _origin = one_origin(&node);
    assert_eq!(get(node.web(), "/last").status, 200);
    let ended = node.stop();
    assert!(ended.status.success(), "{}", ended.said);
    until_exported(&collector, "/last");

    let over = Arc::new(AtomicBool::new(false));
    let is_over = over.clone();
    let hanging = Origin::raw(move |_, _| {
        while !is_over.load(Relaxed) {
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
    });
    let node = Home::new(&traced(&hanging, "timeout = \"300s\"\n")).start();
    let _origin = one_origin(&node);
    assert_eq!(get(node.web(), "/last").status, 200);
    let ended = node.stop();
    assert!(ended.status.success(), "{}", ended.said);
    over.store(true, Relaxed);
}

#[test]
fn the_extended_log_has_the_trace_and_every_attempt_behind_the_combined_line() {
    let config = format!("{}\n[log.access]\nformat = \"extended\"\n", crate::SHOP);
    let node = Home::new(&config).start();
    let origin = one_origin(&node);
    let fields = format!("traceparent: {PARENT}\r\nUser-Agent: ua\r\n");
    assert_eq!(request(node.web(), asked("/text", &fields)).status, 200);
    let line = node.logged().until_line("/text");
    assert!(line.contains("\"GET /text HTTP/1.1\" 200 "), "{line}");
    assert!(line.contains("\"ua\" listener=web route=web id="), "{line}");
    assert!(
        line.contains(&format!(" trace={TRACE} ended=ok duration_us=")),
        "{line}"
    );
    assert!(
        line.contains(&format!(" tries=\"a {} 200 ok at_us=", origin.address)),
        "{line}"
    );
    assert!(
        line.contains(" first_byte_us=") && line.ends_with('"'),
        "{line}"
    );
}

/// Answers whatever comes, in TLS, and keeps the bodies.
fn over_tls(authority: &Authority, bodies: &Arc<Mutex<Vec<Vec<u8>>>>) -> Instance {
    let bodies = bodies.clone();
    tls_instance(&authority.sign(&["localhost"]), move |stream| {
        loop {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read(&mut byte) {
                    Ok(1) => head.push(byte[0]),
                    _ => return,
                }
            }
            let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1);
            let length = length.and_then(|rest| rest.split("\r\n").next()?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            stream.read_exact(&mut body).expect("a body");
            bodies.lock().unwrap().push(body);
            let answered = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\r\n");
            if answered.and_then(|()| stream.flush()).is_err() {
                return;
            }
        }
    })
}

#[test]
fn collectors_and_instances_are_spoken_to_by_tls_and_its_time_is_told() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (taken, asked) = (Arc::default(), Arc::default());
    let (collector, instance) = (over_tls(&authority, &taken), over_tls(&authority, &asked));
    let home = Home::new("");
    let config = |authority: &Authority, name: &str| {
        let ca = home.path().join(name);
        std::fs::write(&ca, &authority.pem).expect("a file");
        let ca = ca.display().to_string();
        let port = collector.address.port();
        format!(
            "[listener.web]\nbind = \"127.0.0.1:0\"\nservice = \"shop\"\n\
             [service.shop]\ntls = {{ verify = false }}\n\
             [[service.shop.instance]]\naddress = \"{}\"\n\
             [telemetry.traces]\nendpoint = \"https://localhost:{port}\"\nca = {ca:?}\n",
            instance.address
        )
    };
    // Of another authority, it is nobody who should hear of requests.
    home.configure(&config(&stranger, "stranger.pem"));
    let node = home.start();
    assert_eq!(get(node.web(), "/").status, 200);
    node.said().until_line("traces cannot be sent to localhost");
    drop(node);
    assert!(taken.lock().unwrap().is_empty());
    home.configure(&config(&authority, "ca.pem"));
    let node = home.start();
    assert_eq!(get(node.web(), "/secure").status, 200);
    let body = until("a message", || taken.lock().unwrap().pop());
    let heard = Heard {
        head: String::new(),
        body,
    };
    let spans = decoded(&heard);
    let one = spans.iter().find(|span| span.kind() == SpanKind::Client);
    let about = attributes(&one.expect("an attempt").attributes);
    assert!(about.contains_key("pointsman.tls_us"), "{about:?}");
    let line: Json = serde_json::from_str(&node.logged().until_line("/secure")).expect("JSON");
    assert!(
        line["tries"][0]["tls_us"]
            .as_u64()
            .is_some_and(|took| took > 0),
        "{line}"
    );
    assert!(line["tries"][0]["connect_us"].is_u64(), "{line}");
}

#[test]
fn http2_on_both_sides_is_traced_in_the_same_way() {
    let origin = serving(
        |_| (),
        |_, mut respond| async move {
            let _ = respond.send_response(Response::new(()), true);
        },
    );
    let collector = collector();
    let node = Home::new(&traced(&collector, MANY)).start();
    node.register("shop", "a", &crate::lasting(&origin));
    node.until_eligible("/", 1);
    run(async {
        let (sender, _ending) = connect(node.web()).await;
        for path in ["/one", "/two"] {
            let (answer, _) = ask(&sender, path, true).await;
            assert_eq!(text(answer).await.0, 200);
        }
    });
    let mut traces = BTreeSet::new();
    for path in ["/one", "/two"] {
        let (server, tries) = until_exported(&collector, path);
        let about = attributes(&server.attributes);
        assert_eq!(about["network.protocol.version"], "2");
        assert_eq!(
            (tries.len(), traces.insert(server.trace_id.clone())),
            (1, true)
        );
        let heard = origin.heard();
        let first = |heard: &&Heard| heard.head.lines().next().is_some_and(|l| l.ends_with(path));
        let heard = heard.iter().find(first);
        let told = format!("00-{}-{}-03", hex(&server.trace_id), hex(&tries[0].span_id));
        assert_eq!(
            heard.and_then(|heard| heard.header("traceparent")),
            Some(&*told)
        );
    }
}

#[test]
fn spans_that_a_collector_rejects_of_a_message_that_it_takes_are_counted() {
    let collector = Origin::answering(|_| {
        let partial_success = Some(ExportTracePartialSuccess {
            rejected_spans: 1,
            error_message: "too old".into(),
        });
        let response = ExportTraceServiceResponse { partial_success };
        Reply {
            body: response.encode_to_vec(),
            ..took()
        }
    });
    let node = Home::new(&traced(&collector, "")).start();
    let _origin = one_origin(&node);
    assert_eq!(get(node.web(), "/partly").status, 200);
    for (name, count) in [
        ("pointsman_trace_spans_lost_total{why=\"refused\"}", 1.0),
        ("pointsman_trace_spans_exported_total", 1.0),
        ("pointsman_trace_export_failures_total", 0.0),
    ] {
        until(name, || (node.metric(name) == count).then_some(()));
    }
}
