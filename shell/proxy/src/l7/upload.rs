//! The rest of a request's body, from the client to the instance.

use http::h1;

use super::pump::{BUDGET, Broken, Frame, Pace, Step};
use super::session::{Cut, Session};
use crate::rt::{Sock, TimedOut, yield_now};

impl Session {
    /// Carries what is left of the request's body.
    pub(super) async fn upload(
        &self,
        instance: &Sock,
        body: &mut h1::BodyDecoder,
        chunked: bool,
    ) -> Result<(), Cut> {
        let frame = if chunked { Frame::Chunks } else { Frame::Plain };
        let mut unsent = self.worker.buffers.take();
        let result = self.upload_all(instance, body, frame, &mut unsent).await;
        self.worker.buffers.put(unsent);
        result
    }

    async fn upload_all(
        &self,
        instance: &Sock,
        body: &mut h1::BodyDecoder,
        frame: Frame,
        unsent: &mut Vec<u8>,
    ) -> Result<(), Cut> {
        let timeouts = self.timeouts();
        let reactor = self.worker.reactor();
        let mut pace = Pace::default();
        let mut budget = BUDGET;
        loop {
            let after = |bytes: &[u8]| self.hold_unseen(bytes);
            let step = self.step(&self.client, instance, body, frame, unsent, after);
            let step = step.map_err(|broken| match broken {
                Broken::From => Cut::Left,
                Broken::To => Cut::InstanceLeft,
                Broken::Malformed => Cut::Malformed,
            })?;
            reactor.set_timeout(timeouts.stall);
            if let Step::Moved(n) = step {
                self.received.set(self.received.get() + n as u64);
                pace.moved(n);
                budget = budget.saturating_sub(n);
            }
            self.flush_to(instance, unsent).await?;
            match step {
                Step::Done => return Ok(()),
                Step::Moved(_) if budget == 0 => {
                    budget = BUDGET;
                    yield_now(self.worker.reactor()).await;
                }
                Step::Moved(_) => {}
                Step::WaitFrom => {
                    let since = self.worker.now();
                    self.client.readable().await.map_err(|TimedOut| Cut::Slow)?;
                    pace.waited(since, self.worker.now());
                    if pace.is_too_slow(timeouts.stall, timeouts.min_rate) {
                        return Err(Cut::Slow);
                    }
                }
            }
        }
    }

    async fn flush_to(&self, instance: &Sock, unsent: &mut Vec<u8>) -> Result<(), Cut> {
        let mut sent = 0;
        while sent < unsent.len() {
            match instance.try_send(&unsent[sent..]) {
                Ok(0) => instance
                    .writable()
                    .await
                    .map_err(|TimedOut| Cut::InstanceLeft)?,
                Ok(n) => sent += n,
                Err(_) => return Err(Cut::InstanceLeft),
            }
        }
        unsent.clear();
        Ok(())
    }
}
