//! One request: attempts at instances until one answers, or the answer is ours.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::SystemTime;

use balance::{Context, Outcome, Tried};
use http::{h1, h2};
use model::{Closed, Endpoint, Moment, ServiceTable};
use telemetry::{AccessRecord, Answerer, Try};
use wire::proxy_protocol::Tlvs;

use super::admit::admit;
use super::aside::Unserved;
use super::begin::{Answer, Begun, Forward, Plan, route_name};
use super::pump::Frame;
use super::respond::{Answered, Asked, Unanswered};
use super::retry::{Tries, has_stand_in, may_retry};
use super::session::{Cut, Next, Session};
use super::share::Shared;
use super::tries::Phases;
use super::tunnel::Upgraded;
use crate::l4::{Introduced, header, is_ours};
use crate::rt::{Either, Sock, race};
use crate::tls::{is_current, to_instance};
use crate::worker::{InFlight, Snapshot, Worker};

/// How a request ended, for counters and the log.
pub(super) struct Ended {
    pub(super) status: u16,
    next: Next,
    /// Why the answer is not whole, if it is not.
    pub(super) cut: Option<Cut>,
    /// Why the answer is one of ours; `ok` if there is nothing to say about it.
    why: &'static str,
    pub(super) endpoint: Option<usize>,
    pub(super) attempts: u8,
}

impl Ended {
    const fn new(status: u16, next: Next, cut: Option<Cut>) -> Self {
        Self {
            status,
            next,
            cut,
            why: "ok",
            endpoint: None,
            attempts: 0,
        }
    }
}

/// An attempt that came to nothing.
pub(super) enum Failed {
    /// No connection: nothing was sent.
    Connect(std::io::Error),
    /// A connection from the pool ended without a byte: it was most likely closed before the request came.
    Stale,
    /// It has no room for it, and nothing was sent.
    Full,
    /// The instance has not looked at it.
    Refused,
    /// Something was sent, and no answer came.
    Unanswered(Unanswered),
    /// The client is gone, or sends what is no HTTP.
    Client(Cut),
}

/// A request from its head to its record.
struct UnderWay<'a> {
    session: &'a Session,
    request: Box<(Begun, Plan)>,
    over: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.session.cut_off(&mut self.request);
        }
    }
}

impl From<Unanswered> for Failed {
    fn from(why: Unanswered) -> Self {
        match why {
            Unanswered::ClientLeft => Self::Client(Cut::Left),
            Unanswered::Refused => Self::Refused,
            why => Self::Unanswered(why),
        }
    }
}

impl Session {
    /// Does what was decided; returns what becomes of the connection.
    pub(super) async fn carry_out(&self, request: Box<(Begun, Plan)>) -> Next {
        let mut under_way = UnderWay {
            session: self,
            request,
            over: false,
        };
        let (begun, plan) = &mut *under_way.request;
        self.begin_call(begun, plan);
        if begun.held_up
            && let Some(answer) = Box::pin(self.hold_up()).await
        {
            plan.answer_instead(answer, &self.worker.buffers);
        }
        begun.told.ready = self.worker.now();
        let (ended, service) = match plan {
            Plan::Answer(answer) => (self.answer(begun, answer).await, None),
            Plan::Forward(forward) => {
                if begun.aside.is_some() {
                    self.mirror(begun, forward);
                }
                let ended = self.serve_by(begun, forward).await;
                self.admitted.take();
                self.upgraded.take();
                let message = std::mem::take(&mut forward.message);
                self.worker.buffers.put(message);
                (ended, Some(forward.service))
            }
        };
        self.end_call();
        self.end_copy();
        self.record(begun, &ended, service);
        under_way.over = true;
        ended.next
    }

