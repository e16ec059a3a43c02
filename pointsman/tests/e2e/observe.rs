//! Metrics and access logs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde_json::{Value, json};

use crate::harness::{Connection, Home, Origin, get, request, until};

#[test]
fn metrics_count_what_happened() {
    let node = Home::new(crate::SHOP).start();
    let origin = Origin::named("a");
    node.register("shop", "a", &crate::lasting(&origin));
    node.until_eligible("/", 1);
    let mut connection = Connection::open(node.web());
    for _ in 0..10 {
        assert_eq!(connection.get("/").status, 200);
    }
    assert_eq!(request(node.web(), "NONSENSE\r\n\r\n").status, 400);
    let labels = "{service=\"shop\",instance=\"a\"}";
    let counts = [
        (format!("pointsman_instance_requests_total{labels}"), 10.0),
        (format!("pointsman_instance_failures_total{labels}"), 0.0),
        (format!("pointsman_instance_in_flight{labels}"), 0.0),
        (
            "pointsman_service_requests_total{service=\"shop\"}".into(),
            10.0,
        ),
        (
            "pointsman_service_duration_seconds_count{service=\"shop\",code=\"2xx\"}".into(),
            10.0,
        ),
        (
            "pointsman_listener_duration_seconds_count{listener=\"web\",code=\"2xx\"}".into(),
            10.0,
        ),
        (
            "pointsman_listener_duration_seconds_count{listener=\"web\",code=\"4xx\"}".into(),
            1.0,
        ),
        (
            "pointsman_service_first_byte_seconds_count{service=\"shop\"}".into(),
            10.0,
        ),
        (
            "pointsman_service_connect_seconds_count{service=\"shop\"}".into(),
            1.0,
        ),
        (
            "pointsman_service_tries_bucket{service=\"shop\",le=\"1\"}".into(),
            10.0,
        ),
        ("pointsman_service_tries_sum{service=\"shop\"}".into(), 10.0),
        (
            "pointsman_listener_accepted_total{listener=\"web\"}".into(),
            2.0,
        ),
        (
            "pointsman_listener_refused_total{listener=\"web\"}".into(),
            1.0,
        ),
        (
            "pointsman_registry_instances{health=\"passing\"}".into(),
            1.0,
        ),
        ("pointsman_registry_leases".into(), 0.0),
        ("pointsman_access_log_lost_total".into(), 0.0),
    ];
    for (name, expected) in counts {
        until(&format!("{name} being {expected}"), || {
            (node.metric(&name) == expected).then_some(())
        });
    }
    assert!(node.metric("pointsman_listener_sent_bytes_total{listener=\"web\"}") > 100.0);
    let text = get(node.api, "/metrics");
    let route = text
        .text()
        .lines()
        .find(|l| l.contains("route_requests_total{") && l.contains("2xx"));
    assert!(route.is_some_and(|l| l.ends_with(" 10")), "{route:?}");
    well_formed(text.text());
}

/// As the Prometheus text format wants it: every sample under its metric's type, each metric in one piece, no sample twice.
fn well_formed(text: &str) {
    let mut types = std::collections::BTreeMap::new();
    let mut samples = std::collections::BTreeSet::new();
    let mut current = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(types.insert(name, kind).is_none(), "{name} comes twice");
            current = name;
        } else if !line.starts_with('#') {
            let (sample, value) = line.rsplit_once(' ').expect("a value");
            value.parse::<f64>().expect("a number");
            assert!(samples.insert(sample), "{sample} comes twice");
            let name = sample.split('{').next().unwrap_or_default();
            let of_histogram = ["_bucket", "_sum", "_count"].iter().any(|end| {
                name.strip_suffix(end) == Some(current) && types[current] == "histogram"
            });
            assert!(name == current || of_histogram, "{name} under {current}");
        }
    }
}

#[test]
fn a_line_of_json_says_who_asked_what_and_who_answered() {
    let node = Home::new(crate::SHOP).start();
    let origin = Origin::named("a");
    node.register("shop", "a", &crate::lasting(&origin));
    node.until_eligible("/", 1);
    let agent = "evil\\\"agent";
    let head =
        format!("GET /a?b=c HTTP/1.1\r\nHost: h\r\nUser-Agent: {agent}\r\nReferer: r\r\n\r\n");
    assert_eq!(request(node.web(), head).status, 200);
    let line = node.logged().until_line("/a?b=c");
    let line: Value = serde_json::from_str(&line).expect("JSON");
    for (key, value) in [
        ("listener", "web"),
        ("method", "GET"),
        ("host", "h"),
        ("target", "/a?b=c"),
        ("version", "1.1"),
        ("service", "shop"),
        ("instance", "a"),
        ("ended", "ok"),
        ("user_agent", agent),
        ("referer", "r"),
    ] {
        assert_eq!(line[key], value, "{key}: {line}");
    }
    assert_eq!(
        (&line["status"], &line["attempts"]),
        (&200.into(), &1.into())
    );
    assert_eq!(line["address"], origin.address.to_string());
    let id = origin.heard()[0].header("x-request-id").map(str::to_owned);
    assert_eq!(line["request_id"].as_str(), id.as_deref());
    assert!(
        line["time"].as_str().is_some_and(|t| t.ends_with('Z')),
        "{line}"
    );
}

