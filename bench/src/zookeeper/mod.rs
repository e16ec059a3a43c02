//! `zookeeper`: the same requests to pointsman and to a real ZooKeeper, one after the other, on the same disk, both with
//! every write synced. The clients share the cores with the server. Rounds of both take turns.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::clients::{Ask, Clients, Kind, Protocol};
use crate::ensemble::{Ensemble, Product};
use crate::scratch::Scratch;
use crate::{machine, report};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Rounds of each case; medians are taken of them
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of a round
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seconds for which each server is warmed up
    #[arg(long, default_value_t = 10.0)]
    warm_up: f64,
    /// How many sessions wait for one change
    #[arg(long, default_value_t = 10_000)]
    watchers: usize,
    /// Only cases whose name contains this
    #[arg(long, default_value = "")]
    case: String,
    /// Only pointsman
    #[arg(long)]
    alone: bool,
    /// Also write everything to this file, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What one server did in one round of a case.
struct Round {
    per_second: f64,
    cpu_us: f64,
    p50_us: f64,
    p99_us: f64,
    errors: u64,
}

/// What is asked for, by how many sessions, with how many requests of each on their way.
const PHASES: &[(Kind, usize, usize)] = &[
    (Kind::Get, 1, 1),
    (Kind::Get, 16, 1),
    (Kind::Get, 128, 1),
    (Kind::Get, 128, 16),
    (Kind::Set, 1, 1),
    (Kind::Set, 16, 1),
    (Kind::Set, 128, 1),
    (Kind::Set, 128, 16),
    (Kind::Create, 1, 1),
    (Kind::Create, 16, 1),
    (Kind::Create, 128, 1),
    (Kind::Mixed, 128, 1),
];

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    println!("zookeeper: requests of ZooKeeper's protocol");
    let mut facts = machine::facts();
    facts.push(("disk", scratch.filesystem()));
    facts.push((
        "durability",
        "each write is synced before it is answered".into(),
    ));
    facts.push((
        "placement",
        "the server and its clients share all cores".into(),
    ));
    report::print_facts(facts.iter().map(|(name, value)| (*name, &**value)));
    let mut servers = Vec::new();
    for product in [Product::Pointsman, Product::ZooKeeper] {
        if product != Product::Pointsman && options.alone {
            continue;
        }
        if let Some(reason) = product.missing() {
            println!("  left out: {reason}");
            continue;
        }
        let mut server = Ensemble::start(product, 1, &scratch)?;
        server.wait()?;
        servers.push(server);
    }
    for server in &servers {
        prepare(server, Duration::from_secs_f64(options.warm_up))?;
    }
    let mut results = Vec::new();
    for &(kind, sessions, pipeline) in PHASES {
        let name = format!("{kind:?}, {sessions} sessions, {pipeline} on their way");
        if name.contains(&options.case) {
            println!("\n{name}");
            results.extend(compare(&servers, (kind, sessions, pipeline), options)?);
        }
    }
    let name = format!("{} sessions that watch one node", options.watchers);
    if name.contains(&options.case) {
        println!("\n{name}");
        for server in &servers {
            results.push(fan_out(server, options.watchers)?);
        }
    }
    let facts: serde_json::Map<_, _> = facts
        .into_iter()
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    let measured = json!({ "bench": "zookeeper", "facts": facts, "results": results });
    report::write(options.json.as_deref(), &measured)
}

/// Makes the nodes, and lets the server's compiler see what will be asked of it.
fn prepare(server: &Ensemble, time: Duration) -> anyhow::Result<()> {
    open(server, 1)?.make_keys()?;
    let mut clients = open(server, 128)?;
    for kind in [Kind::Create, Kind::Mixed, Kind::Get] {
        clients.run(kind, 4, time / 3)?;
    }
    Ok(())
}

