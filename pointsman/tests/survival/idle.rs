//! Ten thousand clients that speak HTTP/2, have asked once, and stay.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::{Home, PATIENCE, get};
use crate::skip;
use crate::slow_clients::may_open;

const CLIENTS: usize = 10_000;

/// What the resident memory of the node may grow by for each of them, the kernel's not counted. Measured were 1,529 bytes.
const MOST: u64 = 8 << 10;

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;

/// A frame without a payload longer than 255 bytes (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
    frame.extend_from_slice(payload);
    frame
}

/// Reads frames up to one of this kind with this flag.
fn until_frame(stream: &mut TcpStream, kind: u8, flag: u8) {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).expect("a frame");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).expect("all of it");
        assert_ne!(head[3], GOAWAY, "{payload:?}");
        let is_end = kind == HEADERS && head[3] <= HEADERS;
        if (is_end || head[3] == kind) && head[4] & flag != 0 {
            return;
        }
    }
}

fn asked(to: std::net::SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut all = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    all.extend(frame(SETTINGS, 0, 0, &[]));
    // GET, /, http from HPACK's table, and an authority (RFC 7541, appendix A); the head is whole, and so is the request.
    let head = [0x82, 0x84, 0x86, 0x41, 1, b'h'];
    all.extend(frame(HEADERS, END_STREAM | 4, 1, &head));
    stream.write_all(&all).expect("a request");
    until_frame(&mut stream, HEADERS, END_STREAM);
    stream
}

#[test]
fn ten_thousand_idle_connections_in_http2_cost_little_and_keep_nobody_out() {
    if !may_open(CLIENTS as u64 + 500) {
        return skip("ten thousand idle clients", "files may not be as many");
    }
    let node = Home::new(
        "[node]\nworkers = 1\n[log.access]\nformat = \"off\"\n\
         [listener.web]\nbind = \"127.0.0.1:0\"\ntimeouts = { idle = \"1h\" }\n\
         [[listener.web.route]]\nanswer = { body = \"hello\" }\n",
    )
    .start();
    // What is made once is made before.
    drop((0..100).map(|_| asked(node.web())).collect::<Vec<_>>());
    let before = node.memory();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| asked(node.web())).collect();
    let each = node.memory().saturating_sub(before) / CLIENTS as u64;
    println!("{CLIENTS} idle connections in HTTP/2: {each} bytes of resident memory each");
    assert!(each < MOST, "{each} bytes each");
    assert_eq!(get(node.web(), "/").status, 200);
    // All of them are still there, and heard.
    for client in &mut clients {
        client
            .write_all(&frame(PING, 0, 0, b"12345678"))
            .expect("sent");
    }
    for client in &mut clients {
        until_frame(client, PING, ACK);
    }
    let stats = "pointsman_listener_http2_floods_total{listener=\"web\"}";
    assert_eq!(node.metric(stats), 0.0);
}
