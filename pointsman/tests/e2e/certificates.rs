//! What a TLS handshake shows of a certificate, by a client that looks: OCSP answers, kinds of keys, and whose session is resumed.

use std::collections::VecDeque;
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
    use std::io::{Read, Write};
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

#[test]
fn an_ocsp_answer_is_shown_as_it_is_in_its_file_and_anew_when_that_changes() {
    let home = Home::new("");
    Authority::new().sign(&["a.example"]).write(&home, "a");
    let file = home.path().join("a.ocsp");
    std::fs::write(&file, b"an answer").unwrap();
    configured(
        &home,
        &["{ cert = \"DIR/a.pem\", key = \"DIR/a.key\", ocsp = \"DIR/a.ocsp\" }"],
    );
    let node = home.start();
    assert_eq!(shown(&node, ECDSA).1, b"an answer");
    std::fs::write(file.with_extension("new"), b"a newer answer").unwrap();
    std::fs::rename(file.with_extension("new"), &file).unwrap();
    until("the newer answer", || {
        (shown(&node, ECDSA).1 == b"a newer answer").then_some(())
    });
    // One that is gone changes nothing.
    std::fs::remove_file(&file).unwrap();
    node.said().until_line("a.ocsp");
    assert_eq!(shown(&node, ECDSA).1, b"a newer answer");
}

#[test]
fn of_two_certificates_with_one_name_a_client_gets_the_one_that_it_can_verify() {
    let authority = Authority::new();
    let home = Home::new("");
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    authority.sign_with(&rsa, &["a.example"]).write(&home, "rsa");
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
