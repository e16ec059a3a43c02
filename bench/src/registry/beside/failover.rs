//! The leader is killed; how long until somebody's write is acknowledged again.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::{Contender, Plan};
use crate::clients::{Ask, Clients, Protocol};
use crate::ensemble::Ensemble;
use crate::report::{Table, quantile};
use crate::scratch::Scratch;

/// How often somebody begins to write, by turns at each node that is left, whatever became of the writes before: some may be lost
/// that were passed on to a leader that is dead already.
const EVERY: Duration = Duration::from_millis(10);
/// As many as there need be so that each has its turn again when it gives up.
const WRITERS: u32 = 50;
/// How long a writer waits for an answer: `EVERY` times `WRITERS`.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between one and the next, so that a node that starts takes no time from another's election.
const REST: Duration = Duration::from_secs(1);
/// How long there may be no leader.
const LONGEST: Duration = Duration::from_secs(60);

pub(super) fn run(
    contenders: &[Contender],
    ensembles: &mut [Ensemble],
    plan: &Plan,
    scratch: &Scratch,
) -> Value {
    println!("\nkill -9 of the leader until the next write is acknowledged");
    let mut all: Vec<(Contender, Vec<f64>)> = contenders.iter().map(|c| (*c, Vec::new())).collect();
    for _ in 0..plan.kills {
        for (contender, times) in &mut all {
            let ensemble = ensembles
                .iter_mut()
                .find(|e| e.product == contender.product);
            let ensemble = ensemble.expect("contenders are started");
            match kill(ensemble, contender.protocol, scratch) {
                Ok(time) => times.push(time.as_secs_f64() * 1e3),
                Err(reason) => println!("  {} FAILED: {reason:#}", contender.name()),
            }
        }
    }
    let mut table = Table::new(&["", "median ms", "p99", "least", "kills"]);
    let mut measured = Map::new();
    for (contender, times) in all {
        let at = |q| format!("{:.0}", quantile(times.clone(), q));
        let kills = times.len().to_string();
        table.row(vec![contender.name(), at(0.5), at(0.99), at(0.0), kills]);
        measured.insert(contender.name(), json!(times));
    }
    table.print();
    println!("  target: median ≤ 200 ms, p99 ≤ 500 ms");
    measured.into()
}

/// Kills the leader once, and makes the ensemble whole again.
fn kill(
    ensemble: &mut Ensemble,
    protocol: Protocol,
    scratch: &Scratch,
) -> anyhow::Result<Duration> {
    std::thread::sleep(REST);
    let leader = ensemble.leader().context("nobody leads")?;
    let mut left = ensemble.addresses(protocol);
    left.remove(leader);
    let (acknowledged, news) = channel();
    let (begin, over) = (Barrier::new(WRITERS as usize + 1), AtomicBool::new(false));
    let outcome = std::thread::scope(|scope| {
        for number in 0..WRITERS {
            let (address, acknowledged) =
                (left[number as usize % left.len()], acknowledged.clone());
            let (begin, over) = (&begin, &over);
            scope.spawn(move || {
                // Connected long before, as clients are.
                let client = open(protocol, address).ok();
                begin.wait();
                begin.wait();
                if let Some(at) = write(client, protocol, address, number, over) {
                    // Only the first is listened to.
                    let _ = acknowledged.send(at);
                }
            });
        }
        begin.wait();
        let began = Instant::now();
        let killed = ensemble.kill(leader);
        // Whoever writes from now on writes to what is left.
        begin.wait();
        let first = news.recv_timeout(LONGEST);
        over.store(true, Relaxed);
        killed?;
        let first = first.context("no write was acknowledged any more")?;
        Ok(first - began)
    });
    ensemble.restart(leader, scratch)?;
    ensemble.wait()?;
    outcome
}

fn open(protocol: Protocol, address: SocketAddr) -> anyhow::Result<Clients> {
    Clients::open_within(PATIENCE, protocol, &[address], 1)
}

/// Writes, whenever it is this writer's turn, until one is acknowledged, this one's or another's.
fn write(
    mut client: Option<Clients>,
    protocol: Protocol,
    address: SocketAddr,
    number: u32,
    over: &AtomicBool,
) -> Option<Instant> {
    let mut turn = Instant::now() + EVERY * number;
    loop {
        std::thread::sleep(turn.saturating_duration_since(Instant::now()));
        if over.load(Relaxed) {
            return None;
        }
        let begun = client.take().filter(Clients::is_open);
        let mut open = begun.or_else(|| open(protocol, address).ok());
        if open.as_mut().is_some_and(|c| c.each(Ask::Set(0)).is_ok()) {
            return Some(Instant::now());
        }
        while turn < Instant::now() {
            turn += PATIENCE;
        }
    }
}
