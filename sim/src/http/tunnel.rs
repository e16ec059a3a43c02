//! What is said through a tunnel: the instance greets along with its 101, then sends back what comes, changed.

use std::time::Duration;

use super::ask::Ask;
use crate::peer::{Gone, Peer, Woken};

/// No side waits longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The instance's side, up to its end.
pub(super) async fn instance_side(peer: &mut Peer, id: u64) {
    peer.say(format!(
        "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: sim\r\nX-Sim: {id:016x}\r\n\r\n"
    ));
    peer.say(greeting(id));
    let mut back = Vec::new();
    loop {
        let deadline = peer.now() + PATIENCE;
        let woken = peer.until(deadline, |p| !p.inbox.is_empty()).await;
        back.extend(peer.inbox.drain(..).map(changed));
        if !back.is_empty() {
            peer.say(std::mem::take(&mut back));
        }
        if woken != Woken::Enough {
            break;
        }
    }
    peer.ends = true;
    let deadline = peer.now() + PATIENCE;
    peer.until(deadline, |p| p.has_said() && !p.ends).await;
}

/// The client's side, after the 101: true when everything came through, in order, and then the end.
pub(super) async fn client_side(peer: &mut Peer, ask: &Ask, ahead: usize) -> bool {
    let speech = speech(ask.id);
    peer.say(&speech[ahead..]);
    let mut wanted = greeting(ask.id);
    wanted.extend(speech.into_iter().map(changed));
    let deadline = peer.now() + PATIENCE;
    let all = peer
        .until(deadline, |p| p.inbox.len() >= wanted.len())
        .await;
    if all != Woken::Enough || peer.inbox != wanted {
        return false;
    }
    peer.end();
    let deadline = peer.now() + PATIENCE;
    let woken = peer.until(deadline, |_| false).await;
    woken == Woken::Gone(Gone::Ended) && peer.inbox.len() == wanted.len()
}

/// What the client says.
pub(super) fn speech(id: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(id);
    (0..rng.usize(1..2_000)).map(|_| rng.u8(..)).collect()
}

fn greeting(id: u64) -> Vec<u8> {
    format!("hello {id:x}").into_bytes()
}

const fn changed(byte: u8) -> u8 {
    byte ^ 0x55
}
