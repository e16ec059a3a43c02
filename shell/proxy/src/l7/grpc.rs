//! What a call of gRPC has beyond a request: a deadline, an end of its own, and another form for browsers.

use http::{grpc, h1};
use model::{ListenerTable, Moment};

use super::begin::{Answer, Begun, Plan, write_chunk};
use super::pump::{Frame, Pace};
use super::respond::Started;
use super::session::{Cut, Session};
use crate::buffers::{FRONT, READ};
use crate::rt::{Sock, yield_now};
use crate::worker::Snapshot;

/// A request that calls something by gRPC.
pub(super) struct Call {
    pub(super) kind: grpc::Kind,
    content_type: Box<[u8]>,
    /// When nobody waits for an answer any more; [`Moment::NEVER`] if it does not say so.
    deadline: Moment,
    /// Whether the instance gets, and gives, gRPC's own form instead of the browser's.
    translated: bool,
    /// The request's body, when it is text.
    pub(super) text: Option<grpc::TextDecoder>,
}

/// An answer's body that becomes that of gRPC-Web.
pub(super) struct Web {
    pub(super) kind: grpc::Kind,
    /// What of it came along with its head.
    pub(super) came: Vec<u8>,
}

/// What clients hear that get no answer in time.
const LATE: &[u8] = b"grpc-status: 4\r\ngrpc-message: the deadline passed\r\n";

impl Call {
    /// `None` for all other requests, who pay for a look at their method.
    pub(super) fn of(
        request: &h1::Request<'_>,
        plan: &Plan,
        (listener, snapshot): (&ListenerTable, &Snapshot),
        now: Moment,
    ) -> Option<Box<Self>> {
        if request.kind != h1::MethodKind::Post {
            return None;
        }
        let content_type = request.fields.find("content-type")?;
        let kind = grpc::Kind::of(content_type)?;
        let timeout = request.fields.find("grpc-timeout");
        let timeout = timeout.and_then(grpc::parse_timeout);
        let speaks = match plan {
            Plan::Forward(forward) => snapshot.service(forward.service).http2,
            Plan::Answer(_) => false,
        };
        let translated = kind != grpc::Kind::Plain && listener.grpc_web && speaks;
        let text = translated && kind == grpc::Kind::WebText;
        Some(Box::new(Self {
            kind,
            content_type: content_type.into(),
            deadline: timeout.map_or(Moment::NEVER, |timeout| now + timeout),
            translated,
            text: text.then(grpc::TextDecoder::default),
        }))
    }

    /// The form that answers are to be translated to.
    pub(super) fn web(&self) -> Option<grpc::Kind> {
        self.translated.then_some(self.kind)
    }

    /// What instances are told instead of what the client says.
    pub(super) fn told(&self, now: Moment) -> Told {
        let mut timeout = Vec::new();
        if self.deadline != Moment::NEVER {
            grpc::write_timeout(self.deadline.since(now), &mut timeout);
        }
        let plain = || grpc::Kind::Plain.instead_of(&self.content_type);
        Told {
            timeout,
            content_type: self.translated.then(plain),
        }
    }
}

/// Fields of a call as an instance gets them.
#[derive(Default)]
pub(super) struct Told {
    timeout: Vec<u8>,
    content_type: Option<Vec<u8>>,
}

impl Told {
    /// The value of a field; `None` if it is left out.
    pub(super) fn value<'a>(&'a self, name: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        match &self.content_type {
            _ if !self.timeout.is_empty() && is("grpc-timeout") => Some(&self.timeout),
            Some(plain) if is("content-type") => Some(plain),
            // A text is longer than what it says; and what a browser cannot say comes behind.
            Some(_) if is("content-length") || is("te") => None,
            _ => Some(value),
        }
    }

    /// Fields that the client did not send.
    pub(super) fn more(&self) -> &'static [(&'static str, &'static str)] {
        match self.content_type {
            Some(_) => &[("te", "trailers")],
            None => &[],
        }
    }
}

impl Session {
    /// From here on the limits in time are those of this request.
    pub(super) fn begin_call(&self, begun: &mut Begun, plan: &Plan) {
        if let Plan::Forward(forward) = plan {
            self.deadline.set(forward.deadline.at);
        }
        if let Some(call) = &mut begun.call {
            call.deadline = call.deadline.min(self.deadline.get());
            self.deadline.set(call.deadline);
            self.calling.set(true);
        }
    }

    pub(super) fn end_call(&self) {
        self.call_failed.set(false);
        self.deadline.set(Moment::NEVER);
        self.calling.set(false);
        self.expired.set(false);
    }

    /// Takes in the status of a call, from its answer's head or from its trailers. Broken is what would be 500, 503 or 504
    /// elsewhere: the other statuses are about the call.
    pub(super) fn hear_status(&self, status: Option<&[u8]>) {
        if let (true, Some(status)) = (self.calling.get(), status) {
            let broken = [b"2".as_slice(), b"4", b"13", b"14", b"15"];
            self.call_failed.set(broken.contains(&status.trim_ascii()));
        }
    }

