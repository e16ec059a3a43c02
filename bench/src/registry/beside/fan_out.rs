//! One change, and many who watch it, each over a connection of its own, spread over all nodes.

use std::time::Instant;

use serde_json::{Value, json};

use super::{Contender, Plan};
use crate::clients::Ask;
use crate::ensemble::Ensemble;
use crate::machine;
use crate::report::{Table, quantile};
use crate::usage::Cpu;

/// Descriptors that are needed besides those of watchers.
const OTHERS: u64 = 2_000;

pub(super) fn run(
    contenders: &[Contender],
    ensembles: &[Ensemble],
    plan: &Plan,
) -> anyhow::Result<Value> {
    let mut measured = Vec::new();
    // The most first: of memory, only what is taken for the first time is seen.
    for count in plan.watchers.iter().rev().copied() {
        println!("\none change to {count} watchers");
        let allowed = allow(count)?;
        if allowed < count {
            println!("  left out: open descriptors allow no more than {allowed} (ulimit -Hn)");
            continue;
        }
        let mut table = Table::new(&[
            "",
            "all told after ms, median",
            "worst",
            "server CPU µs a watcher",
            "clients' CPU",
            "KiB of memory a watcher",
        ]);
        for contender in contenders {
            match fan_out(*contender, ensembles, count, plan.changes) {
                Ok(outcome) => {
                    table.row(outcome.row(contender.name()));
                    measured.push(outcome.json(&contender.name()));
                }
                Err(reason) => println!("  {} FAILED: {reason:#}", contender.name()),
            }
        }
        table.print();
        if count >= 100_000 {
            println!("  target: ≤ 500 ms");
        }
    }
    Ok(measured.into())
}

/// Allows as many connections, if that can be; returns how many there may be.
pub(super) fn allow(watchers: usize) -> anyhow::Result<usize> {
    let descriptors = machine::allow_descriptors(watchers as u64 + OTHERS)?;
    Ok(descriptors.saturating_sub(OTHERS) as usize)
}

struct Outcome {
    watchers: usize,
    told_ms: Vec<f64>,
    server_us: f64,
    clients_us: f64,
    kib: f64,
}

fn fan_out(
    contender: Contender,
    ensembles: &[Ensemble],
    watchers: usize,
    changes: usize,
) -> anyhow::Result<Outcome> {
    let ensemble = contender
        .ensemble(ensembles)
        .expect("contenders are started");
    let before = ensemble.resident();
    let mut clients = contender.open(ensembles, watchers)?;
    clients.each(Ask::Watch)?;
    let kib = ensemble.resident().saturating_sub(before) as f64 / watchers as f64;
    let mut changer = contender.open(ensembles, 1)?;
    let (mut told_ms, mut server, mut own) = (Vec::new(), Cpu::default(), Cpu::default());
    for _ in 0..changes {
        let (used, spent) = (ensemble.cpu(), Cpu::of_one(std::process::id()));
        let began = Instant::now();
        changer.each(Ask::Change)?;
        clients.hear_change()?;
        told_ms.push(began.elapsed().as_secs_f64() * 1e3);
        server = server + ensemble.cpu().since(used);
        own = own + Cpu::of_one(std::process::id()).since(spent);
        if contender.protocol.watches_once() {
            clients.each(Ask::Watch)?;
        }
    }
    changer.leave()?;
    clients.leave()?;
    let each = |cpu: Cpu| cpu.total.as_secs_f64() * 1e6 / (watchers * changes) as f64;
    Ok(Outcome {
        watchers,
        told_ms,
        server_us: each(server),
        clients_us: each(own),
        kib,
    })
}

impl Outcome {
    fn row(&self, name: String) -> Vec<String> {
        let at = |q| format!("{:.1}", quantile(self.told_ms.clone(), q));
        vec![
            name,
            at(0.5),
            at(1.0),
            format!("{:.1}", self.server_us),
            format!("{:.1}", self.clients_us),
            format!("{:.2}", self.kib),
        ]
    }

    fn json(&self, name: &str) -> Value {
        json!({
            "contender": name, "watchers": self.watchers, "told_ms": self.told_ms,
            "server_us_each": self.server_us, "clients_us_each": self.clients_us, "kib_each": self.kib,
        })
    }
}
