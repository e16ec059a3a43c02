//! `cargo xtask test`: everything that must hold, step by step.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::conformance;
use crate::faults;
use crate::project::{Project, cargo, items};
use crate::sim;
use crate::tidy;
use crate::tools::{self, Tool};

/// One thing that must hold.
struct Step {
    name: &'static str,
    /// What it needs beyond the Rust toolchain.
    needs: &'static [Tool],
    only: Only,
    run: Run,
}

/// When there is such a step at all.
enum Only {
    Always,
    /// The workspace has this package.
    Package(&'static str),
    /// The package has this test target. In its manifest it has `test = false`, so that `cargo test
    /// --workspace` leaves it to its own step.
    TestTarget(&'static str, &'static str),
}

enum Run {
    /// cargo with these arguments.
    Cargo(&'static [&'static str]),
    /// A function of the project.
    Task(fn(&Project) -> Result<(), String>),
    /// The same, which may find that the machine cannot do it, and says why.
    IfPossible(fn(&Project) -> Result<Option<String>, String>),
    Tidy,
}

/// To add a step, add a line here: the name, what must be installed, when there is such a step, what is run.
const STEPS: &[Step] = &[
    step(
        "format",
        Only::Always,
        Run::Cargo(&["fmt", "--all", "--check"]),
    ),
    step(
        "lints",
        Only::Always,
        Run::Cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            // Those too that are steps of their own (`test = false`), which all targets do not mean.
            "--test",
            "*",
            "--",
            "-D",
            "warnings",
        ]),
    ),
    step("tidiness", Only::Always, Run::Tidy),
    step("tests", Only::Always, Run::Cargo(&["test", "--workspace"])),
    step(
        "simulation sweep",
        Only::Package("pointsman-sim"),
        Run::Cargo(&[
            "run",
            "--release",
            "--package",
            "pointsman-sim",
            "--",
            "http",
            "--seeds",
            "2000",
        ]),
    ),
    step(
        "simulation of balancing",
        Only::Package("pointsman-sim"),
        Run::Cargo(&[
            "run",
            "--release",
            "--package",
            "pointsman-sim",
            "--",
            "balance",
            "--check",
        ]),
    ),
    step(
        "simulation of a cluster",
        Only::Package("pointsman-cluster"),
        Run::Task(sim::cluster_briefly),
    ),
    step(
        "fuzzing, briefly",
        Only::Package("pointsman-fuzz"),
        Run::Cargo(&[
            "run",
            "--release",
            "--package",
            "pointsman-fuzz",
            "--",
            "--seconds",
            "30",
        ]),
    ),
    Step {
        name: "survival",
        needs: &[
            Tool {
                program: "nginx",
                package: "nginx",
            },
            Tool {
                program: "python3",
                package: "python3-minimal",
            },
            Tool {
                program: "wrk",
                package: "wrk",
            },
            Tool {
                program: "faketime",
                package: "faketime",
            },
        ],
        only: Only::TestTarget("pointsman", "survival"),
        // In release, as users run it; one at a time, for each takes both cores to their limit. What it measured, and the
        // seed of what was random, are worth reading.
        run: Run::Cargo(&[
            "test",
            "--release",
            "--package",
            "pointsman",
            "--test",
            "survival",
            "--",
            "--nocapture",
            "--test-threads=1",
        ]),
    },
    Step {
        name: "real faults, briefly",
        needs: faults::TOOLS,
        only: Only::TestTarget("pointsman", "faults"),
        run: Run::IfPossible(faults::briefly),
    },
    Step {
        name: "real databases",
        needs: &[
            Tool {
                program: "pg_ctlcluster",
                package: "postgresql",
            },
            Tool {
                program: "redis-server",
                package: "redis-server",
            },
            Tool {
                program: "redis-benchmark",
                package: "redis-tools",
            },
            Tool {
                program: "mariadbd",
                package: "mariadb-server",
            },
            Tool {
                program: "iperf3",
                package: "iperf3",
            },
        ],
        only: Only::TestTarget("pointsman", "databases"),
        run: Run::Cargo(&[
            "test",
            "--package",
            "pointsman",
            "--test",
            "databases",
            "--",
            "--nocapture",
            "--test-threads=2",
        ]),
    },
    Step {
        name: "beside a real ZooKeeper",
        needs: conformance::ZOOKEEPER,
        only: Only::Package("pointsman-zookeeper"),
        run: Run::Task(conformance::briefly),
    },
    step(
        "the demo, checking itself",
        Only::Package("pointsman"),
        Run::Cargo(&[
            "run",
            "--release",
            "--package",
            "pointsman",
            "--",
            "demo",
            "--check",
            "--listen",
            "127.0.0.1:0",
            "--api",
            "127.0.0.1:0",
        ]),
    ),
];

