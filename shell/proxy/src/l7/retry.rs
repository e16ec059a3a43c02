//! What follows an attempt that came to nothing: another one, another service, or an answer of our own.

use std::time::Duration;

use balance::{Context, Unavailable};
use http::h1;
use model::{Cannot, RetryOn, Retrying, ServiceTable};

use super::aside::Unserved;
use super::begin::{Answer, Begun, Forward};
use super::exchange::{Ended, Failed};
use super::respond::{Asked, Unanswered};
use super::session::{Cut, Session};

/// The attempts at one request.
pub(super) struct Tries {
    /// All of them.
    pub(super) attempts: u8,
    /// Those of them that followed another at the same service.
    retries: u8,
    /// What became of the last one.
    pub(super) last: Option<Failed>,
}

impl Tries {
    /// So many were made elsewhere before.
    pub(super) const fn after(before: u8) -> Self {
        Self {
            attempts: before,
            retries: 0,
            last: None,
        }
    }

    /// How many more the service may make.
    pub(super) const fn left(&self, service: &ServiceTable) -> u8 {
        service.retries.saturating_sub(self.retries)
    }

    /// Whether an instance that was tried may be tried again, for want of others: it did not fail to answer, or will not for ever.
    pub(super) fn may_return(&self, why: Unavailable, context: &Context) -> bool {
        let answers = matches!(
            self.last,
            Some(Failed::Unanswered(
                Unanswered::Again(..) | Unanswered::Silent
            ))
        );
        why == Unavailable::AllTried && answers && !context.tried.is_empty()
    }

    /// No other instance can be tried, and `why`: somebody else may answer.
    pub(super) fn exhausted(
        self,
        service: &ServiceTable,
        why: &balance::Unavailable,
    ) -> Box<Unserved> {
        match &self.last {
            Some(failed) => unserved(self.attempts, explain(failed)),
            None => {
                let text = format!("service {}: {why}", service.key);
                let answer = Answer::text(503, &text).because(why.as_str());
                unserved(self.attempts, answer)
            }
        }
    }
}

impl Session {
    /// What follows an attempt at `endpoint` that failed: `None` is another attempt; an error, that another service may answer.
    pub(super) async fn after(
        &self,
        failed: Failed,
        begun: &mut Begun,
        forward: &Forward,
        tries: &mut Tries,
        endpoint: usize,
    ) -> Result<Option<Ended>, Box<Unserved>> {
        let mut ended = match failed {
            failed if self.is_expired() => self.expire(begun, failed).await,
            Failed::Client(cut) => self.client_failed(begun, cut).await,
            failed if may_retry(begun, &failed) => {
                let service = begun.snapshot.service(forward.service);
                if !self.tries_again(&failed, service, forward.service, tries) {
                    return Err(unserved(tries.attempts, explain(&failed)));
                }
                self.pause(self.worker.now() + self.wait_before(&failed, service, tries))
                    .await;
                tries.last = Some(failed);
                match self.client.is_hung_up() {
                    true => self.client_failed(begun, Cut::Left).await,
                    false if self.is_expired() => self.expire(begun, Failed::Full).await,
                    false => return Ok(None),
                }
            }
            failed => {
                let unserved = unserved(tries.attempts, explain(&failed));
                let ended = self.give_up(begun, *unserved).await;
                if !matches!(failed, Failed::Unanswered(Unanswered::Replaced(_))) {
                    return Ok(Some(ended));
                }
                ended
            }
        };
        (ended.endpoint, ended.attempts) = (Some(endpoint), tries.attempts);
        Ok(Some(ended))
    }

    /// Whether the service has one more attempt for the request; then that is counted.
    fn tries_again(
        &self,
        failed: &Failed,
        service: &ServiceTable,
        number: usize,
        tries: &mut Tries,
    ) -> bool {
        // For that one, all of this was asked when the answer was passed over.
        let decided = matches!(failed, Failed::Unanswered(Unanswered::Again(..)));
        let allowed = decided
            || is_wanted(&service.balancing.retrying, failed)
                && tries.left(service) > 0
                && self.worker.may_retry(service, number);
        if !allowed {
            return false;
        }
        tries.retries += 1;
        service.stats.of(self.worker.index).retries.bump(1);
        true
    }

    /// How long an attempt is to wait that follows this one.
    fn wait_before(&self, failed: &Failed, service: &ServiceTable, tries: &Tries) -> Duration {
        let untouched = matches!(failed, Failed::Connect(_) | Failed::Full | Failed::Refused);
        // Another instance knows nothing of what kept this one from having a look at it.
        let waits = tries.retries - u8::from(untouched);
        let Some(nth) = waits.checked_sub(1) else {
            return Duration::ZERO;
        };
        let wait = balance::backoff(&service.balancing.retrying, nth, self.worker.draw());
        match failed {
            Failed::Unanswered(Unanswered::Again(_, after)) => wait.max(*after),
            _ => wait.min(self.deadline.get().since(self.worker.now())),
        }
    }

