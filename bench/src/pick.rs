//! `pick`: what it costs to choose an endpoint, and to take in what came of it.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use balance::{Balancer, Context, Lease, Outcome, place};
use clap::Args;
use model::{
    Balancing, Endpoint, EndpointStats, Health, Incarnation, Moment, Policy, ServiceKey,
    ServiceTable, Sharded, Weight,
};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::machine::{self, PROXY_CPU};
use crate::report::{self, Table, median};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Rounds; medians are taken of them
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only this policy
    #[arg(long)]
    policy: Option<String>,
    /// A short run, to see that everything works
    #[arg(long)]
    quick: bool,
    /// Also write everything to this file, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

const SIZES: [usize; 3] = [10, 1_000, 10_000];

/// The size at which one instance comes and goes.
const CHANGED: usize = 1_000;

/// Requests under way at a time, so that in-flight is what it is in life: small, and not 0.
const UNDER_WAY: usize = 64;

/// Nanoseconds of one policy at one size.
struct Cost {
    choose: f64,
    pick_and_done: f64,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let (rounds, picks) = if options.quick {
        (3, 20_000)
    } else {
        (options.rounds, 400_000)
    };
    machine::pin(&[PROXY_CPU])?;
    println!(
        "one thread, uncontended, {UNDER_WAY} requests under way, {picks} picks a round, {rounds} rounds; \
         ns of CPU, medians: choose / pick and done\n"
    );
    let mut table = Table::new(&["policy", "10", "1,000", "10,000", "change at 1,000", "aim"]);
    let mut measured = Vec::new();
    let wanted = |policy: &Policy| {
        options
            .policy
            .as_ref()
            .is_none_or(|name| name == policy.as_str())
    };
    for policy in Policy::ALL.into_iter().filter(wanted) {
        let costs: Vec<Cost> = SIZES
            .iter()
            .map(|&n| cost(policy, n, rounds, picks))
            .collect();
        let change = change(policy, rounds);
        let mut cells = vec![policy.as_str().to_owned()];
        let shown = |c: &Cost| format!("{:.1} / {:.1}", c.choose, c.pick_and_done);
        cells.extend(costs.iter().map(shown));
        cells.push(format!("{:.3} ms", change.as_secs_f64() * 1e3));
        cells.push(aim(policy).to_owned());
        table.row(cells);
        measured.push(json(policy, &costs, change));
    }
    table.print();
    let size = size_of::<EndpointStats>();
    println!("\n  {size} bytes of statistics an endpoint, shared by all workers (aim: 64)");
    println!(
        "  change: table of keys and one worker's balancer, after one instance came or went (aim: 1 ms)"
    );
    let measured = json!({ "bytes_per_endpoint": size, "policies": measured });
    report::write(options.json.as_deref(), &measured)
}

const fn aim(policy: Policy) -> &'static str {
    match policy {
        Policy::LeastTime => "pick and done 25 at any size",
        Policy::RoundRobin => "pick and done 60 at 10,000",
        Policy::ConsistentHash | Policy::Maglev => "choose 5",
        Policy::Random | Policy::LeastConn | Policy::PeakEwma => "",
    }
}

fn json(policy: Policy, costs: &[Cost], change: Duration) -> Value {
    let sizes = SIZES.iter().zip(costs).map(|(n, cost)| {
        json!({ "endpoints": n, "choose_ns": cost.choose, "pick_and_done_ns": cost.pick_and_done })
    });
    json!({
        "policy": policy.as_str(),
        "sizes": sizes.collect::<Vec<_>>(),
        "change_ms": change.as_secs_f64() * 1e3,
    })
}

