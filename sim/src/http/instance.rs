//! Instances: they read a request strictly, and then do what their nature makes them do.

use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use proxy::rt::{Accepted, Handle, Listener};

use super::ask::got_of;
use super::ledger::{Arrival, Deed, Shared};
use super::message::{Framing, Head, Reader};
use super::saying::early;
use super::scene::Nature;
use super::{misdeed, tunnel};
use crate::peer::{Peer, Woken};

/// An instance at work.
pub struct Instance {
    /// Its service's number and its own.
    pub number: (usize, usize),
    /// What it is like.
    pub nature: Nature,
    /// Where it writes what happened.
    pub ledger: Shared,
    /// Decides what its nature leaves open.
    pub seed: u64,
}

/// No instance of ours waits longer for anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Accepts connections for good.
pub async fn serve(instance: Rc<Instance>, listener: Listener, handle: Handle) {
    for connection in 0.. {
        loop {
            match listener.try_accept() {
                Ok(Some((Accepted::Sock(sock), _))) => {
                    let visit = Visit {
                        rng: Rng::with_seed(instance.seed.wrapping_add(connection)),
                        name: format!("i{}.{}#{connection}", instance.number.0, instance.number.1),
                        instance: instance.clone(),
                        peer: Peer::new(sock),
                    };
                    handle.spawn(visit.serve());
                    break;
                }
                _ => listener.acceptable_unless(|| false).await,
            }
        }
    }
}

/// One connection to an instance.
pub(super) struct Visit {
    pub(super) instance: Rc<Instance>,
    name: String,
    pub(super) peer: Peer,
    pub(super) rng: Rng,
}

/// What becomes of the connection after a request.
pub(super) enum After {
    Next,
    Close,
    Abort,
}

impl Visit {
    async fn serve(mut self) {
        loop {
            match self.request().await {
                Some(After::Next) => {}
                Some(After::Close) | None => return,
                Some(After::Abort) => {
                    self.note("resets");
                    return self.peer.abort();
                }
            }
        }
    }

    pub(super) fn note(&self, what: &str) {
        self.instance
            .ledger
            .note(self.peer.now(), &format!("{} {what}", self.name));
    }

    /// Waits for a request's head, then does with it what is to be done.
    async fn request(&mut self) -> Option<After> {
        let idle = self.instance.nature.closes_idle.unwrap_or(PATIENCE);
        let deadline = self.peer.now() + idle;
        let woken = self
            .peer
            .until(deadline, |peer| !peer.inbox.is_empty())
            .await;
        if woken == Woken::Late {
            self.instance
                .ledger
                .cover("instance closes an idle connection");
            self.note("closes, idle");
            return None;
        }
        let mut reader = Reader::default();
        self.read(&mut reader, Reader::has_head).await?;
        let id = self.arrived(&reader.message.head)?;
        self.answer(id, reader).await
    }

    /// Reads until `enough`, or the connection ends.
    async fn read(&mut self, reader: &mut Reader, enough: impl Fn(&Reader) -> bool) -> Option<()> {
        let mut fault = None;
        let framing = |head: &Head| Ok(head.declared()?.unwrap_or(Framing::None));
        let deadline = self.peer.now() + PATIENCE;
        let woken = self.peer.until(deadline, |peer| {
            fault = fault.take().or(reader.read(&mut peer.inbox, framing).err());
            fault.is_some() || enough(reader)
        });
        let woken = woken.await;
        if let Some(why) = fault {
            self.violate(&format!("was sent {why:#}"));
            return None;
        }
        (woken == Woken::Enough).then_some(())
    }

    fn violate(&self, what: &str) {
        self.instance
            .ledger
            .violate(self.peer.now(), format!("{}: {what}", self.name));
    }

    /// Checks the head, and notes that it came.
    fn arrived(&self, head: &Head) -> Option<u64> {
        let id = head
            .line
            .split(' ')
            .nth(1)
            .and_then(|t| t.rsplit('/').next());
        let Some(id) = id.and_then(|id| u64::from_str_radix(id, 16).ok()) else {
            self.violate(&format!("a request of nobody: {:?}", head.line));
            return None;
        };
        let note = format!("{id:x}");
        let service = format!("/s{}/", self.instance.number.0);
        for (wrong, what) in [
            (
                head.find("x-note") != Some(&note),
                "X-Note is another request's",
            ),
            (
                head.find("x-real-ip").is_some(),
                "a claim of the client came through",
            ),
            (head.find("host") != Some("sim.example"), "Host is wrong"),
            (
                !head.line.contains(&service),
                "the request is another service's",
            ),
            (!head.line.ends_with(" HTTP/1.1"), "the version is wrong"),
        ] {
            if wrong {
                self.violate(&format!("{id:x}: {what}: {head:?}"));
            }
        }
        self.note(&format!("gets {id:x}"));
        let arrival = Arrival {
            instance: self.instance.number,
            got: None,
            deed: None,
            sent: 0,
            uploaded: 0,
        };
        self.instance
            .ledger
            .with(|l| l.arrivals.entry(id).or_default().push(arrival));
        Some(id)
    }

    async fn answer(&mut self, id: u64, mut reader: Reader) -> Option<After> {
        let misdeed = self.misdeed();
        if misdeed == Some(Deed::Early) {
            self.deed(id, Deed::Early);
            return self.say_all(id, early(id)).await.map(|()| After::Close);
        }
        if misdeed == Some(Deed::Eager) {
            return self.eager_answer(id, reader).await;
        }
        if reader.message.head.find("expect").is_some() && self.rng.bool() {
            self.peer.say("HTTP/1.1 100 Continue\r\n\r\n");
        }
        if misdeed == Some(Deed::DiedBefore) {
            self.deed(id, Deed::DiedBefore);
            return Some(self.leave());
        }
        self.body(id, &mut reader).await?;
        let request = reader.message;
        if let Some(pause) = self.instance.nature.slow {
            self.peer.linger(pause).await;
        }
        if let Some(misdeed) = misdeed {
            return misdeed::commit(self, id, &request, misdeed).await;
        }
        if request.head.find("upgrade").is_some() {
            self.deed(id, Deed::Tunnelled);
            tunnel::instance_side(&mut self.peer, id).await;
            return None;
        }
        self.right_answer(id, &request, &[]).await
    }

    /// The misdeed of this request, if there is one.
    fn misdeed(&mut self) -> Option<Deed> {
        let nature = &self.instance.nature;
        let due = self.rng.u8(..100) < nature.rate;
        due.then(|| self.rng.choice(nature.misdeeds.iter().copied()))
            .flatten()
    }

    pub(super) async fn body(&mut self, id: u64, reader: &mut Reader) -> Option<()> {
        let mut whole = None;
        while whole.is_none() {
            let before = reader.message.body.len();
            self.read(reader, |r| r.message.body.len() > before || r.is_whole())
                .await?;
            whole = reader.is_whole().then_some(());
            let got = reader.message.body.len() as u64;
            self.instance
                .ledger
                .uploaded((id, self.instance.number), got);
        }
        let got = got_of(&reader.message);
        self.instance
            .ledger
            .arrival((id, self.instance.number), |arrival| {
                arrival.got = Some(got);
            });
        whole
    }
}