    /// The process ends before the request does: it is told of as any other.
    fn cut_off(&self, (begun, plan): &mut (Begun, Plan)) {
        let (status, why) = (self.speaking.get(), Closed::Drained);
        if status != 0 {
            self.abort();
        }
        let cut = Cut::Ended { why, told: false };
        let mut ended = Ended::new(status, Next::Close, Some(cut));
        let service = match plan {
            Plan::Forward(forward) => Some(forward.service),
            Plan::Answer(_) => None,
        };
        if let (Some(number), Some(endpoint)) = (service, begun.told.trying.2) {
            let snapshot = begun.snapshot.clone();
            let said = (status, cut.as_str());
            self.end_try_with(begun, snapshot.service(number), endpoint, said);
            ended.endpoint = Some(endpoint);
        }
        let again = |one: &&Try| matches!(one.ended, "stale" | "refused");
        let tries = &begun.told.tries;
        ended.attempts = (tries.len() - tries.iter().filter(again).count()) as u8;
        self.record(begun, &ended, service);
    }

    /// Whether the service has room for it, at once or after a wait.
    pub(super) async fn is_admitted(&self, begun: &Begun, forward: &Forward) -> bool {
        let service = begun.snapshot.service(forward.service);
        if !service.balancing.limiting.is_on() {
            return true;
        }
        let listener = self.table.borrow().clone();
        let route = begun.route.and_then(|number| listener.routes.get(number));
        let priority = route.map(|route| route.priority).unwrap_or_default();
        let deadline = self.deadline.get();
        let admitted = admit(&self.worker, forward.service, service, priority, deadline);
        let admitted = Box::pin(admitted).await;
        let is = admitted.is_some();
        self.admitted.set(admitted.map(Box::new));
        is
    }

    /// Makes attempts, `before` of which were made elsewhere, until one is answered. An error where another service could
    /// answer as well.
    pub(super) fn exchange(
        &self,
        begun: &mut Begun,
        forward: &mut Forward,
        before: u8,
    ) -> impl Future<Output = Result<Ended, Box<Unserved>>> {
        async move {
            let snapshot = begun.snapshot.clone();
            let service = snapshot.service(forward.service);
            let stats = service.stats.of(self.worker.index);
            stats.requests.bump(1);
            let mut context = Context {
                key: forward.key,
                kept: forward.stay.endpoint,
                stand_in: has_stand_in(begun, forward),
                ..Context::default()
            };
            let mut tries = Tries::after(before);
            loop {
                let in_flight = match self.worker.pick(&snapshot, forward.service, &context) {
                    Ok(in_flight) => in_flight,
                    Err(why) => {
                        if tries.may_return(why, &context) {
                            context.tried = Tried::default();
                            continue;
                        }
                        stats.unavailable.bump(u64::from(tries.last.is_none()));
                        return Err(tries.exhausted(service, &why));
                    }
                };
                let endpoint = in_flight.endpoint();
                context.tried.add(endpoint);
                tries.attempts += 1;
                self.heard.set(Moment::NEVER);
                self.spare.set((tries.left(service), forward.service));
                self.settle_at(forward, service, endpoint);
                self.tell_time(forward);
                let (of, memory) = ((&snapshot, in_flight), (&mut context, &mut tries));
                let (outcome, in_flight) = self.attempts(begun, forward, of, memory).await;
                let endpoint = in_flight.endpoint();
                // A long body, or a slow client, is no latency of the instance's.
                let heard = self.heard.get().min(self.worker.now());
                self.load.take().inspect(|load| in_flight.reported(*load));
                in_flight.done(self.told(&outcome), heard);
                match outcome {
                    Ok(mut ended) => {
                        (ended.endpoint, ended.attempts) = (Some(endpoint), tries.attempts);
                        return Ok(ended);
                    }
                    Err(failed) => {
                        let after = self.after(failed, begun, forward, &mut tries, endpoint);
                        if let Some(ended) = Box::pin(after).await? {
                            return Ok(ended);
                        }
                    }
                }
            }
        }
    }

