//! What the hashing policies look at in a request.

use std::net::IpAddr;

use http::cookie;
use http::h1::Request;
use model::{HashOn, ServiceTable};

use super::session::Session;
use crate::worker::source_key;

impl Session {
    /// The key of a request; anything where its service's policy does not go by one.
    pub(super) fn key(&self, request: &Request<'_>, service: &ServiceTable) -> u64 {
        if !service.policy.is_hash() {
            return 0;
        }
        // Those without a key are spread, not sent to one instance together.
        hash_key(request, self.peer.ip(), service).unwrap_or_else(|| self.worker.draw())
    }
}

/// The key that a hashing policy goes by; `None` if the request has nothing of the kind. `source` is whose connection it came by.
pub fn hash_key(request: &Request<'_>, source: IpAddr, service: &ServiceTable) -> Option<u64> {
    let balancing = &service.balancing;
    hashed(request, source, &balancing.hash_on, balancing.hash_secret)
}

/// A hash of what is looked at in a request; `None` if that is not there.
pub(super) fn hashed(
    request: &Request<'_>,
    source: IpAddr,
    on: &HashOn,
    secret: [u64; 2],
) -> Option<u64> {
    let hash = |bytes: &[u8]| balance::key(secret, bytes);
    let part = match on {
        HashOn::SourceIp => return Some(source_key(secret, source)),
        HashOn::Url => {
            let path = hash(request.target.path());
            let query = request.target.query().map(hash);
            return Some(path ^ query.unwrap_or(0).rotate_left(1));
        }
        HashOn::Header(name) => request.fields.find(name),
        HashOn::Cookie(name) => cookie::find(&request.fields, name),
        HashOn::Query(name) => request.target.query().and_then(|q| parameter(q, name)),
    };
    part.map(hash)
}

/// A parameter's value as it was sent, percent codes and all.
pub(super) fn parameter<'a>(query: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut pairs = query.split(|&b| b == b'&');
    pairs.find_map(|pair| match pair.strip_prefix(name.as_bytes())? {
        [b'=', value @ ..] => Some(value),
        [] => Some(&[][..]),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_found_by_its_whole_name() {
        assert_eq!(parameter(b"user=7&u=8&flag", "u"), Some(&b"8"[..]));
        assert_eq!(parameter(b"user=7&u=8&flag", "flag"), Some(&b""[..]));
        assert_eq!(parameter(b"user=7", "use"), None);
    }
}
