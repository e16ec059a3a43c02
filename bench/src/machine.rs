//! The machine: where threads run, how many descriptors there may be, and what a reader of figures must know of it.

use std::fs;

use anyhow::{Context, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// The proxy has this core for itself.
pub(crate) const PROXY_CPU: usize = 0;
/// Origin and load generator share this one.
pub(crate) const LOAD_CPU: usize = 1;

/// 10,000 clients, each with a connection to an instance at worst, in each of several processes.
const DESCRIPTORS: u64 = 65_536;
/// 10,000 clients, and some room. In a container even root may get no more than the hard limit.
const AT_LEAST: u64 = 12_000;

/// Lets the present thread, and what it starts from now on, run on these cores only.
pub(crate) fn pin(cpus: &[usize]) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    sched_setaffinity(None, &set)
        .with_context(|| format!("cannot run on cores {cpus:?}: the benchmarks need two of them"))
}

/// Raises the limit of open descriptors, for this process and those it starts.
pub(crate) fn raise_limits() -> anyhow::Result<()> {
    let reached = allow_descriptors(DESCRIPTORS)?;
    ensure!(
        reached >= AT_LEAST,
        "{reached} open descriptors are too few: raise the hard limit to {DESCRIPTORS} (ulimit -Hn)"
    );
    Ok(())
}

/// Raises the limit of open descriptors as far as it goes towards `wanted`; returns where it is then.
pub(crate) fn allow_descriptors(wanted: u64) -> anyhow::Result<u64> {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_some_and(|n| n < wanted) {
        let maximum = now.maximum.map(|n| n.max(wanted));
        let current = Some(wanted);
        // Beyond the hard limit only root may go; up to it everybody.
        if setrlimit(Resource::Nofile, Rlimit { current, maximum }).is_err() {
            let current = now.maximum;
            setrlimit(Resource::Nofile, Rlimit { current, ..now })?;
        }
    }
    Ok(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

/// Names and values that figures depend on.
pub(crate) fn facts() -> Vec<(&'static str, String)> {
    let read = |path: &str| match fs::read_to_string(path) {
        Ok(text) => text.trim().to_owned(),
        Err(_) => "unknown".into(),
    };
    let info = read("/proc/cpuinfo");
    let of_each = |name: &str| info.lines().filter(|line| line.starts_with(name)).count();
    let sysctl = |name: &str| {
        let path = format!("/proc/sys/net/ipv4/{name}");
        read(&path).replace('\t', "-")
    };
    vec![
        ("processor", processor(&info)),
        ("cores", of_each("processor").to_string()),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("load before the run", read("/proc/loadavg")),
        // Short connections need many ports, or ports again soon.
        ("ip_local_port_range", sysctl("ip_local_port_range")),
        ("tcp_tw_reuse", sysctl("tcp_tw_reuse")),
    ]
}

fn processor(info: &str) -> String {
    let line = info.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(": "));
    name.map_or("unknown".into(), |(_, name)| name.into())
}