    /// An attempt at the instance that was chosen, or at two; what came of it, and of which.
    fn attempts<'a>(
        &'a self,
        begun: &mut Begun,
        forward: &mut Forward,
        (snapshot, in_flight): (&'a Snapshot, InFlight<'a>),
        memory: (&mut Context, &mut Tries),
    ) -> impl Future<Output = (Result<Ended, Failed>, InFlight<'a>)> {
        async move {
            let service = snapshot.service(forward.service);
            let (outcome, in_flight) = match self.hedge_delay(begun, forward, service) {
                None => {
                    let endpoint = in_flight.endpoint();
                    self.begin_try(begun, forward, endpoint);
                    let outcome = self.attempt(begun, forward, service, endpoint, true).await;
                    self.end_try(begun, service, endpoint, &outcome);
                    self.learn_delay(begun, forward, service, &outcome, &in_flight);
                    (outcome, in_flight)
                }
                Some(delay) => {
                    let of = (snapshot, in_flight);
                    Box::pin(self.hedged(begun, forward, of, memory, delay)).await
                }
            };
            if !matches!(&outcome, Err(failed @ (Failed::Stale | Failed::Refused)) if may_retry(begun, failed))
            {
                return (outcome, in_flight);
            }
            // No fault of the instance's: the same one again, on a new connection.
            let endpoint = in_flight.endpoint();
            self.begin_try(begun, forward, endpoint);
            let again = self.attempt(begun, forward, service, endpoint, false);
            let outcome = Box::pin(again).await;
            self.end_try(begun, service, endpoint, &outcome);
            (outcome, in_flight)
        }
    }

    /// One attempt at one instance.
    fn attempt(
        &self,
        begun: &mut Begun,
        forward: &Forward,
        service: &ServiceTable,
        number: usize,
        pooled: bool,
    ) -> impl Future<Output = Result<Ended, Failed>> {
        async move {
            let endpoint = &service.endpoints[number];
            // A connection that begins with its client's address is that client's.
            let shared = service.send_proxy.is_none();
            let mut made = None;
            if service.http2 && !forward.upgrade {
                match Box::pin(self.share(begun, forward, service, endpoint)).await? {
                    Shared::Answered(ended) => return Ok(ended),
                    Shared::Older(older) => made = older,
                }
            }
            let current = |sock: &Sock| is_current(&self.worker, service, sock);
            let take = || self.worker.pool.take(endpoint, current);
            let mut reused = (made.is_none() && pooled && shared).then(take).flatten();
            let was_used = reused.is_some();
            reused = reused.or(made);
            // One place for either: a second one would make every exchange larger.
            let instance = match reused {
                Some(ref instance) => instance,
                None => reused.insert(Box::pin(self.connect(endpoint, service, false)).await?),
            };
            if forward.upgrade {
                self.expect_upgrade(forward, service, endpoint);
            }
            let before = instance.received();
            let asked = Asked::of(begun, forward);
            let unsent = self.send_request(instance, begun, forward);
            let delivered = !self.uploading.get();
            let outcome = match unsent {
                Some(unsent) => {
                    let rest = (&forward.message[unsent..], framing(forward));
                    Box::pin(self.converse(instance, begun, asked, service, rest)).await
                }
                None => {
                    let answered = self.respond(instance, asked, service).await;
                    answered
                        .map(|answered| (answered, delivered))
                        .map_err(Failed::from)
                }
            };
            let (answered, delivered) = match outcome {
                Err(Failed::Unanswered(Unanswered::Left))
                    if was_used && instance.received() == before =>
                {
                    return Err(Failed::Stale);
                }
                outcome => outcome?,
            };
            let stays = answered.cut.is_none() && delivered && answered.instance_stays && shared;
            if let Some(instance) = reused.filter(|_| stays && !self.worker.draining()) {
                let (pool, now) = (&self.worker.pool, self.worker.now());
                pool.put(endpoint, instance, now, service.keep_alive);
            }
            Ok(self.settle(begun, &answered))
        }
    }

    /// A tunnel may follow.
    fn expect_upgrade(&self, forward: &Forward, service: &ServiceTable, endpoint: &Endpoint) {
        let (lasting, websocket) = (&self.worker.lasting, forward.websocket);
        let upstream = lasting.upstream(forward.service, service, endpoint);
        let upgraded = Upgraded {
            upstream,
            websocket,
            silence: service.peer_timeout,
        };
        self.upgraded.set(Some(Box::new(upgraded)));
    }

    /// Connects; `many` if the connection may carry many requests at a time.
    pub(super) async fn connect(
        &self,
        endpoint: &Endpoint,
        service: &ServiceTable,
        many: bool,
    ) -> Result<Sock, Failed> {
        self.set_timeout(service.connect_timeout);
        let introduce = |instance: &Sock| self.introduce(instance, service);
        let phases = &self.phases;
        connect(&self.worker, (service, endpoint), many, phases, introduce).await
    }

    /// Sends the header that the instance expects in front of a connection. A new connection has room for it.
    fn introduce(&self, instance: &Sock, service: &ServiceTable) -> std::io::Result<()> {
        let Some(version) = service.send_proxy else {
            return Ok(());
        };
        let plain = Introduced {
            client: self.peer,
            destination: None,
            tlvs: Tlvs::default(),
            certificate: None,
        };
        let header = header(
            version,
            &self.client,
            self.from.as_deref().unwrap_or(&plain),
        );
        match instance.try_send(&header)? == header.len() {
            true => Ok(()),
            false => Err(std::io::ErrorKind::WriteZero.into()),
        }
    }

    /// Sends what the instance takes at once. Where the rest begins, if there is one that it may still take: when it has
    /// closed already, it may have answered before (413, say), and that is read before we give up.
    fn send_request(&self, instance: &Sock, begun: &Begun, forward: &Forward) -> Option<usize> {
        let sent = instance.try_send(&forward.message).ok();
        let delivered = sent == Some(forward.message.len()) && begun.body.is_done();
        self.uploading.set(!delivered);
        sent.filter(|_| !delivered)
    }

    /// The rest of the request one way and the answer the other way, at the same time. Says also whether the instance got
    /// all of the request.
    pub(super) async fn converse(
        &self,
        instance: &Sock,
        begun: &mut Begun,
        asked: Asked,
        service: &ServiceTable,
        (rest, frame): (&[u8], Frame),
    ) -> Result<(Answered, bool), Failed> {
        let mut delivered = false;
        let mut respond = pin!(self.respond(instance, asked, service));
        let upload = self.upload(instance, rest, begun, frame);
        match race(Box::pin(upload), respond.as_mut()).await {
            Either::Left(Ok(())) => {
                delivered = true;
                self.uploading.set(false);
                self.await_head(service);
            }
            // It no longer reads; its answer may be on the way.
            Either::Left(Err(Cut::InstanceLeft)) => {
                let timeout = service.response_timeout;
                self.set_timeout(timeout);
            }
            Either::Left(Err(cut)) => return Err(Failed::Client(cut)),
            Either::Right(answered) => return Ok((answered?, false)),
        }
        Ok((respond.await?, delivered))
    }

    /// What becomes of the client's connection after an instance's answer.
    pub(super) fn settle(&self, begun: &Begun, answered: &Answered) -> Ended {
        let next = match answered.cut {
            Some(Cut::Ended { told: true, .. }) => Next::Close,
            Some(_) => self.abort(),
            None if answered.client_stays => Next::Request,
            None => self.closing(begun),
        };
        Ended::new(answered.status, next, answered.cut)
    }

    /// A cut answer must not look whole to a client that reads until the end.
    fn abort(&self) -> Next {
        self.client.abort_on_close();
        Next::Close
    }

    /// How a connection ends after an answer. Bytes that come after it is closed reset it, and may take the answer
    /// with them: only a client that said it would send no more, and has not, is trusted not to.
    fn closing(&self, begun: &Begun) -> Next {
        let more = self.client.has_more() || !self.held.borrow().is_empty();
        match begun.keep_alive || more || !begun.body.is_done() {
            true => Next::Linger,
            false => Next::Close,
        }
    }

    /// No instance answered: the client gets the reason from us.
    pub(super) async fn give_up(&self, begun: &Begun, unserved: Unserved) -> Ended {
        let mut ended = self.answer(begun, &unserved.answer).await;
        ended.attempts = unserved.attempts;
        ended
    }

    /// What an attempt tells of its instance: nothing, if there was no time for it.
    fn told(&self, outcome: &Result<Ended, Failed>) -> Outcome {
        match outcome {
            Err(_) if self.is_expired() => Outcome::Cancelled,
            outcome => told(outcome),
        }
    }

    /// The client waits no longer.
    pub(super) async fn expire(&self, begun: &Begun, failed: Failed) -> Ended {
        let status = self.speaking.get();
        let mut ended = match (failed, status) {
            (Failed::Client(Cut::Left), _) => Ended::new(status, self.abort(), None),
            (_, 0) => {
                let answer = Answer::text(504, "the deadline passed");
                self.answer(begun, &answer).await
            }
            _ => {
                self.end_late(begun.call.as_ref().and_then(|call| call.web()));
                Ended::new(status, self.abort(), None)
            }
        };
        ended.cut = Some(Cut::Expired);
        ended
    }

    pub(super) async fn client_failed(&self, begun: &Begun, cut: Cut) -> Ended {
        let answer = match cut {
            _ if self.speaking.get() != 0 => {
                return Ended::new(self.speaking.get(), self.abort(), Some(cut));
            }
            Cut::Slow => Answer::text(408, "the request's body did not arrive in time"),
            Cut::Malformed(bad) => bad.answer(),
            Cut::TooLong => self.too_long(),
            _ => return Ended::new(0, Next::Close, Some(cut)),
        };
        let mut ended = self.answer(begun, &answer).await;
        ended.cut = Some(cut);
        ended
    }

    /// Sends an answer of our own.
    async fn answer(&self, begun: &Begun, answer: &Answer) -> Ended {
        let (status, why) = (answer.status, answer.why);
        let call = self.as_call(begun, answer);
        let paged = call.is_none().then(|| self.paged(answer)).flatten();
        let answer = call.as_ref().or(paged.as_ref()).unwrap_or(answer);
        let stays = begun.keep_alive && begun.body.is_done() && !self.is_ending();
        let mut message = self.worker.buffers.take();
        let stream = self.client.is_stream();
        self.with_dressed(answer, |fields| {
            self.worker.date.with(self.worker.now(), |date| {
                let answer = h1::Answer {
                    status: answer.status,
                    fields,
                    date,
                    body: answer.body.as_bytes(),
                    close: !stays,
                    to: begun.method,
                    version: begun.version,
                };
                match stream {
                    true => h2::write_answer(&answer, &mut message),
                    false => h1::write_answer(&answer, &mut message),
                }
            });
        });
        let sent = match stream {
            true => Box::pin(self.answer_stream(begun, answer, &message)).await,
            false => self.send(&message, !stays).await,
        };
        self.worker.buffers.put(message);
        let next = match (sent, stays) {
            (Err(_), _) => self.abort(),
            (Ok(()), true) => Next::Request,
            (Ok(()), false) => self.closing(begun),
        };
        // What it is to us, however it was told.
        Ended {
            why,
            ..Ended::new(status, next, sent.err())
        }
    }

    /// Sends an answer of our own on a stream; its head is in `block`.
    async fn answer_stream(&self, begun: &Begun, answer: &Answer, block: &[u8]) -> Result<(), Cut> {
        let bodiless = matches!(answer.status, 204 | 304) || begun.method == h1::MethodKind::Head;
        let body = if bodiless {
            &[]
        } else {
            answer.body.as_bytes()
        };
        self.client.send_head(block, body.is_empty());
        self.speaking.set(answer.status);
        self.send(body, true).await?;
        self.client.end_message(&[]);
        Ok(())
    }

    fn record(&self, begun: &mut Begun, ended: &Ended, service: Option<usize>) {
        let worker = &self.worker;
        let refused = self.unfilter();
        if let Some(listener) = begun.snapshot.listener(self.listener)
            && let Some(route) = begun.route.and_then(|r| listener.routes.get(r))
        {
            let stats = route.stats.of(worker.index);
            match ended.cut {
                Some(_) => stats.aborted.bump(1),
                None => stats.answered[usize::from(ended.status / 100).clamp(1, 5) - 1].bump(1),
            }
            if let Some(refusal) = refused {
                stats.refused[refusal as usize].bump(1);
            }
        }
        let duration = worker.now().since(begun.at);
        let service = service.map(|number| begun.snapshot.service(number));
        self.measure(begun, ended, duration, service);
        let Some(line) = begun.told.line.take() else {
            return;
        };
        // Of two at a time, the one that was begun later may be over first.
        begun.told.tries.sort_by_key(|one| one.at);
        let endpoint = service
            .zip(ended.endpoint)
            .map(|(s, e)| (s, &s.endpoints[e]));
        self.tell(AccessRecord {
            at: SystemTime::now(),
            duration,
            waited: begun.told.ready.since(begun.at),
            client: self.peer,
            listener: self.table.borrow().name.clone(),
            route: route_name(&begun.snapshot, self.listener, begun.route),
            request: *line,
            status: ended.status,
            received: self.position() - begun.since + self.client.head_bytes(),
            sent: self.client.sent() - begun.sent_before,
            instance: endpoint.map(|(service, endpoint)| Answerer {
                service: service.key.clone(),
                id: endpoint.id.clone(),
                address: endpoint.address,
            }),
            attempts: ended.attempts,
            tries: std::mem::take(&mut begun.told.tries),
            trace: begun.told.trace.take(),
            ended: match (ended.cut, refused) {
                (Some(cut), _) => cut.as_str(),
                (None, Some(refusal)) => refusal.as_str(),
                (None, None) => ended.why,
            },
        });
    }
}

