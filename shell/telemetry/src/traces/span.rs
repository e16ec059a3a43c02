//! Spans of requests, by OpenTelemetry's semantic conventions for HTTP: one of the kind "server" for a request, and below
//! it one of the kind "client" for each attempt at an instance.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::message::{Code, KeyValue, Kind, Span, Status, Value, attribute};
use crate::{AccessRecord, RequestLine, Trace, Try};

/// What of a text is sent. Clients may send paths of 16 KiB, and collectors take messages of some MiB.
const LONGEST: usize = 1_024;

/// Bits of a span's flags beyond those of `traceparent`: that the next one says something, and that the parent is elsewhere.
const KNOWS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Appends the spans of a request that has a trace; returns how many.
pub(super) fn append(record: &AccessRecord, out: &mut Vec<Span>) -> u64 {
    let Some((trace, id)) = record.trace.as_deref().and_then(|t| Some((t, t.span?))) else {
        return 0;
    };
    let began = record.at.checked_sub(record.duration);
    let began = began.unwrap_or(UNIX_EPOCH);
    out.push(server(record, trace, id, began));
    for (number, one) in record.tries.iter().enumerate() {
        out.push(client(record, trace, id, (number, one), began));
    }
    1 + record.tries.len() as u64
}

fn server(record: &AccessRecord, trace: &Trace, id: [u8; 8], began: SystemTime) -> Span {
    let request = &record.request;
    let mut about = About::default();
    about.method(request);
    about.text("url.scheme", request.scheme);
    about.text("url.path", path(request));
    let (host, port) = host_and_port(&request.authority);
    about.text("server.address", host);
    about.number("server.port", port);
    about.number("http.response.status_code", status(record.status));
    about.text(
        "network.peer.address",
        &record.client.ip().to_canonical().to_string(),
    );
    about.number("network.peer.port", Some(record.client.port().into()));
    about.text("network.protocol.version", request.version);
    about.text(
        "user_agent.original",
        request.user_agent.as_deref().unwrap_or_default(),
    );
    about.text("pointsman.listener", &record.listener);
    about.text(
        "pointsman.route",
        record.route.as_deref().unwrap_or_default(),
    );
    if let Some(instance) = &record.instance {
        about.text("pointsman.service", &instance.service.to_string());
        about.text("pointsman.instance", instance.id.as_str());
    }
    about.text("pointsman.request_id", &request.id);
    about.number("pointsman.waited_us", Some(micros(record.waited)));
    // Answers below 500 that are whole are what was asked for, or the client's own fault. A tunnel ends in some way.
    let failed = match (record.status, record.ended) {
        (101, _) | (1..500, "ok") => false,
        (1..400, _) => true,
        (status, _) => status == 0 || status >= 500,
    };
    let status = about.failed(failed, record.ended, record.status);
    let route = record.route.as_deref();
    let remote = if trace.parent.is_some() { IS_REMOTE } else { 0 };
    Span {
        trace_id: trace.id.into(),
        span_id: id.into(),
        trace_state: trace.state.as_deref().unwrap_or_default().into(),
        parent_span_id: trace.parent.map_or_else(Vec::new, Vec::from),
        name: match route {
            Some(route) => format!("{} {route}", known(request)),
            None => known(request).into(),
        },
        kind: Kind::Server.into(),
        start_time_unix_nano: nanos(began),
        end_time_unix_nano: nanos(record.at),
        attributes: about.0,
        status,
        flags: u32::from(trace.flags) | KNOWS_REMOTE | remote,
    }
}

fn client(
    record: &AccessRecord,
    trace: &Trace,
    parent: [u8; 8],
    (number, one): (usize, &Try),
    began: SystemTime,
) -> Span {
    let request = &record.request;
    let mut about = About::default();
    about.method(request);
    let address = one.address.ip().to_canonical().to_string();
    // Without the query, in which there may be secrets.
    about.text(
        "url.full",
        &format!("http://{}{}", one.address, path(request)),
    );
    about.text("server.address", &address);
    about.number("server.port", Some(one.address.port().into()));
    about.text("network.peer.address", &address);
    about.number("network.peer.port", Some(one.address.port().into()));
    about.number(
        "http.request.resend_count",
        (number > 0).then_some(number as i64),
    );
    about.number("http.response.status_code", status(one.status));
    about.text("pointsman.instance", one.instance.as_str());
    about.number("pointsman.connect_us", one.connect.map(micros));
    about.number("pointsman.tls_us", one.tls.map(micros));
    about.number("pointsman.first_byte_us", one.first_byte.map(micros));
    // To who asks, an answer of 4xx is none (semantic conventions, HTTP client span).
    let failed = one.ended != "ok" && one.status != 101 || one.status >= 400 || one.status == 0;
    let status = about.failed(failed, one.ended, one.status);
    let start = began + one.at;
    Span {
        trace_id: trace.id.into(),
        span_id: one.span.into(),
        trace_state: trace.state.as_deref().unwrap_or_default().into(),
        parent_span_id: parent.into(),
        name: known(request).into(),
        kind: Kind::Client.into(),
        start_time_unix_nano: nanos(start),
        end_time_unix_nano: nanos(start + one.duration),
        attributes: about.0,
        status,
        flags: u32::from(trace.flags) | KNOWS_REMOTE,
    }
}

