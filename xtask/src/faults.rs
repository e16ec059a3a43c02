//! `cargo xtask faults [--minutes N | --seconds N] [--nodes 3|5] [--seed S] [--only FAULT] [--hold SECONDS]`.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::fail;
use crate::project::{Project, cargo};
use crate::tools::{self, Tool};

/// What it needs: namespaces, a network between them, disks that have an end.
pub(crate) const TOOLS: &[Tool] = &[
    Tool {
        program: "ip",
        package: "iproute2",
    },
    Tool {
        program: "unshare",
        package: "util-linux",
    },
    Tool {
        program: "mount",
        package: "mount",
    },
];

/// As long as a test has time for: some ten faults.
const BRIEFLY: &[&str] = &["--seconds", "75"];

/// Runs what is asked for.
pub(crate) fn run(project: &Project, args: &[&str]) -> ExitCode {
    let done = tools::ensure(TOOLS).and_then(|()| faults(project, args));
    done.map_or_else(|e| fail(&e), |_| ExitCode::SUCCESS)
}

/// Some faults; why there were none, if the machine cannot have any.
pub(crate) fn briefly(project: &Project) -> Result<Option<String>, String> {
    faults(project, BRIEFLY)
}

fn faults(project: &Project, args: &[&str]) -> Result<Option<String>, String> {
    let target = project.metadata["target_directory"].as_str();
    // Where the test says that it was skipped; cargo passes no more on than whether it failed.
    let skipped = PathBuf::from(target.unwrap_or("target")).join("tmp/faults-skipped");
    let _ = std::fs::remove_file(&skipped);
    let status = cargo()
        .args(["test", "--release", "--package", "pointsman"])
        .args(["--test", "faults", "--"])
        .args(args)
        .current_dir(&project.root)
        .status();
    match status {
        Ok(status) if status.success() => Ok(std::fs::read_to_string(&skipped).ok()),
        Ok(status) => Err(format!("real faults: {status}")),
        Err(e) => Err(format!("cargo does not start: {e}")),
    }
}
