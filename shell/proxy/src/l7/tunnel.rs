//! After an upgrade (RFC 9110 §7.8): bytes both ways until both sides have ended.

use std::future::Future;

use http::h1;

use super::pump::{BUDGET, Frame, Step};
use super::session::{Cut, Session};
use crate::rt::{Sock, TimedOut, join, yield_now};

impl Session {
    /// Carries bytes both ways. `unsent` is what the client has still to get.
    pub(super) async fn tunnel(&self, instance: &Sock, unsent: &mut Vec<u8>) -> Result<(), Cut> {
        // What the client sent ahead belongs to the new protocol.
        let mut ahead = std::mem::take(&mut *self.held.borrow_mut());
        self.unseen.set(false);
        let up = self.one_way(&self.client, instance, &mut ahead);
        let down = self.one_way(instance, &self.client, unsent);
        let (up, down) = join(up, down).await;
        up.and(down).map_err(|TunnelCut| Cut::Slow)
    }

    async fn one_way(&self, from: &Sock, to: &Sock, unsent: &mut Vec<u8>) -> Result<(), TunnelCut> {
        let result = self.one_way_until_end(from, to, unsent).await;
        // One side's end is passed on; the other may go on sending.
        to.shutdown_write();
        result
    }

    async fn one_way_until_end(
        &self,
        from: &Sock,
        to: &Sock,
        unsent: &mut Vec<u8>,
    ) -> Result<(), TunnelCut> {
        let mut body = h1::BodyDecoder::new(h1::Framing::UntilClose);
        let mut budget = BUDGET;
        loop {
            let mut sent = 0;
            while sent < unsent.len() {
                match to.try_send(&unsent[sent..]) {
                    Ok(0) => self.tunnel_wait(to.writable()).await?,
                    Ok(n) => sent += n,
                    Err(_) => return Ok(()),
                }
            }
            unsent.clear();
            match self.step(from, to, &mut body, Frame::Plain, unsent, |_| {}) {
                Ok(Step::Done) | Err(_) => return Ok(()),
                Ok(Step::Moved(n)) => {
                    budget = budget.saturating_sub(n);
                    if budget == 0 {
                        budget = BUDGET;
                        yield_now(self.worker.reactor()).await;
                    }
                }
                Ok(Step::WaitFrom) => self.tunnel_wait(from.readable()).await?,
            }
        }
    }

    /// Either direction's progress moves the deadline of both.
    async fn tunnel_wait(
        &self,
        ready: impl Future<Output = Result<(), TimedOut>>,
    ) -> Result<(), TunnelCut> {
        self.worker.reactor().set_timeout(self.timeouts().tunnel);
        ready.await.map_err(|TimedOut| TunnelCut)
    }
}

/// No byte moved in either direction for too long.
struct TunnelCut;
