//! Frames that are out of place, and what they cost: the stream, or the connection.

use super::*;

/// What the connection ends with after these bytes.
fn over(bytes: &[u8]) -> Option<Closing> {
    let mut client = Client::new();
    client.ask(1, true, &[]);
    client.ask(3, false, &[]);
    client.send(bytes);
    client.machine.over()
}

#[test]
fn what_breaks_the_protocol_ends_the_connection() {
    let fault = |code| Some(Closing::Fault(code));
    for (bytes, code) in [
        (data(0, false, b"x"), Code::Protocol),
        (data(5, false, b"x"), Code::Protocol),
        (data(2, false, b"x"), Code::Protocol),
        (made(kind::DATA, flag::PADDED, 3, &[]), Code::FrameSize),
        (made(kind::DATA, flag::PADDED, 3, &[5, 0]), Code::Protocol),
        (request(0, true, &[]), Code::Protocol),
        (request(2, true, &[]), Code::Protocol),
        (made(kind::HEADERS, 0x24, 5, &[0; 4]), Code::FrameSize),
        (made(kind::HEADERS, 0x4, 5, &[0x80]), Code::Compression),
        (made(kind::CONTINUATION, 0x4, 3, &[]), Code::Protocol),
        (made(kind::PRIORITY, 0, 0, &[0; 5]), Code::Protocol),
        (made(kind::RST_STREAM, 0, 0, &[0; 4]), Code::Protocol),
        (made(kind::RST_STREAM, 0, 9, &[0; 4]), Code::Protocol),
        (made(kind::RST_STREAM, 0, 3, &[0; 3]), Code::FrameSize),
        (made(kind::SETTINGS, 0, 1, &[]), Code::Protocol),
        (made(kind::SETTINGS, 0, 0, &[0; 5]), Code::FrameSize),
        (made(kind::SETTINGS, 1, 0, &[0; 6]), Code::FrameSize),
        (
            made(kind::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2]),
            Code::Protocol,
        ),
        (
            made(kind::SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]),
            Code::FlowControl,
        ),
        (
            made(kind::SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]),
            Code::Protocol,
        ),
        (made(kind::PUSH_PROMISE, 0x4, 3, &[0; 8]), Code::Protocol),
        (made(kind::PING, 0, 1, &[0; 8]), Code::Protocol),
        (made(kind::PING, 0, 0, &[0; 7]), Code::FrameSize),
        (made(kind::GOAWAY, 0, 1, &[0; 8]), Code::Protocol),
        (window(0, 0), Code::Protocol),
        (window(9, 1), Code::Protocol),
        (window(0, 0x7fff_ffff), Code::FlowControl),
        (made(kind::WINDOW_UPDATE, 0, 0, &[1]), Code::FrameSize),
        (made(0x20, 0, 0, &[0; 16_385]), Code::FrameSize),
    ] {
        assert_eq!(
            over(&bytes),
            fault(code),
            "{:?}",
            &bytes[..bytes.len().min(20)]
        );
    }
}

#[test]
fn what_breaks_a_stream_ends_that_stream() {
    for (bytes, stream, code) in [
        (data(1, false, b"x"), 1, Code::StreamClosed),
        (headers(1, true, &[("x", "y")]), 1, Code::StreamClosed),
        (window(3, 0), 3, Code::Protocol),
        (window(3, 0x7fff_ffff), 3, Code::FlowControl),
        (
            made(kind::PRIORITY, 0, 3, &[0, 0, 0, 3, 0]),
            3,
            Code::Protocol,
        ),
        (made(kind::PRIORITY, 0, 3, &[0; 4]), 3, Code::FrameSize),
    ] {
        let mut client = Client::new();
        let one = client.ask(1, true, &[]);
        let three = client.ask(3, false, &[]);
        let key = if stream == 1 { one } else { three };
        assert_eq!(client.send(&bytes), [Event::Reset(key)]);
        assert_eq!(client.ends(), [(stream, code as u32)]);
        client.ask(5, true, &[]);
    }
}

#[test]
fn what_is_harmless_is_passed_over() {
    for bytes in [
        made(0x42, 0xff, 0, b"unknown"),
        made(0x10, 0, 0, b"\0\0\0\x01u=1"),
        made(kind::PRIORITY, 0, 99, &[0; 5]),
        made(kind::GOAWAY, 0, 0, &[0; 8]),
        made(kind::SETTINGS, 0, 0, &[0xff, 0xff, 0, 0, 0, 9]),
        window(1, 5),
    ] {
        assert_eq!(over(&bytes), None, "{bytes:?}");
    }
}

