//! A request that takes long is sent to a second instance, and the first answer is taken.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use balance::Context;
use model::{Moment, ServiceTable};

use super::begin::{Begun, Forward};
use super::errand::{Errand, Running, Sent};
use super::exchange::{Ended, Failed, told};
use super::filter::COARSE;
use super::respond::{Asked, Unanswered};
use super::retry::Tries;
use super::session::{Cut, Session};
use super::tries::{Phases, Trying};
use crate::worker::{InFlight, Snapshot};

/// One of two requests.
struct Leg<'a> {
    in_flight: InFlight<'a>,
    trying: Trying,
    phases: Rc<Cell<Phases>>,
    _running: Running,
}

/// What came of them, by their endpoints.
type Arrivals = Rc<RefCell<VecDeque<(usize, Result<Sent, Failed>)>>>;

/// What a session hears that waits for them.
enum Heard {
    /// What came of one.
    From(usize, Result<Sent, Failed>),
    /// A second one is due.
    Due,
    /// Nobody waits for them any more.
    Vain(Failed),
}

impl Session {
    /// How long an attempt may take until a second one is sent beside it; `None` where none is.
    pub(super) fn hedge_delay(
        &self,
        begun: &Begun,
        forward: &Forward,
        service: &ServiceTable,
    ) -> Option<Duration> {
        let hedging = service.balancing.hedging.as_ref()?;
        let may = may_hedge(begun, forward, service);
        let begin = |hedges: &mut balance::Hedges| hedges.begin(hedging);
        may.then(|| self.worker.hedges(forward.service, begin))
            .flatten()
            .flatten()
    }

    /// Takes in how long an attempt took that nothing was sent beside.
    pub(super) fn learn_delay(
        &self,
        begun: &Begun,
        forward: &Forward,
        service: &ServiceTable,
        outcome: &Result<Ended, Failed>,
        in_flight: &InFlight<'_>,
    ) {
        if service.balancing.hedging.is_some()
            && outcome.is_ok()
            && may_hedge(begun, forward, service)
        {
            let heard = self.heard.get().min(self.worker.now());
            self.learn(forward.service, heard.since(in_flight.since()));
        }
    }

    fn learn(&self, service: usize, latency: Duration) {
        self.worker
            .hedges(service, |hedges| hedges.answered(latency));
    }

