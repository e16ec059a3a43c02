//! What becomes of a request: decided as soon as its head is there, without waiting for anything.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use http::filter::{Scene, render};
use http::{h1, route};
use model::{Action, Aside, ListenerTable, Moment, Redirect, Route};
use telemetry::{RequestLine, Trace};

use super::deadline::{Deadline, told};
use super::filter::{asked_credentials, write_changed};
use super::grpc::Call;
use super::persist::Stay;
use super::pump::{BadBody, plain};
use super::session::Session;
use super::trace::passed_on;
use super::tries::Told;
use crate::buffers::{Buffers, FRONT, READ};
use crate::worker::Snapshot;

/// A request whose head was read, with everything that was decided about it.
pub(super) struct Begun {
    /// When its head was complete.
    pub(super) at: Moment,
    pub(super) method: h1::MethodKind,
    pub(super) version: h1::Version,
    /// Whether the client wants to send more requests.
    pub(super) keep_alive: bool,
    /// What it calls, if it is gRPC.
    pub(super) call: Option<Box<Call>>,
    /// What of the request's body is still to come.
    pub(super) body: h1::BodyDecoder,
    /// Whether parts of the body have gone to an instance and are no longer here.
    pub(super) streamed: bool,
    /// Whether a filter makes it wait before anything is done with it.
    pub(super) held_up: bool,
    pub(super) snapshot: Snapshot,
    pub(super) route: Option<usize>,
    /// What is kept of it for when it is over.
    pub(super) told: Told,
    /// What its route has beside a service, if it has anything.
    pub(super) aside: Option<Arc<Aside>>,
    /// Bytes that the client had sent before this request.
    pub(super) since: u64,
    /// Bytes that it had been sent.
    pub(super) sent_before: u64,
}

/// What is done with a request.
pub(super) enum Plan {
    /// Goes to an instance of a service.
    Forward(Forward),
    /// Is answered here.
    Answer(Answer),
}

impl Plan {
    /// The request goes nowhere, and gets this answer.
    pub(super) fn answer_instead(&mut self, answer: Answer, buffers: &Buffers) {
        if let Self::Forward(forward) = std::mem::replace(self, Self::Answer(answer)) {
            buffers.put(forward.message);
        }
    }
}

/// A request on its way to an instance.
pub(super) struct Forward {
    pub(super) service: usize,
    /// For policies that go by a key of the request.
    pub(super) key: u64,
    /// Which endpoint has its session.
    pub(super) stay: Stay,
    /// The request as instances get it: its head, and as much of its body as came along.
    pub(super) message: Vec<u8>,
    /// Where in that `traceparent` stands, if we have written one.
    pub(super) traced: Option<usize>,
    /// Whether the rest of the body goes out in chunks.
    pub(super) chunked: bool,
    /// Whether the client asked to speak another protocol from here on.
    pub(super) upgrade: bool,
    /// Whether that is WebSocket.
    pub(super) websocket: bool,
    /// Whether the service stands in for another.
    pub(super) stands_in: bool,
    /// When nobody waits for it any more.
    pub(super) deadline: Deadline,
    /// Where in its head instances are told of that, if they are.
    pub(super) told: Option<Range<usize>>,
}

/// An answer made here.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) fields: Vec<(&'static str, Box<str>)>,
    pub(super) body: Box<str>,
    /// Why it is made, for the log: `ok` if it is what was asked for, or another says so.
    pub(super) why: &'static str,
}

impl From<h1::Fault> for Answer {
    fn from(fault: h1::Fault) -> Self {
        Self::text(fault.status(), &fault.to_string()).because(fault.as_str())
    }
}

impl Answer {
    /// A short text for people.
    pub(super) fn text(status: u16, why: &str) -> Self {
        Self {
            status,
            fields: vec![("content-type", "text/plain; charset=utf-8".into())],
            body: format!("{status}: {why}\n").into(),
            why: "ok",
        }
    }

    /// The same, with a word for logs. Nothing of what the client sent is in it.
    pub(super) fn because(self, why: &'static str) -> Self {
        Self { why, ..self }
    }
}

/// What a request is judged by.
type Known<'a> = (&'a ListenerTable, &'a Snapshot, Option<&'a Trace>);