/// Connects within the task's deadline; `many` if the connection may carry many requests at a time.
pub(super) async fn connect(
    worker: &Rc<Worker>,
    (service, endpoint): (&ServiceTable, &Endpoint),
    many: bool,
    phases: &Cell<Phases>,
    introduce: impl Fn(&Sock) -> std::io::Result<()>,
) -> Result<Sock, Failed> {
    let to = endpoint.address;
    let began = worker.now();
    let mut connected = worker.connect(service, to).await;
    phases.set(Phases::connected(worker, service, began, connected.is_ok()));
    if let Ok(instance) = &mut connected {
        // Where our own limits are shorter, keepalive has nothing to find.
        if service.response_timeout.max(service.keep_alive) > service.peer_timeout {
            instance.keep_alive(service.peer_timeout);
        }
        introduce(instance).map_err(Failed::Connect)?;
        if service.tls
            && let Err(fault) = to_instance(worker, service, instance, to, many).await
        {
            connected = Err(fault);
        }
        if service.tls {
            phases.set(phases.get().secured(worker, began));
        }
    }
    if !connected.as_ref().is_err_and(is_ours) {
        endpoint.stats.connected(connected.is_ok());
    }
    connected.map_err(Failed::Connect)
}

/// How the rest of a request's body goes to an instance in HTTP/1.1.
fn framing(forward: &Forward) -> Frame {
    match forward.chunked {
        true => Frame::Chunks,
        false => Frame::Plain,
    }
}

