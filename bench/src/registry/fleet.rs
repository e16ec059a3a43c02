//! The instances that are registered, and the requests about them.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};

/// Heartbeats in a request.
pub(super) const BEATS: usize = 500;
/// Instances of a service that is looked up.
pub(super) const SMALL: u64 = 10;
/// How many services of that size there are.
const SMALL_SERVICES: u64 = 100;
/// Instances of the other services.
const LARGE: u64 = 1_000;
/// Different requests with heartbeats; made beforehand, so that the time goes into sending them.
const BATCHES: usize = 200;

/// Instances by number: the first belong to small services, the rest to large ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fleet {
    count: u64,
}

impl Fleet {
    pub(super) fn of(count: u64) -> Self {
        Self { count }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn describe(&self) -> String {
        format!(
            "{}: {SMALL_SERVICES} services of {SMALL}, the rest in services of about {LARGE}; address, port, a lease",
            self.count
        )
    }

    /// The requests that register all of them, once.
    pub(super) fn registrations(&self, host: SocketAddr) -> Registrations {
        Registrations {
            fleet: *self,
            host,
            next: 0,
        }
    }

    /// Requests with heartbeats of random instances.
    pub(super) fn heartbeats(&self, host: SocketAddr) -> Vec<Vec<u8>> {
        let mut random = fastrand::Rng::with_seed(1);
        let mut batch = || {
            let beats = (0..BEATS).map(|_| {
                let (service, id) = self.names(random.u64(0..self.count));
                format!(r#"{{"service":"{service}","id":"{id}"}}"#)
            });
            let beats = beats.collect::<Vec<_>>().join(",");
            request(
                "POST",
                "/v1/heartbeats",
                host,
                &format!(r#"{{"beats":[{beats}]}}"#),
            )
        };
        (0..BATCHES).map(|_| batch()).collect()
    }

    /// Requests for small services.
    pub(super) fn lookups(&self, host: SocketAddr) -> Vec<Vec<u8>> {
        let lookup = |service| {
            format!("GET /v1/services/small-{service} HTTP/1.1\r\nHost: {host}\r\n\r\n")
                .into_bytes()
        };
        (0..SMALL_SERVICES).map(lookup).collect()
    }

    /// The service and the id of an instance. Neighbours are in different services: nobody deploys one service at a time.
    fn names(&self, number: u64) -> (String, String) {
        let small = SMALL * SMALL_SERVICES;
        let services = (self.count.saturating_sub(small) / LARGE).max(1);
        let service = match number < small {
            true => format!("small-{}", number % SMALL_SERVICES),
            false => format!("service-{}", number % services),
        };
        (service, format!("i-{number}"))
    }
}

/// Registers one instance after the other.
pub(super) struct Registrations {
    fleet: Fleet,
    host: SocketAddr,
    next: u64,
}

impl Registrations {
    /// Appends the next request; `false` after the last.
    pub(super) fn next_into(&mut self, out: &mut Vec<u8>) -> bool {
        if self.next == self.fleet.count {
            return false;
        }
        let (service, id) = self.fleet.names(self.next);
        let address = Ipv4Addr::from(0x0a00_0000 + self.next as u32);
        let body = format!(r#"{{"address":"{address}","port":8080,"lease":{{"ttl":"1h"}}}}"#);
        let path = format!("/v1/services/{service}/instances/{id}");
        out.extend_from_slice(&request("PUT", &path, self.host, &body));
        self.next += 1;
        true
    }
}

fn request(method: &str, path: &str, host: SocketAddr, body: &str) -> Vec<u8> {
    let mut request = Vec::with_capacity(256 + body.len());
    let length = body.len();
    // Writing to memory does not fail.
    let _ = write!(
        request,
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    request
}
