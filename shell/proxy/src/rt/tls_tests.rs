//! TLS in a socket, against a peer that is slow in every way.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

use super::kernel_tests::{pair, with_reactor};
use super::*;

/// Passes on a few bytes at a time.
struct Dripping(TcpStream, usize);

impl Read for Dripping {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.1);
        self.0.read(&mut buffer[..most])
    }
}

impl Write for Dripping {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(self.1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

type Peer = StreamOwned<ClientConnection, Dripping>;

/// What both sides need.
fn configured() -> (Arc<ServerConfig>, ClientConnection) {
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let (cert, key) = (made.cert.der().clone(), made.signing_key.serialize_der());
    let mut roots = RootCertStore::empty();
    roots.add(cert.clone()).unwrap();
    let provider = Arc::new(default_provider());
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], PrivateKeyDer::Pkcs8(key.into()))
        .unwrap();
    let name = ServerName::try_from("a.example").unwrap();
    let client = ClientConnection::new(Arc::new(client), name).unwrap();
    (Arc::new(server), client)
}

/// Runs `script` with our side of a connection after its handshake; the peer has a thread of its own.
fn with_tls<T: Send + 'static>(
    drip: usize,
    peer: impl FnOnce(Peer) -> T + Send + 'static,
    script: impl AsyncFnOnce(Sock, JoinHandle<T>) + 'static,
) {
    let (server, client) = configured();
    with_reactor(async move |reactor| {
        let (mut sock, stream) = pair(&reactor);
        reactor.set_timeout(Duration::from_secs(20));
        let peer = std::thread::spawn(move || {
            let mut stream = StreamOwned::new(client, Dripping(stream, drip));
            stream.conn.complete_io(&mut stream.sock).unwrap();
            peer(stream)
        });
        let shaken = sock.accept_tls(server, Vec::new()).await;
        shaken.unwrap();
        assert_eq!(
            sock.secured().unwrap().server_name.as_deref(),
            Some("a.example")
        );
        script(sock, peer).await;
    });
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

#[test]
fn what_was_told_to_be_sent_arrives_though_the_socket_is_dropped_at_once() {
    // More than the kernel ever keeps for a connection.
    const SIZE: usize = 24 << 20;
    for last in [false, true] {
        let peer = |mut peer: Peer| {
            // Nothing is read until the kernel is full.
            std::thread::sleep(Duration::from_millis(100));
            let mut all = Vec::new();
            // Fails if the end is not in order.
            peer.read_to_end(&mut all).unwrap();
            all
        };
        with_tls(32 * 1024, peer, async move |sock, peer| {
            let all = pattern(SIZE);
            let mut rest = &all[..];
            let mut waits = 0;
            while !rest.is_empty() {
                let most = rest.len().min(100_000);
                let n = match last && most == rest.len() {
                    true => sock.try_send_last(&rest[..most]).unwrap(),
                    false => sock.try_send(&rest[..most]).unwrap(),
                };
                rest = &rest[n..];
                if n < most {
                    waits += 1;
                    sock.writable().await.unwrap();
                }
            }
            assert!(waits > 0, "the peer was never slow");
            assert_eq!(sock.sent(), SIZE as u64);
            drop(sock);
            assert!(peer.join().unwrap() == all);
        });
    }
}

#[test]
fn records_in_single_bytes_are_read_and_so_is_their_end() {
    let peer = |mut peer: Peer| {
        peer.write_all(&pattern(20_000)).unwrap();
        peer.conn.send_close_notify();
        peer.flush().unwrap();
        // Closing with tickets unread would reset the connection.
        peer.read_to_end(&mut Vec::new()).unwrap();
    };
    with_tls(1, peer, async |sock, _peer| {
        let mut all = Vec::new();
        loop {
            let mut buffer = [0; 7_000];
            match sock.try_recv(&mut buffer).unwrap() {
                Some(0) => break,
                Some(n) => all.extend_from_slice(&buffer[..n]),
                None => sock.readable().await.unwrap(),
            }
        }
        assert!(all == pattern(20_000));
        assert_eq!(sock.received(), 20_000);
        assert!(sock.is_readable());
    });
}

#[test]
fn an_end_without_a_word_is_a_break_and_what_came_before_is_read() {
    let peer = |mut peer: Peer| {
        peer.write_all(b"half").unwrap();
        peer.flush().unwrap();
    };
    with_tls(4_096, peer, async |sock, peer| {
        peer.join().unwrap();
        let mut buffer = [0; 64];
        let outcome = loop {
            match sock.try_recv(&mut buffer) {
                Ok(None) => sock.readable().await.unwrap(),
                outcome => break outcome,
            }
        };
        assert_eq!(outcome.unwrap(), Some(4));
        let ended = loop {
            match sock.try_recv(&mut buffer) {
                Ok(None) => sock.readable().await.unwrap(),
                outcome => break outcome,
            }
        };
        assert!(ended.is_err());
    });
}

/// The next bytes that arrive, at least one; none at the end.
async fn next(sock: &Sock, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match sock.try_recv(buffer)? {
            Some(n) => return Ok(n),
            None => sock.readable().await.unwrap(),
        }
    }
}