/// Attributes; what is empty is left out.
#[derive(Default)]
struct About(Vec<KeyValue>);

impl About {
    fn text(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.0.push(attribute(key, Value::from(clip(text))));
        }
    }

    fn number(&mut self, key: &str, number: Option<i64>) {
        self.0.extend(number.map(|number| attribute(key, number)));
    }

    /// Methods that nobody knows would make any number of names.
    fn method(&mut self, request: &RequestLine) {
        match known(request) {
            "HTTP" => {
                self.text("http.request.method", "_OTHER");
                self.text("http.request.method_original", &request.method);
            }
            method => self.text("http.request.method", method),
        }
    }

    fn failed(&mut self, failed: bool, ended: &str, status: u16) -> Option<Status> {
        let status = status.to_string();
        let why = if ended == "ok" { &status } else { ended };
        failed.then(|| {
            self.text("error.type", why);
            Status {
                code: Code::Error.into(),
            }
        })
    }
}

/// The method, or "HTTP" in the place of one that is not common.
fn known(request: &RequestLine) -> &str {
    const COMMON: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    COMMON
        .into_iter()
        .find(|method| **method == *request.method)
        .unwrap_or("HTTP")
}

fn path(request: &RequestLine) -> &str {
    let target = &*request.target;
    target.split_once('?').map_or(target, |(path, _)| path)
}

fn host_and_port(authority: &str) -> (&str, Option<i64>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

fn clip(text: &str) -> &str {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn status(status: u16) -> Option<i64> {
    (status != 0).then_some(status.into())
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::tests::record;

    fn value(span: &Span, key: &str) -> Option<String> {
        let found = span.attributes.iter().find(|a| a.key == key)?;
        Some(match found.value.clone()?.value? {
            Value::Text(text) => text,
            Value::Number(number) => number.to_string(),
        })
    }

    fn spans(record: &AccessRecord) -> Vec<Span> {
        let mut out = Vec::new();
        assert_eq!(append(record, &mut out), out.len() as u64);
        out
    }

    #[test]
    fn a_request_is_a_span_and_so_is_each_attempt_below_it() {
        let record = record();
        let [server, first, second] = &spans(&record)[..] else {
            panic!("three spans");
        };
        assert_eq!((server.kind, first.kind), (2, 3));
        assert_eq!(server.span_id, [2; 8]);
        assert_eq!(server.parent_span_id, [9; 8]);
        assert_eq!(first.parent_span_id, server.span_id);
        assert_eq!(second.parent_span_id, server.span_id);
        assert_eq!(server.name, "GET all");
        assert_eq!(value(server, "url.path").as_deref(), Some("/x"));
        assert_eq!(
            value(server, "server.address").as_deref(),
            Some("a.example")
        );
        assert_eq!(value(server, "server.port").as_deref(), Some("8443"));
        assert_eq!(value(server, "error.type"), None);
        assert_eq!(value(first, "error.type").as_deref(), Some("instance_left"));
        assert_eq!(value(first, "http.request.resend_count"), None);
        assert_eq!(first.status.as_ref().map(|s| s.code), Some(2));
        assert_eq!(
            value(second, "http.request.resend_count").as_deref(),
            Some("1")
        );
        assert_eq!(
            value(second, "http.response.status_code").as_deref(),
            Some("200")
        );
        assert_eq!(
            value(second, "url.full").as_deref(),
            Some("http://127.0.0.1:8000/x")
        );
        assert_eq!(second.status, None);
        let took = |span: &Span| span.end_time_unix_nano - span.start_time_unix_nano;
        assert_eq!((took(server), took(first)), (1_500_000, 400_000));
        assert_eq!(
            first.start_time_unix_nano - server.start_time_unix_nano,
            100_000
        );
    }

    #[test]
    fn faults_of_ours_are_errors_and_refusals_are_none() {
        let mut record = record();
        for (status, ended, error) in [
            (200, "ok", None),
            (404, "ok", None),
            (429, "rate", None),
            (101, "idle", None),
            (503, "ok", Some("503")),
            (200, "instance_left", Some("instance_left")),
            (0, "client_left", Some("client_left")),
        ] {
            (record.status, record.ended) = (status, ended);
            let server = &spans(&record)[0];
            assert_eq!(
                value(server, "error.type").as_deref(),
                error,
                "{status} {ended}"
            );
            assert_eq!(server.status.is_some(), error.is_some());
        }
    }

    #[test]
    fn odd_methods_and_long_texts_are_kept_within_bounds() {
        let mut record = record();
        record.request.method = "BREW".into();
        record.request.target = format!("/{}", "é".repeat(2_000)).into();
        let server = &spans(&record)[0];
        assert_eq!(server.name, "HTTP all");
        assert_eq!(
            value(server, "http.request.method").as_deref(),
            Some("_OTHER")
        );
        assert_eq!(
            value(server, "http.request.method_original").as_deref(),
            Some("BREW")
        );
        assert!(value(server, "url.path").is_some_and(|path| path.len() <= LONGEST));
    }

    #[test]
    fn what_is_only_passed_on_is_no_span() {
        let mut record = record();
        record.trace.as_mut().unwrap().span = None;
        assert!(spans(&record).is_empty());
    }
}
