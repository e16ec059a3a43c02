//! What of TLS is allowed, and what is shown to instances.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};

use crate::harness::{Home, get};
use crate::tcp::Instance;
use crate::tls::{Authority, connect, trusting};

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let der = CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap();
    roots.add(der).unwrap();
    roots
}

/// A client of this version alone.
fn speaking(
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap();
    let config = config.with_root_certificates(roots(authority));
    Arc::new(config.with_no_client_auth())
}

#[test]
fn the_older_version_is_refused_where_the_newer_one_is_wanted_from_the_next_handshake_on() {
    let authority = Authority::new();
    let home = Home::new("");
    authority.sign(&["a.example"]).write(&home, "a");
    let at = home.path().display();
    let config = |least: &str| {
        format!(
            "[listener.web]\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\n\
             tls = {{ certificates = [{{ cert = \"{at}/a.pem\", key = \"{at}/a.key\" }}], min_version = {least:?} }}\n\
             [[listener.web.route]]\nanswer = {{ body = \"hello\" }}\n"
        )
    };
    home.configure(&config("1.2"));
    let node = home.start();
    let asks = |version| {
        let mut client = connect(node.web(), &speaking(&authority, version), "a.example");
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
            .and_then(|()| client.read_to_end(&mut Vec::new()))
            .map_err(|fault| fault.to_string())
    };
    let mut kept = connect(node.web(), &speaking(&authority, &TLS12), "a.example");
    kept.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .unwrap();
    assert!(asks(&TLS12).is_ok() && asks(&TLS13).is_ok());
    node.reload(&config("1.3"));
    assert!(asks(&TLS13).is_ok());
    let refused = asks(&TLS12).unwrap_err();
    assert!(refused.contains("ProtocolVersion"), "{refused}");
    // Who is connected stays so.
    kept.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut all = String::new();
    kept.read_to_string(&mut all).unwrap();
    assert_eq!(all.matches("hello").count(), 2, "{all}");
}

#[test]
fn clients_that_want_other_protocols_only_are_refused() {
    let authority = Authority::new();
    let home = Home::new("");
    authority.sign(&["a.example"]).write(&home, "a");
    let at = home.path().display();
    home.configure(&format!(
        "[listener.mail]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nservice = \"mail\"\n\
         tls = {{ certificates = [{{ cert = \"{at}/a.pem\", key = \"{at}/a.key\" }}], alpn = [\"imap\"] }}\n"
    ));
    let node = home.start();
    let mut config = ClientConfig::clone(&trusting(&[&authority], None));
    config.alpn_protocols = vec![b"smtp".into()];
    let mut client = connect(node.listener("mail"), &Arc::new(config), "a.example");
    let refused = client.write_all(b"x").unwrap_err().to_string();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
}

#[test]
fn instances_are_shown_our_certificate_and_their_sessions_are_resumed() {
    let authority = Authority::new();
    let home = Home::new("");
    authority.sign(&["we.example"]).write(&home, "we");
    std::fs::write(home.path().join("ca.pem"), &authority.pem).unwrap();
    let (chain, key) = authority.sign(&["127.0.0.1"]).der();
    let verifier = WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots(&authority)),
        Arc::new(default_provider()),
    );
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let kinds: Arc<Mutex<Vec<HandshakeKind>>> = Arc::default();
    let seen = kinds.clone();
    let instance = Instance::new(move |stream, _| {
        let connection = ServerConnection::new(config.clone()).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match stream.read(&mut byte) {
                Ok(1) => heard.push(byte[0]),
                _ => return,
            }
        }
        assert!(stream.conn.peer_certificates().is_some());
        seen.lock()
            .unwrap()
            .push(stream.conn.handshake_kind().unwrap());
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        stream.conn.send_close_notify();
        let _ = stream.flush();
    });
    let at = home.path().display();
    let configure = |identity: &str| {
        format!(
            "[node]\nworkers = 1\n[listener.web]\nbind = \"127.0.0.1:0\"\nservice = \"shop\"\n\
             [service.shop]\nretries = 0\nkeep_alive = \"0ms\"\ntls = {{ ca = \"{at}/ca.pem\"{identity} }}\n\
             [[service.shop.instance]]\naddress = \"{}\"\n",
            instance.address
        )
    };
    home.configure(&configure(&format!(
        ", cert = \"{at}/we.pem\", key = \"{at}/we.key\""
    )));
    let node = home.start();
    for _ in 0..4 {
        let answer = get(node.web(), "/");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let seen = kinds.lock().unwrap().clone();
    assert_eq!(seen[0], HandshakeKind::Full);
    assert!(
        seen[1..].iter().all(|kind| *kind == HandshakeKind::Resumed),
        "{seen:?}"
    );
    // Without one, the instance wants nothing to do with us.
    node.reload(&configure(""));
    assert_eq!(get(node.web(), "/").status, 502);
}
