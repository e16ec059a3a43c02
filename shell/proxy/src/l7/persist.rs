//! Requests of one client stay at one instance: who had the earlier ones, and who has this one.

use http::{cookie, h1};
use model::{PersistBy, Persistence, ServiceTable};

use super::begin::Forward;
use super::key::parameter;
use super::session::Session;
use crate::worker::source_key;

/// What is known of a request's session.
#[derive(Clone, Copy, Default)]
pub(super) struct Stay {
    /// The endpoint that has it.
    pub(super) endpoint: Option<u32>,
    /// The hash of what the client is known by; 0 if that is a cookie, or nothing.
    key: u64,
}

impl Session {
    /// What is known of a request's session; nothing, where the service keeps none.
    pub(super) fn stay(&self, request: &h1::Request<'_>, service: &ServiceTable) -> Stay {
        match &service.persistence {
            None => Stay::default(),
            Some(persistence) => self.session_of(request, service, persistence),
        }
    }

    fn session_of(
        &self,
        request: &h1::Request<'_>,
        service: &ServiceTable,
        persistence: &Persistence,
    ) -> Stay {
        let part = match &persistence.how.by {
            PersistBy::Cookie => {
                let value = cookie::find(&request.fields, &persistence.how.cookie.name);
                return Stay {
                    endpoint: value.and_then(|value| balance::named(persistence, value)),
                    key: 0,
                };
            }
            PersistBy::SourceIp => None,
            PersistBy::Header(name) => match request.fields.find(name) {
                None => return Stay::default(),
                value => value,
            },
            PersistBy::Query(name) => {
                match request
                    .target
                    .query()
                    .and_then(|query| parameter(query, name))
                {
                    None => return Stay::default(),
                    value => value,
                }
            }
        };
        let key = match part {
            Some(part) => balance::key(service.balancing.hash_secret, part),
            None => source_key(service.balancing.hash_secret, self.peer.ip()),
        };
        Stay {
            endpoint: balance::remembered(persistence, key, self.worker.now()),
            key: key.max(1),
        }
    }

    /// The request goes to this endpoint, and so do those that follow.
    pub(super) fn settle_at(&self, forward: &Forward, service: &ServiceTable, endpoint: usize) {
        let Some(persistence) = service.persistence.as_ref().filter(|_| !forward.stands_in) else {
            return;
        };
        let stay = forward.stay;
        if persistence.how.by == PersistBy::Cookie {
            let has_it = stay.endpoint == Some(endpoint as u32);
            let token = persistence.tokens.get(endpoint).filter(|_| !has_it);
            let set = token.map(|token| {
                let how = &persistence.how;
                cookie::set(&how.cookie, token, how.lifetime, self.client.is_secured())
            });
            self.give_cookie(set.map(Into::into));
        } else if stay.key != 0 {
            balance::remember(persistence, stay.key, endpoint, self.worker.now());
        }
    }
}
