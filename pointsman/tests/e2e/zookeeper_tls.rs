//! ZooKeeper's clients by TLS, and who they are.

use std::io::{Read, Write};
use std::net::TcpStream;

use rcgen::DnType;

use crate::harness::{Home, Node, PATIENCE, ZkClient, until, zk_create, zk_text};
use crate::tls::{Authority, Client, Identity, connect, trusting};

/// A home whose clients must show a certificate, or may.
fn home(authority: &Authority, auth: &str) -> Home {
    let home = Home::new("");
    authority.sign(&["localhost"]).write(&home, "server");
    let ca = home.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).expect("a file");
    let at = home.path().display().to_string();
    home.configure(&format!(
        r#"
        [front.zookeeper]
        bind = "127.0.0.1:0"
        tls_bind = "127.0.0.1:0"
        sasl_users = {{ ann = "secret" }}
        [front.zookeeper.tls]
        certificates = [{{ cert = "{at}/server.pem", key = "{at}/server.key" }}]
        client_auth = "{auth}"
        client_ca = "{at}/ca.pem"
        "#
    ));
    home
}

fn dial(node: &Node, authority: &Authority, identity: Option<&Identity>) -> Client {
    let at = node.listener("zookeeper-tls");
    connect(at, &trusting(&[authority], identity), "localhost")
}

fn opened(stream: Client) -> Option<ZkClient<Client>> {
    ZkClient::over(stream, 10_000, 0, &[0; 16]).ok().flatten()
}

fn created_for(path: &str, scheme: &str, id: &str) -> Vec<u8> {
    let line = [1_i32.to_be_bytes(), 31_i32.to_be_bytes()].concat();
    let who = [zk_text(scheme.as_bytes()), zk_text(id.as_bytes())].concat();
    [
        zk_text(path.as_bytes()),
        zk_text(b"x"),
        line,
        who,
        vec![0; 4],
    ]
    .concat()
}

#[test]
fn a_certificates_subject_is_who_a_client_is() {
    let authority = Authority::new();
    let node = home(&authority, "optional").start();
    let subject = [
        (DnType::OrganizationName, "Shop, Inc."),
        (DnType::CommonName, "worker"),
    ];
    let worker = authority.sign_person(&subject);
    let mut client = opened(dial(&node, &authority, Some(&worker))).expect("a session");
    let name = r"CN=worker,O=Shop\, Inc.";
    assert_eq!(client.ask(1, &created_for("/named", "x509", name)).0, 0);
    // `auth` stands for what was proven.
    assert_eq!(client.ask(1, &created_for("/proven", "auth", "")).0, 0);
    assert_eq!(
        client.ask(1, &created_for("/bad", "x509", "worker")).0,
        -114
    );
    let (error, identities) = client.ask(107, &[]);
    assert_eq!(error, 0);
    let identities = String::from_utf8_lossy(&identities).into_owned();
    assert!(
        identities.contains("x509") && identities.contains(name),
        "{identities}"
    );
    for path in ["/named", "/proven"] {
        assert_eq!(client.data(path), Ok(b"x".to_vec()));
    }
    // Whoever shows another certificate, or none, is somebody else.
    let other = authority.sign_person(&[(DnType::CommonName, "worker")]);
    for identity in [Some(&other), None] {
        let mut client = opened(dial(&node, &authority, identity)).expect("a session");
        assert_eq!(client.data("/named"), Err(-102));
        assert_eq!(client.data("/proven"), Err(-102));
    }
    let mut plain = ZkClient::open(node.zookeeper(), 10_000);
    assert_eq!(plain.data("/named"), Err(-102));
}

#[test]
fn who_may_not_come_in_does_not_and_large_things_pass_through() {
    let authority = Authority::new();
    let node = home(&authority, "required").start();
    let worker = authority.sign_person(&[(DnType::CommonName, "worker")]);
    assert!(opened(dial(&node, &authority, None)).is_none());
    let stranger = Authority::new().sign_person(&[(DnType::CommonName, "worker")]);
    assert!(opened(dial(&node, &authority, Some(&stranger))).is_none());
    // Clear text where TLS is spoken, and nothing at all.
    let at = node.listener("zookeeper-tls");
    let mut plain = TcpStream::connect(at).expect("a connection");
    plain.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    plain.write_all(b"ruok").expect("sent");
    plain.write_all(&[0; 64]).expect("sent");
    let mut answer = Vec::new();
    let closed = plain.read_to_end(&mut answer);
    assert!(closed.is_err() || !answer.windows(4).any(|w| w == b"imok"));
    let mut client = opened(dial(&node, &authority, Some(&worker))).expect("a session");
    let data: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    assert_eq!(client.create("/large", &data, 0), 0);
    // Many answers at once, more than the kernel takes before they are read.
    let sent: Vec<i32> = (0..20)
        .map(|_| client.send(4, &[&zk_text(b"/large")[..], &[0]].concat()))
        .collect();
    for wanted in sent {
        let (xid, (error, body)) = client.answer().expect("an answer");
        assert_eq!((xid, error), (wanted, 0));
        assert!(body[4..4 + data.len()] == data);
    }
    client.close();
}

#[test]
fn a_new_certificate_is_shown_at_once_and_breaks_no_connection() {
    let authority = Authority::new();
    let home = home(&authority, "optional");
    let node = home.start();
    let mut before = opened(dial(&node, &authority, None)).expect("a session");
    let next = Authority::new();
    assert!(opened(dial(&node, &next, None)).is_none());
    next.sign(&["localhost"]).write(&home, "server");
    until("the new certificate", || opened(dial(&node, &next, None)));
    assert_eq!(before.ask(1, &zk_create("/a", b"", 0)).0, 0);
    // It is said after it is so.
    node.said()
        .until_line("front zookeeper: its certificates were loaded again");
}

#[test]
fn a_password_is_proven_by_sasl() {
    let node = home(&Authority::new(), "optional").start();
    let mut client = ZkClient::open(node.zookeeper(), 10_000);
    assert_eq!(client.ask(1, &created_for("/anns", "sasl", "ann")).0, 0);
    assert_eq!(client.data("/anns"), Err(-102));
    let (error, challenge) = client.ask(102, &zk_text(b""));
    assert_eq!(error, 0);
    assert!(String::from_utf8_lossy(&challenge).contains("realm=\"zk-sasl-md5\""));
    // Good answers are for real clients (conformance/zookeeper); this one is wrong, and the connection is closed.
    assert_eq!(
        client.ask(102, &zk_text(b"username=\"ann\",response=0")).0,
        -115
    );
    assert!(client.answer().is_none());
}
