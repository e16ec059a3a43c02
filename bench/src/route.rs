//! `route`: what it costs to find a request's route, ten routes or ten thousand.

use std::hint::black_box;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http::{h1, route};
use model::{
    Action, HostPattern, Http2Limits, ListenerTable, PathPattern, Priority, Regex, Route, Sharded,
    Speaks, Timeouts,
};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::machine::{self, PROXY_CPU};
use crate::report::{self, Table, median};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Rounds; medians are taken of them
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// A short run, to see that everything works
    #[arg(long)]
    quick: bool,
    /// Also write everything to this file, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

const SIZES: [usize; 3] = [10, 1_000, 10_000];

/// The user time of a whole request (`bench http`, 64 connections), in nanoseconds: what the difference is a part of.
const REQUEST: f64 = 1_220.0;

/// What routes have in common.
#[derive(Clone, Copy)]
enum Shape {
    /// Each has a host of its own.
    Hosts,
    /// Each has a wildcard of its own.
    Wildcards,
    /// Each has a path of its own, of three segments, at one host.
    Paths,
    /// As those, with ten patterns at the same host that match nothing.
    PathsAndPatterns,
}

impl Shape {
    const ALL: [(Self, &str); 4] = [
        (Self::Hosts, "hosts"),
        (Self::Wildcards, "wildcard hosts"),
        (Self::Paths, "prefixes of one host"),
        (
            Self::PathsAndPatterns,
            "prefixes and 10 patterns of one host",
        ),
    ];
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let (rounds, finds) = match options.quick {
        true => (3, 20_000),
        false => (options.rounds, 400_000),
    };
    machine::pin(&[PROXY_CPU])?;
    println!(
        "one thread, {finds} requests a round, each for a route drawn anew, {rounds} rounds; ns of CPU to find it, medians\n"
    );
    let mut table = Table::new(&[
        "routes",
        "10",
        "1,000",
        "10,000",
        "more, of a request of 1.22 us",
    ]);
    let mut measured = Vec::new();
    for (shape, name) in Shape::ALL {
        let costs = SIZES.map(|size| cost(shape, size, rounds, finds));
        let more = (costs[2] - costs[0]) / REQUEST * 100.0;
        let mut cells = vec![name.to_owned()];
        cells.extend(costs.map(|ns| format!("{ns:.0}")));
        cells.push(format!("{more:.1} % (aim: 10 %)"));
        table.row(cells);
        let sizes = SIZES
            .iter()
            .zip(costs)
            .map(|(n, ns)| json!({ "routes": n, "find_ns": ns }));
        measured.push(
            json!({ "shape": name, "sizes": sizes.collect::<Vec<_>>(), "more_percent": more }),
        );
    }
    table.print();
    report::write(options.json.as_deref(), &json!(measured))
}

fn cost(shape: Shape, size: usize, rounds: u32, finds: usize) -> f64 {
    let listener = listener(shape, size);
    let client: IpAddr = [127, 0, 0, 1].into();
    let mut random = fastrand::Rng::with_seed(42);
    // So many heads as fit into a cache beside the index: reading them is no part of finding a route.
    let heads: Vec<String> = (0..256)
        .map(|_| head(shape, random.usize(..size)))
        .collect();
    let limits = h1::Limits {
        head: 16 << 10,
        fields: 100,
    };
    let parse = |head| h1::parse_request(head, &mut 0, &limits).ok().flatten();
    let requests: Vec<_> = heads
        .iter()
        .filter_map(|head| parse(head.as_bytes()))
        .collect();
    assert_eq!(requests.len(), heads.len(), "every head is a request");
    let round = || {
        let began = cpu_time();
        for n in 0..finds {
            let found = route::find(&listener, &requests[n * 97 % requests.len()], client);
            assert!(black_box(found).is_some(), "every request has its route");
        }
        (cpu_time() - began) * 1e9 / finds as f64
    };
    round();
    median((0..rounds).map(|_| round()).collect())
}

fn head(shape: Shape, n: usize) -> String {
    let (host, path) = match shape {
        Shape::Hosts => (format!("shop-{n}.example.com"), "/cart/items".to_owned()),
        Shape::Wildcards => (
            format!("www.shop-{n}.example.com"),
            "/cart/items".to_owned(),
        ),
        Shape::Paths | Shape::PathsAndPatterns => (
            "shop.example.com".to_owned(),
            format!("{}/items/7", path(n)),
        ),
    };
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
}

fn path(n: usize) -> String {
    format!("/api/team-{}/service-{n}", n % 100)
}

fn listener(shape: Shape, size: usize) -> ListenerTable {
    let prefix = |n| PathPattern::Prefix(path(n).into());
    let shop = || HostPattern::Exact("shop.example.com".into());
    let mut routes: Vec<_> = (0..size)
        .map(|n| match shape {
            Shape::Hosts => {
                let host = format!("shop-{n}.example.com");
                (
                    HostPattern::Exact(host.into()),
                    PathPattern::Prefix("/".into()),
                )
            }
            Shape::Wildcards => {
                let suffix = format!(".shop-{n}.example.com");
                (
                    HostPattern::Suffix(suffix.into()),
                    PathPattern::Prefix("/".into()),
                )
            }
            Shape::Paths | Shape::PathsAndPatterns => (shop(), prefix(n)),
        })
        .map(|(host, path)| route(host, path))
        .collect();
    if let Shape::PathsAndPatterns = shape {
        routes.extend((0..10).map(|n| {
            let pattern = Regex::whole(&format!("/users-{n}/[0-9]+/.*"));
            route(shop(), PathPattern::Regex(pattern.expect("a pattern")))
        }));
    }
    route::order(&mut routes);
    ListenerTable {
        name: "bench".into(),
        speaks: Speaks::Http,
        tls: false,
        accept_proxy: Vec::new(),
        index: route::index(&routes),
        routes,
        trusted_peers: Vec::new(),
        timeouts: Timeouts {
            request_head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            stall: Duration::from_secs(30),
            tunnel: Duration::from_secs(3_600),
            tunnel_lifetime: Duration::ZERO,
            tunnel_drain: Duration::from_secs(30),
            min_rate: 100,
        },
        peer_timeout: Duration::from_secs(60),
        max_head: 16 << 10,
        max_fields: 100,
        http2: Http2Limits::default(),
        grpc_web: false,
        tracing: model::Tracing::default(),
        one_host: false,
        deadlines: Default::default(),
        stats: Arc::new(Sharded::new(1)),
    }
}

fn route(host: HostPattern, path: PathPattern) -> Route {
    Route {
        name: format!("{host:?} {path:?}").into(),
        host,
        path,
        conditions: None,
        filters: None,
        priority: Priority::Normal,
        action: Action::Service(0),
        aside: None,
        stats: Arc::new(Sharded::new(1)),
    }
}

/// What this thread has had of its core so far, in seconds.
fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