/// A handshake's first message in records of one byte each.
fn crumbled(hello: &[u8]) -> Vec<u8> {
    let records = hello[5..].iter();
    records.flat_map(|&b| [22, 3, 1, 0, 1, b]).collect()
}

#[test]
fn a_hello_in_records_of_a_byte_each_is_put_together() {
    let (server, mut client) = configured();
    with_reactor(async move |reactor| {
        let (mut sock, mut stream) = pair(&reactor);
        reactor.set_timeout(Duration::from_secs(20));
        let peer = std::thread::spawn(move || {
            let mut hello = Vec::new();
            client.write_tls(&mut hello).unwrap();
            for piece in crumbled(&hello).chunks(7) {
                stream.write_all(piece).unwrap();
            }
            let mut stream = StreamOwned::new(client, stream);
            stream.write_all(b"hello").unwrap();
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).unwrap();
            answer
        });
        sock.accept_tls(server, Vec::new()).await.unwrap();
        let secured = sock.secured().unwrap();
        assert_eq!(secured.server_name.as_deref(), Some("a.example"));
        let mut buffer = [0; 64];
        assert_eq!(next(&sock, &mut buffer).await.unwrap(), 5);
        assert_eq!(sock.try_send(&buffer[..5]).unwrap(), 5);
        assert_eq!(&peer.join().unwrap(), b"hello");
    });
}

#[test]
fn a_message_that_takes_more_than_a_message_may_is_refused_and_forgotten() {
    let (server, _) = configured();
    with_reactor(async move |reactor| {
        let (mut sock, mut stream) = pair(&reactor);
        reactor.set_timeout(Duration::from_secs(20));
        let peer = std::thread::spawn(move || {
            // A hello of 65,000 bytes.
            let hello = [&[22, 3, 1, 0, 0, 1, 0, 0xfd, 0xe8][..], &[0; 65_000]].concat();
            let _ = stream.write_all(&crumbled(&hello));
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let refused = sock.accept_tls(server, Vec::new()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        drop(sock);
        peer.join().unwrap();
    });
}

#[test]
fn keys_change_in_the_middle_of_what_is_said() {
    const TIMES: usize = 20;
    let peer = |mut peer: Peer| {
        for n in 0..TIMES {
            peer.conn.refresh_traffic_keys().unwrap();
            peer.write_all(&[n as u8; 100]).unwrap();
            peer.flush().unwrap();
            let mut back = [0; 100];
            peer.read_exact(&mut back).unwrap();
            assert_eq!(back, [n as u8; 100]);
        }
    };
    // In pieces, so that an update of keys is not whole when it is looked at.
    with_tls(3, peer, async |sock, peer| {
        let mut buffer = [0; 100];
        for _ in 0..TIMES {
            let mut n = 0;
            while n < 100 {
                n += next(&sock, &mut buffer[n..]).await.unwrap();
            }
            assert_eq!(sock.try_send(&buffer).unwrap(), 100);
        }
        peer.join().unwrap();
    });
}

#[test]
fn a_record_that_was_changed_on_its_way_ends_the_connection_and_says_why() {
    let peer = |mut peer: Peer| {
        peer.write_all(b"good").unwrap();
        peer.flush().unwrap();
        let mut bad = Vec::new();
        peer.conn.writer().write_all(b"bad").unwrap();
        peer.conn.write_tls(&mut bad).unwrap();
        *bad.last_mut().unwrap() ^= 1;
        peer.sock.0.write_all(&bad).unwrap();
        peer.read_to_end(&mut Vec::new()).unwrap_err().to_string()
    };
    with_tls(4_096, peer, async |sock, peer| {
        let mut buffer = [0; 64];
        assert_eq!(next(&sock, &mut buffer).await.unwrap(), 4);
        let broken = next(&sock, &mut buffer).await.unwrap_err();
        assert_eq!(broken.kind(), io::ErrorKind::InvalidData);
        assert!(sock.try_send(b"more").is_err());
        drop(sock);
        let told = peer.join().unwrap();
        assert!(told.contains("BadRecordMac"), "{told}");
    });
}

#[test]
fn a_peer_that_has_said_that_it_ends_is_still_spoken_to() {
    let peer = |mut peer: Peer| {
        peer.write_all(b"all").unwrap();
        peer.conn.send_close_notify();
        peer.flush().unwrap();
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).unwrap();
        answer
    };
    with_tls(4_096, peer, async |sock, peer| {
        let mut buffer = [0; 64];
        assert_eq!(next(&sock, &mut buffer).await.unwrap(), 3);
        assert_eq!(next(&sock, &mut buffer).await.unwrap(), 0);
        let answer = pattern(100_000);
        let mut rest = &answer[..];
        while !rest.is_empty() {
            rest = &rest[sock.try_send(rest).unwrap()..];
            if !rest.is_empty() {
                sock.writable().await.unwrap();
            }
        }
        sock.shutdown_write();
        assert!(peer.join().unwrap() == answer);
    });
}
