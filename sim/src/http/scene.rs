//! What a seed decides before anything runs: the network, the services, who misbehaves and how.

use std::time::Duration;

use fastrand::Rng;
use model::{Policy, Timeouts};
use proxy::rt::Memory;

use super::ask::{Ask, Body, largest};
use super::ledger::{Deed, Manner};

/// One run's setting.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The network.
    pub conditions: Memory,
    /// Services by number.
    pub services: Vec<Service>,
    /// Clients, each with when it comes.
    pub clients: Vec<Client>,
    /// When the table is replaced.
    pub swaps: Vec<Duration>,
    /// Whether one of the swaps takes the second listener away.
    pub drops_listener: bool,
    /// When draining begins, if not after everything else.
    pub drain: Option<Duration>,
}

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its instances' natures.
    pub instances: Vec<Nature>,
    /// Attempts after the first.
    pub retries: u8,
    /// How instances are chosen.
    pub policy: Policy,
    /// After which time a second instance is asked, if one is.
    pub hedges: Option<Duration>,
}

/// What an instance is like.
#[derive(Clone, Debug, Default)]
pub struct Nature {
    /// Misdeeds, one of which it commits on `rate` of 100 requests.
    pub misdeeds: Vec<Deed>,
    /// How often.
    pub rate: u8,
    /// Closes connections that have been idle for so long.
    pub closes_idle: Option<Duration>,
    /// Answers only after so long, and in small pieces.
    pub slow: Option<Duration>,
    /// Nobody listens at its address.
    pub refuses: bool,
    /// Packets to its address vanish.
    pub black_hole: bool,
}

/// A client.
#[derive(Clone, Debug)]
pub struct Client {
    /// When it comes.
    pub at: Duration,
    /// Which listener it talks to.
    pub listener: usize,
    /// What it is up to.
    pub manner: Manner,
    /// What it asks, in order.
    pub asks: Vec<Ask>,
    /// Requests sent before the first answer is awaited.
    pub depth: usize,
    /// Decides the small things.
    pub seed: u64,
}

/// The run's limits in time.
pub const TIMEOUTS: Timeouts = Timeouts {
    request_head: Duration::from_millis(1_000),
    idle: Duration::from_millis(1_500),
    stall: Duration::from_millis(400),
    tunnel: Duration::from_millis(800),
    tunnel_lifetime: Duration::ZERO,
    tunnel_drain: Duration::from_secs(30),
    min_rate: 200,
};
/// Opening a connection to an instance.
pub const CONNECT: Duration = Duration::from_millis(300);
/// From the request to the answer's head.
pub const RESPONSE: Duration = Duration::from_millis(700);
/// The largest head.
pub const MAX_HEAD: usize = 8 * 1024;

const MISDEEDS: [Deed; 11] = [
    Deed::Eager,
    Deed::Early,
    Deed::Garbage,
    Deed::HugeHead,
    Deed::Flood,
    Deed::Unasked,
    Deed::Silent,
    Deed::Stalled,
    Deed::DiedBefore,
    Deed::DiedWithin,
    Deed::Extra,
];

impl Scene {
    /// The setting that `seed` stands for.
    pub fn of(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let (conditions, scale) = conditions(rng);
        // Some runs are about well-behaved parties alone: there, nothing at all may go wrong.
        let (kind_instances, kind_clients) = (rng.u8(..4) == 0, rng.u8(..4) == 0);
        let services: Vec<_> = (0..rng.usize(1..4))
            .map(|_| service(rng, kind_instances))
            .collect();
        let clients = (0..rng.usize(1..10))
            .map(|_| client(rng, services.len(), scale, kind_clients))
            .collect();
        let mut swaps: Vec<_> = (0..rng.usize(..4))
            .map(|_| Duration::from_millis(rng.u64(..3_000)))
            .collect();
        swaps.sort_unstable();
        Self {
            conditions,
            services,
            clients,
            drops_listener: rng.u8(..6) == 0,
            swaps,
            drain: (rng.u8(..4) == 0).then(|| Duration::from_millis(rng.u64(..3_000))),
        }
    }
}

