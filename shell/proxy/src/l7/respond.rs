//! The answer, from the instance to the client.

use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use http::{grpc, h1, h2, load_report};
use model::{Coding, Moment, ServiceTable};

use super::begin::{Begun, Forward};
use super::compress::Encoder;
use super::grpc::Web;
use super::pump::{BUDGET, Broken, Frame, LEAST, Pace, Step, framed};
use super::session::{Cut, Session};
use crate::buffers::{FRONT, READ};
use crate::rt::{Sock, TimedOut, yield_now};

/// Answers up to this length are passed on only when they are whole, if the request may be repeated: an
/// instance that dies between head and body has then cost nothing but a second attempt. Larger ones flow
/// as they come; no client waits for more than this.
const WHOLE: u64 = 16 * 1024;

/// The largest head taken from an instance; its field count has the same limit as a client's by default. The listener's limits
/// are for strangers: whoever makes them narrower does not mean to refuse the answers of instances of his own.
pub(super) const LIMITS: h1::Limits = h1::Limits {
    head: 32 * 1024,
    fields: 100,
};

/// Informational answers (RFC 9110 §15.2) passed on for one request. A few hints or signs of life are useful; each
/// moves the deadline, so that without a bound an instance could keep a client for good.
const MOST_INTERIM: u8 = 32;

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
    /// It has not looked at the request.
    Refused,
    /// It did not answer in time.
    Silent,
    /// What it sent is no HTTP.
    Malformed,
    /// The client is gone, so that nobody waits for an answer.
    ClientLeft,
    /// It answered with this status, and a page takes the place of that.
    Replaced(u16),
    /// It answered with this status, and another attempt takes the place of that, after so long.
    Again(u16, Duration),
}

impl Unanswered {
    /// For a connection that broke.
    pub(super) fn of(instance: &Sock) -> Self {
        match instance.lost() {
            h2::Lost::Refused => Self::Refused,
            h2::Lost::Malformed => Self::Malformed,
            h2::Lost::Reset => Self::Left,
        }
    }
}

/// What the answer depends on in the request.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    method: h1::MethodKind,
    version: h1::Version,
    keep_alive: bool,
    upgrade: bool,
    /// Whether another attempt is possible as long as the client has seen nothing.
    pub(super) repeatable: bool,
    /// Whether it is a call of gRPC that is here whole.
    pub(super) call: bool,
    /// What gRPC's answers become.
    web: Option<grpc::Kind>,
}

impl Asked {
    pub(super) fn of(begun: &Begun, forward: &Forward) -> Self {
        Self {
            method: begun.method,
            version: begun.version,
            keep_alive: begun.keep_alive,
            upgrade: forward.upgrade,
            repeatable: begun.method.is_idempotent() && begun.body.is_done(),
            call: begun.call.is_some() && begun.body.is_done(),
            web: begun.call.as_ref().and_then(|call| call.web()),
        }
    }
}

/// An answer that has begun, and what the client could not take of it at once.
pub(super) type Begin = (Started, Vec<u8>);

pub(super) struct Started {
    pub(super) status: u16,
    pub(super) body: h1::BodyDecoder,
    pub(super) frame: Frame,
    pub(super) instance_stays: bool,
    pub(super) client_stays: bool,
    /// What becomes of an answer of gRPC's for a browser.
    web: Option<Box<Web>>,
    /// What compresses the body, if it is compressed.
    pub(super) encoder: Option<Box<Encoder>>,
}

impl Started {
    /// Decodes what came along with the head: it stands at `came` after [`FRONT`].
    pub(super) fn decode(
        &mut self,
        scratch: &mut [u8],
        came: &Range<usize>,
    ) -> Result<h1::Decoded, Unanswered> {
        let decoded = self
            .body
            .decode(&mut scratch[FRONT + came.start..FRONT + came.end])
            .map_err(|_| Unanswered::Malformed)?;
        self.instance_stays &= decoded.consumed == came.len();
        Ok(decoded)
    }

