//! Clients that keep to the rules: they ask, read strictly, and know the right answer.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use model::Moment;
use proxy::rt::{Reactor, Sock};
use std::rc::Rc;

use super::ask::{Answer, Ask};
use super::ledger::{Ledger, Manner, Outcome, Shared, Told};
use super::message::{Framing, Head, Message, Reader};
use super::scene::Client;
use super::verify::{verify, verify_interim};
use super::{rude, tunnel};
use crate::peer::{Gone, Gulps, Peer, Woken};

/// No answer may take longer: four attempts with every timeout there is, and the transfer of the largest
/// bodies through the smallest window.
pub const BOUND: Duration = Duration::from_secs(18);

/// A client at work.
pub struct Visitor {
    pub(super) name: String,
    pub(super) plan: Client,
    pub(super) ledger: Shared,
    pub(super) reactor: Rc<Reactor>,
    pub(super) address: SocketAddr,
    pub(super) rng: Rng,
}

/// A request under way.
pub(super) struct Pending {
    pub(super) ask: Ask,
    pub(super) asked: Moment,
    /// The body is held back until 100.
    pub(super) body: Option<Vec<u8>>,
    /// Bytes of the tunnel that were sent ahead.
    ahead: usize,
    pub(super) reused: bool,
}

impl Pending {
    /// A request that was sent whole.
    pub(super) const fn plain(ask: Ask, asked: Moment) -> Self {
        Self {
            ask,
            asked,
            body: None,
            ahead: 0,
            reused: false,
        }
    }
}

/// Whether the connection can be used further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stays {
    Yes,
    No,
}

impl Visitor {
    /// A client with `number` that does what is planned.
    pub fn new(
        number: usize,
        plan: Client,
        ledger: Shared,
        reactor: Rc<Reactor>,
        address: SocketAddr,
    ) -> Self {
        let rng = Rng::with_seed(plan.seed);
        let name = format!("c{number}");
        Self {
            name,
            plan,
            ledger,
            reactor,
            address,
            rng,
        }
    }

    /// Comes, does everything, and leaves.
    pub async fn visit(mut self) {
        self.reactor.sleep(self.plan.at).await;
        let manner = self.plan.manner;
        self.ledger.cover(format!("client {manner:?}"));
        match manner {
            Manner::Behaved | Manner::HalfClose => self.behave().await,
            _ => rude::be(&mut self, manner).await,
        }
        self.note("is done");
        self.ledger.with(|l| l.busy -= 1);
    }

    pub(super) fn note(&self, what: &str) {
        self.ledger
            .note(self.reactor.now(), &format!("{} {what}", self.name));
    }

    pub(super) fn violate(&self, what: &str) {
        self.ledger
            .violate(self.reactor.now(), format!("{}: {what}", self.name));
    }

    /// Whether connections may be ended or refused without a reason that we could see.
    fn excused(&self) -> bool {
        let second = self.plan.listener == 1;
        self.ledger
            .with(|l: &mut Ledger| l.drained.is_some() || second && l.unlistened.is_some())
    }

    pub(super) async fn connect(&self) -> Option<Peer> {
        self.reactor.set_timeout(BOUND);
        match Sock::connect(&self.reactor, self.address).await {
            Ok(sock) => Some(Peer::new(sock)),
            Err(fault) => {
                self.note(&format!("cannot connect: {fault}"));
                if !self.excused() {
                    self.violate("was refused a connection");
                }
                None
            }
        }
    }

    async fn behave(&mut self) {
        let mut asks: VecDeque<_> = std::mem::take(&mut self.plan.asks).into();
        while !asks.is_empty() {
            let Some(mut peer) = self.connect().await else {
                return;
            };
            let mut reused = false;
            while !asks.is_empty() {
                let mut batch = self.send_batch(&mut peer, &mut asks, reused);
                let mut stays = Stays::Yes;
                while let Some(pending) = batch.pop_front() {
                    stays = self.finish(&mut peer, pending).await;
                    if stays == Stays::No {
                        break;
                    }
                }
                // Nobody will answer these here; the proxy must not have carried them out either.
                while let Some(pending) = batch.pop_back() {
                    asks.push_front(pending.ask);
                }
                let think = Duration::from_millis(self.rng.u64(..100));
                if stays == Stays::No || asks.is_empty() || self.left(&mut peer, think).await {
                    break;
                }
                reused = true;
            }
        }
    }

    /// Thinks; whether the proxy has left meanwhile.
    async fn left(&mut self, peer: &mut Peer, think: Duration) -> bool {
        if peer.linger(think).await == Woken::Late {
            if !peer.inbox.is_empty() {
                self.violate("got bytes that belong to nothing");
            }
            return false;
        }
        self.note("finds its connection closed");
        if !self.excused() {
            self.violate("its idle connection was closed");
        }
        true
    }

    fn send_batch(
        &mut self,
        peer: &mut Peer,
        asks: &mut VecDeque<Ask>,
        reused: bool,
    ) -> VecDeque<Pending> {
        let mut batch = VecDeque::new();
        while let Some(ask) = asks.pop_front() {
            let last =
                !ask.keep || ask.expects || ask.upgrade || batch.len() + 1 >= self.plan.depth;
            self.note(&format!("asks {:x} {} {:?}", ask.id, ask.method, ask.body));
            let reused = reused || !batch.is_empty();
            batch.push_back(self.send(peer, ask, reused));
            if last {
                break;
            }
        }
        peer.ends = asks.is_empty() && self.plan.manner == Manner::HalfClose;
        batch
    }

    fn send(&mut self, peer: &mut Peer, ask: Ask, reused: bool) -> Pending {
        let mut bytes = ask.head();
        let mut ahead = 0;
        let mut body = None;
        if ask.expects {
            body = Some(ask.framed_body());
        } else if ask.upgrade {
            let speech = tunnel::speech(ask.id);
            ahead = if self.rng.bool() {
                self.rng.usize(..=speech.len())
            } else {
                0
            };
            bytes.extend_from_slice(&speech[..ahead]);
        } else {
            bytes.extend(ask.framed_body());
        }
        if bytes.len() < 2_000 && self.rng.u8(..6) == 0 {
            for piece in bytes.chunks(60) {
                peer.say_after(Duration::from_millis(15), piece);
            }
        } else {
            peer.say(bytes);
        }
        Pending {
            ask,
            asked: self.reactor.now(),
            body,
            ahead,
            reused,
        }
    }

    /// Waits for the answer and writes down how it went.
    pub(super) async fn finish(&mut self, peer: &mut Peer, mut pending: Pending) -> Stays {
        let small = Answer::to(pending.ask.id, String::new()).body.len() < 3_000;
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
                Ok(100..200) => {
                    if let Err(why) = verify_interim(&pending.ask, &message) {
                        self.violate(&format!("{id:x}: {why:#}"));
                    }
                    self.ledger.cover("informational answer");
                    peer.say(pending.body.take().unwrap_or_default());
                }
                _ => {
                    let said = pending.body.is_none() && pending.ahead == 0;
                    let stays = said && stays(&pending.ask, &message.head);
                    let stays = if stays { Stays::Yes } else { Stays::No };
                    return (self.judge(&pending.ask, &message), stays);
                }
            }
        }
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