impl Session {
    /// Decides about a request that begins behind the first `since` bytes of the connection.
    pub(super) fn begin(
        &self,
        request: &h1::Request<'_>,
        listener: &ListenerTable,
        snapshot: &Snapshot,
        since: u64,
    ) -> (Begun, Plan) {
        let id = &self.request_id();
        let client = http::client_of(request, self.peer.ip(), &listener.trusted_peers);
        let route = route::find(listener, request, client);
        let trace = self.trace(request, listener);
        let mut scene = Scene {
            request,
            client,
            scheme: match self.client.is_secured() {
                true => "https",
                false => "http",
            },
            id,
            user: "",
        };
        let credentials;
        let plan = match route.map(|number| &listener.routes[number]) {
            _ if self.is_out_of_place(request, listener) => out_of_place(request),
            None => {
                let why = "no route of this listener serves this host and path";
                Plan::Answer(Answer::text(404, why).because("no_route"))
            }
            Some(route) => {
                let filters = route.filters.as_ref();
                credentials = filters.and_then(|filters| asked_credentials(filters, request));
                if let Some(credentials) = &credentials {
                    scene.user = &credentials.user;
                }
                match filters.and_then(|filters| self.filter(filters, &scene, credentials.as_ref()))
                {
                    Some(answer) => Plan::Answer(answer),
                    None => self.plan(&scene, route, (listener, snapshot, trace.as_deref())),
                }
            }
        };
        let mut body = h1::BodyDecoder::new(match (request.version, request.framing) {
            // Where the end of a stream is its end.
            (h1::Version::Http2, h1::Framing::Chunked) => h1::Framing::UntilClose,
            (_, framing) => framing,
        });
        let held_up = self.bind(&mut body);
        let line = self.is_told(trace.as_deref()).then(|| line(&scene));
        let begun = Begun {
            at: self.worker.now(),
            method: request.kind,
            version: request.version,
            // What is sent behind a CONNECT that is declined may have been meant for the tunnel, and be somebody else's.
            keep_alive: request.keep_alive && request.kind != h1::MethodKind::Connect,
            call: Call::of(request, &plan, (listener, snapshot), self.worker.now()),
            body,
            streamed: false,
            held_up,
            snapshot: snapshot.clone(),
            route,
            told: Told::new(line, trace, self.worker.now()),
            aside: route.and_then(|number| listener.routes[number].aside.clone()),
            since,
            sent_before: self.client.sent(),
        };
        (begun, plan)
    }

    /// Whether no route of the listener is for a request like this.
    fn is_out_of_place(&self, request: &h1::Request<'_>, listener: &ListenerTable) -> bool {
        let elsewhere = || {
            let host = route::host_of(request.authority);
            let from = self.from.as_ref();
            let name = from.and_then(|from| from.tlvs.authority.as_deref());
            name.is_some_and(|name| !name.as_bytes().eq_ignore_ascii_case(host))
        };
        request.kind == h1::MethodKind::Connect
            || listener.one_host && self.client.is_secured() && elsewhere()
    }

    fn plan(&self, scene: &Scene<'_>, route: &Route, tables: Known<'_>) -> Plan {
        match &route.action {
            Action::Service(service) => Plan::Forward(self.forward(scene, *service, route, tables)),
            Action::Split(split) => match self.share_of(scene.request, scene.client, split) {
                Some(service) => Plan::Forward(self.forward(scene, service, route, tables)),
                None => {
                    let why = "no service has a share of this route";
                    Plan::Answer(Answer::text(503, why).because("no_share"))
                }
            },
            Action::Redirect(redirect) => Plan::Answer(redirected(scene, redirect)),
            Action::Fixed {
                status,
                content_type,
                body,
            } => Plan::Answer(Answer {
                status: *status,
                fields: vec![("content-type", content_type.clone())],
                body: body.clone(),
                why: "ok",
            }),
        }
    }

