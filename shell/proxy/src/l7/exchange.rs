//! One request: attempts at instances until one answers, or the answer is ours.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::SystemTime;

use balance::{Tried, Unavailable};
use http::h1;
use model::ServiceTable;
use telemetry::{AccessRecord, Answerer};

use super::begin::{Answer, Begun, Forward, Plan, route_name};
use super::respond::{Answered, Unanswered};
use super::session::{Cut, Next, Session};
use crate::rt::{Either, Sock, race};
use crate::worker::InFlight;

/// How a request ended, for counters and the log.
pub(super) struct Ended {
    pub(super) status: u16,
    pub(super) next: Next,
    /// Why the answer is not whole, if it is not.
    pub(super) cut: Option<Cut>,
    endpoint: Option<usize>,
    attempts: u8,
}

impl Ended {
    fn answered(answered: &Answered, next: Next) -> Self {
        Self {
            status: answered.status,
            next,
            cut: answered.cut,
            endpoint: None,
            attempts: 0,
        }
    }
}

/// An attempt that came to nothing.
enum Failed {
    /// No connection: nothing was sent.
    Connect(std::io::Error),
    /// Something was sent, and no answer came.
    Unanswered(Unanswered),
    /// The client is gone, or sends what is no HTTP.
    Client(Cut),
}

impl Session {
    /// Does what was decided; returns what becomes of the connection.
    pub(super) async fn carry_out(&self, begun: Box<Begun>) -> Next {
        let mut begun = begun;
        let plan = std::mem::replace(&mut begun.plan, Plan::Answer(Answer::text(500, "")));
        let (ended, service) = match plan {
            Plan::Answer(answer) => (self.answer(&begun, &answer).await, None),
            Plan::Forward(mut forward) => {
                let ended = self.exchange(&mut begun, &mut forward).await;
                self.worker.buffers.put(forward.message);
                (ended, Some(forward.service))
            }
        };
        self.record(&mut begun, &ended, service);
        match ended.next {
            Next::Request if self.worker.draining() && self.held.borrow().is_empty() => Next::Close,
            next => next,
        }
    }

    async fn exchange(&self, begun: &mut Begun, forward: &mut Forward) -> Ended {
        let snapshot = begun.snapshot.clone();
        let service = snapshot.service(forward.service);
        let stats = service.stats.of(self.worker.index);
        stats.requests.bump(1);
        let mut tried = Tried::default();
        let mut attempts = 0;
        let mut last: Option<Failed> = None;
        loop {
            let endpoint = match self.worker.pick(&snapshot, forward.service, &tried) {
                Ok(endpoint) => endpoint,
                Err(why) => {
                    stats.unavailable.bump(u64::from(last.is_none()));
                    return self
                        .give_up(begun, attempts, last, Some((service, why)))
                        .await;
                }
            };
            attempts += 1;
            tried.add(endpoint);
            let in_flight = InFlight::begin(&service.endpoints[endpoint].stats);
            let outcome = self.attempt(begun, forward, service, endpoint).await;
            drop(in_flight);
            match outcome {
                Ok(mut ended) => {
                    (ended.endpoint, ended.attempts) = (Some(endpoint), attempts);
                    return ended;
                }
                Err(Failed::Client(cut)) => {
                    let mut ended = self.client_failed(begun, cut).await;
                    (ended.endpoint, ended.attempts) = (Some(endpoint), attempts);
                    return ended;
                }
                Err(failed) => {
                    let retry = may_retry(begun, &failed) && attempts <= service.retries;
                    self.worker.attempt_failed(service, endpoint);
                    if !retry {
                        return self.give_up(begun, attempts, Some(failed), None).await;
                    }
                    last = Some(failed);
                    stats.retries.bump(1);
                }
            }
        }
    }

    /// One attempt at one instance.
    async fn attempt(
        &self,
        begun: &mut Begun,
        forward: &Forward,
        service: &ServiceTable,
        endpoint: usize,
    ) -> Result<Ended, Failed> {
        let endpoint = &service.endpoints[endpoint];
        let instance = match self.worker.pool.take(endpoint.address) {
            Some(instance) => instance,
            None => {
                let connected = self.connect(endpoint.address, service).await;
                endpoint.stats.connected(connected.is_ok());
                connected.map_err(Failed::Connect)?
            }
        };
        self.send_request(&instance, &forward.message).await?;
        let answered = self.converse(&instance, begun, forward, service).await?;
        endpoint.stats.succeeded();
        Ok(self.settle(instance, endpoint.address, begun, &answered, service))
    }

