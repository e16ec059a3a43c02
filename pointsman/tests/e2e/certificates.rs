//! What a TLS handshake shows of a certificate, by a client that looks: OCSP answers, kinds of keys, and whose session is resumed.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, HandshakeKind, NamedGroup, SignatureScheme,
};

use crate::harness::{Home, Node, until};
use crate::tls::{Authority, Client, connect};

/// Takes whatever it is shown, of the kinds that it knows, and keeps it.
#[derive(Debug)]
struct Curious {
    knows: Vec<SignatureScheme>,
    seen: Mutex<Option<(CertificateDer<'static>, Vec<u8>)>>,
}

impl ServerCertVerifier for Curious {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.seen.lock().unwrap() = Some((certificate.clone().into_owned(), ocsp.into()));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.knows.clone()
    }
}

/// What a client that knows these kinds of signatures is shown: a certificate, and an OCSP answer.
fn shown(node: &Node, knows: &[SignatureScheme]) -> (CertificateDer<'static>, Vec<u8>) {
    let curious = Arc::new(Curious {
        knows: knows.into(),
        seen: Mutex::default(),
    });
    asked(&mut connect(
        node.web(),
        &client(curious.clone(), Resumption::disabled()),
        "a.example",
    ));
    let seen = curious.seen.lock().unwrap().take();
    seen.expect("a certificate")
}

fn client(verifier: Arc<Curious>, resumption: Resumption) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = resumption;
    Arc::new(config)
}

/// One request, so that tickets that come behind the handshake are read.
fn asked(client: &mut Client) {
    let request = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    client.write_all(request).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

const ECDSA: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];
const RSA: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256];

/// A listener with these certificates, given as the rest of their tables.
fn configured(home: &Home, certificates: &[&str]) {
    let at = home.path().display().to_string();
    let certificates = certificates.join(", ").replace("DIR", &at);
    home.configure(&format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\ntls = {{ certificates = [{certificates}] }}\n\
         [[listener.web.route]]\nanswer = {{ body = \"hello\" }}\n"
    ));
}

/// DER of one value, shorter than 128 bytes.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = u8::try_from(content.len()).expect("a short one");
    [&[tag, len], content].concat()
}

/// An OCSP answer as far as servers look: successful, with this as what the authority has signed (RFC 6960, section 4.2.1).
fn answer(signed: &[u8]) -> Vec<u8> {
    let basic = der(6, &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1]);
    let bytes = der(0x30, &[basic, der(4, signed)].concat());
    der(0x30, &[der(10, &[0]), der(0xa0, &bytes)].concat())
}

#[test]
fn an_ocsp_answer_is_shown_as_it_is_in_its_file_and_anew_when_that_changes() {
    let home = Home::new("");
    Authority::new().sign(&["a.example"]).write(&home, "a");
    let file = home.path().join("a.ocsp");
    let (answer, newer) = (answer(b"an answer"), answer(b"a newer answer"));
    std::fs::write(&file, &answer).unwrap();
    configured(
        &home,
        &["{ cert = \"DIR/a.pem\", key = \"DIR/a.key\", ocsp = \"DIR/a.ocsp\" }"],
    );
    let node = home.start();
    assert_eq!(shown(&node, ECDSA).1, answer);
    std::fs::write(file.with_extension("new"), &newer).unwrap();
    std::fs::rename(file.with_extension("new"), &file).unwrap();
    until("the newer answer", || {
        (shown(&node, ECDSA).1 == newer).then_some(())
    });
    // Garbage changes nothing, nor does a file that is gone.
    std::fs::write(file.with_extension("new"), b"an answer").unwrap();
    std::fs::rename(file.with_extension("new"), &file).unwrap();
    node.said().until_line("a.ocsp is no OCSP answer");
    assert_eq!(shown(&node, ECDSA).1, newer);
    std::fs::remove_file(&file).unwrap();
    node.said().until_line("a.ocsp cannot be read");
    assert_eq!(shown(&node, ECDSA).1, newer);
}

#[test]
fn of_two_certificates_with_one_name_a_client_gets_the_one_that_it_can_verify() {
    let authority = Authority::new();
    let home = Home::new("");
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    authority
        .sign_with(&rsa, &["a.example"])
        .write(&home, "rsa");
    authority.sign(&["a.example"]).write(&home, "ecdsa");
    let files =
        ["rsa", "ecdsa"].map(|n| format!("{{ cert = \"DIR/{n}.pem\", key = \"DIR/{n}.key\" }}"));
    configured(&home, &[&files[0], &files[1]]);
    let node = home.start();
    let (rsa, ecdsa) = (shown(&node, RSA).0, shown(&node, ECDSA).0);
    assert_ne!(rsa, ecdsa);
    // An RSA key of 2,048 bits alone is larger than all of the other.
    assert!(rsa.len() > ecdsa.len(), "{} and {}", rsa.len(), ecdsa.len());
    let both = [ECDSA, RSA].concat();
    assert_eq!(shown(&node, &both).0, rsa, "the first of the list");
}

