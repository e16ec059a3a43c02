//! Probes against servers on loopback, each of which misbehaves in its own way.

use std::net::SocketAddr;
use std::time::Duration;

use health::{Outcome, Target, probe};
use model::{
    CheckKind, CheckProtocol, CheckSpec, Counter, Exchange, Health, Incarnation, ProtocolCheck,
    Role, ServiceKey, Transport,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

async fn probed(address: SocketAddr, kind: CheckKind) -> Outcome {
    let target = Target {
        key: ServiceKey::in_default("s".parse().unwrap()),
        id: "a".parse().unwrap(),
        incarnation: Incarnation(1),
        host: address.ip().to_string().parse().unwrap(),
        port: address.port(),
        check: CheckSpec {
            kind,
            port: None,
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(400),
            rise: 1,
            fall: 1,
        },
        health: Health::Unknown,
        role: None,
        reason: None,
    };
    probe(&target, None, &Counter::default()).await
}

/// A server that greets, and then says each of `answers` to whatever comes, byte by byte if it is `slow`.
async fn server(
    greeting: &'static str,
    answers: &'static [&'static str],
    slow: bool,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut heard = [0; 1024];
        for (n, text) in [greeting].iter().chain(answers).enumerate() {
            if n > 0 && stream.read(&mut heard).await.unwrap_or(0) == 0 {
                return;
            }
            let step = if slow { 1 } else { text.len().max(1) };
            for piece in text.as_bytes().chunks(step) {
                if stream.write_all(piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        }
        // Whoever waits for more waits.
        while stream.read(&mut heard).await.is_ok_and(|n| n > 0) {}
    });
    address
}

fn exchange(transport: Transport, send: Option<&str>, expect: Option<&str>) -> CheckKind {
    CheckKind::Exchange(Exchange {
        transport,
        send: send.map(Into::into),
        expect: expect.map(Into::into),
    })
}

fn by(protocol: CheckProtocol) -> CheckKind {
    CheckKind::Protocol(ProtocolCheck {
        protocol,
        user: None,
        password: None,
        database: None,
    })
}

#[tokio::test]
async fn what_is_expected_is_found_wherever_the_answer_is_cut() {
    for slow in [false, true] {
        let address = server("", &["+PO", "NG\r\n"], slow).await;
        let kind = exchange(Transport::Tcp, Some("PING\r\n"), Some("PONG"));
        let outcome = probed(address, kind).await;
        // The second part is said only after more was heard.
        assert!(outcome.unwrap_err().starts_with("no answer within"));
        let address = server("", &["hello\r\n+PONG\r\n"], slow).await;
        let kind = exchange(Transport::Tcp, Some("PING\r\n"), Some("PONG"));
        assert_eq!(probed(address, kind).await, Ok(None));
    }
    let address = server("220 ready", &[], false).await;
    assert_eq!(
        probed(address, exchange(Transport::Tcp, None, Some("ready"))).await,
        Ok(None)
    );
}

#[tokio::test]
async fn datagrams_that_get_there_are_enough_unless_an_answer_is_expected() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    assert_eq!(
        probed(address, exchange(Transport::Udp, None, None)).await,
        Ok(None)
    );
    let outcome = probed(address, exchange(Transport::Udp, Some("x"), Some("y"))).await;
    assert!(outcome.unwrap_err().starts_with("no answer within"));
    let echo = tokio::spawn(async move {
        let mut heard = [0; 64];
        loop {
            let (length, from) = socket.recv_from(&mut heard).await.unwrap();
            socket.send_to(&heard[..length], from).await.unwrap();
        }
    });
    let asks = |expect| exchange(Transport::Udp, Some("ping"), Some(expect));
    assert_eq!(probed(address, asks("in")).await, Ok(None));
    assert_eq!(
        probed(address, asks("out")).await,
        Err("the answer has no \"out\"".into())
    );
    echo.abort();
    assert!(echo.await.is_err());
    // The kernel answers with ICMP's "port unreachable".
    for expect in [None, Some("y")] {
        let outcome = probed(address, exchange(Transport::Udp, Some("x"), expect)).await;
        assert_eq!(outcome, Err(format!("nothing listens at {address}/udp")));
    }
}

#[tokio::test]
async fn mail_servers_are_well_when_they_greet() {
    use CheckProtocol::{Imap, Pop3, Smtp};
    for (protocol, greeting) in [
        (Smtp, "220-mail.example\r\n220 ready\r\n"),
        (Imap, "* OK ready\r\n"),
        (Imap, "* PREAUTH as you\r\n"),
        (Pop3, "+OK ready <1@mail.example>\r\n"),
    ] {
        for slow in [false, true] {
            let address = server(greeting, &[], slow).await;
            assert_eq!(probed(address, by(protocol)).await, Ok(None), "{greeting}");
        }
    }
    for (protocol, greeting, why) in [
        (Smtp, "554 go away\r\n", "the server says: 554 go away"),
        (
            Imap,
            "* BYE overloaded\r\n",
            "the server says: * BYE overloaded",
        ),
        (
            Pop3,
            "-ERR [SYS/TEMP] later\r\n",
            "the server says: -ERR [SYS/TEMP] later",
        ),
        (Pop3, "SSH-2.0-x\r\n", "the answer is no POP3"),
        (Smtp, "\0\0\0", "the answer is no SMTP"),
    ] {
        let address = server(greeting, &[], true).await;
        assert_eq!(probed(address, by(protocol)).await, Err(why.into()));
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_or_hangs_up_is_not_well() {
    let silent = server("", &[], false).await;
    let outcome = probed(silent, by(CheckProtocol::Redis)).await;
    assert!(outcome.unwrap_err().starts_with("no answer within"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let close = tokio::spawn(async move { drop(listener.accept().await) });
    let why = probed(address, by(CheckProtocol::MySql)).await.unwrap_err();
    assert!(why.contains("closed before"), "{why}");
    close.await.unwrap();
}

#[tokio::test]
async fn redis_says_its_role_in_one_go_or_byte_by_byte() {
    const ANSWERS: &[&str] = &["+PONG\r\n*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"];
    for slow in [false, true] {
        let address = server("", ANSWERS, slow).await;
        assert_eq!(
            probed(address, by(CheckProtocol::Redis)).await,
            Ok(Some(Role::Primary))
        );
    }
}
