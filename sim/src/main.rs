//! Runs simulations from the command line.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use sim::{balance, http};

/// Seeded simulations of pointsman.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Balancing rules, ours and others', in one scenario after another.
    Balance(balance::command::Options),
    /// Whole HTTP sessions through the data plane.
    Http {
        /// How many seeds to run.
        #[arg(long, default_value_t = 1_000)]
        seeds: u64,
        /// The first seed; alone, the only one.
        #[arg(long)]
        seed: Option<u64>,
        /// Print the trace of every run.
        #[arg(long)]
        trace: bool,
        /// Go on after a failure.
        #[arg(long)]
        keep_going: bool,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().what {
        What::Balance(options) => match balance::command::run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("{why:#}");
                ExitCode::FAILURE
            }
        },
        What::Http {
            seeds,
            seed,
            trace,
            keep_going,
        } => sessions(seeds, seed, trace, keep_going),
    }
}

fn sessions(seeds: u64, seed: Option<u64>, trace: bool, keep_going: bool) -> ExitCode {
    let first = seed.unwrap_or(0);
    let count = if seed.is_some() && seeds == 1_000 {
        1
    } else {
        seeds
    };
    let began = Instant::now();
    let mut coverage: BTreeMap<String, u64> = BTreeMap::new();
    let mut failed = 0;
    for seed in first..first + count {
        let report = http::run(seed, trace);
        for (what, times) in report.coverage {
            *coverage.entry(what).or_default() += times;
        }
        report.lines.iter().for_each(|line| println!("{line}"));
        if !report.violations.is_empty() {
            failed += 1;
            complain(seed, &report.violations, trace || keep_going);
            if !keep_going {
                break;
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    for (what, times) in &coverage {
        println!("{times:>10}  {what}");
    }
    println!(
        "{count} seeds, {failed} failed, {:.0} seeds/s",
        count as f64 / seconds
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn complain(seed: u64, violations: &[String], without_trace: bool) {
    if !without_trace {
        // The same seed is the same run: only now is its trace worth keeping.
        http::run(seed, true)
            .lines
            .iter()
            .for_each(|line| println!("{line}"));
    }
    println!("seed {seed}:");
    violations
        .iter()
        .for_each(|violation| println!("  {violation}"));
}
