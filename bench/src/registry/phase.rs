//! What the machine did meanwhile: that says what limits a figure.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::node::Node;
use crate::api::Metrics;
use crate::load::{Generator, Outcome, Plan, Requests};
use crate::usage::Cpu;

/// What happened while something was measured.
pub(super) struct Phase {
    took: Duration,
    server: Cpu,
    generator: Cpu,
    before: Metrics,
    after: Metrics,
}

/// Makes a load, and looks at the clocks and counters before and after.
pub(super) fn measure(
    node: &Node,
    plan: &Plan,
    next: Requests<'_>,
) -> anyhow::Result<(Outcome, Phase)> {
    let load = Generator::open(plan)?;
    let own = std::process::id();
    let before = node.api.metrics()?;
    let (server, generator, began) = (node.cpu(), generator(own, node), Instant::now());
    let outcome = load.run(next)?;
    let phase = Phase {
        took: began.elapsed(),
        server: node.cpu().since(server),
        generator: self::generator(own, node).since(generator),
        before,
        after: node.api.metrics()?,
    };
    Ok((outcome, phase))
}

/// The time of this process alone: the server is its child.
fn generator(own: u32, node: &Node) -> Cpu {
    Cpu::of(own).since(node.cpu())
}

impl Phase {
    /// By how much a metric of the registry grew.
    pub(super) fn delta(&self, name: &str) -> f64 {
        self.after.registry(name) - self.before.registry(name)
    }

    /// How busy the cores were, and with what.
    pub(super) fn limits(&self) -> String {
        format!(
            "cores: pointsman {:.2} ({:.0} % user space), load generator {:.2}",
            self.cores(self.server),
            self.server.user_share() * 100.0,
            self.cores(self.generator)
        )
    }

    /// How often the disk was synced, and for how many registrations at a time.
    pub(super) fn syncs(&self) -> String {
        let (commits, commands) = (self.delta("commits_total"), self.delta("commands_total"));
        format!(
            "disk: {:.0} syncs/s for {:.0} registrations each, {:.2} ms a sync, syncing {:.0} % of the time; the longest so far {:.0} ms",
            commits / self.took.as_secs_f64(),
            commands / commits.max(1.0),
            self.delta("sync_seconds_total") * 1e3 / commits.max(1.0),
            self.delta("sync_seconds_total") * 100.0 / self.took.as_secs_f64(),
            self.after.registry("sync_seconds_max") * 1e3
        )
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "seconds": self.took.as_secs_f64(),
            "server_cores": self.cores(self.server), "server_user_share": self.server.user_share(),
            "generator_cores": self.cores(self.generator),
            "commits": self.delta("commits_total"), "commands": self.delta("commands_total"),
            "sync_seconds": self.delta("sync_seconds_total"),
        })
    }

    fn cores(&self, cpu: Cpu) -> f64 {
        cpu.total.as_secs_f64() / self.took.as_secs_f64()
    }
}
