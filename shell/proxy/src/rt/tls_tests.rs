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

/// Runs `script` with our side of a connection after its handshake; the peer has a thread of its own.
fn with_tls<T: Send + 'static>(
    drip: usize,
    peer: impl FnOnce(Peer) -> T + Send + 'static,
    script: impl AsyncFnOnce(Sock, JoinHandle<T>) + 'static,
) {
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
    with_reactor(async move |reactor| {
        let (mut sock, stream) = pair(&reactor);
        reactor.set_timeout(Duration::from_secs(20));
        let name = ServerName::try_from("a.example").unwrap();
        let client = ClientConnection::new(Arc::new(client), name).unwrap();
        let peer = std::thread::spawn(move || {
            let mut stream = StreamOwned::new(client, Dripping(stream, drip));
            stream.conn.complete_io(&mut stream.sock).unwrap();
            peer(stream)
        });
        let shaken = sock.accept_tls(Arc::new(server), Vec::new()).await;
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
