//! After an upgrade (RFC 9110 §7.8): bytes both ways until both sides have ended, or one has broken.

use http::h1;

use super::pump::{BUDGET, Broken, Frame, Step};
use super::session::{Cut, Session};
use crate::rt::{Sock, TimedOut, try_join, yield_now};

impl Session {
    /// Carries bytes both ways. `unsent` is what the client has still to get.
    pub(super) async fn tunnel(&self, instance: &Sock, unsent: &mut Vec<u8>) -> Result<(), Cut> {
        // What the client sent ahead belongs to the new protocol.
        let mut ahead = std::mem::take(&mut *self.held.borrow_mut());
        self.unseen.set(false);
        self.admitted.take();
        let up = self.one_way(&self.client, instance, &mut ahead);
        let down = self.one_way(instance, &self.client, unsent);
        let outcome = try_join(up, down).await;
        if outcome.is_err() {
            // One side broke: the other must not take it for an end in order.
            instance.abort_on_close();
        }
        outcome
    }

    /// Carries what comes from one side to the other, and then its end; the other side may go on.
    async fn one_way(&self, from: &Sock, to: &Sock, unsent: &mut Vec<u8>) -> Result<(), Cut> {
        let mut body = h1::BodyDecoder::new(h1::Framing::UntilClose);
        let mut budget = BUDGET;
        loop {
            let mut sent = 0;
            while sent < unsent.len() {
                match to.try_send(&unsent[sent..]) {
                    Ok(0) => self.tunnel_wait(to.writable()).await?,
                    Ok(n) => sent += n,
                    Err(_) => return Err(self.left(to)),
                }
            }
            unsent.clear();
            match self.step(from, to, &mut body, Frame::Plain, unsent, |_| {}) {
                Ok(Step::Done) => break,
                Ok(Step::Moved(n)) => {
                    budget = budget.saturating_sub(n);
                    if budget == 0 {
                        budget = BUDGET;
                        yield_now(self.worker.reactor()).await;
                    }
                }
                Ok(Step::WaitFrom) => self.tunnel_wait(from.readable()).await?,
                Err(Broken::To) => return Err(self.left(to)),
                Err(_) => return Err(self.left(from)),
            }
        }
        to.shutdown_write();
        Ok(())
    }

    fn left(&self, side: &Sock) -> Cut {
        match std::ptr::eq(side, &raw const self.client) {
            true => Cut::Left,
            false => Cut::InstanceLeft,
        }
    }

    /// Either direction's progress moves the deadline of both.
    async fn tunnel_wait(
        &self,
        ready: impl Future<Output = Result<(), TimedOut>>,
    ) -> Result<(), Cut> {
        self.worker.reactor().set_timeout(self.timeouts().tunnel);
        ready.await.map_err(|TimedOut| Cut::Slow)
    }
}
