//! `cargo xtask sim [--quick]`.

use std::process::ExitCode;

use crate::fail;
use crate::project::{Project, cargo};

const PACKAGE: &str = "pointsman-sim";

/// Simulates balancing rules, prints the tables and writes the report below `target`.
pub(crate) fn run(project: &Project, args: &[&str]) -> ExitCode {
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