#[test]
fn what_was_answered_here_and_what_failed_is_logged_too() {
    let node = Home::new(crate::SHOP).start();
    assert_eq!(get(node.web(), "/nobody").status, 503);
    let line: Value = serde_json::from_str(&node.logged().until_line("/nobody")).expect("JSON");
    assert_eq!(
        (&line["status"], &line["instance"]),
        (&503.into(), &Value::Null)
    );
}

#[test]
fn the_log_says_what_was_wrong_with_a_request_in_a_word_of_ours() {
    let config = format!(
        "{}\n[listener.web.timeouts]\nrequest_head = \"1s\"\n\
         [[listener.web.route]]\nname = \"none\"\nhost = \"x.example\"\nservice = \"shop\"\n",
        crate::SHOP.replace("service = \"shop\"", "")
    );
    let node = Home::new(&config).start();
    let long = "x".repeat(100_000);
    for (bytes, status, ended) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "host_missing"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nevil\u{1}\"\\: x\r\n\r\n".to_owned(),
            400,
            "field_name",
        ),
        (
            "GET / HTTP/9.9\r\nHost: a\r\n\r\n".to_owned(),
            505,
            "version",
        ),
        (
            format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
            414,
            "target_too_long",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\nx: {long}\r\n\r\n"),
            431,
            "head_too_large",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nExpect: all\r\n\r\n".to_owned(),
            417,
            "expect",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned(),
            501,
            "transfer_encoding",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nevil".to_owned(),
            400,
            "chunk_size",
        ),
        (
            "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n".to_owned(),
            501,
            "no_tunnels",
        ),
        (
            "GET /there HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            404,
            "no_route",
        ),
        (
            "GET / HTTP/1.1\r\nHost: x.example\r\n\r\n".to_owned(),
            503,
            "no_instances",
        ),
        ("GET / HTTP/1.1\r\nHo".to_owned(), 408, "head_too_slow"),
    ] {
        // The rest of a head that is too long may not be read.
        let mut connection = Connection::open(node.web());
        let _ = connection.try_send(&bytes);
        assert_eq!(connection.answer().status, status, "{ended}");
        let line = node.logged().until_line(&format!("\"ended\":\"{ended}\""));
        let line: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line["status"], status, "{line}");
        assert!(!line.to_string().contains("evil"), "{line}");
    }
}

#[test]
fn a_body_that_turns_out_to_be_none_on_its_way_is_told_by_the_same_word() {
    let node = Home::new(crate::SHOP).start();
    let reads_on = Origin::raw(|mut connection, _| while connection.line().is_ok() {});
    node.register("shop", "a", &crate::lasting(&reads_on));
    node.until_eligible("/", 1);
    let mut connection = Connection::open(node.web());
    connection.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
    let in_flight = "pointsman_instance_in_flight{service=\"shop\",instance=\"a\"}";
    until("a request in flight", || {
        (node.metric(in_flight) == 1.0).then_some(())
    });
    connection.send("no number\r\n");
    assert_eq!(connection.answer().status, 400);
    let line = node.logged().until_line("\"ended\":\"chunk_size\"");
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(
        (&line["status"], &line["instance"]),
        (&400.into(), &"a".into())
    );
}

