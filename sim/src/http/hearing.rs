//! How a client hears an answer: strictly, and knowing the right one.

use std::time::Duration;

use model::Moment;

use super::ask::{Answer, Ask, largest};
use super::client::{BOUND, Pending, Stays, Visitor};
use super::ledger::{Outcome, Told};
use super::message::{Framing, Head, Message, Reader};
use super::tunnel;
use super::verify::{verify, verify_interim};
use crate::peer::{Gone, Gulps, Peer, Woken};

impl Visitor {
    /// Waits for the answer and writes down how it went.
    pub(super) async fn finish(&mut self, peer: &mut Peer, mut pending: Pending) -> Stays {
        // A window too small for a gulp would make it slower than the least rate.
        let roomy = largest(pending.ask.id) >= 32 * 1024;
        let small = roomy && Answer::to(pending.ask.id, String::new()).body.len() < 3_000;
        if small && self.plan.depth == 1 && self.rng.u8(..8) == 0 {
            peer.gulps = Gulps {
                bytes: 100,
                pause: Duration::from_millis(30),
            };
        }
        let before = peer.received - peer.inbox.len() as u64;
        let (outcome, stays) = self.read_answer(peer, &mut pending).await;
        peer.gulps = Gulps {
            bytes: 64 * 1024,
            pause: Duration::ZERO,
        };
        let ask = pending.ask;
        self.note(&format!("has {outcome:?} for {:x}", ask.id));
        self.ledger.cover(format!("outcome {outcome:?}"));
        let told = Told {
            manner: self.plan.manner,
            outcome,
            asked: pending.asked,
            ended: peer.now(),
            answer_bytes: peer.received - peer.inbox.len() as u64 - before,
            reused: pending.reused,
            ask: ask.clone(),
        };
        self.ledger.with(|l| l.told.insert(ask.id, told));
        stays
    }

    async fn read_answer(&mut self, peer: &mut Peer, pending: &mut Pending) -> (Outcome, Stays) {
        let began = peer.received - peer.inbox.len() as u64;
        let bound = peer.now() + BOUND;
        loop {
            let mut reader = Reader::default();
            let waits = pending.body.is_some();
            // Nobody must answer 100; then the body goes without.
            let deadline = if waits {
                peer.now() + Duration::from_millis(150)
            } else {
                bound
            };
            let mut fault = None;
            let (ledger, id, head) = (
                self.ledger.clone(),
                pending.ask.id,
                pending.ask.method == "HEAD",
            );
            let woken = peer.until(deadline, |p| {
                ledger.taken(id, p.received - began);
                let read = reader.read(&mut p.inbox, |h| framing(h, head));
                fault = fault.take().or(read.err());
                fault.is_some() || reader.is_whole()
            });
            let woken = woken.await;
            if let Some(why) = fault {
                self.violate(&format!("{id:x} got no HTTP: {why:#}"));
                return (Outcome::Cut, Stays::No);
            }
            match woken {
                Woken::Enough => {}
                Woken::Late if waits && !reader.has_head() && peer.inbox.is_empty() => {
                    peer.say(pending.body.take().unwrap_or_default());
                    continue;
                }
                Woken::Late if waits => {
                    // It has begun to answer: the rest of this message is read without another limit.
                    peer.say(pending.body.take().unwrap_or_default());
                    let more = self.rest(peer, &mut reader, bound, head).await;
                    if more != Woken::Enough {
                        return (Outcome::Cut, Stays::No);
                    }
                }
                Woken::Late => {
                    self.violate(&format!("{id:x} waited longer than {BOUND:?}"));
                    return (Outcome::Nothing, Stays::No);
                }
                Woken::Gone(Gone::Ended) if reader.ends_with_connection() => {
                    let message = reader.message;
                    return (self.judge(&pending.ask, &message), Stays::No);
                }
                Woken::Gone(_) if reader.has_head() || !peer.inbox.is_empty() => {
                    return (Outcome::Cut, Stays::No);
                }
                Woken::Gone(_) => return (Outcome::Nothing, Stays::No),
            }
            let message = reader.message;
            match message.head.status() {
                Ok(101) => {
                    return (
                        self.through_tunnel(peer, pending, &message).await,
                        Stays::No,
                    );
                }
                Ok(100..200) => self.hear_interim(peer, pending, &message),
                _ => return self.hear_final(pending, &message),
            }
        }
    }

    fn hear_interim(&self, peer: &mut Peer, pending: &mut Pending, message: &Message) {
        if let Err(why) = verify_interim(&pending.ask, message) {
            self.violate(&format!("{:x}: {why:#}", pending.ask.id));
        }
        self.ledger.cover("informational answer");
        peer.say(pending.body.take().unwrap_or_default());
    }

    fn hear_final(&self, pending: &Pending, message: &Message) -> (Outcome, Stays) {
        let said = pending.body.is_none() && pending.ahead == 0;
        let stays = said && stays(&pending.ask, &message.head);
        let stays = if stays { Stays::Yes } else { Stays::No };
        (self.judge(&pending.ask, message), stays)
    }

    async fn rest(&self, peer: &mut Peer, reader: &mut Reader, bound: Moment, head: bool) -> Woken {
        let whole = |p: &mut Peer| {
            reader
                .read(&mut p.inbox, |h| framing(h, head))
                .unwrap_or(true)
        };
        peer.until(bound, whole).await
    }

    fn judge(&self, ask: &Ask, message: &Message) -> Outcome {
        verify(ask, message).unwrap_or_else(|why| {
            self.violate(&format!(
                "{:x} got a wrong answer: {why:#}: {:?}",
                ask.id, message.head
            ));
            Outcome::Cut
        })
    }

    async fn through_tunnel(
        &self,
        peer: &mut Peer,
        pending: &Pending,
        message: &Message,
    ) -> Outcome {
        let ask = &pending.ask;
        let id = format!("{:016x}", ask.id);
        if !ask.upgrade || message.head.find("x-sim") != Some(&id) {
            self.violate(&format!("{id} got somebody's tunnel: {:?}", message.head));
            return Outcome::Cut;
        }
        if tunnel::client_side(peer, ask, pending.ahead).await {
            return Outcome::Tunnel;
        }
        self.violate(&format!("{id}: the tunnel lost bytes or its end"));
        Outcome::Cut
    }
}

pub(super) fn framing(head: &Head, to_head: bool) -> anyhow::Result<Framing> {
    let declared = head.declared()?;
    Ok(match head.status()? {
        100..200 | 204 | 304 => Framing::None,
        _ if to_head => Framing::None,
        _ => declared.unwrap_or(Framing::UntilClose),
    })
}

fn stays(ask: &Ask, head: &Head) -> bool {
    ask.keep && !head.connection_has("close") && (!ask.old || head.connection_has("keep-alive"))
}
