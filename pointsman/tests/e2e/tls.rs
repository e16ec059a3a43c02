//! TLS of clients and of instances, with clients that are not ours.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
    StreamOwned,
};

use crate::harness::{Home, Node, Origin, Reply, get, until};
use crate::tcp::Instance;

/// Signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate and its key, both PEM.
pub(crate) struct Identity {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        // Else it would have the name of what it signs, and OpenSSL take that for its own authority.
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    pub(crate) fn sign(&self, names: &[&str]) -> Identity {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        self.signed(&CertificateParams::new(names).unwrap())
    }

    /// A certificate of somebody with this subject.
    pub(crate) fn sign_person(&self, subject: &[(DnType, &str)]) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        self.signed(&params)
    }

    /// The same with a key that is there already.
    pub(crate) fn sign_with(&self, key: &KeyPair, names: &[&str]) -> Identity {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        self.signed_with(key, &CertificateParams::new(names).unwrap())
    }

    pub(crate) fn signed(&self, params: &CertificateParams) -> Identity {
        self.signed_with(&KeyPair::generate().unwrap(), params)
    }

    fn signed_with(&self, key: &KeyPair, params: &CertificateParams) -> Identity {
        let cert = params.signed_by(key, &self.issuer).unwrap().pem();
        let key = key.serialize_pem();
        Identity { cert, key }
    }
}

impl Identity {
    /// Writes it to a node's home as an editor does, the key first.
    pub(crate) fn write(&self, home: &Home, name: &str) {
        for (suffix, text) in [("key", &self.key), ("pem", &self.cert)] {
            let path = home.path().join(format!("{name}.{suffix}"));
            std::fs::write(path.with_extension("new"), text).unwrap();
            std::fs::rename(path.with_extension("new"), path).unwrap();
        }
    }

    pub(crate) fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let cert = CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        (vec![cert], key)
    }
}

/// A client that trusts these authorities.
pub(crate) fn trusting(
    authorities: &[&Authority],
    identity: Option<&Identity>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        let der = CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap();
        roots.add(der).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = identity.der();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

pub(crate) type Client = StreamOwned<ClientConnection, TcpStream>;

pub(crate) fn connect(at: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Client {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TcpStream::connect(at).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    StreamOwned::new(ClientConnection::new(config.clone(), name).unwrap(), stream)
}

/// Sends a request that is the connection's last, and reads to an end in order.
fn ask(client: &mut Client, fields: &str, body: &[u8]) -> io::Result<Vec<u8>> {
    let length = body.len();
    write!(
        client,
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}Content-Length: {length}\r\n\r\n"
    )?;
    client.write_all(body)?;
    client.flush()?;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer)?;
    Ok(answer)
}

fn asks(at: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Result<String, String> {
    let answer = ask(&mut connect(at, config, name), "", b"");
    let answer = answer.map_err(|fault| fault.to_string())?;
    Ok(String::from_utf8(answer).unwrap())
}

/// A home with an HTTPS listener in front of an origin, and a certificate `web` for `web.example`.
fn https(origin: &Origin, authority: &Authority, tls: &str, more: &str) -> Home {
    let home = Home::new("");
    authority
        .sign(&["web.example", "127.0.0.1"])
        .write(&home, "web");
    std::fs::write(home.path().join("ca.pem"), &authority.pem).unwrap();
    let at = home.path().display();
    home.configure(&format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\nservice = \"shop\"\n{more}\n\
         [listener.web.tls]\ncertificates = [{{ cert = \"{at}/web.pem\", key = \"{at}/web.key\" }}]\n{}\n\
         [[service.shop.instance]]\naddress = \"{}\"\n",
        tls.replace("DIR", &at.to_string()),
        origin.address
    ));
    home
}

/// Answers with the request's head and the length of its body.
fn mirror() -> Origin {
    Origin::answering(|heard| Reply::text(&format!("{}\n{}", heard.head, heard.body.len())))
}