    fn answered(&self, cut: Option<Cut>) -> Answered {
        Answered {
            status: self.status,
            cut,
            instance_stays: self.instance_stays,
            client_stays: self.client_stays,
        }
    }
}

impl Session {
    /// Waits for the answer and carries it to the client.
    pub(super) fn respond(
        &self,
        instance: &Sock,
        asked: Asked,
        service: &ServiceTable,
    ) -> impl Future<Output = Result<Answered, Unanswered>> {
        self.respond_after(None, instance, asked, service)
    }

    /// The same, of an answer of which this was read.
    pub(super) fn respond_to(
        &self,
        came: Vec<u8>,
        instance: &Sock,
        asked: Asked,
        service: &ServiceTable,
    ) -> impl Future<Output = Result<Answered, Unanswered>> {
        let early = Early {
            bytes: came,
            ..Early::default()
        };
        self.respond_after(Some(Box::new(early)), instance, asked, service)
    }

    fn respond_after(
        &self,
        mut early: Option<Box<Early>>,
        instance: &Sock,
        asked: Asked,
        service: &ServiceTable,
    ) -> impl Future<Output = Result<Answered, Unanswered>> {
        async move {
            self.await_head(service);
            let rest = loop {
                if let Some(begun) = self.look(instance, asked, service, &mut early)? {
                    break self.rest(instance, begun);
                }
                if let Some(message) = early.as_mut().and_then(|early| early.message.take()) {
                    Box::pin(self.pass_interim(message)).await?;
                    self.await_head(service);
                    continue;
                }
                if early.as_ref().is_some_and(|early| early.has_head) {
                    self.set_timeout(self.timeouts().stall);
                }
                self.instance_readable(instance).await?;
            };
            Ok(match rest {
                Ok(answered) => answered,
                Err(carry) => carry.await,
            })
        }
    }

