//! How much a second of CPU does, and how long one client waits.

use serde_json::{Map, Value, json};

use super::{Contender, Plan};
use crate::clients::{Ask, Kind, Protocol};
use crate::ensemble::{Ensemble, Product};
use crate::report::{Table, median};

/// What is asked for, and by how many clients.
type Phase = (Kind, usize);

pub(super) const READS: &[Phase] = &[
    (Kind::Get, 16),
    (Kind::Get, 128),
    (Kind::GetLinearizable, 16),
    (Kind::GetLinearizable, 128),
];
pub(super) const WRITES: &[Phase] = &[(Kind::Set, 1), (Kind::Set, 16), (Kind::Set, 128)];

/// What a round has shown.
#[derive(Clone, Copy, Debug)]
struct Round {
    per_second: f64,
    cpu_us: f64,
    p50_us: f64,
    p99_us: f64,
    failed: u64,
}

/// What all rounds of a contender have shown.
struct Result {
    contender: Contender,
    rounds: Vec<Round>,
}

pub(super) fn run(
    contenders: &[Contender],
    ensembles: &[Ensemble],
    plan: &Plan,
    phases: &[Phase],
) -> anyhow::Result<Value> {
    let mut measured = Vec::new();
    let mut warmed = None;
    for &(kind, clients) in phases {
        println!(
            "\n{}, {clients} connection{}",
            title(kind),
            if clients == 1 { "" } else { "s" }
        );
        let able = able(contenders, ensembles, kind)?;
        for contender in able.iter().filter(|_| warmed != Some(kind)) {
            if let Err(reason) = contender.warm(ensembles, kind, plan.warm_up) {
                println!("  {} FAILED to warm up: {reason:#}", contender.name());
            }
        }
        warmed = Some(kind);
        let mut results: Vec<Result> = able.into_iter().map(Result::new).collect();
        for _ in 0..plan.rounds {
            for result in &mut results {
                match round(result.contender, ensembles, plan, (kind, clients)) {
                    Ok(round) => result.rounds.push(round),
                    Err(reason) => {
                        println!("  {} FAILED a round: {reason:#}", result.contender.name());
                    }
                }
            }
        }
        results.retain(|result| !result.rounds.is_empty());
        print(&results);
        results
            .iter()
            .for_each(|ours| compare(ours, &results, (kind, clients)));
        let all = results.iter().map(|r| (r.contender.name(), r.json()));
        measured.push(json!({
            "kind": format!("{kind:?}"), "connections": clients, "results": all.collect::<Map<_, _>>(),
        }));
    }
    Ok(measured.into())
}

fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Get => "local reads",
        Kind::GetLinearizable => "linearizable reads (ZooKeeper's: sync, then get)",
        Kind::Set => "writes, each on a majority's disks before it is answered",
        Kind::Create | Kind::Mixed => "others",
    }
}

/// Those that understand what is asked. Older versions of pointsman's API do not know linearizable reads.
fn able(
    contenders: &[Contender],
    ensembles: &[Ensemble],
    kind: Kind,
) -> anyhow::Result<Vec<Contender>> {
    let mut able = Vec::new();
    for contender in contenders {
        if kind == Kind::GetLinearizable && contender.protocol == Protocol::Native {
            let mut client = contender.open(ensembles, 1)?;
            if let Err(reason) = client.each(Ask::GetLinearizable(0)) {
                println!("  {} is left out: {reason}", contender.name());
                continue;
            }
        }
        able.push(*contender);
    }
    Ok(able)
}

fn round(
    contender: Contender,
    ensembles: &[Ensemble],
    plan: &Plan,
    (kind, count): Phase,
) -> anyhow::Result<Round> {
    let ensemble = contender
        .ensemble(ensembles)
        .expect("contenders are started");
    let mut clients = contender.open(ensembles, count)?;
    let before = ensemble.cpu();
    let outcome = clients.run(kind, 1, plan.time)?;
    let used = ensemble.cpu().since(before).total;
    clients.leave()?;
    Ok(Round {
        per_second: outcome.per_second(),
        cpu_us: used.as_secs_f64() * 1e6 / outcome.answered.max(1) as f64,
        p50_us: outcome.quantile(0.5).as_secs_f64() * 1e6,
        p99_us: outcome.quantile(0.99).as_secs_f64() * 1e6,
        failed: outcome.failed,
    })
}

fn print(results: &[Result]) {
    let mut table = Table::new(&["", "a second", "CPU µs each", "p50 µs", "p99 µs", ""]);
    for result in results {
        let failed: u64 = result.rounds.iter().map(|round| round.failed).sum();
        let cell = |of: fn(&Round) -> f64, digits| format!("{:.*}", digits, result.median(of));
        table.row(vec![
            result.contender.name(),
            cell(|r| r.per_second, 0),
            cell(|r| r.cpu_us, 1),
            cell(|r| r.p50_us, 0),
            cell(|r| r.p99_us, 0),
            if failed > 0 {
                format!("ERRORS: {failed}")
            } else {
                String::new()
            },
        ]);
    }
    table.print();
}

/// Ours beside each of the others', and what we aim for.
fn compare(ours: &Result, all: &[Result], (kind, clients): Phase) {
    if ours.contender.product != Product::Pointsman {
        return;
    }
    for theirs in all {
        let product = theirs.contender.product;
        let target = match (kind, product) {
            (Kind::Set, Product::Etcd) => 2.5,
            (Kind::Set, Product::ZooKeeper) => 2.0,
            (Kind::GetLinearizable, Product::Etcd) | (Kind::Get, Product::ZooKeeper) => 3.0,
            _ => continue,
        };
        let more = theirs.median(|r| r.cpu_us) / ours.median(|r| r.cpu_us);
        let (name, other) = (ours.contender.name(), theirs.contender.name());
        print!("  {name}: {more:.1} × {other} for a second of CPU (target ≥ {target})");
        if kind == Kind::Set && clients == 1 {
            let latency = ours.median(|r| r.p50_us) / theirs.median(|r| r.p50_us);
            print!(", {latency:.2} of its latency (target ≤ 0.7)");
        }
        println!();
    }
}

impl Result {
    fn new(contender: Contender) -> Self {
        Self {
            contender,
            rounds: Vec::new(),
        }
    }

    fn median(&self, of: fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(of).collect())
    }

    fn json(&self) -> Value {
        let round = |r: &Round| {
            json!({
                "per_second": r.per_second, "cpu_us": r.cpu_us, "p50_us": r.p50_us, "p99_us": r.p99_us,
                "failed": r.failed,
            })
        };
        json!({
            "per_second": self.median(|r| r.per_second), "cpu_us": self.median(|r| r.cpu_us),
            "p50_us": self.median(|r| r.p50_us), "p99_us": self.median(|r| r.p99_us),
            "rounds": self.rounds.iter().map(round).collect::<Vec<_>>(),
        })
    }
}
