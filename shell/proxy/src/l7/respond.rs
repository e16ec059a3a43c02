//! The answer, from the instance to the client.

use std::future::poll_fn;
use std::task::Poll;

use http::h1;
use model::ServiceTable;

use super::begin::{Begun, Forward};
use super::pump::{BUDGET, Broken, Frame, Pace, Step, framed};
use super::session::{Cut, Session};
use crate::buffers::{FRONT, READ};
use crate::rt::{Sock, yield_now};

/// Answers up to this length are passed on only when they are whole, if the request may be repeated: an
/// instance that dies between head and body has then cost nothing but a second attempt. Larger ones flow
/// as they come; no client waits for more than this.
const WHOLE: u64 = 16 * 1024;

/// The largest head taken from an instance; its field count has the same limit as a client's by default.
const LIMITS: h1::Limits = h1::Limits {
    head: 32 * 1024,
    fields: 100,
};

/// An answer that reached the client, at least in part.
pub(super) struct Answered {
    pub(super) status: u16,
    /// Why it is not whole, if it is not.
    pub(super) cut: Option<Cut>,
    /// Whether the instance's connection can serve another request.
    pub(super) instance_stays: bool,
    /// Whether the client's can.
    pub(super) client_stays: bool,
}

/// Why nothing of an answer reached the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// The instance closed, or the connection to it broke.
    Left,
    /// It did not answer in time.
    Silent,
    /// What it sent is no HTTP.
    Malformed,
    /// The client is gone, so that nobody waits for an answer.
    ClientLeft,
}

/// What the answer depends on in the request.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    method: h1::MethodKind,
    version: h1::Version,
    keep_alive: bool,
    upgrade: bool,
    /// Whether another attempt is possible as long as the client has seen nothing.
    repeatable: bool,
}

impl Asked {
    pub(super) fn of(begun: &Begun, forward: &Forward) -> Self {
        Self {
            method: begun.method,
            version: begun.version,
            keep_alive: begun.keep_alive,
            upgrade: forward.upgrade,
            repeatable: begun.method.is_idempotent() && begun.body_done,
        }
    }
}

/// What looking at the bytes received came to.
enum Look {
    /// There must be more.
    More,
    /// The client must be sent this first (an informational answer), then look again.
    First(Vec<u8>),
    /// The answer has begun; what the client could not take at once is in the buffer.
    Started(Started, Vec<u8>),
}

struct Started {
    status: u16,
    body: h1::BodyDecoder,
    frame: Frame,
    done: bool,
    instance_stays: bool,
    client_stays: bool,
}

impl Started {
    fn answered(&self, cut: Option<Cut>) -> Answered {
        Answered {
            status: self.status,
            cut,
            instance_stays: self.instance_stays && cut.is_none(),
            client_stays: self.client_stays && cut.is_none(),
        }
    }
}

impl Session {
    /// Waits for the answer and carries it to the client.
    pub(super) async fn respond(
        &self,
        instance: &Sock,
        asked: Asked,
        service: &ServiceTable,
    ) -> Result<Answered, Unanswered> {
        self.worker.reactor().set_timeout(service.response_timeout);
        let mut early = Early::default();
        let (started, unsent) = loop {
            match self.look(instance, asked, &mut early)? {
                Look::More => self.instance_readable(instance).await?,
                Look::First(message) => {
                    let sent = self.send(&message).await;
                    self.worker.buffers.put(message);
                    sent.map_err(|_| Unanswered::ClientLeft)?;
                }
                Look::Started(started, unsent) => break (started, unsent),
            }
        };
        if started.done && unsent.is_empty() {
            self.worker.buffers.put(unsent);
            return Ok(started.answered(None));
        }
        // Boxed, as every rare or large future of an exchange: the common one stays below 1 KiB, which
        // the allocator hands out and takes back fastest.
        Ok(Box::pin(self.carry(instance, started, unsent)).await)
    }

