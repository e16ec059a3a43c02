//! Real nodes, and what happens to them: killed, frozen, cut off, in one direction only too, short of disk. Meanwhile clients
//! write, read, hold leases and sessions, and send requests through whichever nodes they reach. `cargo xtask faults` runs it;
//! what happens, and when, is the seed's.
//!
//! Every node is in a network namespace of its own, with a disk of its own; the program, all its namespaces and mounts are in
//! another set, which goes with it. So it takes root, or a system that lets users have namespaces, and leaves nothing behind.

#[path = "../harness/mod.rs"]
mod harness;

mod caller;
mod cells;
mod fault;
mod ground;
mod histories;
mod leases;
mod nodes;
mod pulse;
mod registers;
mod report;
mod run;
mod traffic;

use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "cargo xtask faults [--minutes N | --seconds N] [--nodes 3|5] [--seed S] [--only FAULT] [--hold SECONDS]";

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// How long faults go on.
    time: Duration,
    nodes: usize,
    seed: u64,
    /// Only faults whose names have this in them.
    only: Option<String>,
    /// For how many seconds each lasts; otherwise the seed says it.
    hold: Option<u64>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(mut asked) = read(&args) else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    if !ground::is_entered() {
        // Drawn outside, so that it is known whatever happens inside.
        if asked.seed == 0 {
            asked.seed = u64::from(std::process::id()) + 1;
        }
        return ground::enter(&asked);
    }
    run::run(&asked)
}

fn read(args: &[String]) -> Option<Asked> {
    let mut asked = Asked {
        time: Duration::from_secs(60),
        nodes: 3,
        seed: 0,
        only: None,
        hold: None,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let value = args.next()?;
        match arg.as_str() {
            "--minutes" => asked.time = Duration::from_secs(60 * value.parse::<u64>().ok()?),
            "--seconds" => asked.time = Duration::from_secs(value.parse().ok()?),
            "--nodes" => asked.nodes = value.parse().ok().filter(|n| [3, 5].contains(n))?,
            "--seed" => asked.seed = value.parse().ok()?,
            "--hold" => asked.hold = Some(value.parse().ok()?),
            "--only" => asked.only = Some(value.clone()),
            _ => return None,
        }
    }
    Some(asked)
}

impl Asked {
    fn args(&self) -> Vec<String> {
        let mut args = vec![
            "--seconds".into(),
            self.time.as_secs().to_string(),
            "--nodes".into(),
            self.nodes.to_string(),
            "--seed".into(),
            self.seed.to_string(),
        ];
        if let Some(only) = &self.only {
            args.extend(["--only".into(), only.clone()]);
        }
        if let Some(hold) = self.hold {
            args.extend(["--hold".into(), hold.to_string()]);
        }
        args
    }
}
