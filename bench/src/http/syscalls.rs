//! System calls a request, counted by strace.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::Bench;
use super::case::Case;
use crate::load::{self, Pace, Plan};
use crate::process::interrupt;
use crate::report::Table;
use crate::usage;

/// Two reads, two sends, and a share of waiting.
const TARGET: f64 = 4.2;

/// Enough that opening 64 connections on both sides does not show: 10 calls each in 20,000 × 4.
const REQUESTS: usize = 20_000;

impl Bench {
    /// Counts each contender's system calls at 64 connections, if strace is there.
    pub(super) fn syscalls(&self) -> anyhow::Result<Value> {
        println!("\nsystem calls a request, 64 connections, 128 B");
        if Command::new("strace").arg("-V").output().is_err() {
            println!("  not counted: strace is not there");
            return Ok(Value::Null);
        }
        let mut table = Table::new(&["", "calls", "most frequent"]);
        let mut rows = Vec::new();
        for contender in self.contenders.iter().filter(|c| !c.only_large && !c.floor) {
            let process = contender.start(&self.scratch)?;
            let report = self
                .scratch
                .path()
                .join(format!("{}.strace", contender.name));
            let pids: Vec<String> = usage::tree(process.pid())
                .iter()
                .map(|pid| format!("-p{pid}"))
                .collect();
            let mut strace = Command::new("strace")
                .args(["-c", "-f", "-U", "calls,name", "-o"])
                .arg(&report)
                .args(&pids)
                .stderr(Stdio::null())
                .spawn()?;
            // Attaching to a handful of threads takes milliseconds.
            std::thread::sleep(Duration::from_millis(500));
            let answered = requests(contender.address)?;
            interrupt(&strace);
            strace.wait()?;
            let counts = counts(&fs::read_to_string(&report)?);
            let each = |calls: u64| calls as f64 / answered.max(1) as f64;
            let all = each(counts.iter().map(|(calls, _)| calls).sum());
            let frequent = counts
                .iter()
                .take(4)
                .map(|(calls, name)| format!("{name} {:.2}", each(*calls)));
            table.row(vec![
                contender.name.into(),
                format!("{all:.2}"),
                frequent.collect::<Vec<_>>().join(", "),
            ]);
            rows.push(json!({ "contender": contender.name, "calls": all }));
        }
        table.print();
        println!("  target for ours: ≤ {TARGET}");
        Ok(json!({ "contenders": rows, "target": TARGET }))
    }
}

/// Makes the requests; returns how many were answered.
fn requests(target: std::net::SocketAddr) -> std::io::Result<u64> {
    let case = Case::small();
    let plan = Plan {
        target,
        connections: 64,
        pipeline: 1,
        pace: Pace::Closed,
        time: None,
    };
    let request = case.request(target);
    let mut left = REQUESTS;
    let outcome = load::run(&plan, &mut |out| {
        let more = left > 0;
        if more {
            out.extend_from_slice(&request);
            left -= 1;
        }
        more
    })?;
    Ok(outcome.answered)
}

/// Reads strace's table: calls and name, most frequent first; without its total.
fn counts(report: &str) -> Vec<(u64, String)> {
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let calls = words.next()?.parse().ok()?;
        let name = words.next()?.to_owned();
        (name != "total").then_some((calls, name))
    };
    let mut counts: Vec<_> = report.lines().filter_map(row).collect();
    counts.sort_by(|a: &(u64, String), b| b.cmp(a));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_calls_is_read() {
        let report = "    calls syscall\n--------- ----------------\n      100 recvfrom\n      200 sendto\n--------- ----------------\n      300 total\n";
        let expected = [(200, "sendto".to_owned()), (100, "recvfrom".to_owned())];
        assert_eq!(counts(report), expected);
    }
}
