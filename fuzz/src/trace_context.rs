//! Trace context: what is read is written in a form that reads the same, and a request that is passed on has one
//! `traceparent` at the most, at the place that was said.

use std::net::Ipv4Addr;

use http::h1::{Fault, ForwardRequest, Limits, Request, Trace, parse_request, write_request};
use http::trace::{LEN, TraceParent, is_chosen, state};

use crate::heads;

/// Pieces of the two fields.
pub const TOKENS: &[&str] = &[
    "traceparent: ", "tracestate: ", "TraceParent:", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "\r\n",
    "cc-", "ff-", "-00", "00000000000000000000000000000000", "0000000000000000", "a=1", ",", "=", "t@v=x", " ", "\t",
    "GET / HTTP/1.1\r\nHost: h\r\n", "\r\n\r\n",
];

/// Panics if a promise is broken.
pub fn run(data: &[u8]) {
    if let Some(parent) = TraceParent::parse(data) {
        assert!(data.len() >= LEN);
        assert_eq!(TraceParent::parse(&parent.text()), Some(parent));
        assert!(is_chosen(&parent.trace, 1_000_000) && !is_chosen(&parent.trace, 0));
    }
    if let Ok(Some(request)) = parse_request(data, &mut 0, &Limits::default()) {
        passed_on(&request);
    }
}

fn passed_on(request: &Request<'_>) {
    let parent = TraceParent::of(&request.fields);
    let state = state(&request.fields);
    let ours = TraceParent { trace: [1; 16], span: [2; 8], flags: 3 };
    let mut out = Vec::new();
    let forward = ForwardRequest {
        client: Ipv4Addr::LOCALHOST.into(),
        trusted: false,
        proto: "http",
        client_cert: None,
        request_id: b"id",
        default_host: b"default",
        upgrade: false,
        trace: Trace::Written { parent: parent.unwrap_or(ours), state: state.as_deref() },
        changed: Default::default(),
    };
    let at = write_request(request, &forward, &mut out).expect("it is written");
    assert_eq!(out[at..at + LEN], parent.unwrap_or(ours).text());
    let lines = heads::lines(&out);
    assert_eq!(heads::count(&lines, &["traceparent"]), 1);
    assert_eq!(heads::count(&lines, &["tracestate"]), usize::from(state.is_some()));
    let roomy = Limits { head: 65_535, fields: 128 };
    match parse_request(&out, &mut 0, &roomy) {
        Ok(Some(again)) => {
            assert_eq!(TraceParent::of(&again.fields), Some(parent.unwrap_or(ours)));
            assert_eq!(http::trace::state(&again.fields), state);
        }
        // What is added may be too much.
        Err(Fault::TooManyFields | Fault::HeadTooLarge) => {}
        other => panic!("{other:?} of {}", out.escape_ascii()),
    }
    out.clear();
    let removed = ForwardRequest { trace: Trace::Removed, ..forward };
    assert_eq!(write_request(request, &removed, &mut out), None);
    assert_eq!(heads::count(&heads::lines(&out), &["traceparent", "tracestate"]), 0);
}
