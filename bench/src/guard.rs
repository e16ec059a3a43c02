//! Whatever ends a benchmark, the processes that it has started end too: a process of its own hears of each of them, and, when
//! it hears nothing any more, kills those that are left.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use rustix::process::Signal;

use crate::{process, usage};

/// What the guard is told by; none if it did not start.
static GUARD: OnceLock<Option<Mutex<ChildStdin>>> = OnceLock::new();

/// A process was started.
pub(crate) fn begun(pid: u32) {
    tell(&format!("+{pid}\n"));
}

/// A process has ended, and its number may be another's soon.
pub(crate) fn ended(pid: u32) {
    tell(&format!("-{pid}\n"));
}

/// A directory is to be removed in the end.
pub(crate) fn scratch(directory: &Path) {
    tell(&format!("{}\n", directory.display()));
}

/// The guard's own program.
pub(crate) fn stand() {
    let (mut left, mut directory) = (BTreeSet::new(), None);
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let pid = line.get(1..).and_then(|pid| pid.parse().ok());
        match (line.as_bytes().first(), pid) {
            (Some(b'+'), Some(pid)) => drop(left.insert(pid)),
            (Some(b'-'), Some(pid)) => drop(left.remove(&pid)),
            _ => directory = Some(line),
        }
    }
    let all: Vec<u32> = left.into_iter().flat_map(usage::tree).collect();
    all.into_iter()
        .for_each(|pid| process::signal(pid, Signal::KILL));
    if let Some(directory) = directory {
        // Gone already if the benchmark has ended by itself.
        let _ = std::fs::remove_dir_all(directory);
    }
}

fn tell(line: &str) {
    let Some(guard) = GUARD.get_or_init(|| start().ok().flatten().map(Mutex::new)) else {
        return;
    };
    if let Ok(mut guard) = guard.lock() {
        // A guard that is gone guards nothing: the benchmark goes on.
        let _ = guard.write_all(line.as_bytes());
    }
}

fn start() -> std::io::Result<Option<ChildStdin>> {
    let mut command = Command::new(std::env::current_exe()?);
    // A group of its own: what interrupts the benchmark does not interrupt its guard.
    command.arg("guard").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    Ok(command.spawn()?.stdin.take())
}