fn open(server: &Ensemble, count: usize) -> anyhow::Result<Clients> {
    let addresses = server.addresses(Protocol::ZooKeeper);
    Clients::open(Protocol::ZooKeeper, &addresses, count)
}

/// Rounds of a case, in which the servers take turns; returns what to keep of each.
fn compare(
    servers: &[Ensemble],
    (kind, sessions, pipeline): (Kind, usize, usize),
    options: &Options,
) -> anyhow::Result<Vec<Value>> {
    let mut rounds: Vec<Vec<Round>> = servers.iter().map(|_| Vec::new()).collect();
    for _ in 0..options.rounds.max(1) {
        for (server, rounds) in servers.iter().zip(&mut rounds) {
            rounds.push(measure(server, kind, sessions, pipeline, options.seconds)?);
        }
    }
    let cpu: Vec<f64> = rounds.iter().map(|r| middle(r, |r| r.cpu_us)).collect();
    if let [ours, theirs] = cpu[..] {
        let ratio = theirs / ours;
        println!("  medians: {ours:.1} and {theirs:.1} µs of CPU each, {ratio:.2} times less");
    }
    let kept = servers.iter().zip(&rounds).map(|(server, rounds)| {
        json!({
            "server": server.product.name(), "kind": format!("{kind:?}"), "sessions": sessions, "pipeline": pipeline,
            "per_second": middle(rounds, |r| r.per_second), "cpu_us": middle(rounds, |r| r.cpu_us),
            "p50_us": middle(rounds, |r| r.p50_us), "p99_us": middle(rounds, |r| r.p99_us),
            "errors": rounds.iter().map(|r| r.errors).sum::<u64>(),
        })
    });
    Ok(kept.collect())
}

fn measure(
    server: &Ensemble,
    kind: Kind,
    sessions: usize,
    pipeline: usize,
    seconds: f64,
) -> anyhow::Result<Round> {
    let mut clients = open(server, sessions)?;
    let before = server.cpu();
    let outcome = clients.run(kind, pipeline, Duration::from_secs_f64(seconds))?;
    let used = server.cpu().since(before).total;
    let each = used.as_secs_f64() * 1e6 / outcome.answered.max(1) as f64;
    let rate = outcome.per_second();
    let (p50, p99) = (outcome.quantile(0.5), outcome.quantile(0.99));
    println!(
        "  {:<14} {rate:>9.0}/s  {each:>6.1} µs of CPU each  p50 {p50:>9.1?}  p99 {p99:>9.1?}{}",
        server.product.name(),
        match outcome.failed {
            0 => String::new(),
            n => format!("  ERRORS: {n}"),
        }
    );
    Ok(Round {
        per_second: rate,
        cpu_us: each,
        p50_us: p50.as_secs_f64() * 1e6,
        p99_us: p99.as_secs_f64() * 1e6,
        errors: outcome.failed,
    })
}

fn middle(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    report::median(rounds.iter().map(of).collect())
}

/// What idle sessions cost, and how long one change takes to reach all of them.
fn fan_out(server: &Ensemble, watchers: usize) -> anyhow::Result<Value> {
    let before = server.resident();
    let mut clients = open(server, watchers)?;
    clients.each(Ask::Watch)?;
    let memory = server.resident();
    let each = memory.saturating_sub(before) as f64 / watchers as f64;
    let mut changer = open(server, 1)?;
    let mut times = Vec::new();
    for _ in 0..7 {
        let began = Instant::now();
        changer.each(Ask::Change)?;
        clients.hear_change()?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        clients.each(Ask::Watch)?;
    }
    let middle = report::median(times.clone());
    println!(
        "  {:<14} all told after {middle:.1} ms (median of {times:.0?}); {each:.2} KiB a session, {} MiB in all",
        server.product.name(),
        memory >> 10
    );
    Ok(json!({
        "server": server.product.name(), "watchers": watchers, "told_ms": middle, "kib_each": each, "resident_kib": memory,
    }))
}