#[test]
fn nothing_comes_before_settings_or_between_the_parts_of_a_head() {
    for first in [request(1, true, &[]), made(kind::SETTINGS, 1, 0, &[])] {
        let mut client = Client::silent(SETTINGS);
        client.send(PREFACE);
        let over = Closing::Fault(Code::Protocol);
        assert_eq!(client.send(&first), [Event::Over(over)]);
    }
    let mut client = Client::silent(SETTINGS);
    assert!(matches!(
        client.send(b"PRI * HTTP/2.0\r\n\r\nXX")[..],
        [Event::Over(_)]
    ));

    let fields = block(&GET);
    let (start, rest) = fields.split_at(10);
    let parts = |kind: u8, stream: u32| {
        let first = made(kind::HEADERS, flag::END_STREAM, 1, start);
        [first, made(kind, flag::END_HEADERS, stream, rest)].concat()
    };
    let mut client = Client::new();
    let events = client.send(&parts(kind::CONTINUATION, 1));
    assert!(matches!(events[..], [Event::Request(_)]));
    for other in [parts(kind::CONTINUATION, 3), parts(kind::DATA, 1)] {
        let mut client = Client::new();
        assert!(matches!(client.send(&other)[..], [Event::Over(_)]));
    }
}

#[test]
fn the_bytes_of_heads_and_trailers_are_counted_as_they_came() {
    let (fields, trailers) = (block(&GET), block(&[("x-sum", "1")]));
    let (start, rest) = fields.split_at(10);
    // Five bytes of a priority, the length of the padding, and three bytes of that.
    let first = [&[3, 0, 0, 0, 0, 9], start, &[0; 3]].concat();
    let flags = flag::PADDED | flag::PRIORITY;
    let mut client = Client::new();
    client.send(&made(kind::HEADERS, flags, 1, &first));
    let rest = client.send(&made(kind::CONTINUATION, flag::END_HEADERS, 1, rest));
    let [Event::Request(key)] = *rest else {
        panic!("{rest:?}");
    };
    let head = fields.len() as u64 + 9;
    assert_eq!(client.machine.head_bytes(key), head);
    // Another's is its own.
    let other = client.ask(3, true, &[("a", "b")]);
    assert_eq!(
        client.machine.head_bytes(other),
        block(&GET).len() as u64 + block(&[("a", "b")]).len() as u64
    );
    client.send(&data(1, false, b"body"));
    client.send(&headers(1, true, &[("x-sum", "1")]));
    assert_eq!(client.machine.head_bytes(key), head + trailers.len() as u64);
}

#[test]
fn a_closed_stream_stays_closed() {
    let mut client = Client::new();
    let key = client.ask(5, true, &[]);
    client.machine.send_head(key, &block(&[]), true);
    client.machine.release(key, Code::Internal, client.now);
    assert_eq!(client.ends(), [], "it was whole");
    assert_eq!(client.send(&data(5, false, b"x")), []);
    assert_eq!(client.ends(), [(5, Code::StreamClosed as u32)]);
    let closed = Closing::Fault(Code::StreamClosed);
    assert_eq!(client.send(&request(5, true, &[])), [Event::Over(closed)]);

    let mut client = Client::new();
    client.ask(5, true, &[]);
    let lower = Closing::Fault(Code::Protocol);
    assert_eq!(client.send(&request(3, true, &[])), [Event::Over(lower)]);
}

#[test]
fn a_long_head_is_sent_in_parts_and_trailers_end_a_stream() {
    let mut client = Client::new();
    let key = client.ask(1, true, &[]);
    let long = "v".repeat(20_000);
    let mut head = Vec::new();
    write_field(b"x-long", long.as_bytes(), &mut head);
    client.machine.send_head(key, &head, false);
    client
        .machine
        .finish(key, b"grpc-status: 0\r\nX-B:  c \r\n");
    let got = client.got();
    let shape: Vec<_> = got.iter().map(|got| (got.kind, got.flags)).collect();
    assert_eq!(
        shape,
        [
            (kind::HEADERS, 0),
            (kind::CONTINUATION, 4),
            (kind::HEADERS, 5)
        ]
    );
    let head = [&got[0].payload[..], &got[1].payload].concat();
    assert_eq!(client.fields(&head)[0].1.len(), 20_000);
    let trailers = client.fields(&got[2].payload);
    let expected = [("grpc-status", "0"), ("x-b", "c")].map(|(n, v)| (n.into(), v.into()));
    assert_eq!(trailers, expected);
}

#[test]
fn how_input_is_cut_up_changes_nothing() {
    let bytes = [
        PREFACE.to_vec(),
        made(kind::SETTINGS, 0, 0, &[]),
        request(1, false, &[("x", "y")]),
        data(1, false, b"hello"),
        data(1, true, b" world"),
    ]
    .concat();
    let mut client = Client::silent(SETTINGS);
    let (mut held, mut events) = (Vec::new(), Vec::new());
    for byte in bytes {
        held.push(byte);
        let mut input = &held[..];
        while let Some(event) = client
            .machine
            .handle(&mut input, &mut client.head, client.now)
        {
            events.push(event);
        }
        held = input.to_vec();
    }
    let [Event::Request(key), Event::Readable(_), Event::Readable(_)] = events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(client.read(key, 100), b"hello world");
}
