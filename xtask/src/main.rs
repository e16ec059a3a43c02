//! Development tasks: `cargo xtask help` lists them.

mod bench;
mod conformance;
mod docs;
mod faults;
mod project;
mod sim;
mod test;
mod tidy;
mod tools;

use std::process::ExitCode;

use project::Project;

const USAGE: &str = "\
cargo xtask test              everything that must hold: format, lints, tidiness, tests
cargo xtask tidy              the rules that compilers do not check, all faults at once
cargo xtask docs              write docs/configuration.md anew
cargo xtask sim [--quick]     simulate balancing rules; writes target/sim/balance.html
cargo xtask sim cluster [--seeds N]
                              simulate a cluster and what may happen to it
cargo xtask faults [--minutes N] [--nodes 3|5] [--seed S]
                              real nodes, killed, frozen, cut off, short of disk
cargo xtask bench NAME ARGS   run a benchmark of the bench package, in release
cargo xtask conformance NAME  clients and test suites of others against the program";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let project = match Project::find() {
        Ok(project) => project,
        Err(why) => return fail(&why),
    };
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["test"] => test::run(&project),
        ["tidy"] => tidy::run(&project),
        ["docs"] => docs::run(&project),
        ["sim", args @ ..] => sim::run(&project, args),
        ["faults", args @ ..] => faults::run(&project, args),
        ["bench", args @ ..] => bench::run(&project, args),
        ["conformance", args @ ..] => conformance::run(&project, args),
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        other => fail(&format!("no such task: {}\n\n{USAGE}", other.join(" "))),
    }
}

/// Says why, and fails.
fn fail(why: &str) -> ExitCode {
    eprintln!("xtask: {why}");
    ExitCode::FAILURE
}