    fn forward(
        &self,
        scene: &Scene<'_>,
        service: usize,
        route: &Route,
        (listener, snapshot, trace): Known<'_>,
    ) -> Forward {
        let request = scene.request;
        let client = self.peer.ip();
        let trusted = listener
            .trusted_peers
            .iter()
            .any(|net| net.contains(client));
        let forward = h1::ForwardRequest {
            client,
            trusted,
            proto: scene.scheme,
            client_cert: self
                .from
                .as_ref()
                .and_then(|from| from.certificate.as_deref()),
            request_id: scene.id,
            // Only HTTP/1.0 may come without a host, and then nobody can say which it meant.
            default_host: b"localhost",
            upgrade: request.upgrade.is_some(),
            trace: passed_on(trace, listener, trusted),
            changed: h1::Changed::default(),
        };
        let own = route.aside.as_ref().and_then(|aside| aside.timeout);
        let (deadlines, now) = (&listener.deadlines, self.worker.now());
        let deadline = Deadline::of(request, deadlines, own, forward.trusted, now);
        let mut message = self.worker.buffers.take();
        let filters = route.filters.as_deref();
        let changes = filters.filter(|filters| filters.change_requests());
        let (traced, told) = match (changes, &deadlines.header) {
            (None, None) => (h1::write_request(request, &forward, &mut message), None),
            (filters, name) => {
                // Nobody is told what nobody has said.
                let name = name
                    .as_deref()
                    .map(|name| (name, deadline.at != Moment::NEVER));
                let traced = write_changed(filters, name, scene, &forward, &mut message);
                let tells = name.is_some_and(|(_, tells)| tells);
                (traced, tells.then(|| told(&message)))
            }
        };
        Forward {
            service,
            key: self.key(request, snapshot.service(service)),
            stay: self.stay(request, snapshot.service(service)),
            message,
            traced,
            chunked: request.framing == h1::Framing::Chunked,
            upgrade: request.upgrade.is_some(),
            websocket: request
                .upgrade
                .is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket")),
            stands_in: false,
            deadline,
            told,
        }
    }

    /// Adds what came along of the request's body; what follows the body is the next request's.
    pub(super) fn begin_body(&self, (begun, plan): &mut (Begun, Plan), input: &mut [u8]) {
        let decoded = match begun.body.decode(input) {
            Err(h1::Fault::BodyTooLong) => {
                begun.keep_alive = false;
                *plan = Plan::Answer(self.too_long());
                return;
            }
            decoded => decoded.map_err(BadBody::Fault),
        };
        let text = begun.call.as_mut().and_then(|call| call.text.as_mut());
        let decoded = decoded.and_then(|decoded| {
            let data = plain(input, decoded, text)?;
            Ok((decoded, data))
        });
        let (decoded, data) = match decoded {
            Ok(decoded) => decoded,
            Err(bad) => {
                self.count(|stats| stats.refused.bump(1));
                begun.keep_alive = false;
                *plan = Plan::Answer(bad.answer());
                return;
            }
        };
        if let Plan::Forward(forward) = plan {
            let data = &input[..data];
            if forward.chunked {
                write_chunk(data, &mut forward.message);
                if decoded.done {
                    h1::write_last_chunk(begun.body.trailers(), &mut forward.message);
                }
            } else {
                forward.message.extend_from_slice(data);
            }
        }
        self.hold_unseen(&input[decoded.consumed..]);
    }

    /// Adds what has come so far of the body of a request that has a stream of its own, up to what is read at a time.
    pub(super) fn begin_stream(&self, begun: &mut (Begun, Plan)) {
        let mut scratch = self.worker.buffers.scratch();
        let mut room = READ;
        while room > 0 && !begun.0.body.is_done() {
            match self.client.try_recv(&mut scratch[FRONT..FRONT + room]) {
                // Whoever sends the rest finds out.
                Ok(None) | Err(_) => return,
                Ok(Some(0)) => return self.end_stream(begun),
                Ok(Some(n)) => {
                    room -= n;
                    self.begin_body(begun, &mut scratch[FRONT..FRONT + n]);
                }
            }
        }
    }

    fn end_stream(&self, (begun, plan): &mut (Begun, Plan)) {
        // One that is shorter than it said was broken off before.
        let ended = begun.body.end(self.client.take_trailers());
        if let (Ok(()), Plan::Forward(forward)) = (ended, plan)
            && forward.chunked
        {
            h1::write_last_chunk(begun.body.trailers(), &mut forward.message);
        }
    }

