//! h2load, the load generator of nghttp2.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, ensure};

use super::case::Case;

/// Requests at a time on each connection.
pub(super) const STREAMS: usize = 32;

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) requests: u64,
    /// Broken connections, timeouts, and answers that are not 2xx or 3xx.
    pub(super) errors: u64,
}

/// Its version, if it is there.
pub(super) fn version() -> Option<String> {
    let output = Command::new("h2load").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(Into::into)
}

/// Runs it from where we run ourselves.
pub(super) fn run(case: &Case, target: SocketAddr, seconds: f64) -> anyhow::Result<Run> {
    let seconds = seconds.ceil().max(1.0);
    let output = Command::new("h2load")
        .args(["-t1", &format!("-c{}", case.connections)])
        .args([&format!("-m{STREAMS}"), &format!("-D{seconds}")])
        .arg(format!("http://{target}/{}", case.size))
        .output()
        .context("h2load does not start (apt install nghttp2-client)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "h2load failed with {}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    read(&text).with_context(|| format!("h2load printed what we do not understand: {text}"))
}

/// Reads `requests: 100 total, 101 started, 100 done, 97 succeeded, 3 failed, 2 errored, 1 timeout`. Those that errored or
/// timed out are among those that failed.
fn read(text: &str) -> Option<Run> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("requests: "))?;
    let number = |what: &str| -> Option<u64> {
        let part = line.split(", ").find(|part| part.ends_with(what))?;
        part.split(' ').next()?.parse().ok()
    };
    Some(Run {
        requests: number(" succeeded")?,
        errors: number(" failed")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_errors_are_read() {
        let text = "finished in 1.00s, 97.00 req/s, 1MB/s\nrequests: 100 total, 101 started, 100 done, \
                    97 succeeded, 3 failed, 2 errored, 1 timeout\nstatus codes: 97 2xx\n";
        let run = Run {
            requests: 97,
            errors: 3,
        };
        assert_eq!(read(text), Some(run));
        assert_eq!(read("unable to connect"), None);
    }
}
