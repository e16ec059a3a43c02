//! `registry`: what the registry does over HTTP, and beside etcd and ZooKeeper. The load generator shares the cores with it,
//! and is shown beside it.

mod beside;
mod fleet;
mod node;
mod phase;
mod restart;
mod watchers;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::load::{Pace, Plan};
use crate::scratch::Scratch;
use crate::{machine, pointsman, report};
use fleet::Fleet;
use node::Node;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many instances to register
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    instances: u64,
    /// How many watch one thing at most; more than 10,000 need as many open descriptors (ulimit -Hn)
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    watchers: u64,
    /// Seconds of heartbeats, and of lookups
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// On how many nodes pointsman, etcd and ZooKeeper are measured beside each other
    #[arg(long, value_delimiter = ',', default_values_t = [1, 3], value_parser = nodes)]
    nodes: Vec<u8>,
    /// How often each of them has its turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Seconds of each turn
    #[arg(long, default_value_t = 2.0)]
    round_seconds: f64,
    /// Seconds for which each is warmed up for a kind of request
    #[arg(long, default_value_t = 8.0)]
    warm_up: f64,
    /// How often a leader is killed
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    kills: u64,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// A short run, to see that everything works
    #[arg(long)]
    quick: bool,
    /// Also write everything to this file, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Pointsman's own API on one node: registrations, heartbeats, lookups, watchers, memory, cold start
    Api,
    /// Reads beside etcd and ZooKeeper
    Reads,
    /// Writes beside etcd and ZooKeeper
    Writes,
    /// One change to many, beside etcd and ZooKeeper
    Watchers,
    /// From a leader's death to the next write, beside etcd and ZooKeeper
    Failover,
}

impl Options {
    fn measures(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

fn nodes(text: &str) -> Result<u8, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("must be 1 or 3".into()),
    }
}

/// Many: each waits for the disk, so as many as there are connections share one sync.
const REGISTERING: usize = 512;
const BEATING: usize = 16;
const LOOKING: usize = 64;
/// Requests sent ahead on a connection, so that the server need not wait for the generator's turn.
const PIPELINE: usize = 4;
/// Changes that are fanned out.
const CHANGES: usize = 30;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let mut facts = machine::facts();
    facts.push((
        "placement",
        "servers and the load generator share all cores".into(),
    ));
    facts.push(("disk", scratch.filesystem()));
    println!("registry: what the registry does over HTTP, and beside etcd and ZooKeeper");
    report::print_facts(facts.iter().map(|(name, value)| (*name, &**value)));
    let mut results = Map::new();
    if options.measures(Part::Api) {
        results = api(options, &scratch)?;
    }
    if options.only.iter().any(|part| *part != Part::Api) || options.only.is_empty() {
        results.insert("beside".into(), beside::run(options, &scratch)?);
    }
    let facts = facts.into_iter().map(|(n, v)| (n.to_owned(), json!(v)));
    let facts: Map<_, _> = facts.collect();
    let measured = json!({ "bench": "registry", "facts": facts, "results": results });
    report::write(options.json.as_deref(), &measured)
}

/// Pointsman's own API, on one node.
fn api(options: &Options, scratch: &Scratch) -> anyhow::Result<Map<String, Value>> {
    let fleet = Fleet::of(if options.quick {
        10_000
    } else {
        options.instances
    });
    let seconds = if options.quick { 1.0 } else { options.seconds };
    // One thread follows them over HTTP, from one address, which has no more ports.
    let watchers = if options.quick {
        500
    } else {
        options.watchers.min(11_000)
    };
    let binary = pointsman::binary()?;
    let configuration = node::configuration(scratch)?;
    let facts = describe(&fleet, &pointsman::version(&binary), &configuration.text);
    let node = Node::start(&binary, &configuration, scratch)?;
    let idle = node.memory().resident;
    let results = [
        ("facts", facts),
        ("registrations", register(&node, &fleet)?),
        ("memory", remember(&node, &fleet, idle)),
        ("heartbeats", beat(&node, &fleet, seconds)?),
        ("lookups", look(&node, &fleet, seconds)?),
        (
            "watchers",
            watchers::run(&node, watchers as usize, CHANGES)?,
        ),
        (
            "restart",
            restart::run(node, &binary, &configuration, scratch)?,
        ),
    ];
    let results = results.map(|(name, value)| (name.to_owned(), value));
    Ok(results.into_iter().collect())
}