    async fn connect(&self, to: SocketAddr, service: &ServiceTable) -> std::io::Result<Sock> {
        let reactor = self.worker.reactor();
        reactor.set_timeout(service.connect_timeout);
        Sock::connect(reactor, to).await
    }

    async fn send_request(&self, instance: &Sock, message: &[u8]) -> Result<(), Failed> {
        let mut rest = message;
        loop {
            let sent = instance.try_send(rest);
            // It may have answered before it closed (413, say): what it sent is read before we give up.
            let Ok(n) = sent else { return Ok(()) };
            rest = &rest[n..];
            if rest.is_empty() {
                return Ok(());
            }
            self.worker.reactor().set_timeout(self.timeouts().stall);
            if instance.writable().await.is_err() {
                return Err(Failed::Unanswered(Unanswered::Silent));
            }
        }
    }

    /// The rest of the request one way and the answer the other way, at the same time.
    async fn converse(
        &self,
        instance: &Sock,
        begun: &mut Begun,
        forward: &Forward,
        service: &ServiceTable,
    ) -> Result<Answered, Failed> {
        let facts = super::respond::Asked::of(begun, forward);
        let mut respond = pin!(self.respond(instance, facts, service));
        if !begun.body_done {
            let mut body =
                std::mem::replace(&mut begun.body, h1::BodyDecoder::new(h1::Framing::None));
            let upload = Box::pin(self.upload(instance, &mut body, forward.chunked));
            match race(upload, respond.as_mut()).await {
                Either::Left(Ok(())) => begun.body_done = true,
                // It no longer reads; its answer may be on the way.
                Either::Left(Err(Cut::InstanceLeft)) => {}
                Either::Left(Err(cut)) => return Err(Failed::Client(cut)),
                Either::Right(answered) => return answered.map_err(Failed::Unanswered),
            }
            // From here on a second attempt would lack what has been read from the client.
            begun.streamed = true;
            self.worker.reactor().set_timeout(service.response_timeout);
        }
        respond.await.map_err(Failed::Unanswered)
    }

    /// Keeps the instance's connection if it can serve again, and says what becomes of the client's.
    fn settle(
        &self,
        instance: Sock,
        address: SocketAddr,
        begun: &Begun,
        answered: &Answered,
        service: &ServiceTable,
    ) -> Ended {
        let whole = answered.cut.is_none() && begun.body_done;
        if whole && answered.instance_stays && !self.worker.draining() {
            let pool = &self.worker.pool;
            pool.put(address, instance, self.worker.now(), service.keep_alive);
        }
        let next = match answered.cut {
            Some(_) => {
                // A cut answer must not look whole to a client that reads until the end.
                self.client.abort_on_close();
                Next::Close
            }
            None if !begun.body_done => Next::Linger,
            None if answered.client_stays => Next::Request,
            None => Next::Close,
        };
        Ended::answered(answered, next)
    }

    /// No instance answered: the client gets the reason from us.
    async fn give_up(
        &self,
        begun: &Begun,
        attempts: u8,
        failed: Option<Failed>,
        unavailable: Option<(&ServiceTable, Unavailable)>,
    ) -> Ended {
        let (status, why) = match (&failed, unavailable) {
            (Some(failed), _) => explain(failed),
            (None, Some((service, why))) => (503, format!("service {}: {why}", service.key)),
            (None, None) => (502, "no instance answered".into()),
        };
        let mut ended = self.answer(begun, &Answer::text(status, &why)).await;
        ended.attempts = attempts;
        ended
    }

    async fn client_failed(&self, begun: &Begun, cut: Cut) -> Ended {
        let answer = match cut {
            Cut::Slow => Answer::text(408, "the request's body did not arrive in time"),
            Cut::Malformed => Answer::text(400, "the request's body is no HTTP/1.1"),
            _ => {
                return Ended {
                    status: 0,
                    next: Next::Close,
                    cut: Some(cut),
                    endpoint: None,
                    attempts: 0,
                };
            }
        };
        let mut ended = self.answer(begun, &answer).await;
        ended.next = Next::Linger;
        ended.cut = Some(cut);
        ended
    }

