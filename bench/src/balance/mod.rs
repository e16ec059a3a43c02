//! `balance`: which rule serves more load at the same tail, on real sockets, beside what the simulator says of it.
//!
//! Twenty instances whose capacity is imagined (so that they fit on one core), requests that arrive at random times
//! whatever became of those before (latency counts from when a request was due), the same scenario through each proxy.

mod origins;
mod settings;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use sim::balance::scenario::{Antagonists, Scenario, Window, Work};
use sim::balance::server::Build;
use sim::balance::study::study;

use crate::load::{self, Pace, Plan};
use crate::machine::{self, LOAD_CPU};
use crate::report;
use crate::scratch::Scratch;
use origins::{Origins, WARM_UP};
use settings::{Contender, contenders};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Rounds of each scenario, the contenders in turn; medians are taken of them
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Seconds of a round
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// A short run, to see that everything works
    #[arg(long)]
    quick: bool,
    /// Only scenarios whose name contains this
    #[arg(long, default_value = "")]
    scenario: String,
    /// Also write everything to this file, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Connections of the clients: so many that requests never wait for one.
const CONNECTIONS: usize = 512;

/// What one contender did in one round.
struct Round {
    quantiles: [f64; 3],
    errors: u64,
    spread: f64,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    machine::pin(&[LOAD_CPU])?;
    let scratch = Scratch::new()?;
    let (rounds, seconds) = match options.quick {
        true => (1, 3.0),
        false => (options.rounds, options.seconds),
    };
    println!("balance: latency by rule, on sockets and in the simulator");
    let mut facts: Vec<(&str, String)> = machine::facts();
    let cores = "proxy alone on core 0; origins (imagined capacity) and load generator on core 1";
    facts.push(("placement", cores.into()));
    facts.push((
        "rounds",
        format!("{rounds} of {seconds} s, contenders in turn"),
    ));
    report::print_facts(facts.iter().map(|(name, value)| (*name, &**value)));
    let contenders = contenders();
    let mut measured = Vec::new();
    for scenario in scenarios(seconds) {
        if scenario.name.contains(&options.scenario) {
            measured.push(compare(&scenario, &contenders, rounds, seconds, &scratch)?);
        }
    }
    let measured = json!({ "bench": "balance", "facts": facts, "scenarios": measured });
    report::write(options.json.as_deref(), &measured)
}

/// Scenarios that twenty instances on one core can play: up to some 3,000 requests a second.
fn scenarios(seconds: f64) -> Vec<Scenario> {
    let speeds = [0.5, 1.0, 1.0, 2.0];
    let uneven = (0..20).map(|i| Build::sharing(speeds[i % 4], 1)).collect();
    let equal = vec![Build::sharing(1.0, 1); 20];
    let mixed = (0..20).map(|i| Build::sharing(if i % 2 == 0 { 1.0 } else { 0.6 }, 1));
    let all = [
        Scenario::new(
            "equal",
            "20 equal instances, load 0.85",
            equal,
            0.85,
            seconds,
        ),
        Scenario::new(
            "uneven",
            "20 instances with speeds 1:2:2:4 that nobody is told of, load 0.8",
            uneven,
            0.8,
            seconds,
        ),
        Scenario {
            work: Work::Normal,
            antagonists: Some(Antagonists {
                every: 2.0,
                from: 1.0,
                to: 3.0,
            }),
            ..Scenario::new(
                "antagonists",
                "20 instances, half at 0.6 speed, antagonists leave 1-3 x the allocation; load 1.27",
                mixed.collect(),
                1.27,
                seconds,
            )
        },
    ];
    let warm = WARM_UP.as_secs_f64();
    let played = all.into_iter().map(|scenario| Scenario {
        balancers: 1,
        // Loopback, and a proxy's turn.
        wire: 0.000_05,
        windows: vec![Window {
            name: String::new(),
            from: warm,
            to: warm + seconds,
        }],
        ..scenario
    });
    played.collect()
}

fn compare(
    scenario: &Scenario,
    contenders: &[Contender],
    rounds: u64,
    seconds: f64,
    scratch: &Scratch,
) -> anyhow::Result<Value> {
    println!("\n{}: {}", scenario.name, scenario.about);
    let mut results: Vec<Vec<Round>> = contenders.iter().map(|_| Vec::new()).collect();
    for round in 1..=rounds {
        for (contender, results) in contenders.iter().zip(&mut results) {
            results.push(play(scenario, contender, round, seconds, scratch)?);
        }
    }
    let kinds: Vec<_> = contenders.iter().map(|c| c.kind).collect();
    let simulated = study(std::slice::from_ref(scenario), &kinds, 10).remove(0);
    println!(
        "  {:<30} {:>9} {:>9} {:>9} {:>7} {:>9}   {:>9} {:>9}  {:>8}",
        "", "p50 ms", "p99", "p99.9", "errors", "most/mean", "sim p50", "sim p99", "p99/sim"
    );
    let mut all = Vec::new();
    for ((contender, rounds), cell) in contenders.iter().zip(&results).zip(&simulated) {
        let [p50, p99, p999] =
            [0, 1, 2].map(|q| report::median(rounds.iter().map(|r| r.quantiles[q]).collect()));
        let errors: u64 = rounds.iter().map(|r| r.errors).sum();
        let spread = report::median(rounds.iter().map(|r| r.spread).collect());
        let expected = [cell.estimate(0, |f| f.p50), cell.estimate(0, |f| f.p99)];
        let [sim50, sim99] = expected.map(|e| e.mean);
        println!(
            "  {:<30} {p50:>9.2} {p99:>9.2} {p999:>9.2} {errors:>7} {spread:>9.2}   {sim50:>9.2} {sim99:>9.2}  {:>8.2}",
            contender.name,
            p99 / sim99
        );
        all.push(json!({
            "contender": contender.name, "p50_ms": p50, "p99_ms": p99, "p999_ms": p999,
            "errors": errors, "most_over_mean": spread, "simulated_p50_ms": sim50,
            "simulated_p99_ms": sim99,
        }));
    }
    Ok(json!({ "scenario": scenario.name, "about": scenario.about, "contenders": all }))
}

fn play(
    scenario: &Scenario,
    contender: &Contender,
    seed: u64,
    seconds: f64,
    scratch: &Scratch,
) -> anyhow::Result<Round> {
    let origins = Origins::start(scenario, seed)?;
    let (running, target) = contender.start(scenario, &origins.addresses, scratch)?;
    let rate = scenario.rate() * scenario.load[0].1;
    let ask = |time: Duration| {
        let plan = Plan {
            target,
            connections: CONNECTIONS,
            pipeline: 1,
            pace: Pace::Random(rate, seed),
            time: Some(time),
        };
        load::run(&plan, &mut |out| {
            out.extend_from_slice(b"GET / HTTP/1.1\r\nHost: origin\r\n\r\n");
            true
        })
    };
    ask(WARM_UP)?;
    let before = origins.served();
    let outcome = ask(Duration::from_secs_f64(seconds))?;
    let after = origins.served();
    let served = after
        .iter()
        .zip(before)
        .map(|(after, before)| after - before);
    let served: Vec<f64> = served
        .zip(&scenario.servers)
        .map(|(n, server)| n as f64 / server.speed)
        .collect();
    let mean = served.iter().sum::<f64>() / served.len() as f64;
    drop(running);
    origins.stop()?;
    Ok(Round {
        quantiles: [0.5, 0.99, 0.999].map(|q| millis(&outcome.latency, q)),
        errors: outcome.errors(),
        spread: served.into_iter().fold(0.0, f64::max) / mean,
    })
}

fn millis(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1e6
}