fn cost(policy: Policy, endpoints: usize, rounds: u32, picks: u64) -> Cost {
    let service = service(policy, endpoints);
    let mut balancer = Balancer::new(&service, 0, 42);
    let mut clock = 1_000_000_000;
    let mut round = |f: &mut dyn FnMut(&mut Balancer, &Context, Moment)| {
        let began = cpu_time();
        for n in 0..picks {
            // A batch of events, and so a reading of the clock, every few requests.
            clock += 2_000;
            let now = Moment::from_nanos(clock & !0xffff);
            f(&mut balancer, &context(n), now);
        }
        (cpu_time() - began) * 1e9 / picks as f64
    };
    let mut under_way: Vec<Option<Lease>> = (0..UNDER_WAY).map(|_| None).collect();
    let mut at = 0;
    let mut pick_and_done = |balancer: &mut Balancer, context: &Context, now| {
        let lease = balancer.pick(&service, context, now).ok();
        let before = std::mem::replace(&mut under_way[at % UNDER_WAY], lease);
        at += 1;
        if let Some(lease) = before {
            let latency = Duration::from_micros(100 + at as u64 * 37 % 64);
            lease.done(&service, Outcome::Answered, latency, now);
        }
    };
    // The first warms up, and gives the policy something to go by.
    round(&mut pick_and_done);
    let with = (0..rounds).map(|_| round(&mut pick_and_done)).collect();
    let mut choose = |balancer: &mut Balancer, context: &Context, now| {
        let _ = black_box(balancer.choose(&service, context, now));
    };
    let without = (0..rounds).map(|_| round(&mut choose)).collect();
    Cost {
        choose: median(without),
        pick_and_done: median(with),
    }
}

fn context(n: u64) -> Context {
    Context {
        key: n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        ..Context::default()
    }
}

/// From an instance that comes or goes to a balancer that knows.
fn change(policy: Policy, rounds: u32) -> Duration {
    let mut service = service(policy, CHANGED);
    let mut balancer = Balancer::new(&service, 0, 42);
    let mut took = Vec::new();
    for n in 0..rounds as usize {
        let at = n * 397 % CHANGED;
        let removed = service.endpoints.remove(at);
        took.push(follow(&mut service, &mut balancer));
        service.endpoints.insert(at, removed);
        took.push(follow(&mut service, &mut balancer));
    }
    Duration::from_secs_f64(median(took))
}

fn follow(service: &mut ServiceTable, balancer: &mut Balancer) -> f64 {
    let began = cpu_time();
    let before = service.placement.take();
    let (policy, balancing) = (service.policy, &service.balancing);
    service.placement = place(policy, balancing, &service.endpoints, before.as_ref());
    balancer.rebuild(service);
    cpu_time() - began
}

/// What this thread has had of its core so far, in seconds: what others have of it meanwhile is not ours.
fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn service(policy: Policy, endpoints: usize) -> ServiceTable {
    let endpoint = |n: usize| Endpoint {
        id: format!("instance-{n:05}").parse().expect("a name"),
        incarnation: Incarnation(1),
        address: ([10, 0, 0, 1], 8_080).into(),
        weight: Weight(1 + n as u16 % 3),
        health: Health::Passing,
        drain: false,
        enabled: true,
        tier: 0,
        since: Moment::ZERO,
        stats: Arc::new(EndpointStats::default()),
        connections: Arc::default(),
    };
    let endpoints: Vec<_> = (0..endpoints).map(endpoint).collect();
    let balancing = Balancing::default();
    ServiceTable {
        key: ServiceKey::in_default("bench".parse().expect("a name")),
        role: None,
        persistence: None,
        policy,
        placement: place(policy, &balancing, &endpoints, None),
        balancing,
        endpoints,
        unresolved: 0,
        connect_timeout: Duration::from_secs(1),
        peer_timeout: Duration::from_secs(60),
        response_timeout: Duration::from_secs(1),
        retries: 2,
        retry_budget: 100,
        keep_alive: Duration::from_secs(60),
        send_proxy: None,
        load_report: None,
        http2: false,
        tls: false,
        connect_from: Vec::new(),
        stats: Arc::new(Sharded::new(1)),
        ejections: Arc::default(),
        least_moves: Arc::default(),
        admission: Arc::new(model::Admission::new(1)),
    }
}