    /// Sends an answer of our own.
    async fn answer(&self, begun: &Begun, answer: &Answer) -> Ended {
        let stays = begun.keep_alive && begun.body_done && !self.worker.draining();
        let mut message = self.worker.buffers.take();
        self.worker.date.with(self.worker.now(), |date| {
            let fields: Vec<_> = answer.fields.iter().map(|(n, v)| (*n, &**v)).collect();
            let answer = h1::Answer {
                status: answer.status,
                fields: &fields,
                date,
                body: answer.body.as_bytes(),
                close: !stays,
                to: begun.method,
                version: begun.version,
            };
            h1::write_answer(&answer, &mut message);
        });
        let sent = self.send(&message).await;
        self.worker.buffers.put(message);
        Ended {
            status: answer.status,
            next: match (sent, stays, begun.body_done) {
                (Err(_), ..) => Next::Close,
                (Ok(()), true, _) => Next::Request,
                (Ok(()), false, true) => Next::Close,
                (Ok(()), false, false) => Next::Linger,
            },
            cut: sent.err(),
            endpoint: None,
            attempts: 0,
        }
    }

    fn record(&self, begun: &mut Begun, ended: &Ended, service: Option<usize>) {
        let worker = &self.worker;
        if let Some(listener) = begun.snapshot.listener(self.listener) {
            if let Some(route) = begun.route.and_then(|r| listener.routes.get(r)) {
                let stats = route.stats.of(worker.index);
                match ended.cut {
                    Some(_) => stats.aborted.bump(1),
                    None => stats.answered[usize::from(ended.status / 100).clamp(1, 5) - 1].bump(1),
                }
            }
        }
        let duration = worker.now().since(begun.at);
        let service = service.map(|number| begun.snapshot.service(number));
        if let Some(service) = service {
            let nanos = duration.as_nanos() as u64;
            service.stats.of(worker.index).answered_in(nanos);
        }
        let (Some(logger), Some(line)) = (&worker.logger, begun.line.take()) else {
            return;
        };
        let endpoint = service
            .zip(ended.endpoint)
            .map(|(s, e)| (s, &s.endpoints[e]));
        let listener = begun.snapshot.listener(self.listener);
        logger.push(AccessRecord {
            at: SystemTime::now(),
            duration,
            client: self.peer,
            listener: listener.map_or_else(|| "".into(), |l| l.name.clone()),
            route: route_name(&begun.snapshot, self.listener, begun.route),
            request: *line,
            status: ended.status,
            received: self.received.get() - begun.received_before,
            sent: self.sent.get() - begun.sent_before,
            instance: endpoint.map(|(service, endpoint)| Answerer {
                service: service.key.clone(),
                id: endpoint.id.clone(),
                address: endpoint.address,
            }),
            attempts: ended.attempts,
            ended: ended.cut.map_or("ok", Cut::as_str),
        });
    }
}

/// Whether another instance may be tried. Nothing sent: always. Something sent: only when the request
/// may be carried out twice (RFC 9110 §9.2.2), all of it is still here, and the instance did not simply
/// take too long: the next one would, too, and the client has waited long enough.
fn may_retry(begun: &Begun, failed: &Failed) -> bool {
    match failed {
        Failed::Connect(_) => true,
        Failed::Unanswered(Unanswered::Left | Unanswered::Malformed) => {
            begun.method.is_idempotent() && !begun.streamed
        }
        Failed::Unanswered(Unanswered::Silent | Unanswered::ClientLeft) | Failed::Client(_) => {
            false
        }
    }
}

fn explain(failed: &Failed) -> (u16, String) {
    match failed {
        Failed::Connect(fault) if fault.kind() == std::io::ErrorKind::TimedOut => (
            504,
            "the instance did not accept the connection in time".into(),
        ),
        Failed::Connect(fault) => (502, format!("no connection to the instance: {fault}")),
        Failed::Unanswered(Unanswered::Silent) => {
            (504, "the instance did not answer in time".into())
        }
        Failed::Unanswered(Unanswered::Malformed) => {
            (502, "the instance's answer is no HTTP/1.1".into())
        }
        Failed::Unanswered(_) | Failed::Client(_) => (
            502,
            "the instance closed the connection without an answer".into(),
        ),
    }
}
