//! Session persistence: which instance a client's earlier requests went to.
//!
//! A cookie has the instance's token: an HMAC of its id, by a secret that all nodes share. So it holds on every node and
//! after every restart, nobody can make one up, and it says nothing to whoever reads it. Keys that a request has anyway (its
//! address, a field) are remembered with the instance, in a bounded table.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use model::{
    Endpoint, InstanceId, KeyTable, Moment, PersistBy, Persistence, Persisting, ServiceKey,
};
use sha2::Sha256;

use crate::key::identity;
use crate::limit;

/// How long a key is remembered where nothing is said of it: a session in which nothing happens for so long is over for most
/// applications.
const LIFETIME: Duration = Duration::from_secs(3_600);

/// What a table of `service` with these endpoints knows of sessions. `before`: what the one before knew, for the same service,
/// with its endpoints; `secret` hashes keys where that is new.
pub fn persistence(
    how: &Persisting,
    session_key: &[u8],
    service: &ServiceKey,
    endpoints: &[Endpoint],
    before: Option<(&Persistence, &[Endpoint])>,
    secret: [u64; 2],
) -> Persistence {
    let by_cookie = how.by == PersistBy::Cookie;
    // An instance's token stays; making them all anew at every change would cost a large service milliseconds.
    let known = |id: &InstanceId| {
        let (before, endpoints) = before?;
        let at = endpoints.binary_search_by(|e| e.id.cmp(id)).ok()?;
        before.tokens.get(at).cloned()
    };
    let token = |e: &Endpoint| known(&e.id).unwrap_or_else(|| token(session_key, service, &e.id));
    let tokens: Vec<_> = endpoints.iter().filter(|_| by_cookie).map(token).collect();
    let marks: Vec<_> = endpoints
        .iter()
        .map(|e| (identity(&e.id) >> 32) as u32)
        .collect();
    let mut sorted: Vec<u32> = (0..endpoints.len() as u32).collect();
    match by_cookie {
        true => sorted.sort_by(|&a, &b| tokens[a as usize].cmp(&tokens[b as usize])),
        false => sorted.sort_by_key(|&at| marks[at as usize]),
    }
    let kept =
        before.filter(|(before, _)| before.how.max_keys == how.max_keys && before.how.by == how.by);
    let keys = kept.map_or_else(
        || {
            let size = if by_cookie { 1 } else { how.max_keys };
            Arc::new(KeyTable::new(size, secret))
        },
        |(before, _)| before.keys.clone(),
    );
    Persistence {
        how: how.clone(),
        tokens,
        sorted,
        marks,
        keys,
    }
}

/// What stands for an instance in a cookie: 128 bits, in 22 characters.
fn token(session_key: &[u8], service: &ServiceKey, id: &InstanceId) -> Box<str> {
    let mac = Hmac::<Sha256>::new_from_slice(session_key);
    let mut mac = mac.expect("HMAC takes keys of any length");
    // Names have no zero bytes.
    for part in ["pointsman session", &service.to_string(), id.as_str()] {
        mac.update(part.as_bytes());
        mac.update(&[0]);
    }
    let mac = mac.finalize().into_bytes();
    BASE64_URL_SAFE_NO_PAD.encode(&mac[..16]).into()
}

/// The endpoint that a cookie's value names, if it is there and the value was made by one of us.
pub fn named(persistence: &Persistence, value: &[u8]) -> Option<u32> {
    let token = |at: &u32| persistence.tokens[*at as usize].as_bytes();
    let found = persistence
        .sorted
        .binary_search_by(|at| token(at).cmp(value));
    found.ok().map(|at| persistence.sorted[at])
}

/// The endpoint that requests with this key's hash went to, if it is there and not forgotten.
pub fn remembered(persistence: &Persistence, key: u64, now: Moment) -> Option<u32> {
    let slot = limit::known(&persistence.keys, key)?;
    let (mark, used) = split(persistence.keys.slots[slot].number.load(Relaxed));
    if is_forgotten(persistence, used, now) {
        return None;
    }
    let mark_of = |at: &u32| persistence.marks[*at as usize];
    let found = persistence.sorted.binary_search_by_key(&mark, mark_of);
    found.ok().map(|at| persistence.sorted[at])
}

/// Requests with this key's hash go to this endpoint from now on.
pub fn remember(persistence: &Persistence, key: u64, endpoint: usize, now: Moment) {
    let (Some(mark), used) = (persistence.marks.get(endpoint), seconds(now)) else {
        return;
    };
    let is_free = |number| is_forgotten(persistence, split(number).1, now);
    let age = |number| split(number).1.into();
    if let Some(slot) = limit::slot(&persistence.keys, key, is_free, Some((&age, 0))) {
        let number = u64::from(*mark) << 32 | u64::from(used);
        let slot = &persistence.keys.slots[slot].number;
        // Once a second is enough: other workers have this line, too.
        if slot.load(Relaxed) != number {
            slot.store(number, Relaxed);
        }
    }
}

const fn split(number: u64) -> (u32, u32) {
    ((number >> 32) as u32, number as u32)
}

/// Seconds since the clock began, and one: 0 is never.
fn seconds(now: Moment) -> u32 {
    u32::try_from(now.as_millis() / 1_000 + 1).unwrap_or(u32::MAX)
}

fn is_forgotten(persistence: &Persistence, used: u32, now: Moment) -> bool {
    let lifetime = persistence.how.lifetime.unwrap_or(LIFETIME).as_secs();
    used == 0 || u64::from(used).saturating_add(lifetime) < u64::from(seconds(now))
}
