//! Runs fuzz targets on any toolchain: mutates seeds, each input from a number alone.

use std::panic::catch_unwind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use fuzz::{TARGETS, Target, mutate};

/// Runs fuzz targets over mutated seeds until one breaks a promise.
#[derive(Parser)]
struct Arguments {
    /// Only this target; all of them otherwise
    #[arg(long)]
    target: Option<String>,
    /// Inputs for each target
    #[arg(long, default_value_t = 100_000)]
    iterations: u64,
    /// Seconds for all targets together, in the place of a number of inputs
    #[arg(long, conflicts_with = "iterations")]
    seconds: Option<u64>,
    /// The number of the first input; the others follow
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The directory that has a directory of seeds for each target
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/seeds"), hide_default_value = true)]
    seeds: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let wanted = |target: &&Target| arguments.target.as_ref().is_none_or(|t| t == target.name);
    let targets: Vec<_> = TARGETS.iter().filter(wanted).collect();
    if targets.is_empty() {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("no such target; there are: {}", names.join(", "));
        return ExitCode::from(2);
    }
    let share = |seconds| Duration::from_secs(seconds) / targets.len() as u32;
    let time = arguments.seconds.map(share);
    for target in targets {
        match run(target, &arguments, time) {
            Ok(count) => println!("{}: {count} inputs, no promise broken", target.name),
            Err(message) => {
                eprintln!("{message}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Returns how many inputs the target has had.
fn run(target: &Target, arguments: &Arguments, time: Option<Duration>) -> Result<u64, String> {
    let dir = arguments.seeds.join(target.name);
    let seeds = mutate::read_seeds(&dir)
        .map_err(|e| format!("cannot read the seeds in {}: {e}", dir.display()))?;
    let began = Instant::now();
    let goes_on = |count| match time {
        Some(time) => began.elapsed() < time,
        None => count < arguments.iterations,
    };
    let mut count = 0;
    while goes_on(count) {
        let number = arguments.seed.wrapping_add(count);
        let input = mutate::input(&seeds, target.tokens, number);
        if catch_unwind(|| (target.run)(&input)).is_err() {
            return Err(format!(
                "{name} panicked on input {number}: --target {name} --seed {number} --iterations 1\nb\"{input}\"",
                name = target.name,
                input = input.escape_ascii(),
            ));
        }
        count += 1;
    }
    Ok(count)
}