#[test]
fn a_combined_log_in_a_file_is_written_and_rotated() {
    let home = Home::new("");
    let path = home.path().join("access.log");
    let config = format!(
        "[log.access]\nformat = \"combined\"\npath = {:?}\n[listener.web]\nbind = \"127.0.0.1:0\"\n\
         [[listener.web.route]]\n[listener.web.route.answer]\nbody = \"x\"\n",
        path.display().to_string()
    );
    home.configure(&config);
    let node = home.start();
    let head = "GET /\"q HTTP/1.1\r\nHost: h\r\nUser-Agent: ua\r\nReferer: ref\r\n\r\n";
    assert_eq!(request(node.web(), head).status, 200);
    assert_eq!(get(node.web(), "/one").status, 200);
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    // In any order: each worker hands its lines over when it has time.
    let text = until("both lines", || {
        let text = read(&path);
        (text.contains("GET /one HTTP/1.1\" 200 ") && text.contains("ref")).then_some(text)
    });
    let line = text.lines().find(|l| l.contains("ref")).expect("a line");
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(line.contains("\"GET /\\x22q HTTP/1.1\" 200 "), "{line}");
    assert!(line.ends_with("\"ref\" \"ua\""), "{line}");
    let rotated = home.path().join("access.log.1");
    std::fs::rename(&path, &rotated).expect("rotated");
    let said = node.reload(&config);
    assert!(said.contains("is unchanged"), "{said}");
    until("the new file", || {
        assert_eq!(get(node.web(), "/two").status, 200);
        read(&path).contains("/two").then_some(())
    });
    assert!(!read(&path).contains("/one"));
}

#[test]
fn retries_slow_answers_and_requests_without_an_instance_are_told_apart_in_histograms() {
    let node = Home::new(crate::SHOP).start();
    assert_eq!(get(node.web(), "/").status, 503);
    let slow = Origin::answering(|_| {
        std::thread::sleep(std::time::Duration::from_millis(30));
        crate::harness::Reply::text("slow")
    });
    // Nobody listens there: an attempt that comes to nothing.
    let gone = json!({ "address": "127.0.0.1", "port": crate::harness::free_address().port(), "persistent": true });
    node.register("shop", "gone", &gone);
    node.until_eligible("/", 1);
    assert_eq!(get(node.web(), "/").status, 502);
    node.register("shop", "slow", &crate::lasting(&slow));
    until("an answer", || {
        (get(node.web(), "/").status == 200).then_some(())
    });
    let is = |name: &str, expected: f64| {
        until(&format!("{name} being {expected}"), || {
            (node.metric(name) == expected).then_some(())
        });
    };
    let metric =
        |name: &str, labels: &str| format!("pointsman_service_{name}{{service=\"shop\"{labels}}}");
    is(&metric("tries_bucket", ",le=\"0\""), 1.0);
    is(&metric("duration_seconds_count", ",code=\"2xx\""), 1.0);
    is(
        &metric("duration_seconds_bucket", ",code=\"2xx\",le=\"0.025\""),
        0.0,
    );
    is(&metric("first_byte_seconds_bucket", ",le=\"0.025\""), 0.0);
    is(&metric("first_byte_seconds_count", ""), 1.0);
    is(&metric("connect_seconds_count", ""), 1.0);
    assert!(node.metric(&metric("tries_sum", "")) >= 2.0);
    assert!(node.metric(&metric("duration_seconds_count", ",code=\"5xx\"")) >= 2.0);
    well_formed(get(node.api, "/metrics").text());
}

#[test]
fn the_log_says_how_long_a_request_waited_for_its_service() {
    let config = format!(
        "{}\n[service.shop.limits]\nmax_requests = 1\nwait = \"10s\"\nwait_overloaded = \"10s\"\n",
        crate::SHOP
    );
    let node = Home::new(&config).start();
    let all_are_here = Arc::new(AtomicBool::new(false));
    let open = all_are_here.clone();
    let slow = Origin::answering(move |_| {
        until("all of them", || open.load(Relaxed).then_some(()));
        std::thread::sleep(std::time::Duration::from_millis(50));
        crate::harness::Reply::text("slow")
    });
    node.register("shop", "a", &crate::lasting(&slow));
    node.until_eligible("/", 1);
    let web = node.web();
    let paths = ["/one", "/two", "/three"];
    let clients = paths.map(|path| std::thread::spawn(move || get(web, path).status));
    let accepted = "pointsman_listener_accepted_total{listener=\"web\"}";
    until("three clients", || {
        (node.metric(accepted) == 3.0).then_some(())
    });
    all_are_here.store(true, Relaxed);
    assert_eq!(
        clients.map(|client| client.join().expect("an answer")),
        [200; 3]
    );
    let mut waited = paths.map(|path| {
        let line: Value = serde_json::from_str(&node.logged().until_line(path)).expect("JSON");
        let (waited, first) = (&line["waited_us"], &line["tries"][0]["at_us"]);
        assert_eq!(waited, first, "{line}");
        waited.as_u64().expect("a number")
    });
    waited.sort_unstable();
    // One after the other.
    assert!(waited[1] > 0 && waited[2] > waited[1], "{waited:?}");
}