    /// An attempt, and after `delay` a second one beside it. What came of it, and the lease of that which it came of; the other one's
    /// is given back.
    pub(super) async fn hedged<'a>(
        &'a self,
        begun: &mut Begun,
        forward: &mut Forward,
        (snapshot, first): (&'a Snapshot, InFlight<'a>),
        (context, tries): (&mut Context, &mut Tries),
        delay: Duration,
    ) -> (Result<Ended, Failed>, InFlight<'a>) {
        let service = snapshot.service(forward.service);
        let (began, preferred) = (self.worker.now(), first.endpoint());
        let arrivals = Arrivals::default();
        let mut due = Some(began + delay);
        let mut legs = vec![self.leg(begun, forward, first, &arrivals)];
        self.uploading.set(false);
        loop {
            let (endpoint, sent) = match self.await_legs(&arrivals, due).await {
                Heard::From(endpoint, sent) => (endpoint, sent),
                Heard::Due => {
                    due = None;
                    let second = self.second(snapshot, forward, context, tries);
                    legs.extend(second.map(|it| self.leg(begun, forward, it, &arrivals)));
                    continue;
                }
                Heard::Vain(failed) => {
                    let first = legs.swap_remove(0);
                    self.give_up_legs(begun, service, &mut legs);
                    let failed = Err(failed);
                    self.end_leg(begun, service, &first, Some(&failed));
                    return (failed, first.in_flight);
                }
            };
            let at = |leg: &Leg<'_>| leg.in_flight.endpoint() == endpoint;
            let Some(index) = legs.iter().position(at) else {
                continue;
            };
            let leg = legs.swap_remove(index);
            let outcome = match sent {
                Ok(sent) => {
                    self.give_up_legs(begun, service, &mut legs);
                    self.take_answer(begun, forward, (service, endpoint), sent)
                        .await
                }
                Err(failed) => Err(failed),
            };
            self.end_leg(begun, service, &leg, Some(&outcome));
            let leg = leg.in_flight;
            match outcome {
                Err(failed) if !legs.is_empty() => {
                    leg.done(told(&Err(failed)), self.worker.now());
                }
                outcome => {
                    self.conclude(
                        forward.service,
                        service,
                        &outcome,
                        (endpoint, preferred),
                        began,
                    );
                    return (outcome, leg);
                }
            }
        }
    }

    /// Takes in what the race between the two came to.
    fn conclude(
        &self,
        number: usize,
        service: &ServiceTable,
        outcome: &Result<Ended, Failed>,
        (winner, preferred): (usize, usize),
        began: Moment,
    ) {
        if outcome.is_err() {
            return;
        }
        let now = self.worker.now();
        // Of a first one that was given up, it is known that it would have taken longer.
        let heard = match winner == preferred {
            true => self.heard.get().min(now),
            false => now,
        };
        self.learn(number, heard.since(began));
        let won = u64::from(winner != preferred);
        service.stats.of(self.worker.index).hedges_won.bump(won);
    }

    /// Those that are left are too late.
    fn give_up_legs(&self, begun: &mut Begun, service: &ServiceTable, legs: &mut Vec<Leg<'_>>) {
        for leg in legs.drain(..) {
            self.end_leg(begun, service, &leg, None);
        }
    }

    /// One of them is over; without an outcome, another was first.
    fn end_leg(
        &self,
        begun: &mut Begun,
        service: &ServiceTable,
        leg: &Leg<'_>,
        outcome: Option<&Result<Ended, Failed>>,
    ) {
        begun.told.trying = leg.trying;
        self.phases.set(leg.phases.get());
        let endpoint = leg.in_flight.endpoint();
        match outcome {
            Some(outcome) => self.end_try(begun, service, endpoint, outcome),
            None => self.end_try_with(begun, service, endpoint, (0, "too_late")),
        }
    }

    fn leg<'a>(
        &self,
        begun: &mut Begun,
        forward: &mut Forward,
        in_flight: InFlight<'a>,
        arrivals: &Arrivals,
    ) -> Leg<'a> {
        let endpoint = in_flight.endpoint();
        self.begin_try(begun, forward, endpoint);
        let phases = Rc::<Cell<Phases>>::default();
        let errand = Errand {
            worker: self.worker.clone(),
            snapshot: begun.snapshot.clone(),
            to: (forward.service, endpoint),
            method: begun.method,
            message: forward.message.clone(),
            chunked: forward.chunked,
            phases: phases.clone(),
        };
        let (arrivals, reactor) = (arrivals.clone(), self.worker.reactor().clone());
        let session = reactor.current();
        let running = errand.begin(move |sent| {
            arrivals.borrow_mut().push_back((endpoint, sent));
            reactor.wake(session);
        });
        Leg {
            in_flight,
            trying: begun.told.trying,
            phases,
            _running: running,
        }
    }

    /// Chooses a second instance, if there is one, and the budget has room.
    fn second<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        forward: &mut Forward,
        context: &mut Context,
        tries: &mut Tries,
    ) -> Option<InFlight<'a>> {
        let number = forward.service;
        self.worker
            .hedges(number, balance::Hedges::may)
            .filter(|may| *may)?;
        // None at all is better than one that was ejected.
        let wanted = Context {
            stand_in: true,
            ..*context
        };
        let second = self.worker.pick(snapshot, number, &wanted).ok()?;
        context.tried.add(second.endpoint());
        tries.attempts += 1;
        let stats = &snapshot.service(number).stats;
        stats.of(self.worker.index).hedges.bump(1);
        self.tell_time(forward);
        Some(second)
    }

    /// Waits for one of them.
    async fn await_legs(&self, arrivals: &Arrivals, due: Option<Moment>) -> Heard {
        let reactor = self.worker.reactor();
        let deadline = self.deadline.get();
        let until = due.unwrap_or(Moment::NEVER).min(deadline);
        poll_fn(|_| {
            if let Some((endpoint, sent)) = arrivals.borrow_mut().pop_front() {
                return Poll::Ready(Heard::From(endpoint, sent));
            }
            if self.client.is_hung_up() {
                return Poll::Ready(Heard::Vain(Failed::Client(Cut::Left)));
            }
            let now = self.worker.now();
            if now >= deadline {
                return Poll::Ready(Heard::Vain(Failed::Unanswered(Unanswered::Silent)));
            }
            if due.is_some_and(|due| now >= due) {
                return Poll::Ready(Heard::Due);
            }
            // Timers are coarse, and late rather than early.
            match until.since(now).checked_sub(COARSE) {
                Some(most) if !most.is_zero() => reactor.set_deadline(now + most),
                _ => reactor.wake_soon(),
            }
            self.client.wake_current_if_it_lasts();
            Poll::Pending
        })
        .await
    }

    /// Carries the answer of the one that was first to the client.
    async fn take_answer(
        &self,
        begun: &Begun,
        forward: &Forward,
        (service, number): (&ServiceTable, usize),
        sent: Sent,
    ) -> Result<Ended, Failed> {
        let Sent { sock, came, shared } = sent;
        let asked = Asked::of(begun, forward);
        let answered = self.respond_to(came, &sock, asked, service).await?;
        let stays = answered.cut.is_none() && answered.instance_stays && !shared;
        if stays && !self.worker.draining() {
            let (endpoint, now) = (&service.endpoints[number], self.worker.now());
            self.worker
                .pool
                .put(endpoint, sock, now, service.keep_alive);
        }
        Ok(self.settle(begun, &answered))
    }
}

/// Whether two instances may carry a request out, and one of them in vain.
fn may_hedge(begun: &Begun, forward: &Forward, service: &ServiceTable) -> bool {
    let whole = begun.body.is_done() && begun.body.trailers().is_empty();
    begun.method.is_idempotent()
        && whole
        && !forward.upgrade
        && begun.call.is_none()
        // A connection of one client's, or a session of one instance's, is nothing for two.
        && service.send_proxy.is_none()
        && service.persistence.is_none()
        && service.endpoints.len() > 1
}
