//! `cargo xtask bench NAME ARGS`.

use std::process::ExitCode;

use crate::fail;
use crate::project::{Project, cargo, items};

const PACKAGE: &str = "pointsman-bench";

/// Runs a benchmark. The names that the bench package knows stand in its manifest:
/// `[package.metadata.pointsman] benches = ["…"]`.
pub(crate) fn run(project: &Project, args: &[&str]) -> ExitCode {
    let Some(package) = project.member(PACKAGE) else {
        return fail(&format!("the workspace has no package {PACKAGE}"));
    };
    let names: Vec<&str> = items(&package["metadata"]["pointsman"]["benches"])
        .filter_map(|name| name.as_str())
        .collect();
    let known = names.join(", ");
    let Some(name) = args.first() else {
        return fail(&format!("which benchmark? There are {known}"));
    };
    if !names.contains(name) {
        return fail(&format!("there is no benchmark {name}; there are {known}"));
    }
    let status = cargo()
        .args(["run", "--release", "--package", PACKAGE, "--"])
        .args(args)
        .current_dir(&project.root)
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => fail(&format!("the benchmark failed: {status}")),
        Err(e) => fail(&format!("cargo does not start: {e}")),
    }
}