    /// What became of an answer that was sent whole; else what carries the rest of it: boxed, as every rare or large
    /// future of an exchange, so that the common one stays small and is quick to set up.
    fn rest<'a>(
        &'a self,
        instance: &'a Sock,
        (started, unsent): Begin,
    ) -> Result<Answered, Pin<Box<impl Future<Output = Answered> + 'a>>> {
        if started.body.is_done() && unsent.is_empty() && started.encoder.is_none() {
            self.worker.buffers.put(unsent);
            self.speaking.set(0);
            return Ok(started.answered(None));
        }
        Err(Box::pin(self.carry(instance, started, unsent)))
    }

    /// Sends the client an informational answer.
    async fn pass_interim(&self, message: Vec<u8>) -> Result<(), Unanswered> {
        self.speaking.set(100);
        let sent = match self.client.is_stream() {
            true => {
                self.client.send_head(&message, false);
                Ok(())
            }
            false => self.send(&message, false).await,
        };
        self.worker.buffers.put(message);
        sent.map_err(|_| Unanswered::ClientLeft)?;
        self.speaking.set(0);
        Ok(())
    }

    /// Gives the instance its time to answer. It begins when the instance has the whole request; until then the
    /// limits of the upload hold.
    pub(super) fn await_head(&self, service: &ServiceTable) {
        if self.uploading.get() || self.speaking.get() != 0 {
            return;
        }
        let said = self.calling.get() && self.deadline.get() != Moment::NEVER;
        self.set_timeout(match said {
            false => service.response_timeout,
            // Who says how long to wait means it.
            true => service.response_timeout.max(self.timeouts().stall),
        });
    }

    /// Waits until the instance has sent something, or the client has gone.
    fn instance_readable(&self, instance: &Sock) -> impl Future<Output = Result<(), Unanswered>> {
        poll_fn(move |_| {
            if instance.is_readable() {
                return Poll::Ready(Ok(()));
            }
            // A client that only ended its side may still read: some send their request that way.
            if self.client.is_hung_up() {
                return Poll::Ready(Err(Unanswered::ClientLeft));
            }
            if self.worker.reactor().timed_out() {
                return Poll::Ready(Err(Unanswered::Silent));
            }
            instance.wake_current();
            self.client.wake_current_if_it_lasts();
            Poll::Pending
        })
    }

    /// Reads what is there; when it holds a head, sends that and what there is of the body. `None`: there must be more, or
    /// an informational answer waits in `early` to be sent first.
    fn look(
        &self,
        instance: &Sock,
        asked: Asked,
        service: &ServiceTable,
        early: &mut Option<Box<Early>>,
    ) -> Result<Option<Begin>, Unanswered> {
        let mut scratch = self.worker.buffers.scratch();
        let mut len = 0;
        if let Some(early) = early {
            len = early.bytes.len();
            scratch[FRONT..FRONT + len].copy_from_slice(&early.bytes);
            early.bytes.clear();
        }
        loop {
            if len > 0 {
                let begun = self.look_at(&mut scratch, len, (asked, service), early)?;
                let first = early.as_ref().is_some_and(|early| early.message.is_some());
                if begun.is_some() || first {
                    return Ok(begun);
                }
            }
            // What the client does not take now is to stay where it is.
            let most = self.client.room().clamp(LEAST, READ);
            let end = (len + most).min(READ);
            match instance.try_recv(&mut scratch[FRONT + len..FRONT + end]) {
                Ok(Some(0)) => return Err(Unanswered::Left),
                Err(_) => return Err(Unanswered::of(instance)),
                Ok(Some(n)) => len += n,
                Ok(None) => {
                    if len > 0 {
                        let early = early.get_or_insert_default();
                        early.keep(&scratch[FRONT..FRONT + len]);
                    }
                    return Ok(None);
                }
            }
        }
    }

    /// Looks at `len` bytes after [`FRONT`].
    fn look_at(
        &self,
        scratch: &mut [u8],
        len: usize,
        (asked, service): (Asked, &ServiceTable),
        early: &mut Option<Box<Early>>,
    ) -> Result<Option<Begin>, Unanswered> {
        let input = &scratch[FRONT..FRONT + len];
        let before = early.as_ref().map_or(0, |early| early.scanned);
        let mut scanned = before;
        let mut parsed = h1::parse_response(input, &mut scanned, &LIMITS, asked.method);
        if scanned != before {
            early.get_or_insert_default().scanned = scanned;
        }
        // By reference: a parsed head is large, and moving it costs as much as parsing it.
        let response = match &mut parsed {
            Ok(Some(response)) => response,
            Ok(None) => return Ok(None),
            Err(_) => return Err(Unanswered::Malformed),
        };
        let head_len = response.head_len;
        if response.is_interim() {
            let early = early.get_or_insert_default();
            early.interim += 1;
            if early.interim > MOST_INTERIM {
                return Err(Unanswered::Malformed);
            }
            let mut message = self.worker.buffers.take();
            self.write_head(response, asked, false, &mut message);
            early.message = Some(message);
            early.keep(&input[head_len..]);
            return Ok(None);
        }
        self.hear_status(match self.calling.get() {
            true => response.fields.find("grpc-status"),
            false => None,
        });
        if let Some(again) = self.passes_over(response, asked, service) {
            return Err(again);
        }
        if response.status >= 400 && self.intercepts(response.status) {
            return Err(Unanswered::Replaced(response.status));
        }
        if response.status == 101 && !asked.upgrade {
            return Err(Unanswered::Malformed);
        }
        if let h1::Framing::Length(length) = response.framing
            && asked.repeatable
            && length <= WHOLE
            && len - head_len < length as usize
        {
            early.get_or_insert_default().has_head = true;
            return Ok(None);
        }
        if let Some(metric) = &service.load_report {
            self.hear_report(response, metric);
        }
        if let Some(translated) = asked.web.and_then(|kind| translated(response, kind)) {
            return self.start_web(scratch, head_len..len, asked, translated);
        }
        let (started, head, coding) = self.written(response, asked);
        if let Some(coding) = coding {
            let encoder = Encoder::new(coding).map_err(|_| Unanswered::Malformed)?;
            let came = head_len..len;
            let begun = self.start_encoded(scratch, came, started, head, Box::new(encoder));
            return begun.map(Some);
        }
        self.start_either(scratch, head_len..len, started, (head, asked))
    }

    /// What the instance says of its load.
    fn hear_report(&self, response: &h1::Response<'_>, metric: &str) {
        let report = response.fields.find(load_report::FIELD);
        let load = report.and_then(|report| load_report::metric(report, metric));
        self.load.set(load.map(|load| load as f32));
    }

    /// Begins an answer of gRPC's, whose head became this one, for a browser.
    fn start_web(
        &self,
        scratch: &mut [u8],
        mut came: Range<usize>,
        asked: Asked,
        (text, kind): (Vec<u8>, grpc::Kind),
    ) -> Result<Option<Begin>, Unanswered> {
        let mut parsed = h1::parse_response(&text, &mut 0, &LIMITS, asked.method);
        let Ok(Some(response)) = &mut parsed else {
            return Err(Unanswered::Malformed);
        };
        let (mut started, head, _) = self.written(response, asked);
        if !started.body.is_done() {
            let bytes = scratch[FRONT + came.start..FRONT + came.end].to_vec();
            started.web = Some(Box::new(Web { kind, came: bytes }));
            came.end = came.start;
        }
        self.start_either(scratch, came, started, (head, asked))
    }

    fn start_either(
        &self,
        scratch: &mut [u8],
        came: Range<usize>,
        started: Started,
        (head, asked): (Vec<u8>, Asked),
    ) -> Result<Option<Begin>, Unanswered> {
        let started = match asked.version {
            h1::Version::Http2 => self.start_stream(scratch, came, started, head),
            _ => self.start(scratch, came, started, head),
        };
        started.map(Some)
    }

    /// Decides how an answer leaves here, and writes its head; says also how its body is to be compressed, if it is.
    fn written(
        &self,
        response: &mut h1::Response<'_>,
        asked: Asked,
    ) -> (Started, Vec<u8>, Option<Coding>) {
        let tunnel = response.status == 101;
        let framed = response.framing;
        let coding = self.prepare(response, asked.web.is_none());
        let mut head = self.worker.buffers.take();
        // While the request is still coming in, nobody knows where the next one would begin.
        let close = !asked.keep_alive || self.uploading.get() || self.is_ending();
        let framing = self.write_head(response, asked, close, &mut head);
        let body = match tunnel {
            true => h1::Framing::UntilClose,
            false => framed,
        };
        let started = Started {
            status: response.status,
            body: h1::BodyDecoder::new(body),
            frame: match framing {
                h1::Framing::Chunked => Frame::Chunks,
                _ => Frame::Plain,
            },
            instance_stays: response.keep_alive && !tunnel,
            client_stays: !close && !tunnel && framing != h1::Framing::UntilClose,
            web: None,
            encoder: None,
        };
        (started, head, coding)
    }

    /// Sends the head, and what came along of the body: it stands at `came` after [`FRONT`].
    fn start(
        &self,
        scratch: &mut [u8],
        came: Range<usize>,
        mut started: Started,
        mut head: Vec<u8>,
    ) -> Result<Begin, Unanswered> {
        let decoded = started.decode(scratch, &came)?;
        let range = framed(
            scratch,
            came.start,
            decoded.data,
            started.frame,
            decoded.done,
            &started.body,
        );
        // The new head goes right in front, so that one send carries both.
        let start = range.start - head.len();
        scratch[start..range.start].copy_from_slice(&head);
        head.clear();
        let message = &scratch[start..range.end];
        self.speaking.set(started.status);
        self.heard.set(self.worker.now());
        // When it is the last that the client gets, its end follows at once.
        let last = decoded.done && !started.client_stays;
        let sent = match last {
            true => self.client.try_send_last(message),
            false => self.client.try_send(message),
        };
        // A client that is gone is noticed when the rest is sent.
        let sent = sent.unwrap_or(0);
        head.extend_from_slice(&message[sent..]);
        Ok((started, head))
    }

    /// The same on a stream: what stands in `head` is a header block.
    fn start_stream(
        &self,
        scratch: &mut [u8],
        came: Range<usize>,
        mut started: Started,
        mut head: Vec<u8>,
    ) -> Result<Begin, Unanswered> {
        let decoded = started.decode(scratch, &came)?;
        started.client_stays = true;
        let data = &scratch[FRONT + came.start..][..decoded.data];
        self.speaking.set(started.status);
        self.heard.set(self.worker.now());
        let trailers = started.body.trailers();
        let last = decoded.done && trailers.is_empty();
        self.client.send_head(&head, last && data.is_empty());
        let sent = match last {
            true => self.client.try_send_last(data),
            false => self.client.try_send(data),
        };
        let unsent = &data[sent.unwrap_or(0)..];
        if decoded.done && unsent.is_empty() {
            self.hear_trailers(trailers);
            self.client.end_message(trailers);
        }
        head.clear();
        head.extend_from_slice(unsent);
        Ok((started, head))
    }

    fn write_head(
        &self,
        response: &h1::Response<'_>,
        asked: Asked,
        close: bool,
        out: &mut Vec<u8>,
    ) -> h1::Framing {
        let write = |date: &str, fields: &[(Box<str>, Box<str>)], out: &mut Vec<u8>| {
            if asked.version == h1::Version::Http2 {
                h2::write_response(response, date, fields, out);
                // Streams have frames of their own.
                return h1::Framing::None;
            }
            let forward = h1::ForwardResponse {
                version: asked.version,
                close,
                date,
                fields,
            };
            h1::write_response(response, &forward, out)
        };
        let (date, now) = (&self.worker.date, self.worker.now());
        if response.is_interim() {
            return date.with(now, |date| write(date, &[], out));
        }
        self.with_fields(|fields| date.with(now, |date| write(date, fields, out)))
    }

    /// Carries what is left of the answer.
    async fn carry(&self, instance: &Sock, mut started: Started, mut unsent: Vec<u8>) -> Answered {
        let web = started.web.take();
        let mut outcome = match &web {
            _ if started.status == 101 => Box::pin(self.tunnel(instance, unsent)).await,
            Some(web) => {
                let carry = self.carry_web(instance, &mut started, &mut unsent, web);
                Box::pin(carry).await
            }
            None if started.encoder.is_some() => {
                let carried = self.carry_encoded(instance, &mut started, &mut unsent);
                let outcome = Box::pin(carried).await;
                self.worker.buffers.put(unsent);
                outcome
            }
            None => {
                let outcome = self.carry_body(instance, &mut started, &mut unsent).await;
                self.worker.buffers.put(unsent);
                outcome
            }
        };
        if outcome.is_ok() {
            self.speaking.set(0);
        } else if self.is_expired() {
            self.end_late(web.map(|web| web.kind));
            outcome = Err(Cut::Expired);
        }
        started.answered(outcome.err())
    }

    async fn carry_body(
        &self,
        instance: &Sock,
        started: &mut Started,
        unsent: &mut Vec<u8>,
    ) -> Result<(), Cut> {
        let mut pace = Pace::new(self.client.sent());
        let mut budget = BUDGET;
        let mut throttle = self.throttle(|bandwidth| bandwidth.response);
        loop {
            self.flush_to_client(unsent, &mut pace).await?;
            if started.body.is_done() {
                self.hear_trailers(started.body.trailers());
                self.client.end_message(started.body.trailers());
                return Ok(());
            }
            let mut surplus = false;
            let after = |bytes: &[u8]| surplus = !bytes.is_empty();
            let (body, frame) = (&mut started.body, started.frame);
            let step = self.step(instance, &self.client, body, (frame, None), unsent, after);
            started.instance_stays &= !surplus;
            match step {
                Ok(Step::Done) => {
                    // The framing's own end, for a body that ended with the connection, is on its way too.
                    self.flush_to_client(unsent, &mut pace).await?;
                    self.hear_trailers(started.body.trailers());
                    self.client.end_message(started.body.trailers());
                    return Ok(());
                }
                Ok(Step::Moved(n)) => {
                    if let Some(throttle) = &mut throttle {
                        Box::pin(self.hold_back(throttle, n)).await;
                    }
                    budget = budget.saturating_sub(n);
                    if budget == 0 {
                        budget = BUDGET;
                        yield_now(self.worker.reactor()).await;
                    }
                }
                Ok(Step::WaitFrom) => {
                    self.until_readable(instance).await?;
                }
                Ok(Step::WaitTo) => self.client_writable(&mut pace).await?,
                Err(Broken::From) => return Err(Cut::InstanceLeft),
                Err(Broken::To) => return Err(Cut::Left),
                Err(Broken::Malformed(_) | Broken::TooLong) => return Err(Cut::InstanceMalformed),
            }
        }
    }

    /// Waits for more of an answer.
    pub(super) async fn until_readable(&self, instance: &Sock) -> Result<(), Cut> {
        self.set_timeout(self.timeouts().stall);
        let ready = self.instance_readable(instance).await;
        ready.map_err(|why| match why {
            Unanswered::ClientLeft => Cut::Left,
            _ => Cut::InstanceSilent,
        })
    }

    pub(super) async fn flush_to_client(
        &self,
        unsent: &mut Vec<u8>,
        pace: &mut Pace,
    ) -> Result<(), Cut> {
        let mut sent = 0;
        while sent < unsent.len() {
            let n = self.client.try_send(&unsent[sent..]);
            sent += n.map_err(|_| Cut::Left)?;
            if sent < unsent.len() {
                self.client_writable(pace).await?;
            }
        }
        unsent.clear();
        Ok(())
    }

    async fn client_writable(&self, pace: &mut Pace) -> Result<(), Cut> {
        let timeouts = self.timeouts();
        let reactor = self.worker.reactor();
        let since = reactor.now();
        self.set_timeout(timeouts.stall);
        let ready = self.client.writable().await;
        ready.map_err(|TimedOut| Cut::Slow)?;
        pace.waited(since, reactor.now());
        let (client, sent) = (&self.client, self.client.sent());
        match pace.is_too_slow(client, sent, timeouts.stall, timeouts.min_rate) {
            true => Err(Cut::Slow),
            false => Ok(()),
        }
    }
}

/// The head of an answer of gRPC in another form.
fn translated(response: &h1::Response<'_>, kind: grpc::Kind) -> Option<(Vec<u8>, grpc::Kind)> {
    let content_type = response.fields.find("content-type")?;
    grpc::Kind::of(content_type).filter(|is| *is == grpc::Kind::Plain)?;
    let mut text = Vec::new();
    grpc::write_head(response, kind, &mut text);
    Some((text, kind))
}

/// Bytes of an answer that is not yet known well enough to be passed on.
#[derive(Default)]
struct Early {
    bytes: Vec<u8>,
    /// An informational answer that the client must be sent before we look again.
    message: Option<Vec<u8>>,
    scanned: usize,
    /// Informational answers so far.
    interim: u8,
    /// The final head is among the bytes: from now on the body's limit holds, not the head's.
    has_head: bool,
}

impl Early {
    fn keep(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
    }
}