const fn step(name: &'static str, only: Only, run: Run) -> Step {
    Step {
        name,
        needs: &[],
        only,
        run,
    }
}

/// How a step went.
enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

/// Runs every step, those after a failed one too, and says how each went.
pub(crate) fn run(project: &Project) -> ExitCode {
    let strict = std::env::var("CI").is_ok_and(|ci| ci == "true" || ci == "1");
    let mut results = Vec::new();
    for step in STEPS.iter().filter(|step| exists(project, &step.only)) {
        println!("\n==> {}", step.name);
        let start = Instant::now();
        let outcome = match tools::ensure(step.needs) {
            Ok(()) => perform(project, &step.run),
            Err(why) if strict => {
                Outcome::Failed(format!("{why}, and with CI=true nothing is skipped"))
            }
            Err(why) => Outcome::Skipped(why),
        };
        let took = start.elapsed();
        println!("{}", line(step.name, &outcome, took));
        results.push((step.name, outcome, took));
    }
    println!();
    for (name, outcome, took) in &results {
        println!("{}", line(name, outcome, *took));
    }
    match results
        .iter()
        .any(|(_, outcome, _)| matches!(outcome, Outcome::Failed(_)))
    {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn exists(project: &Project, only: &Only) -> bool {
    match only {
        Only::Always => true,
        Only::Package(name) => project.member(name).is_some(),
        Only::TestTarget(package, name) => project.member(package).is_some_and(|package| {
            items(&package["targets"]).any(|t| t["kind"][0] == "test" && t["name"] == *name)
        }),
    }
}

fn perform(project: &Project, run: &Run) -> Outcome {
    let args = match run {
        Run::Cargo(args) => args,
        Run::Task(task) => {
            return match task(project) {
                Ok(()) => Outcome::Passed,
                Err(why) => Outcome::Failed(why),
            };
        }
        Run::IfPossible(task) => {
            return match task(project) {
                Ok(None) => Outcome::Passed,
                Ok(Some(why)) => Outcome::Skipped(why),
                Err(why) => Outcome::Failed(why),
            };
        }
        Run::Tidy => {
            return match tidy::report(project) {
                0 => Outcome::Passed,
                n => Outcome::Failed(format!("{n} faults")),
            };
        }
    };
    if let Some(component) = missing_component(args[0]) {
        return Outcome::Failed(format!(
            "{component} is missing: rustup component add {component}"
        ));
    }
    match cargo().args(*args).current_dir(&project.root).status() {
        Ok(status) if status.success() => Outcome::Passed,
        Ok(status) => Outcome::Failed(format!("cargo {}: {status}", args.join(" "))),
        Err(e) => Outcome::Failed(format!("cargo does not start: {e}")),
    }
}

/// The toolchain's component that a cargo command comes from, if it is not there and rustup cannot add it.
fn missing_component(command: &str) -> Option<&'static str> {
    let component = match command {
        "fmt" => "rustfmt",
        "clippy" => "clippy",
        _ => return None,
    };
    let works = |mut probe: Command| probe.output().is_ok_and(|o| o.status.success());
    let version = || {
        let mut probe = cargo();
        probe.args([command, "--version"]);
        probe
    };
    let mut add = Command::new("rustup");
    add.args(["component", "add", component]);
    let there = works(version()) || (works(add) && works(version()));
    (!there).then_some(component)
}

fn line(name: &str, outcome: &Outcome, took: Duration) -> String {
    let (word, why) = match outcome {
        Outcome::Passed => ("passed", String::new()),
        Outcome::Failed(why) => ("FAILED", format!(": {why}")),
        Outcome::Skipped(why) => ("skipped", format!(": {why}")),
    };
    format!("{word:<8}{name:<34}{:>7.1} s{why}", took.as_secs_f64())
}