    /// The same, from trailers.
    pub(super) fn hear_trailers(&self, trailers: &[u8]) {
        if self.calling.get() {
            self.hear_status(grpc::status_of(trailers));
        }
    }

    /// Whether the deadline of a request has passed. What is still to be said of it then has as much time as anything else.
    pub(super) fn is_expired(&self) -> bool {
        if self.deadline.get() <= self.worker.now() {
            self.deadline.set(Moment::NEVER);
            self.expired.set(true);
        }
        self.expired.get()
    }

    /// An answer of our own as gRPC's clients understand it: its end, and nothing else.
    pub(super) fn as_call(&self, begun: &Begun, answer: &Answer) -> Option<Answer> {
        let call = begun.call.as_ref().filter(|_| answer.status >= 400)?;
        let status = match self.is_expired() {
            true => grpc::Status::DeadlineExceeded,
            false => grpc::Status::of_http(answer.status),
        };
        let mut message = String::new();
        grpc::write_message(&answer.body, &mut message);
        let content_type = String::from_utf8_lossy(&call.content_type);
        let mut fields = vec![
            ("content-type", content_type.into()),
            ("grpc-status", (status as u8).to_string().into()),
            ("grpc-message", message.into()),
        ];
        let others = answer.fields.iter();
        fields.extend(others.filter(|(name, _)| *name != "content-type").cloned());
        Some(Answer {
            status: 200,
            fields,
            body: "".into(),
            why: answer.why,
        })
    }

    /// Ends an answer of which the client has a part, and of which no more will come in time.
    pub(super) fn end_late(&self, begun_by: Option<grpc::Kind>) {
        if !self.calling.get() {
            // Nothing that it could be told would be understood.
            return;
        }
        let mut out = Vec::new();
        if let Some(kind) = begun_by {
            grpc::write_trailers(LATE, kind, &mut out);
        }
        if !self.client.is_stream() {
            // Without frames of its own, nobody could tell where it ends.
            if begun_by.is_some() {
                let mut framed = Vec::new();
                write_chunk(&out, &mut framed);
                framed.extend_from_slice(h1::LAST_CHUNK);
                let _ = self.client.try_send(&framed);
            }
            return;
        }
        if !out.is_empty() {
            let _ = self.client.try_send(&out);
        }
        let trailers = if begun_by.is_none() { LATE } else { b"" };
        self.client.end_message(trailers);
    }

    /// Carries an answer that is translated on its way.
    pub(super) async fn carry_web(
        &self,
        instance: &Sock,
        started: &mut Started,
        unsent: &mut Vec<u8>,
        web: &Web,
    ) -> Result<(), Cut> {
        let mut pace = Pace::new(self.client.sent());
        let as_what = (web.kind, started.frame);
        add_web(&web.came, as_what, unsent);
        loop {
            self.flush_to_client(unsent, &mut pace).await?;
            let read = self.read_web(instance, as_what, unsent)?;
            match read {
                None => self.until_readable(instance).await?,
                Some(true) => yield_now(self.worker.reactor()).await,
                Some(false) => break,
            }
        }
        let mut end = Vec::new();
        grpc::write_trailers(&instance.take_trailers(), web.kind, &mut end);
        add_piece(&end, started.frame, unsent);
        if started.frame == Frame::Chunks {
            unsent.extend_from_slice(h1::LAST_CHUNK);
        }
        self.flush_to_client(unsent, &mut pace).await?;
        self.client.end_message(&[]);
        started.instance_stays = false;
        Ok(())
    }

    /// Reads once; `None`: there is nothing for now; false: nor will there be.
    fn read_web(
        &self,
        instance: &Sock,
        as_what: (grpc::Kind, Frame),
        out: &mut Vec<u8>,
    ) -> Result<Option<bool>, Cut> {
        let mut scratch = self.worker.buffers.scratch();
        let room = &mut scratch[FRONT..FRONT + READ];
        let read = instance.try_recv(room).map_err(|_| Cut::InstanceLeft)?;
        if let Some(n @ 1..) = read {
            add_web(&room[..n], as_what, out);
        }
        Ok(read.map(|n| n > 0))
    }
}

/// Adds a piece of an answer's body in its new form.
fn add_web(data: &[u8], (kind, frame): (grpc::Kind, Frame), out: &mut Vec<u8>) {
    let mut piece = Vec::new();
    grpc::write_data(data, kind, &mut piece);
    add_piece(&piece, frame, out);
}

fn add_piece(piece: &[u8], frame: Frame, out: &mut Vec<u8>) {
    match frame {
        Frame::Chunks => write_chunk(piece, out),
        Frame::Plain => out.extend_from_slice(piece),
    }
}