/// What an attempt tells of its instance.
pub(super) fn told(outcome: &Result<Ended, Failed>) -> Outcome {
    match outcome {
        Ok(ended) if ended.cut.is_some_and(Cut::is_by_instance) => Outcome::Broken,
        // Others of the 5xx are about the request: not implemented, version not supported, loop detected.
        Ok(ended) if matches!(ended.status, 500 | 502..=504) => Outcome::Error,
        Ok(_) => Outcome::Answered,
        // Our own want of ports or descriptors says nothing of the instance.
        Err(Failed::Connect(fault)) if is_ours(fault) => Outcome::Cancelled,
        Err(Failed::Connect(_)) => Outcome::Unreachable,
        Err(Failed::Unanswered(Unanswered::Silent)) => Outcome::TimedOut,
        Err(Failed::Unanswered(
            Unanswered::Replaced(500 | 502..=504) | Unanswered::Again(500 | 502..=504, _),
        )) => Outcome::Error,
        Err(Failed::Unanswered(Unanswered::Replaced(_) | Unanswered::Again(..))) => {
            Outcome::Answered
        }
        Err(Failed::Unanswered(Unanswered::Left | Unanswered::Malformed)) => Outcome::Broken,
        // No fault of the instance's, or none that says more than that it leaves, or has enough to do.
        Err(Failed::Stale | Failed::Full | Failed::Refused | Failed::Client(_))
        | Err(Failed::Unanswered(Unanswered::ClientLeft | Unanswered::Refused)) => {
            Outcome::Cancelled
        }
    }
}