/// Conditions in which even the smallest window carries 50 KB a second, and the exponent of the largest body
/// that is worth sending through it.
fn conditions(rng: &mut Rng) -> (Memory, u64) {
    let window = *rng
        .choice(&[1, 7, 64, 512, 1_460, 4_096, 16_384, 65_536])
        .unwrap_or(&1);
    let segment = rng.usize(1..=window.min(9_000));
    let longest = (window as u64 * 10).min(5_000);
    let delay = Duration::from_micros(rng.u64(..=longest));
    let scale = match segment.min(window) {
        0..8 => 2,
        8..64 => 5,
        64..1_000 => 9,
        _ => 12,
    };
    (
        Memory {
            seed: rng.u64(..),
            window,
            segment,
            delay,
        },
        scale,
    )
}

fn service(rng: &mut Rng, kind: bool) -> Service {
    let instances = (0..rng.usize(1..5)).map(|_| nature(rng, kind)).collect();
    Service {
        instances,
        retries: rng.u8(..4),
        policy: *rng
            .choice(&[Policy::Random, Policy::RoundRobin, Policy::LeastConn])
            .unwrap_or(&Policy::Random),
        hedges: (rng.u8(..3) == 0).then(|| Duration::from_millis(rng.u64(1..400))),
    }
}

fn nature(rng: &mut Rng, kind: bool) -> Nature {
    let mut nature = Nature::default();
    if rng.u8(..6) == 0 {
        nature.slow = Some(Duration::from_millis(rng.u64(..150)));
    }
    if kind {
        return nature;
    }
    match rng.u8(..10) {
        0 => nature.refuses = true,
        1 => nature.black_hole = true,
        2 => nature.closes_idle = Some(Duration::from_millis(rng.u64(40..200))),
        3..8 => {
            nature.misdeeds = (0..rng.usize(1..4))
                .filter_map(|_| rng.choice(MISDEEDS))
                .collect();
            nature.rate = *rng.choice(&[20, 50, 100]).unwrap_or(&50);
        }
        _ => {}
    }
    nature
}

fn client(rng: &mut Rng, services: usize, scale: u64, kind: bool) -> Client {
    let manner = match rng.u8(..20) {
        _ if kind => Manner::Behaved,
        0 | 1 => Manner::HalfClose,
        2..5 => Manner::Vanishes,
        5 => Manner::SlowHead,
        6 => Manner::SlowBody,
        7 => Manner::Stuck,
        8 => Manner::Garbage,
        9 => Manner::BigHead,
        10 => Manner::BadChunk,
        _ => Manner::Behaved,
    };
    let count = match manner {
        Manner::Behaved | Manner::HalfClose | Manner::Vanishes => rng.usize(1..8),
        _ => 1,
    };
    let old = rng.u8(..6) == 0;
    Client {
        at: Duration::from_millis(rng.u64(..2_000)),
        listener: rng.usize(..2),
        manner,
        asks: (0..count)
            .map(|_| ask(rng, services, scale, old, manner))
            .collect(),
        depth: if rng.u8(..3) == 0 { rng.usize(2..5) } else { 1 },
        seed: rng.u64(..),
    }
}

fn ask(rng: &mut Rng, services: usize, scale: u64, old: bool, manner: Manner) -> Ask {
    let id = scale << 60 | rng.u64(..) >> 4;
    let length = match rng.u8(..4) {
        0 => rng.usize(..largest(id)),
        _ => rng.usize(..2_000).min(largest(id)),
    };
    let (needs_body, chunks) = (manner == Manner::SlowBody, manner == Manner::BadChunk);
    let method = match rng.u8(..10) {
        _ if needs_body || chunks => "POST",
        0 => "HEAD",
        1 => "PUT",
        2..5 => "POST",
        _ => "GET",
    };
    let body = match method {
        "PUT" | "POST" if chunks || !old && rng.bool() => {
            Body::Chunks(length, !chunks && rng.bool())
        }
        "PUT" | "POST" => Body::Length(length.max(usize::from(needs_body) * 60)),
        _ => Body::None,
    };
    let old = old && !matches!(body, Body::Chunks(..));
    let with_body = !matches!(body, Body::None | Body::Length(0));
    let plain = manner == Manner::Behaved;
    Ask {
        id,
        service: rng.usize(..services),
        method,
        old,
        keep: rng.u8(..6) != 0,
        expects: plain && with_body && !old && rng.u8(..4) == 0,
        upgrade: plain && method == "GET" && !old && rng.u8(..6) == 0,
        body,
    }
}