#[test]
fn a_certificate_is_chosen_by_its_exact_name_then_a_wildcard_then_it_is_the_first() {
    let [first, exact, wild] = [(); 3].map(|()| Authority::new());
    let home = Home::new("");
    first
        .sign(&["first.org", "127.0.0.1"])
        .write(&home, "first");
    exact.sign(&["a.example.com"]).write(&home, "exact");
    wild.sign(&["*.example.com"]).write(&home, "wild");
    let at = home.path().display();
    let files = ["first", "wild", "exact"]
        .map(|n| format!("{{ cert = \"{at}/{n}.pem\", key = \"{at}/{n}.key\" }}"));
    home.configure(&format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\n\
         tls = {{ certificates = [{}] }}\n[[listener.web.route]]\nanswer = {{ body = \"hello\" }}\n",
        files.join(", ")
    ));
    let node = home.start();
    for (authority, name, good) in [
        (&exact, "a.example.com", true),
        (&exact, "A.Example.COM", true),
        (&wild, "b.example.com", true),
        (&wild, "a.example.com", false),
        (&wild, "x.b.example.com", false),
        (&first, "first.org", true),
        // No name is asked for.
        (&first, "127.0.0.1", true),
    ] {
        let answer = asks(node.web(), &trusting(&[authority], None), name);
        assert_eq!(answer.is_ok(), good, "{name}: {answer:?}");
    }
}

#[test]
fn instances_hear_of_https_and_sessions_are_resumed() {
    let (origin, authority) = (mirror(), Authority::new());
    let node = https(&origin, &authority, "", "").start();
    let config = trusting(&[&authority], None);
    let mut kinds = Vec::new();
    for _ in 0..3 {
        let mut client = connect(node.web(), &config, "web.example");
        let answer = ask(&mut client, "X-Forwarded-Proto: http\r\n", b"").unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains("X-Forwarded-Proto: https\r\n"), "{answer}");
        assert!(answer.contains("proto=https\r\n"), "{answer}");
        kinds.push(client.conn.handshake_kind().unwrap());
    }
    assert_eq!(kinds[0], HandshakeKind::Full);
    assert_eq!(kinds[1..], [HandshakeKind::Resumed; 2]);
    let count = |name: &str| node.metric(&format!("{name}{{listener=\"web\"}}"));
    assert_eq!(count("pointsman_listener_tls_handshakes_total"), 3.0);
    assert_eq!(count("pointsman_listener_tls_resumed_total"), 2.0);
}

#[test]
fn certificates_are_swapped_under_load_and_unusable_ones_are_left_alone() {
    let (origin, old, new) = (mirror(), Authority::new(), Authority::new());
    let home = https(&origin, &old, "", "");
    let node = home.start();
    let (over, asked) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (over, asked, at) = (over.clone(), asked.clone(), node.web());
            let config = trusting(&[&old, &new], None);
            std::thread::spawn(move || {
                let mut failures = Vec::new();
                while !over.load(Relaxed) {
                    failures.extend(asks(at, &config, "web.example").err());
                    asked.fetch_add(1, Relaxed);
                }
                failures
            })
        })
        .collect();
    let serves = |authority: &Authority| {
        asks(node.web(), &trusting(&[authority], None), "web.example").is_ok()
    };
    let stale = "pointsman_certificate_stale{of=\"listener web\"}";
    for garbage in [
        "",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        std::fs::write(home.path().join("web.pem"), garbage).unwrap();
        until("the fault to be seen", || {
            (node.metric(stale) == 1.0).then_some(())
        });
        assert!(serves(&old));
        old.sign(&["web.example"]).write(&home, "web");
        until("the fault to be over", || {
            (node.metric(stale) == 0.0).then_some(())
        });
    }
    let said = node.said().until_line("ERROR: listener web");
    assert!(said.contains("web.pem"), "{said}");
    // A key of another certificate, and no key at all.
    std::fs::write(home.path().join("web.key"), new.sign(&["b"]).key).unwrap();
    until("the mismatch to be seen", || {
        (node.metric(stale) == 1.0).then_some(())
    });
    std::fs::remove_file(home.path().join("web.key")).unwrap();
    let failures = "pointsman_certificate_load_failures_total";
    until("the loss to be seen", || {
        (node.metric(failures) >= 4.0).then_some(())
    });
    assert!(serves(&old));
    new.sign(&["web.example"]).write(&home, "web");
    until("the new certificate", || serves(&new).then_some(()));
    over.store(true, Relaxed);
    for client in clients {
        assert_eq!(client.join().unwrap(), Vec::<String>::new());
    }
    assert!(asked.load(Relaxed) > 100);
}