/// Sessions of one name, whatever they are asked for.
#[derive(Debug, Default)]
struct Mixed(Mutex<VecDeque<Tls13ClientSessionValue>>);

impl ClientSessionStore for Mixed {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.0.lock().unwrap().push_back(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap().pop_front()
    }
}

#[test]
fn a_session_is_resumed_for_its_own_name_and_at_its_own_listener_only() {
    let home = Home::new("");
    Authority::new()
        .sign(&["a.example", "b.example"])
        .write(&home, "both");
    let at = home.path().display();
    let listener = |name: &str| {
        format!(
            "[listener.{name}]\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\n\
             tls = {{ certificates = [{{ cert = \"{at}/both.pem\", key = \"{at}/both.key\" }}] }}\n\
             [[listener.{name}.route]]\nanswer = {{ body = \"hello\" }}\n"
        )
    };
    home.configure(&format!("{}{}", listener("web"), listener("other")));
    let node = home.start();
    let curious = Arc::new(Curious {
        knows: ECDSA.into(),
        seen: Mutex::default(),
    });
    for (listener, name, kind) in [
        ("web", "a.example", HandshakeKind::Resumed),
        ("web", "b.example", HandshakeKind::Full),
        ("other", "a.example", HandshakeKind::Full),
    ] {
        let config = client(curious.clone(), Resumption::store(Arc::<Mixed>::default()));
        asked(&mut connect(node.web(), &config, "a.example"));
        // What it got there it shows here, whatever the name.
        let mut client = connect(node.listener(listener), &config, name);
        asked(&mut client);
        assert_eq!(
            client.conn.handshake_kind(),
            Some(kind),
            "{listener} {name}"
        );
    }
}

#[test]
fn requests_for_another_host_than_the_connections_are_sent_elsewhere_if_that_is_wanted() {
    let home = Home::new("");
    Authority::new()
        .sign(&["a.example", "b.example"])
        .write(&home, "both");
    let at = home.path().display();
    let config = |misdirected: &str| {
        format!(
            "[listener.web]\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\nmisdirected = {misdirected:?}\n\
             tls = {{ certificates = [{{ cert = \"{at}/both.pem\", key = \"{at}/both.key\" }}] }}\n\
             [[listener.web.route]]\nanswer = {{ body = \"hello\" }}\n"
        )
    };
    home.configure(&config("refuse"));
    let node = home.start();
    let curious = Arc::new(Curious {
        knows: ECDSA.into(),
        seen: Mutex::default(),
    });
    let config_of = |protocol: &str| {
        let mut config = client(curious.clone(), Resumption::disabled())
            .as_ref()
            .clone();
        config.alpn_protocols = vec![protocol.into()];
        Arc::new(config)
    };
    let older = |name: &str, host: &str| {
        let mut stream = connect(node.web(), &config_of("http/1.1"), name);
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer[9..12].parse::<u16>().unwrap()
    };
    assert_eq!(older("a.example", "A.example:443"), 200);
    assert_eq!(older("a.example", "b.example"), 421);
    // Nobody was asked for.
    assert_eq!(older("127.0.0.1", "b.example"), 200);
    assert_eq!(
        statuses(connect(node.web(), &config_of("h2"), "shop.example")),
        [200, 421]
    );
    node.reload(&config("serve"));
    assert_eq!(older("a.example", "b.example"), 200);
    assert_eq!(
        statuses(connect(node.web(), &config_of("h2"), "shop.example")),
        [200, 200]
    );
}

/// What two requests of one connection in HTTP/2 are answered with: one for `shop.example`, and one for `b`.
fn statuses(mut stream: Client) -> Vec<u16> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let mut frame = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
        frame.extend_from_slice(payload);
        frame
    };
    let mut all = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    all.extend(frame(4, 0, 0, &[]));
    for (number, host) in [(1, &b"shop.example"[..]), (3, b"b")] {
        // GET, /, https from HPACK's table, and an authority (RFC 7541, appendix A).
        let head = [&[0x82, 0x84, 0x87, 0x41, host.len() as u8], host].concat();
        all.extend(frame(1, 5, number, &head));
    }
    stream.write_all(&all).unwrap();
    let mut statuses = Vec::new();
    while statuses.len() < 2 {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).unwrap();
        if head[3] == 1 {
            // 200 has a number in the table; 421 is written out, as three digits or in Huffman's code.
            let has = |text: &[u8]| payload.windows(text.len()).any(|w| w == text);
            let misdirected = has(b"421") || has(&[0x68, 0x81]);
            assert!(misdirected || payload[..2].contains(&0x88), "{payload:?}");
            statuses.push(if misdirected { 421 } else { 200 });
        }
    }
    statuses
}