    /// Waits until the instance has sent something, or the client has gone.
    async fn instance_readable(&self, instance: &Sock) -> Result<(), Unanswered> {
        let reactor = self.worker.reactor();
        poll_fn(|_| {
            if instance.is_readable() {
                return Poll::Ready(Ok(()));
            }
            // A client that only ended its side may still read: some send their request that way.
            if self.client.is_hung_up() {
                return Poll::Ready(Err(Unanswered::ClientLeft));
            }
            if reactor.timed_out() {
                return Poll::Ready(Err(Unanswered::Silent));
            }
            instance.wake_current();
            self.client.wake_current();
            Poll::Pending
        })
        .await
    }

    /// Reads what is there; when it holds a head, sends that and what there is of the body.
    fn look(&self, instance: &Sock, asked: Asked, early: &mut Early) -> Result<Look, Unanswered> {
        let mut scratch = self.worker.buffers.scratch();
        let mut len = early.bytes.len();
        scratch[FRONT..FRONT + len].copy_from_slice(&early.bytes);
        early.bytes.clear();
        let mut ended = false;
        loop {
            if len > 0 {
                let outcome = self.look_at(&mut scratch, len, asked, early, ended)?;
                if let Some(look) = outcome {
                    return Ok(look);
                }
            }
            if ended {
                return Err(Unanswered::Left);
            }
            match instance.try_recv(&mut scratch[FRONT + len..FRONT + READ]) {
                Ok(Some(0)) => ended = true,
                Ok(Some(n)) => len += n,
                Ok(None) => {
                    early.keep(&scratch[FRONT..FRONT + len]);
                    return Ok(Look::More);
                }
                Err(_) => return Err(Unanswered::Left),
            }
        }
    }

    /// Looks at `len` bytes after [`FRONT`]. `None`: there must be more.
    fn look_at(
        &self,
        scratch: &mut [u8],
        len: usize,
        asked: Asked,
        early: &mut Early,
        ended: bool,
    ) -> Result<Option<Look>, Unanswered> {
        let input = &scratch[FRONT..FRONT + len];
        let parsed = h1::parse_response(input, &mut early.scanned, &LIMITS, asked.method);
        let Some(response) = parsed.map_err(|_| Unanswered::Malformed)? else {
            return Ok(None);
        };
        let head_len = response.head_len;
        if response.is_interim() && response.status != 101 {
            let mut message = self.worker.buffers.take();
            self.write_head(&response, asked, false, &mut message);
            early.keep(&input[head_len..]);
            early.scanned = 0;
            return Ok(Some(Look::First(message)));
        }
        if asked.repeatable && !ended {
            if let h1::Framing::Length(length) = response.framing {
                if length <= WHOLE && (len - head_len) < length as usize {
                    return Ok(None);
                }
            }
        }
        self.start(scratch, len, asked, early).map(Some)
    }

    fn start(
        &self,
        scratch: &mut [u8],
        len: usize,
        asked: Asked,
        early: &mut Early,
    ) -> Result<Look, Unanswered> {
        early.scanned = 0;
        let input = &scratch[FRONT..FRONT + len];
        let response = h1::parse_response(input, &mut early.scanned, &LIMITS, asked.method)
            .ok()
            .flatten()
            .ok_or(Unanswered::Malformed)?;
        let mut head = self.worker.buffers.take();
        if response.status == 101 && !asked.upgrade {
            return Err(Unanswered::Malformed);
        }
        let close = !asked.keep_alive || self.worker.draining();
        let framing = self.write_head(&response, asked, close, &mut head);
        let status = response.status;
        let instance_keeps = response.keep_alive;
        let mut body = h1::BodyDecoder::new(response.framing);
        let head_len = response.head_len;
        let bodyless = response.framing == h1::Framing::None;
        let decoded = body
            .decode(&mut scratch[FRONT + head_len..FRONT + len])
            .map_err(|_| Unanswered::Malformed)?;
        let surplus = decoded.consumed < len - head_len;
        let frame = match framing {
            h1::Framing::Chunked => Frame::Chunks,
            _ => Frame::Plain,
        };
        // An answer that switches protocols has no body, and no end either.
        let done = (decoded.done || bodyless) && status != 101;
        let range = framed(
            scratch,
            head_len,
            decoded.data,
            frame,
            done && !bodyless,
            &body,
        );
        // The new head goes right in front, so that one send carries both.
        let start = range.start - head.len();
        scratch[start..range.start].copy_from_slice(&head);
        head.clear();
        let message = &scratch[start..range.end];
        // A client that is gone is noticed when the rest is sent.
        let sent = self.client.try_send(message).unwrap_or(0);
        self.sent.set(self.sent.get() + sent as u64);
        head.extend_from_slice(&message[sent..]);
        let started = Started {
            status,
            body,
            frame,
            done,
            instance_stays: instance_keeps && !surplus,
            client_stays: !close && framing != h1::Framing::UntilClose,
        };
        Ok(Look::Started(started, head))
    }

