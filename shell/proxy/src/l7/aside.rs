//! Which of several services gets a request, and who stands in for one that cannot answer.

use std::net::IpAddr;

use http::{cookie, h1};
use model::{Cannot, Cookie, SameSite, Share, Split, Sticky};

use super::begin::{Answer, Begun, Forward};
use super::exchange::{Ended, Failed};
use super::key::hashed;
use super::persist::Stay;
use super::session::Session;

/// The cookie that keeps a client on its side of a split.
const COOKIE: &str = "pointsman-split";

/// Why a service did not answer a request that another can answer: all of it is still here.
pub(super) struct Unserved {
    pub(super) cannot: Cannot,
    /// What the client gets if nobody stands in.
    pub(super) answer: Answer,
    /// Attempts that were made.
    pub(super) attempts: u8,
}

/// The key by which a split keeps a client on its side; `None` where nothing does, or the request has nothing of the kind.
pub fn split_key(request: &h1::Request<'_>, client: IpAddr, split: &Split) -> Option<u64> {
    match split.sticky.as_ref()? {
        Sticky::By(on) => hashed(request, client, on, split.secret),
        Sticky::Cookie => {
            let value = cookie::find(&request.fields, COOKIE)?;
            Some(balance::key(split.secret, value))
        }
    }
}

impl Session {
    /// The service whose share a request is.
    pub(super) fn share_of(
        &self,
        request: &h1::Request<'_>,
        client: IpAddr,
        split: &Split,
    ) -> Option<usize> {
        let key = split_key(request, client, split);
        let key = key.unwrap_or_else(|| match split.sticky {
            Some(Sticky::Cookie) => self.give_side(split),
            _ => self.worker.draw(),
        });
        let share: &Share = &split.shares[balance::split(&split.shares, key)?];
        share.given.of(self.worker.index).bump(1);
        Some(share.service)
    }

    /// Gives the client a cookie; the key that it will have by it.
    fn give_side(&self, split: &Split) -> u64 {
        let value = format!("{:016x}", self.worker.draw());
        let cookie = Cookie {
            name: COOKIE.into(),
            path: "/".into(),
            domain: None,
            secure: None,
            http_only: true,
            same_site: SameSite::Lax,
        };
        let set = cookie::set(&cookie, &value, None, self.client.is_secured());
        self.answer_with("set-cookie", set);
        balance::key(split.secret, value.as_bytes())
    }

    /// Sends a request to its service, or to the one that stands in.
    pub(super) fn serve_by(
        &self,
        begun: &mut Begun,
        forward: &mut Forward,
    ) -> impl Future<Output = Ended> {
        async move {
            let mut attempts = 0;
            loop {
                if self.is_expired() {
                    let mut ended = Box::pin(self.expire(begun, Failed::Full)).await;
                    ended.attempts = attempts;
                    return ended;
                }
                let passed = self.passes(begun, forward, attempts);
                let served = match passed {
                    Err(unserved) => Err(unserved),
                    Ok(passed) => {
                        let admitted = self.is_admitted(begun, forward).await;
                        begun.told.ready = self.worker.now();
                        let served = match admitted {
                            true => self.exchange(begun, forward, attempts).await,
                            false => Err(self.no_room(begun, forward, attempts)),
                        };
                        if let Some(passed) = passed {
                            let (ours, failed) = (forward.deadline.ours, self.call_failed.get());
                            passed.ended(&served, (attempts, ours, failed), self.worker.now());
                        }
                        served
                    }
                };
                match served {
                    Ok(ended) => return ended,
                    Err(unserved) if self.is_expired() => attempts = unserved.attempts,
                    Err(unserved) if self.falls_back(begun, forward, unserved.cannot) => {
                        attempts = unserved.attempts;
                    }
                    Err(unserved) => return Box::pin(self.give_up(begun, *unserved)).await,
                }
            }
        }
    }

    fn no_room(&self, begun: &Begun, forward: &Forward, attempts: u8) -> Box<Unserved> {
        let key = &begun.snapshot.service(forward.service).key;
        let why = format!("service {key} has no room for more requests");
        let mut answer = Answer::text(503, &why).because("no_room");
        // A burst is over by then.
        answer.fields.push(("retry-after", "1".into()));
        Box::new(Unserved {
            cannot: Cannot::Full,
            answer,
            attempts,
        })
    }

    /// Whether another service stands in: then the request is its own from here on. It has nobody who stands in for it.
    fn falls_back(&self, begun: &Begun, forward: &mut Forward, why: Cannot) -> bool {
        let fallback = begun
            .aside
            .as_ref()
            .and_then(|aside| aside.fallback.as_ref());
        let Some(fallback) = fallback.filter(|to| !forward.stands_in && to.on[why as usize]) else {
            return false;
        };
        let translated = begun.call.as_ref().is_some_and(|call| call.web().is_some());
        if translated && !begun.snapshot.service(fallback.service).http2 {
            // What was translated for one would be no HTTP for the other.
            return false;
        }
        fallback.given.of(self.worker.index).bump(1);
        forward.stands_in = true;
        forward.service = fallback.service;
        // Its sessions, and its keys, are others.
        forward.stay = Stay::default();
        forward.key = self.worker.draw();
        self.give_cookie(None);
        true
    }
}