    /// Keeps what the client sent ahead.
    pub(super) fn hold_unseen(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.hold(bytes);
            self.unseen.set(true);
        }
    }

    /// The answer to something that cannot be understood; the connection ends with it.
    pub(super) fn refuse(&self, answer: Answer, since: u64) -> (Begun, Plan) {
        let line = self.worker.logger.as_ref().map(|_| Box::default());
        let begun = Begun {
            at: self.worker.now(),
            method: h1::MethodKind::Get,
            version: match self.client.is_stream() {
                true => h1::Version::Http2,
                false => h1::Version::Http11,
            },
            keep_alive: false,
            call: None,
            // Where this request ends, nobody knows: whatever follows belongs to it.
            body: h1::BodyDecoder::new(h1::Framing::UntilClose),
            streamed: false,
            held_up: false,
            snapshot: self.worker.snapshot(),
            route: None,
            told: Told::new(line, None, self.worker.now()),
            aside: None,
            since,
            sent_before: self.client.sent(),
        };
        (begun, Plan::Answer(answer))
    }

    /// 128 random bits in hexadecimal.
    fn request_id(&self) -> [u8; 32] {
        let mut id = [0; 32];
        for half in id.chunks_exact_mut(16) {
            let bits = self.worker.draw();
            half[..8].copy_from_slice(&hexadecimal((bits >> 32) as u32));
            half[8..].copy_from_slice(&hexadecimal(bits as u32));
        }
        id
    }
}

/// Eight digits at a time: each half-byte is moved to a byte of its own, and becomes a digit there.
fn hexadecimal(bits: u32) -> [u8; 8] {
    const ONES: u64 = u64::MAX / 255;
    let mut halves = u64::from(bits);
    halves = (halves | halves << 16) & 0x0000_ffff_0000_ffff;
    halves = (halves | halves << 8) & 0x00ff_00ff_00ff_00ff;
    halves = (halves | halves << 4) & (0x0f * ONES);
    // Six more than nine reaches the next half-byte: there a letter is told from a figure.
    let letters = (halves + 6 * ONES) >> 4 & ONES;
    (halves + u64::from(b'0') * ONES + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

pub(super) fn write_chunk(data: &[u8], out: &mut Vec<u8>) {
    if !data.is_empty() {
        out.extend_from_slice(h1::chunk_head(data.len(), &mut [0; 18]));
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

fn out_of_place(request: &h1::Request<'_>) -> Plan {
    Plan::Answer(match request.kind {
        // A proxy that tunnels for anybody is an open relay; that is another listener's trade.
        h1::MethodKind::Connect => {
            Answer::text(501, "this listener opens no tunnels").because("no_tunnels")
        }
        // RFC 9110 §15.5.20.
        _ => Answer::text(421, "this connection is for another host: ask on a new one")
            .because("misdirected"),
    })
}

fn redirected(scene: &Scene<'_>, redirect: &Redirect) -> Answer {
    let mut location = Vec::new();
    render(&redirect.location, scene, &mut location);
    let location = text(&location);
    let mut answer = Answer::text(redirect.status, &location);
    answer.fields.push(("location", location.into()));
    answer
}

fn line(scene: &Scene<'_>) -> Box<RequestLine> {
    let request = scene.request;
    let mut target = text(request.target.path()).into_owned();
    if let Some(query) = request.target.query() {
        target.push('?');
        target.push_str(&text(query));
    }
    let field = |name| request.fields.find(name).map(|v| text(v).into());
    Box::new(RequestLine {
        method: text(request.method).into(),
        authority: text(request.authority).into(),
        target: target.into(),
        scheme: match scene.scheme {
            "https" => "https",
            _ => "http",
        },
        version: match request.version {
            h1::Version::Http10 => "1.0",
            h1::Version::Http11 => "1.1",
            h1::Version::Http2 => "2",
        },
        id: text(scene.id).into(),
        user_agent: field("user-agent"),
        referer: field("referer"),
    })
}

/// Bytes of a message as text; what is no UTF-8 is replaced.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// A route's name, for records.
pub(super) fn route_name(
    snapshot: &Snapshot,
    listener: usize,
    route: Option<usize>,
) -> Option<Arc<str>> {
    let listener = snapshot.listener(listener)?;
    Some(listener.routes.get(route?)?.name.clone())
}

#[cfg(test)]
mod tests {
    use super::hexadecimal;

    #[test]
    fn every_half_byte_becomes_its_digit() {
        for bits in [0x0123_4567, 0x89ab_cdef, 0xf0e1_d2c3, 0, u32::MAX] {
            let expected = format!("{bits:08x}");
            assert_eq!(hexadecimal(bits), expected.as_bytes());
        }
    }
}
