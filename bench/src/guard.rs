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
    let left = left(std::io::stdin().lines().map_while(Result::ok));
    let all: Vec<u32> = left.processes.into_iter().flat_map(usage::tree).collect();
    all.into_iter()
        .for_each(|pid| process::signal(pid, Signal::KILL));
    if let Some(directory) = left.directory {
        // Gone already if the benchmark has ended by itself.
        let _ = std::fs::remove_dir_all(directory);
    }
}

/// What a benchmark has left behind.
#[derive(Debug, Default, PartialEq, Eq)]
struct Left {
    processes: BTreeSet<u32>,
    directory: Option<String>,
}

/// Listens to all that is told.
fn left(told: impl Iterator<Item = String>) -> Left {
    let mut left = Left::default();
    for line in told {
        match (
            line.get(..1),
            line.get(1..).and_then(|pid| pid.parse().ok()),
        ) {
            (Some("+"), Some(pid)) => drop(left.processes.insert(pid)),
            (Some("-"), Some(pid)) => drop(left.processes.remove(&pid)),
            (Some("/"), _) => left.directory = Some(line),
            _ => {}
        }
    }
    left
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_not_ended_is_left() {
        let told = ["/tmp/scratch", "+12", "+13", "-12", "+14", "", "+1x"];
        let right = Left {
            processes: [13, 14].into(),
            directory: Some("/tmp/scratch".into()),
        };
        assert_eq!(left(told.into_iter().map(Into::into)), right);
    }
}
