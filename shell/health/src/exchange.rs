//! Probes that are no HTTP: bytes for bytes, and the dialogues of `wire`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use model::{Exchange, ProtocolCheck, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use wire::dialogue::{Dialogue, Login, NONCE};

use crate::probe::{BODY, Fault, Stream, broken};
use crate::schedule::Outcome;

/// Sends, and reads until what is expected was there.
pub(crate) async fn tcp(mut stream: Box<dyn Stream>, exchange: &Exchange) -> Outcome {
    if let Some(send) = &exchange.send {
        stream
            .write_all(send.as_bytes())
            .await
            .map_err(|fault| broken(&fault))?;
    }
    let Some(wanted) = &exchange.expect else {
        return Ok(None);
    };
    let mut answer = Vec::new();
    while !holds(&answer, wanted) {
        let over = answer.len() >= BODY;
        if over
            || stream
                .read_buf(&mut answer)
                .await
                .map_err(|fault| broken(&fault))?
                == 0
        {
            return Err(format!("the answer has no {wanted:?}"));
        }
        answer.truncate(BODY);
    }
    Ok(None)
}

/// Sends one datagram, and waits for one in return, or for as long as `patience` lasts.
pub(crate) async fn udp(
    address: SocketAddr,
    exchange: &Exchange,
    patience: Duration,
) -> Result<Option<Role>, Fault> {
    let words = |fault: &std::io::Error| match fault.kind() {
        // What ICMP's "port unreachable" comes to on a connected socket.
        std::io::ErrorKind::ConnectionRefused => format!("nothing listens at {address}/udp"),
        _ => format!("no datagram gets to {address}: {fault}"),
    };
    let fault = |fault: std::io::Error| Fault::of(&fault, words);
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await.map_err(fault)?;
    socket.connect(address).await.map_err(fault)?;
    let send = exchange.send.as_deref().unwrap_or_default();
    socket.send(send.as_bytes()).await.map_err(fault)?;
    let mut answer = vec![0; BODY];
    match (
        timeout(patience, socket.recv(&mut answer)).await,
        &exchange.expect,
    ) {
        (Ok(Err(why)), _) => Err(fault(why)),
        (Ok(Ok(length)), Some(wanted)) if !holds(&answer[..length], wanted) => {
            Err(format!("the answer has no {wanted:?}").into())
        }
        (Err(_), Some(_)) => Err(format!("no answer within {}", model::Period(patience)).into()),
        _ => Ok(None),
    }
}

fn holds(answer: &[u8], wanted: &str) -> bool {
    let wanted = wanted.as_bytes();
    wanted.is_empty() || answer.windows(wanted.len()).any(|window| window == wanted)
}

/// Talks to a server in its own protocol.
pub(crate) async fn protocol(mut stream: TcpStream, check: &ProtocolCheck) -> Outcome {
    let login = Login {
        user: check.user.as_deref(),
        password: check.password.as_ref().map(|password| &*password.0),
        database: check.database.as_deref(),
    };
    // Predictable, it would let whoever recorded one login play it back to us; fastrand is seeded by the system and
    // not meant for more, and what it would win is a check that passes.
    let mut nonce = [0; NONCE];
    fastrand::fill(&mut nonce);
    let mut out = Vec::new();
    let mut dialogue = Dialogue::new(check.protocol, login, nonce, &mut out);
    let mut answer = Vec::with_capacity(4 << 10);
    loop {
        stream
            .write_all(&out)
            .await
            .map_err(|fault| broken(&fault))?;
        out.clear();
        answer.clear();
        if stream
            .read_buf(&mut answer)
            .await
            .map_err(|fault| broken(&fault))?
            == 0
        {
            return Err("the connection was closed before the server had answered".into());
        }
        let found = dialogue
            .handle(&answer, &mut out)
            .map_err(|fault| fault.to_string())?;
        if let Some(found) = found {
            // A farewell, where there is one. That the server does not wait for it is no fault.
            let _ = stream.write_all(&out).await;
            return Ok(found.role);
        }
    }
}
