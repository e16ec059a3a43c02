use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;

const KEPT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
const REFUSED: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
const CLOSED: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";

/// A server that gives the same answer to each request of 4 bytes, after a pause at the first.
fn server(answer: &'static [u8], pause: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut request = [0; 4];
                let mut pause = pause;
                while stream.read_exact(&mut request).is_ok() {
                    std::thread::sleep(std::mem::take(&mut pause));
                    // In two pieces, so that answers arrive cut.
                    let (first, second) = answer.split_at(answer.len() / 2);
                    if stream
                        .write_all(first)
                        .and_then(|()| stream.write_all(second))
                        .is_err()
                    {
                        return;
                    }
                    if answer == CLOSED {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn load(answer: &'static [u8], pipeline: usize, requests: usize) -> Outcome {
    let plan = Plan {
        target: server(answer, Duration::ZERO),
        connections: 3,
        pipeline,
        pace: Pace::Closed,
        time: None,
    };
    let mut left = requests;
    let mut next = |out: &mut Vec<u8>| {
        let more = left > 0;
        if more {
            left -= 1;
            out.extend_from_slice(b"GET ");
        }
        more
    };
    run(&plan, &mut next).unwrap()
}

#[test]
fn every_request_is_answered_once() {
    for answer in [KEPT, CHUNKED] {
        for pipeline in [1, 4] {
            let outcome = load(answer, pipeline, 100);
            assert_eq!((outcome.answered, outcome.errors()), (100, 0));
            assert_eq!(outcome.latency.len(), 100);
        }
    }
}

#[test]
fn a_connection_that_the_server_closes_is_replaced() {
    let outcome = load(CLOSED, 1, 50);
    assert_eq!((outcome.answered, outcome.errors()), (50, 0));
}

#[test]
fn refusals_are_errors() {
    let outcome = load(REFUSED, 1, 10);
    assert_eq!((outcome.answered, outcome.refused), (0, [(404, 10)].into()));
}

#[test]
fn whoever_would_have_waited_for_a_stalled_server_is_counted() {
    let stall = Duration::from_millis(300);
    let plan = Plan {
        target: server(KEPT, stall),
        connections: 1,
        pipeline: 1,
        pace: Pace::Open(1_000.0),
        time: Some(Duration::from_millis(400)),
    };
    let mut next = |out: &mut Vec<u8>| {
        out.extend_from_slice(b"GET ");
        true
    };
    let outcome = run(&plan, &mut next).unwrap();
    // One request stalled; two hundred were due meanwhile, and the first of those waited longest.
    let slow = outcome.latency.count_between(100_000_000, u64::MAX);
    assert!(slow >= 150, "{slow} requests waited for 100 ms");
}