    fn write_head(
        &self,
        response: &h1::Response<'_>,
        asked: Asked,
        close: bool,
        out: &mut Vec<u8>,
    ) -> h1::Framing {
        self.worker.date.with(self.worker.now(), |date| {
            let forward = h1::ForwardResponse {
                version: asked.version,
                close,
                date,
            };
            h1::write_response(response, &forward, out)
        })
    }

    /// Carries what is left of the answer.
    async fn carry(&self, instance: &Sock, mut started: Started, unsent: Vec<u8>) -> Answered {
        let mut unsent = unsent;
        let cut = if started.status == 101 {
            self.tunnel(instance, &mut unsent).await.err()
        } else {
            self.carry_body(instance, &mut started, &mut unsent)
                .await
                .err()
        };
        self.worker.buffers.put(unsent);
        started.answered(cut)
    }

    async fn carry_body(
        &self,
        instance: &Sock,
        started: &mut Started,
        unsent: &mut Vec<u8>,
    ) -> Result<(), Cut> {
        let mut pace = Pace::default();
        let mut budget = BUDGET;
        loop {
            self.flush_to_client(unsent, &mut pace).await?;
            if started.done {
                return Ok(());
            }
            let mut surplus = false;
            let after = |bytes: &[u8]| surplus = !bytes.is_empty();
            let step = self.step(
                instance,
                &self.client,
                &mut started.body,
                started.frame,
                unsent,
                after,
            );
            match step {
                Ok(Step::Done) => {
                    started.done = true;
                    started.instance_stays &= !surplus;
                }
                Ok(Step::Moved(n)) => {
                    self.sent.set(self.sent.get() + n as u64);
                    pace.moved(n);
                    budget = budget.saturating_sub(n);
                    if budget == 0 {
                        budget = BUDGET;
                        yield_now(self.worker.reactor()).await;
                    }
                }
                Ok(Step::WaitFrom) => {
                    self.worker.reactor().set_timeout(self.timeouts().stall);
                    self.instance_readable(instance)
                        .await
                        .map_err(|why| match why {
                            Unanswered::ClientLeft => Cut::Left,
                            _ => Cut::InstanceSilent,
                        })?;
                }
                Err(Broken::From) => return Err(Cut::InstanceLeft),
                Err(Broken::To) => return Err(Cut::Left),
                Err(Broken::Malformed) => return Err(Cut::InstanceMalformed),
            }
        }
    }

    async fn flush_to_client(&self, unsent: &mut Vec<u8>, pace: &mut Pace) -> Result<(), Cut> {
        if unsent.is_empty() {
            return Ok(());
        }
        let timeouts = self.timeouts();
        let mut sent = 0;
        while sent < unsent.len() {
            match self
                .client
                .try_send(&unsent[sent..])
                .map_err(|_| Cut::Left)?
            {
                0 => {
                    let since = self.worker.now();
                    self.worker.reactor().set_timeout(timeouts.stall);
                    self.client.writable().await.map_err(|_| Cut::Slow)?;
                    pace.waited(since, self.worker.now());
                    if pace.is_too_slow(timeouts.stall, timeouts.min_rate) {
                        return Err(Cut::Slow);
                    }
                }
                n => sent += n,
            }
        }
        unsent.clear();
        Ok(())
    }
}

/// Bytes of an answer that is not yet known well enough to be passed on.
#[derive(Default)]
struct Early {
    bytes: Vec<u8>,
    scanned: usize,
}

impl Early {
    fn keep(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
    }
}
