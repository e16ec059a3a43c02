//! What follows an attempt that came to nothing: another one, another service, or an answer of our own.

use model::{Cannot, ServiceTable};

use super::aside::Unserved;
use super::begin::{Answer, Begun, Forward};
use super::exchange::{Ended, Failed};
use super::respond::Unanswered;
use super::session::Session;

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

    /// No other instance can be tried, and `why`: somebody else may answer.
    pub(super) fn exhausted(
        self,
        service: &ServiceTable,
        why: &balance::Unavailable,
    ) -> Box<Unserved> {
        let why = self
            .last
            .as_ref()
            .map_or_else(|| (503, format!("service {}: {why}", service.key)), explain);
        unserved(self.attempts, why)
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
                if !self.tries_again(begun, forward, tries) {
                    return Err(unserved(tries.attempts, explain(&failed)));
                }
                tries.last = Some(failed);
                return Ok(None);
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
    fn tries_again(&self, begun: &Begun, forward: &Forward, tries: &mut Tries) -> bool {
        let service = begun.snapshot.service(forward.service);
        if tries.retries >= service.retries
            || !self.worker.may_retry(&begun.snapshot, forward.service)
        {
            return false;
        }
        tries.retries += 1;
        service.stats.of(self.worker.index).retries.bump(1);
        true
    }
}

/// Whether another instance may be tried. Nothing sent: always. Something sent: only when the request
/// may be carried out twice (RFC 9110 §9.2.2), all of it is still here, and the instance did not simply
/// take too long: the next one would, too, and the client has waited long enough.
pub(super) fn may_retry(begun: &Begun, failed: &Failed) -> bool {
    match failed {
        Failed::Connect(_) | Failed::Full => true,
        // Whatever it is, as long as it is here: nothing was done about it (RFC 9113 §8.7).
        Failed::Refused | Failed::Unanswered(Unanswered::Refused) => !begun.streamed,
        Failed::Stale | Failed::Unanswered(Unanswered::Left | Unanswered::Malformed) => {
            begun.method.is_idempotent() && !begun.streamed
        }
        Failed::Unanswered(
            Unanswered::Silent | Unanswered::ClientLeft | Unanswered::Replaced(_),
        )
        | Failed::Client(_) => false,
    }
}

/// Whether another service answers when this one's instances cannot.
pub(super) fn has_stand_in(begun: &Begun, forward: &Forward) -> bool {
    let aside = begun.aside.as_ref();
    let fallback = aside.and_then(|aside| aside.fallback.as_ref());
    fallback.is_some_and(|to| !forward.stands_in && to.on[Cannot::Unavailable as usize])
}

fn unserved(attempts: u8, (status, why): (u16, String)) -> Box<Unserved> {
    Box::new(Unserved {
        cannot: Cannot::Unavailable,
        answer: Answer::text(status, &why),
        attempts,
    })
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
        Failed::Unanswered(Unanswered::Replaced(status)) => {
            (*status, "the instance answered with an error".into())
        }
        Failed::Unanswered(Unanswered::Malformed) => {
            (502, "the instance's answer is no HTTP".into())
        }
        Failed::Full | Failed::Refused | Failed::Unanswered(Unanswered::Refused) => {
            (503, "the instance takes no more requests at present".into())
        }
        Failed::Stale | Failed::Unanswered(_) | Failed::Client(_) => (
            502,
            "the instance closed the connection without an answer".into(),
        ),
    }
}