#[test]
fn a_node_without_its_certificate_does_not_start_and_says_which_file() {
    let (origin, authority) = (mirror(), Authority::new());
    let home = https(&origin, &authority, "", "");
    std::fs::remove_file(home.path().join("web.key")).unwrap();
    let said = home.refusal();
    assert!(
        said.contains("listener.web.tls.certificates[1]: ")
            && said.contains("web.key cannot be read"),
        "{said}"
    );
}

#[test]
fn clients_prove_who_they_are_and_instances_are_told() {
    let (origin, authority, stranger) = (mirror(), Authority::new(), Authority::new());
    let (good, bad) = (authority.sign(&["client"]), stranger.sign(&["client"]));
    let forged = "Client-Cert: :Zm9yZ2Vk:\r\nClient_Cert: x\r\nclient-cert-chain: y\r\n";
    for (auth, without) in [("required", false), ("optional", true)] {
        let tls = format!("client_auth = {auth:?}\nclient_ca = \"DIR/ca.pem\"");
        let trust = "trusted_peers = [\"127.0.0.0/8\"]";
        let node = https(&origin, &authority, &tls, trust).start();
        let answer = |identity| {
            let config = trusting(&[&authority], identity);
            let answer = ask(
                &mut connect(node.web(), &config, "web.example"),
                forged,
                b"",
            );
            answer.map(|answer| String::from_utf8(answer).unwrap().to_lowercase())
        };
        let told = answer(Some(&good)).unwrap();
        assert_eq!(told.matches("client-cert: :mii").count(), 1, "{told}");
        assert_eq!(told.matches("client-cert").count(), 1, "{told}");
        assert!(!told.contains("client_cert"), "{told}");
        let told = answer(None);
        assert_eq!(told.is_ok(), without, "{told:?}");
        assert!(told.is_err() || !told.unwrap().contains("client-cert"));
        assert!(answer(Some(&bad)).is_err());
    }
}

/// An instance that speaks TLS.
pub(crate) fn tls_instance(
    identity: &Identity,
    script: impl Fn(&mut StreamOwned<ServerConnection, TcpStream>) + Send + Sync + 'static,
) -> Instance {
    let (chain, key) = identity.der();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    Instance::new(move |stream, _| {
        let connection = ServerConnection::new(config.clone()).unwrap();
        script(&mut StreamOwned::new(connection, stream));
    })
}

/// A plain listener in front of an instance that speaks TLS.
fn to_tls(instance: &Instance, authority: &Authority, tls: &str) -> Node {
    let home = Home::new("");
    let ca = home.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    home.configure(&format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\nservice = \"shop\"\n\
         [service.shop]\nretries = 0\ntls = {{ ca = {:?}, {tls} }}\n\
         [[service.shop.instance]]\naddress = \"{}\"\n",
        ca.display().to_string(),
        instance.address
    ));
    home.start()
}

fn answer_with(stream: &mut impl Read, head: &str) -> Option<Vec<u8>> {
    let mut heard = Vec::new();
    let mut byte = [0];
    while !heard.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => heard.push(byte[0]),
            _ => return None,
        }
    }
    Some(head.into())
}

