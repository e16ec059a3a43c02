//! `cargo xtask sim [--quick]`, `cargo xtask sim cluster [--seeds N|FIRST..END | --seed SEED]`.

use std::process::ExitCode;

use crate::fail;
use crate::project::{Project, cargo};

const PACKAGE: &str = "pointsman-sim";

/// How many seeds a cluster is simulated with unless told otherwise.
const SEEDS: &str = "1000";

/// Runs what is asked for.
pub(crate) fn run(project: &Project, args: &[&str]) -> ExitCode {
    let seeds =
        |seeds: &str| cluster(project, seeds).map_or_else(|e| fail(&e), |()| ExitCode::SUCCESS);
    match args {
        ["cluster"] => seeds(&format!("0..{SEEDS}")),
        ["cluster", "--seeds", range] if range.contains("..") => seeds(range),
        ["cluster", "--seeds", count] => seeds(&format!("0..{count}")),
        ["cluster", "--seed", seed] => seeds(seed),
        ["cluster", ..] => fail(
            "cargo xtask sim cluster [--seeds N|FIRST..END | --seed SEED]: the last tells what happens",
        ),
        _ => balance(project, args),
    }
}

/// Simulates a cluster and its misfortunes. The simulation is a test of the crate: it needs disks that fail.
fn cluster(project: &Project, seeds: &str) -> Result<(), String> {
    let status = cargo()
        .args([
            "test",
            "--release",
            "--package",
            "pointsman-cluster",
            "--lib",
        ])
        .args(["simulation", "--", "--nocapture"])
        .env("SIMULATE", seeds)
        .current_dir(&project.root)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the simulation failed: {status}")),
        Err(e) => Err(format!("cargo does not start: {e}")),
    }
}

/// A cluster, with as many seeds as tests have time for.
pub(crate) fn cluster_briefly(project: &Project) -> Result<(), String> {
    cluster(project, "0..500")
}

/// Simulates balancing rules, prints the tables and writes the report below `target`.
fn balance(project: &Project, args: &[&str]) -> ExitCode {
    let directory = project.root.join("target/sim");
    if let Err(e) = std::fs::create_dir_all(&directory) {
        return fail(&format!("cannot make {}: {e}", directory.display()));
    }
    let report = directory.join("balance.html");
    let status = cargo()
        .args(["run", "--release", "--package", PACKAGE, "--", "balance"])
        .args(args)
        .arg("--html")
        .arg(report)
        .current_dir(&project.root)
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => fail(&format!("the simulation failed: {status}")),
        Err(e) => fail(&format!("cargo does not start: {e}")),
    }
}
