//! How long a node takes to be ready again after it was killed.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use super::node::{Configuration, Node};
use crate::scratch::Scratch;

pub(super) fn run(
    node: Node,
    binary: &Path,
    configuration: &Configuration,
    scratch: &Scratch,
) -> anyhow::Result<Value> {
    println!("\ncold start after a kill; the files are still in the page cache");
    let before = node.api.metrics()?;
    node.kill()?;
    let began = Instant::now();
    let node = Node::start(binary, configuration, scratch)?;
    let took = began.elapsed().as_secs_f64();
    let after = node.api.metrics()?;
    let (kept, had) = (after.registry("instances"), before.registry("instances"));
    let resident = node.memory().resident;
    println!(
        "  ready after {took:.2} s with {kept} of {had} instances, {} MB resident",
        resident * 1024 / 1_000_000
    );
    Ok(json!({ "seconds": took, "instances": kept, "instances_before": had, "rss_kib": resident }))
}