#[test]
fn instances_are_asked_by_tls_if_they_are_who_they_should_be() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let (authority, stranger) = (Authority::new(), Authority::new());
    let instance = tls_instance(&authority.sign(&["shop.internal", "127.0.0.1"]), |stream| {
        while let Some(answer) = answer_with(stream, OK) {
            if stream
                .write_all(&answer)
                .and_then(|()| stream.flush())
                .is_err()
            {
                return;
            }
        }
    });
    for (authority, tls, status) in [
        (&authority, "server_name = \"shop.internal\"", 200),
        (&authority, "", 200),
        (&authority, "server_name = \"other.internal\"", 502),
        (&stranger, "server_name = \"shop.internal\"", 502),
        (&stranger, "verify = false", 200),
    ] {
        let node = to_tls(&instance, authority, tls);
        let before = instance.accepted();
        for _ in 0..3 {
            assert_eq!(get(node.web(), "/").status, status, "{tls}");
        }
        // Connections are kept, as plain ones are.
        assert!(status != 200 || instance.accepted() - before <= 2, "{tls}");
    }
}

#[test]
fn a_tcp_listener_puts_tls_on_towards_instances_that_are_who_they_should_be() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let instance = tls_instance(&authority.sign(&["db.internal"]), |stream| {
        let mut buffer = [0; 4_096];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            let sent = stream.write_all(&buffer[..n]);
            if sent.and_then(|()| stream.flush()).is_err() {
                return;
            }
        }
        stream.conn.send_close_notify();
        let _ = stream.flush();
    });
    for (authority, served) in [(&authority, true), (&stranger, false)] {
        let home = Home::new("");
        let ca = home.path().join("ca.pem");
        std::fs::write(&ca, &authority.pem).unwrap();
        home.configure(&format!(
            "[listener.db]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nservice = \"db\"\n\
             [service.db]\ntls = {{ ca = {:?}, server_name = \"db.internal\" }}\n\
             [[service.db.instance]]\naddress = \"{}\"\n",
            ca.display().to_string(),
            instance.address
        ));
        let node = home.start();
        let mut client = crate::tcp::connect(&node);
        let sent: Vec<u8> = (0..1 << 20).map(|n| (n % 253) as u8).collect();
        if !served {
            let reset = Err(std::io::ErrorKind::ConnectionReset);
            assert_eq!(crate::tcp::end(&mut client), reset);
            continue;
        }
        for part in sent.chunks(100_000) {
            crate::tcp::ping(&mut client, part);
        }
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(crate::tcp::end(&mut client), Ok(Vec::new()));
    }
}

#[test]
fn an_answer_that_is_cut_without_a_word_is_no_whole_answer() {
    let authority = Authority::new();
    let until_close = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of it";
    let identity = authority.sign(&["127.0.0.1"]);
    for in_order in [true, false] {
        let instance = tls_instance(&identity, move |stream| {
            let Some(answer) = answer_with(stream, until_close) else {
                return;
            };
            stream.write_all(&answer).unwrap();
            if in_order {
                stream.conn.send_close_notify();
            }
            stream.flush().unwrap();
        });
        let node = to_tls(&instance, &authority, "");
        let mut client = crate::harness::Connection::open(node.web());
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.try_answer();
        let whole = answer
            .as_ref()
            .is_ok_and(|a| a.status == 200 && a.text() == "half of it");
        assert_eq!(whole, in_order, "{:?}", answer.map(|a| a.status));
    }
}

#[test]
fn handshakes_that_stall_or_are_none_end_and_do_not_keep_others_waiting() {
    let (origin, authority) = (mirror(), Authority::new());
    let limits = "timeouts = { request_head = \"2s\" }";
    let node = https(&origin, &authority, "", limits).start();
    let config = trusting(&[&authority], None);
    let mut stalled: Vec<_> = (0..1_000)
        .filter_map(|_| TcpStream::connect(node.web()).ok())
        .collect();
    for (n, stream) in stalled.iter_mut().enumerate() {
        // Half of them have begun.
        if n % 2 == 0 {
            stream
                .write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3])
                .unwrap();
        }
    }
    for _ in 0..20 {
        asks(node.web(), &config, "web.example").unwrap();
    }
    let mut garbage = TcpStream::connect(node.web()).unwrap();
    garbage
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut alert = Vec::new();
    garbage.read_to_end(&mut alert).unwrap();
    assert_eq!(alert.first(), Some(&0x15), "{alert:?}");
    for mut stream in stalled {
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let ended = stream.read_to_end(&mut Vec::new());
        let late = |fault: &io::Error| fault.kind() == io::ErrorKind::WouldBlock;
        assert!(!ended.is_err_and(|fault| late(&fault)));
    }
    let failed = "pointsman_listener_tls_failed_total{listener=\"web\"}";
    until("all to be counted", || {
        (node.metric(failed) >= 1_001.0).then_some(())
    });
    asks(node.web(), &config, "web.example").unwrap();
}

