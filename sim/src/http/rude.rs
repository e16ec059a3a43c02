//! Clients that do not keep to the rules.

use std::time::Duration;

use super::ask::Ask;
use super::client::{Pending, Visitor};
use super::ledger::{Manner, Outcome, Told};
use super::scene::MAX_HEAD;
use crate::peer::{Gulps, Peer};

/// Does what `manner` says.
pub(super) async fn be(visitor: &mut Visitor, manner: Manner) {
    let asks = std::mem::take(&mut visitor.plan.asks);
    let Some(mut peer) = visitor.connect().await else {
        return;
    };
    if manner == Manner::Vanishes {
        return vanish(visitor, peer, asks).await;
    }
    let Some(ask) = asks.into_iter().next() else {
        return;
    };
    visitor.note(&format!("asks {:x} {} as {manner:?}", ask.id, ask.method));
    match manner {
        Manner::SlowHead => drip(&mut peer, &ask.head(), 1_300),
        Manner::SlowBody => {
            peer.say(ask.head());
            drip(&mut peer, &ask.framed_body(), 5_000);
        }
        Manner::Garbage => peer.say(garbage(visitor)),
        Manner::BigHead => peer.say(big_head(visitor, &ask)),
        Manner::BadChunk => {
            peer.say(ask.head());
            let mut body = ask.framed_body();
            body.truncate(body.len() - 5);
            body.extend_from_slice(b"zz\r\n\r\n");
            peer.say(body);
        }
        _ => {
            peer.say(ask.head());
            peer.say(ask.framed_body());
            peer.gulps = Gulps {
                bytes: 0,
                pause: Duration::ZERO,
            };
            peer.linger(Duration::from_secs(3)).await;
            peer.gulps.bytes = 64 * 1024;
        }
    }
    let asked = visitor.reactor.now();
    let pending = Pending::plain(ask, asked);
    visitor.finish(&mut peer, pending).await;
}

/// Says `bytes` in pieces over about `millis`.
fn drip(peer: &mut Peer, bytes: &[u8], millis: u64) {
    let pieces = 12.min(bytes.len()).max(1);
    let pause = Duration::from_millis(millis / pieces as u64);
    for piece in bytes.chunks(bytes.len().div_ceil(pieces).max(1)) {
        peer.say_after(pause, piece);
    }
}

fn garbage(visitor: &mut Visitor) -> Vec<u8> {
    let rng = &mut visitor.rng;
    match rng.u8(..6) {
        0 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        1 => b"GET / HTTP/1.1\nHost: a\n\n".to_vec(),
        2 => b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
        3 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        4 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        _ => (0..rng.usize(1..300)).map(|_| rng.u8(..)).collect(),
    }
}

fn big_head(visitor: &mut Visitor, ask: &Ask) -> Vec<u8> {
    let mut head = ask.head();
    if visitor.rng.bool() {
        return format!("GET /{} HTTP/1.1\r\n", "a".repeat(2 * MAX_HEAD)).into_bytes();
    }
    head.truncate(head.len() - 2);
    head.extend_from_slice(format!("X-Filler: {}\r\n\r\n", "b".repeat(MAX_HEAD)).as_bytes());
    head
}

/// Asks everything at once and leaves at some byte, in one way or the other.
async fn vanish(visitor: &mut Visitor, mut peer: Peer, asks: Vec<Ask>) {
    let asked = visitor.reactor.now();
    let mut total = 0;
    for ask in &asks {
        visitor.note(&format!("asks {:x} {} and will leave", ask.id, ask.method));
        for bytes in [ask.head(), ask.framed_body()] {
            total += bytes.len() as u64;
            peer.say(bytes);
        }
        let told = Told {
            ask: ask.clone(),
            manner: Manner::Vanishes,
            outcome: Outcome::Unwatched,
            asked,
            ended: asked,
            answer_bytes: 0,
            reused: false,
        };
        visitor.ledger.with(|l| l.told.insert(ask.id, told));
    }
    let rng = &mut visitor.rng;
    let (sent, received) = match rng.bool() {
        true => (rng.u64(..=total), u64::MAX),
        false => (u64::MAX, rng.u64(..4_000)),
    };
    let deadline = peer.now() + Duration::from_millis(rng.u64(..2_000));
    peer.until(deadline, |p| p.sent >= sent || p.received >= received)
        .await;
    let reset = visitor.rng.bool();
    visitor.note(if reset { "resets" } else { "leaves" });
    if reset {
        peer.abort();
    }
}
