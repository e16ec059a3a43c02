//! What servers say, cut anywhere, is counted right.

use super::*;

fn at() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

/// Lets a wire ask, then gives it `answers`, cut in two at every place.
fn cut(protocol: Protocol, asks: &[Ask], greeting: &[u8], answers: &[u8]) -> Vec<Heard> {
    let cut = |place: usize| {
        let mut wire = protocol.wire(at());
        let mut out = Vec::new();
        wire.greet(&mut out);
        wire.take(&mut greeting.to_vec(), &mut out).unwrap();
        asks.iter().for_each(|ask| wire.ask(*ask, &mut out));
        let (first, second) = answers.split_at(place);
        let mut input = first.to_vec();
        let first = wire.take(&mut input, &mut out).unwrap();
        input.extend_from_slice(second);
        let second = wire.take(&mut input, &mut out).unwrap();
        assert!(input.is_empty());
        Heard {
            answers: first.answers + second.answers,
            failed: first.failed + second.failed,
            events: first.events + second.events,
        }
    };
    (0..=answers.len()).map(cut).collect()
}

fn all_are(all: &[Heard], answers: usize, failed: usize, events: usize) {
    let right = Heard {
        answers,
        failed,
        events,
    };
    assert!(all.iter().all(|heard| *heard == right), "{all:?}");
}

fn record(xid: i32, error: i32) -> Vec<u8> {
    let zxid = 7_i64.to_be_bytes();
    let body = [&xid.to_be_bytes()[..], &zxid, &error.to_be_bytes()].concat();
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

fn session() -> Vec<u8> {
    let body = [&[0; 8][..], &[1; 8], &[0; 20]].concat();
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

#[test]
fn of_a_sync_and_a_read_only_the_read_is_an_answer() {
    let answers = [record(1 << 30 | 1, 0), record(2, 0), record(-2, 0)].concat();
    let asks = [Ask::GetLinearizable(1)];
    all_are(
        &cut(Protocol::ZooKeeper, &asks, &session(), &answers),
        1,
        0,
        0,
    );
}

#[test]
fn an_event_is_no_answer_and_an_error_is_a_failed_one() {
    let answers = [record(-1, 0), record(1, -101)].concat();
    let asks = [Ask::Set(1)];
    all_are(
        &cut(Protocol::ZooKeeper, &asks, &session(), &answers),
        1,
        1,
        1,
    );
}

#[test]
fn a_session_that_is_refused_is_an_error() {
    let body = [0; 36];
    let mut refused = [&36_u32.to_be_bytes()[..], &body].concat();
    let mut wire = Protocol::ZooKeeper.wire(at());
    assert!(wire.take(&mut refused, &mut Vec::new()).is_err());
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let head = [0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
    [&head[..], payload].concat()
}

#[test]
fn an_answer_of_etcd_with_a_message_has_succeeded_and_one_without_has_not() {
    let settings = frame(4, 0, 0, &[]);
    let message = [0, 0, 0, 0, 3, 1, 2, 3];
    let good = [
        frame(1, 4, 1, &[0x88]),
        frame(0, 0, 1, &message[..2]),
        frame(0, 0, 1, &message[2..]),
        frame(1, 5, 1, &[0x88]),
    ];
    all_are(
        &cut(Protocol::Etcd, &[Ask::Set(1)], &settings, &good.concat()),
        1,
        0,
        0,
    );
    let bad = frame(1, 5, 1, &[0x88]);
    all_are(
        &cut(Protocol::Etcd, &[Ask::Set(1)], &settings, &bad),
        1,
        1,
        0,
    );
}

#[test]
fn a_watch_of_etcd_is_confirmed_first_and_then_tells_of_changes() {
    let settings = frame(4, 0, 0, &[]);
    let message = [0, 0, 0, 0, 3, 1, 2, 3];
    let told = frame(0, 0, 1, &[message, message, message].concat());
    all_are(
        &cut(Protocol::Etcd, &[Ask::Watch], &settings, &told),
        1,
        0,
        2,
    );
}

#[test]
fn a_ping_of_etcd_is_answered_with_the_same() {
    let mut wire = Protocol::Etcd.wire(at());
    let mut out = Vec::new();
    wire.take(&mut frame(6, 0, 0, b"12345678"), &mut out)
        .unwrap();
    assert_eq!(out, frame(6, 1, 0, b"12345678"));
}

#[test]
fn answers_of_the_native_api_are_told_apart_by_their_status() {
    let answers = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}\
        HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    let asks = [Ask::Get(1), Ask::Set(1)];
    all_are(&cut(Protocol::Native, &asks, b"", answers), 2, 1, 0);
}