#[test]
fn large_bodies_go_both_ways() {
    const SIZE: usize = 20 << 20;
    let origin = Origin::answering(|heard| Reply {
        status: 200,
        fields: String::new(),
        body: heard.body.clone(),
    });
    let authority = Authority::new();
    let node = https(&origin, &authority, "", "").start();
    let body: Vec<u8> = (0..SIZE).map(|n| (n % 251) as u8).collect();
    let mut client = connect(node.web(), &trusting(&[&authority], None), "web.example");
    let answer = ask(&mut client, "", &body).unwrap();
    assert!(answer.ends_with(&body));
}

/// A TCP listener that ends TLS in front of an echo.
fn echo(authority: &Authority, tls: &str) -> (Node, Instance) {
    let instance = Instance::echo();
    let home = Home::new("");
    authority.sign(&["db.example"]).write(&home, "db");
    let at = home.path().display();
    home.configure(&format!(
        "[listener.db]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nservice = \"db\"\n\
         tls = {{ certificates = [{{ cert = \"{at}/db.pem\", key = \"{at}/db.key\" }}]{tls} }}\n\
         [[service.db.instance]]\naddress = \"{}\"\n",
        instance.address
    ));
    (home.start(), instance)
}

#[test]
fn a_tcp_listener_takes_tls_off() {
    let authority = Authority::new();
    let (node, _instance) = echo(&authority, ", alpn = [\"imap\"]");
    let mut config = ClientConfig::clone(&trusting(&[&authority], None));
    config.alpn_protocols = vec![b"imap".into()];
    let mut client = connect(node.listener("db"), &Arc::new(config), "db.example");
    let sent: Vec<u8> = (0..3 << 20).map(|n| (n % 253) as u8).collect();
    for part in sent.chunks(200_000) {
        client.write_all(part).unwrap();
        client.flush().unwrap();
        let mut back = vec![0; part.len()];
        client.read_exact(&mut back).unwrap();
        assert!(back == part);
    }
    assert_eq!(client.conn.alpn_protocol(), Some(&b"imap"[..]));
    client.conn.send_close_notify();
    client.flush().unwrap();
    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn curl_and_openssl_are_served() {
    let (origin, authority) = (mirror(), Authority::new());
    let home = https(&origin, &authority, "min_version = \"1.2\"", "");
    let node = home.start();
    let ca = home.path().join("ca.pem");
    for version in ["1.2", "1.3"] {
        let curl = Command::new("curl")
            .args([
                "-sS",
                "-w",
                " %{http_version}",
                "--tls-max",
                version,
                "--cacert",
            ])
            .arg(&ca)
            .args([
                "--resolve",
                &format!("web.example:{}:127.0.0.1", node.web().port()),
            ])
            .arg(format!("https://web.example:{}/", node.web().port()))
            .output();
        // Where there is none, it cannot be asked.
        let Ok(curl) = curl else { continue };
        let said = String::from_utf8_lossy(&curl.stdout);
        assert!(said.contains("X-Forwarded-Proto: https"), "{curl:?}");
        assert!(said.ends_with(" 2"), "by ALPN: {said}");
    }
    let openssl = Command::new("openssl")
        .args(["s_client", "-connect", &node.web().to_string(), "-CAfile"])
        .arg(&ca)
        .args(["-servername", "web.example", "-verify_return_error"])
        .stdin(Stdio::null())
        .output();
    if let Ok(openssl) = openssl {
        let said = String::from_utf8_lossy(&openssl.stdout);
        assert!(said.contains("Verify return code: 0 (ok)"), "{openssl:?}");
    }
}