fn describe(fleet: &Fleet, version: &str, configuration: &str) -> Value {
    println!("\npointsman's API");
    let facts = [
        ("pointsman", version.to_owned()),
        ("instances", fleet.describe()),
    ];
    report::print_facts(facts.iter().map(|(name, value)| (*name, &**value)));
    configuration
        .lines()
        .for_each(|line| println!("  | {line}"));
    let facts = facts.map(|(name, value)| (name.to_owned(), json!(value)));
    facts.into_iter().collect::<Map<_, _>>().into()
}

fn register(node: &Node, fleet: &Fleet) -> anyhow::Result<Value> {
    println!("\nregistrations, each durable when answered, {REGISTERING} connections");
    let mut requests = fleet.registrations(node.address);
    let plan = closed(node, REGISTERING, None);
    let mut next = |out: &mut Vec<u8>| requests.next_into(out);
    let (outcome, phase) = phase::measure(node, &plan, &mut next)?;
    let rate = outcome.per_second();
    println!("  {rate:.0}/s (target ≥ 20,000), {}", outcome.faults());
    println!("  {}", phase.limits());
    println!("  {}", phase.syncs());
    Ok(json!({ "per_second": rate, "errors": outcome.errors(), "phase": phase.json() }))
}

fn remember(node: &Node, fleet: &Fleet, idle: u64) -> Value {
    println!("\nmemory with {} instances", fleet.count());
    let resident = node.memory().resident;
    let each = (resident.saturating_sub(idle) * 1024) / fleet.count();
    println!(
        "  {} MB resident, {each} bytes each beyond the {} MB of an empty node (target ≤ 600 MB with a million)",
        resident * 1024 / 1_000_000,
        idle * 1024 / 1_000_000
    );
    json!({ "rss_kib": resident, "empty_rss_kib": idle, "bytes_each": each })
}

fn beat(node: &Node, fleet: &Fleet, seconds: f64) -> anyhow::Result<Value> {
    println!(
        "\nheartbeats, {} of random instances in a request, {BEATING} connections",
        fleet::BEATS
    );
    let requests = fleet.heartbeats(node.address);
    let mut requests = requests.iter().cycle();
    let mut next = |out: &mut Vec<u8>| {
        let request = requests.next();
        out.extend_from_slice(request.map_or(&[], Vec::as_slice));
        request.is_some()
    };
    let plan = closed(node, BEATING, Some(seconds));
    let (outcome, phase) = phase::measure(node, &plan, &mut next)?;
    // Renewed leases, not requests: a heartbeat for what is not registered counts for nothing.
    let rate = phase.delta("heartbeats_total") / outcome.took.as_secs_f64();
    println!("  {rate:.0}/s (target ≥ 200,000), {}", outcome.faults());
    println!("  {}", phase.limits());
    Ok(json!({
        "per_second": rate, "requests": outcome.answered, "errors": outcome.errors(), "phase": phase.json(),
    }))
}

fn look(node: &Node, fleet: &Fleet, seconds: f64) -> anyhow::Result<Value> {
    println!(
        "\nlookups of services of {} instances, {LOOKING} connections",
        fleet::SMALL
    );
    let requests = fleet.lookups(node.address);
    let mut requests = requests.iter().cycle();
    let mut next = |out: &mut Vec<u8>| {
        let request = requests.next();
        out.extend_from_slice(request.map_or(&[], Vec::as_slice));
        request.is_some()
    };
    let plan = closed(node, LOOKING, Some(seconds));
    let (outcome, phase) = phase::measure(node, &plan, &mut next)?;
    let rate = outcome.per_second();
    println!("  {rate:.0}/s, {}", outcome.faults());
    println!("  {}", phase.limits());
    Ok(json!({ "per_second": rate, "errors": outcome.errors(), "phase": phase.json() }))
}

fn closed(node: &Node, connections: usize, seconds: Option<f64>) -> Plan {
    Plan {
        target: node.address,
        connections,
        pipeline: PIPELINE,
        pace: Pace::Closed,
        time: seconds.map(Duration::from_secs_f64),
    }
}