    /// Whether another attempt takes the place of an answer that nobody has seen yet, and after which time at the least.
    pub(super) fn passes_over(
        &self,
        response: &h1::Response<'_>,
        asked: Asked,
        service: &ServiceTable,
    ) -> Option<Unanswered> {
        let retrying = &service.balancing.retrying;
        let fits = match asked.call {
            true => retrying.has_grpc() && fits_call(retrying, response),
            false => {
                response.status >= 400 && asked.repeatable && retrying.has_status(response.status)
            }
        };
        let (left, number) = self.spare.get();
        if !fits || left == 0 {
            return None;
        }
        let after = match response.fields.find("retry-after") {
            Some(value) => seconds(value).filter(|after| *after <= retrying.max_retry_after)?,
            None => Duration::ZERO,
        };
        let time_left = self.deadline.get().since(self.worker.now());
        (after < time_left && self.worker.may_retry(service, number))
            .then_some(Unanswered::Again(response.status, after))
    }
}

/// Whether an answer of gRPC's is nothing but a status that is tried again on.
fn fits_call(retrying: &Retrying, response: &h1::Response<'_>) -> bool {
    let status = response.fields.find("grpc-status").map(std::str::from_utf8);
    let Some(Ok(status)) = status else {
        // No gRPC at all: something in front of the instance answers.
        return response.status >= 400 && retrying.has_status(response.status);
    };
    let number = status.parse::<u8>().ok();
    number.is_some_and(|number| retrying.has(RetryOn::Grpc(number)))
}

/// A `Retry-After` in seconds (RFC 9110 §10.2.3). A date is too far away in any case.
fn seconds(value: &[u8]) -> Option<Duration> {
    let digits = !value.is_empty() && value.len() <= 9 && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits)?;
    text.parse().ok().map(Duration::from_secs)
}

/// Whether a service wants another attempt after this.
fn is_wanted(retrying: &Retrying, failed: &Failed) -> bool {
    let on = match failed {
        Failed::Connect(_) | Failed::Full => RetryOn::Connect,
        Failed::Refused | Failed::Unanswered(Unanswered::Refused) => RetryOn::Refused,
        Failed::Unanswered(Unanswered::Silent) => RetryOn::Timeout,
        Failed::Stale | Failed::Unanswered(_) | Failed::Client(_) => RetryOn::Reset,
    };
    retrying.has(on)
}

/// Whether another instance may be tried, if somebody wants that. Nothing sent: always. Something sent: only when the request
/// may be carried out twice (RFC 9110 §9.2.2), and all of it is still here.
pub(super) fn may_retry(begun: &Begun, failed: &Failed) -> bool {
    match failed {
        Failed::Connect(_) | Failed::Full => true,
        // Whatever it is, as long as it is here: nothing was done about it (RFC 9113 §8.7).
        Failed::Refused | Failed::Unanswered(Unanswered::Refused) => !begun.streamed,
        Failed::Stale
        | Failed::Unanswered(Unanswered::Left | Unanswered::Malformed | Unanswered::Silent) => {
            begun.method.is_idempotent() && !begun.streamed
        }
        Failed::Unanswered(Unanswered::Again(..)) => true,
        Failed::Unanswered(Unanswered::ClientLeft | Unanswered::Replaced(_))
        | Failed::Client(_) => false,
    }
}

/// Whether another service answers when this one's instances cannot.
pub(super) fn has_stand_in(begun: &Begun, forward: &Forward) -> bool {
    let aside = begun.aside.as_ref();
    let fallback = aside.and_then(|aside| aside.fallback.as_ref());
    fallback.is_some_and(|to| !forward.stands_in && to.on[Cannot::Unavailable as usize])
}

fn unserved(attempts: u8, answer: Answer) -> Box<Unserved> {
    Box::new(Unserved {
        cannot: Cannot::Unavailable,
        answer,
        attempts,
    })
}

/// What the client is told of a failed attempt: its kind, and nothing of where the instance is or what the system or TLS said of it.
/// The access log has all of that (`tries`).
fn explain(failed: &Failed) -> Answer {
    let (status, why) = match failed {
        Failed::Connect(fault) if fault.kind() == std::io::ErrorKind::TimedOut => {
            (504, "the instance did not accept the connection in time")
        }
        Failed::Connect(_) => (502, "no connection to the instance"),
        Failed::Unanswered(Unanswered::Silent) => (504, "the instance did not answer in time"),
        Failed::Unanswered(Unanswered::Replaced(status) | Unanswered::Again(status, _)) => {
            (*status, "the instance answered with an error")
        }
        Failed::Unanswered(Unanswered::Malformed) => (502, "the instance's answer is no HTTP"),
        Failed::Full | Failed::Refused | Failed::Unanswered(Unanswered::Refused) => {
            (503, "the instance takes no more requests at present")
        }
        Failed::Stale | Failed::Unanswered(_) | Failed::Client(_) => {
            (502, "the instance closed the connection without an answer")
        }
    };
    Answer::text(status, why)
}
