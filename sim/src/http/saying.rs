//! What instances say, and how they leave.

use std::time::Duration;

use super::ask::{Answer, Delimited, got_of};
use super::instance::{After, PATIENCE, Visit};
use super::ledger::Deed;
use super::message::{Message, Reader};
use crate::peer::Woken;

impl Visit {
    /// Gives the right answer, and `extra` after it.
    pub(super) async fn right_answer(
        &mut self,
        id: u64,
        request: &Message,
        extra: &[u8],
    ) -> Option<After> {
        let answer = Answer::to(id, got_of(request));
        let to_head = request.head.line.starts_with("HEAD ");
        let by_closing = answer.delimited == Delimited::Close && !answer.is_bodiless() && !to_head;
        let closes = by_closing || self.rng.u8(..6) == 0;
        for n in 0..answer.interim {
            self.peer.say(format!(
                "HTTP/1.1 103 Early Hints\r\nX-Sim: {id:016x}\r\nLink: <{n}>\r\n\r\n"
            ));
        }
        let mut bytes = answer.write(to_head, closes);
        // Whatever comes before a close that ends the answer belongs to it.
        if !by_closing {
            bytes.extend_from_slice(extra);
        }
        if extra.is_empty() {
            self.deed(id, Deed::Answered);
        }
        self.say_all(id, bytes).await?;
        Some(if closes { After::Close } else { After::Next })
    }

    /// Begins to answer at once, and ends the answer when the body has come. No fault: servers that echo do so.
    pub(super) async fn eager_answer(&mut self, id: u64, mut reader: Reader) -> Option<After> {
        self.deed(id, Deed::Eager);
        let to_head = reader.message.head.line.starts_with("HEAD ");
        let length = EAGER.concat().len();
        self.peer.say(format!(
            "HTTP/1.1 200 OK\r\nX-Eager: {id:016x}\r\nContent-Length: {length}\r\n\r\n"
        ));
        if !to_head {
            self.peer.say(EAGER[0]);
        }
        self.body(id, &mut reader).await?;
        if !to_head {
            self.say_all(id, EAGER[1].into()).await?;
        }
        Some(After::Next)
    }

    /// Says `bytes`, in small pieces if it is slow; `None` when nobody listens any more.
    pub(super) async fn say_all(&mut self, id: u64, bytes: Vec<u8>) -> Option<()> {
        let before = self.peer.sent;
        if self.instance.nature.slow.is_some() && bytes.len() < 1_500 {
            for piece in bytes.chunks(90) {
                self.peer.say_after(Duration::from_millis(20), piece);
            }
        } else {
            self.peer.say(bytes);
        }
        let (ledger, at) = (self.instance.ledger.clone(), (id, self.instance.number));
        let deadline = self.peer.now() + PATIENCE;
        let woken = self.peer.until(deadline, |peer| {
            ledger.sent(at, peer.sent - before);
            peer.has_said()
        });
        (woken.await == Woken::Enough && !self.peer.unheard).then_some(())
    }

    /// Notes what it does with a request.
    pub(super) fn deed(&self, id: u64, deed: Deed) {
        self.note(&format!("{deed:?} {id:x}"));
        self.instance.ledger.cover(format!("deed {deed:?}"));
        self.instance
            .ledger
            .arrival((id, self.instance.number), |arrival| {
                arrival.deed = Some(deed);
            });
    }

    /// One of the two ways to leave.
    pub(super) fn leave(&mut self) -> After {
        if self.rng.bool() {
            After::Close
        } else {
            After::Abort
        }
    }
}

/// An eager answer's beginning and end.
pub(super) const EAGER: [&str; 2] = ["before", "after"];

/// What an instance says that does not want the body.
pub(super) fn early(id: u64) -> Vec<u8> {
    format!(
        "HTTP/1.1 413 Early\r\nX-Early: {id:016x}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}
