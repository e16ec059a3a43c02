//! One round: full load, then a fixed rate.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::case::Case;
use super::{Bench, Layer, h2load, wrk};
use crate::load::{self, Outcome, Pace, Plan};
use crate::usage::{Cpu, Memory};

/// What one round of one contender came to.
pub(super) struct Round {
    requests: u64,
    pub(super) per_second: f64,
    /// Time on the core at full load, in all and in user space, in µs a request.
    pub(super) cpu: f64,
    pub(super) user: f64,
    /// How busy the proxy's core was: below 1, the load generator was the limit, and requests a second say nothing.
    pub(super) busy: f64,
    /// At the fixed rate, in µs.
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// KiB.
    pub(super) resident: u64,
    pub(super) errors: u64,
}

/// Runs a round against the process `pid`, which listens at `target`.
pub(super) fn run(
    bench: &Bench,
    case: &Case,
    target: SocketAddr,
    pid: u32,
) -> anyhow::Result<Round> {
    let seconds = bench.seconds;
    full_load(bench, case, target, (seconds / 3.0).min(1.0))?;
    let (before, began) = (Cpu::of(pid), Instant::now());
    let (requests, errors) = full_load(bench, case, target, seconds)?;
    let (used, took) = (Cpu::of(pid).since(before), began.elapsed());
    let cpu = used.total.as_secs_f64() * 1e6 / requests.max(1) as f64;
    // Our own generator speaks neither TLS nor HTTP/2.
    let paced = match bench.layer {
        Layer::Tls | Layer::H2 => None,
        Layer::Http | Layer::Tcp => Some(generate(case, target, Pace::Open(case.rate), seconds)?),
    };
    let latency = |quantile| {
        let paced = paced.as_ref();
        paced.map_or(0.0, |paced| {
            paced.latency.value_at_quantile(quantile) as f64 / 1e3
        })
    };
    Ok(Round {
        requests,
        per_second: requests as f64 / took.as_secs_f64(),
        cpu,
        user: cpu * used.user_share(),
        busy: used.total.as_secs_f64() / took.as_secs_f64(),
        p50: latency(0.5),
        p99: latency(0.99),
        resident: Memory::of(pid).resident,
        errors: errors + paced.as_ref().map_or(0, Outcome::errors),
    })
}

/// As much load as one core makes; returns how many requests were answered, and errors.
fn full_load(
    bench: &Bench,
    case: &Case,
    target: SocketAddr,
    seconds: f64,
) -> anyhow::Result<(u64, u64)> {
    if let Some(keys) = case.handshake {
        let request = case.request(target);
        return bench.certificate.load(target, keys, &request, seconds);
    }
    if bench.layer == Layer::H2 {
        let run = h2load::run(case, target, seconds)?;
        return Ok((run.requests, run.errors));
    }
    let tls = bench.layer == Layer::Tls;
    anyhow::ensure!(
        !tls || wrk::version().is_some(),
        "wrk is not there, and our own load generator speaks no TLS (apt install wrk)"
    );
    if wrk::version().is_some() {
        let run = wrk::run(case, target, tls, seconds)?;
        return Ok((run.requests, run.errors));
    }
    let outcome = generate(case, target, Pace::Closed, seconds)?;
    Ok((outcome.answered, outcome.errors()))
}

fn generate(case: &Case, target: SocketAddr, pace: Pace, seconds: f64) -> std::io::Result<Outcome> {
    let plan = Plan {
        target,
        connections: case.connections,
        pipeline: 1,
        pace,
        time: Some(Duration::from_secs_f64(seconds)),
    };
    let request = case.request(target);
    load::run(&plan, &mut |out| {
        out.extend_from_slice(&request);
        true
    })
}

impl Round {
    /// Whether it counts.
    pub(super) fn is_clean(&self) -> bool {
        self.errors == 0 && self.requests > 0
    }

    pub(super) fn line(&self) -> String {
        let errors = match self.errors {
            0 => String::new(),
            n => format!("  {n} ERRORS: does not count"),
        };
        format!(
            "{:>8.2} µs CPU  {:>5.2} µs user  {:>8.0}/s  core {:>3.0} % busy  p50 {:>6.0} µs  p99 {:>6.0} µs  {:>6.1} MiB{errors}",
            self.cpu,
            self.user,
            self.per_second,
            self.busy * 100.0,
            self.p50,
            self.p99,
            self.resident as f64 / 1024.0
        )
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "requests": self.requests, "errors": self.errors, "per_second": self.per_second, "cpu_us": self.cpu,
            "user_us": self.user, "busy": self.busy, "p50_us": self.p50, "p99_us": self.p99, "rss_kib": self.resident,
        })
    }
}
