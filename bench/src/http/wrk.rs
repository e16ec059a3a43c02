//! wrk, the load generator that the field knows.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, ensure};

use super::case::Case;

/// What a run of wrk came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) requests: u64,
    /// Broken connections, timeouts, and answers that are not 2xx or 3xx.
    pub(super) errors: u64,
}

/// Its version, if it is there.
pub(super) fn version() -> Option<String> {
    let output = Command::new("wrk").arg("-v").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(Into::into)
}

/// Runs it from where we run ourselves.
pub(super) fn run(case: &Case, target: SocketAddr, tls: bool, seconds: f64) -> anyhow::Result<Run> {
    let scheme = if tls { "https" } else { "http" };
    let mut command = Command::new("wrk");
    let seconds = seconds.ceil().max(1.0);
    command.args([
        "-t1",
        &format!("-c{}", case.connections),
        &format!("-d{seconds}s"),
    ]);
    if case.close {
        command.args(["-H", "Connection: close"]);
    }
    let output = command
        .arg(format!("{scheme}://{target}{}", case.path()))
        .output()
        .context("wrk does not start")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "wrk failed with {}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    read(&text).with_context(|| format!("wrk printed what we do not understand: {text}"))
}

/// Reads what it prints: `123 requests in 1.00s, …`, and if there are any, `Socket errors: connect 0, read 1, …` and
/// `Non-2xx or 3xx responses: 5`.
fn read(text: &str) -> Option<Run> {
    let line = |mark| text.lines().find(|line| line.contains(mark));
    let requests = line(" requests in ")?
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    let numbers = |line: &str| -> u64 {
        let (_, values) = line.split_once(':').unwrap_or_default();
        let words = values.split([' ', ',']);
        words.filter_map(|word| word.parse::<u64>().ok()).sum()
    };
    let errors = [line("Socket errors:"), line("Non-2xx")];
    Some(Run {
        requests,
        errors: errors.into_iter().flatten().map(numbers).sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_errors_are_read() {
        let clean =
            "Running 1s test\n  12345 requests in 1.00s, 9.5MB read\nRequests/sec: 12345.00\n";
        let run = |requests, errors| Some(Run { requests, errors });
        assert_eq!(read(clean), run(12_345, 0));
        let broken = format!(
            "{clean}  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 90\n"
        );
        assert_eq!(read(&broken), run(12_345, 100));
        assert_eq!(read("unable to connect"), None);
    }
}
