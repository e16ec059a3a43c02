//! The rest of a request, from the client to the instance.

use super::begin::Begun;
use super::pump::{BUDGET, Broken, Frame, Pace, Step};
use super::session::{Cut, Session};
use crate::rt::{Sock, TimedOut, yield_now};

impl Session {
    /// Carries the rest of what was gathered of the request, then what is left of its body.
    pub(super) async fn upload(
        &self,
        instance: &Sock,
        rest: &[u8],
        begun: &mut Begun,
        frame: Frame,
    ) -> Result<(), Cut> {
        let mut unsent = self.worker.buffers.take();
        unsent.extend_from_slice(rest);
        let result = self.upload_all(instance, begun, frame, &mut unsent).await;
        self.worker.buffers.put(unsent);
        result
    }

    async fn upload_all(
        &self,
        instance: &Sock,
        begun: &mut Begun,
        frame: Frame,
        unsent: &mut Vec<u8>,
    ) -> Result<(), Cut> {
        let timeouts = self.timeouts();
        let reactor = self.worker.reactor();
        let mut pace = Pace::new(self.client.received());
        let mut budget = BUDGET;
        let mut throttle = self.throttle(|bandwidth| bandwidth.request);
        loop {
            self.set_timeout(timeouts.stall);
            self.flush_to(instance, unsent).await?;
            if begun.body.is_done() {
                instance.end_message(begun.body.trailers());
                return Ok(());
            }
            let after = |bytes: &[u8]| self.hold_unseen(bytes);
            let body = &mut begun.body;
            let text = begun.call.as_mut().and_then(|call| call.text.as_mut());
            let step = self.step(&self.client, instance, body, (frame, text), unsent, after);
            let step = step.map_err(|broken| match broken {
                Broken::From => Cut::Left,
                Broken::To => Cut::InstanceLeft,
                Broken::Malformed(bad) => Cut::Malformed(bad),
                Broken::TooLong => Cut::TooLong,
            });
            // Whatever came of it, these bytes are no longer here for another attempt.
            begun.streamed |= !matches!(step, Ok(Step::WaitFrom | Step::WaitTo));
            match step? {
                Step::Done => {}
                Step::Moved(n) => {
                    if let Some(throttle) = &mut throttle {
                        Box::pin(self.hold_back(throttle, n)).await;
                    }
                    budget = budget.saturating_sub(n);
                    if budget == 0 {
                        budget = BUDGET;
                        yield_now(reactor).await;
                    }
                }
                Step::WaitTo => {
                    let ready = instance.writable().await;
                    ready.map_err(|TimedOut| Cut::InstanceLeft)?;
                }
                Step::WaitFrom => {
                    let since = reactor.now();
                    self.client.readable().await.map_err(|TimedOut| Cut::Slow)?;
                    pace.waited(since, reactor.now());
                    let received = self.client.received();
                    if pace.is_too_slow(&self.client, received, timeouts.stall, timeouts.min_rate) {
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
