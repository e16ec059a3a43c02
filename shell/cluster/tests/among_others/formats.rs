//! Nodes of different versions of the program in one cluster: nothing is written that one of them cannot read.

use cluster::{Node, Options, SubmitError};
use registry::Command;

use crate::nodes::{Nodes, SOON, until};

/// What the node that stands for an older program reads: tiers came with the next format.
const OLDER: u8 = 3;
const WITH_TIERS: u8 = 4;

fn one_is_older(options: &mut Options) {
    let cluster = options.cluster.as_mut().unwrap();
    if cluster.node == "n2" {
        cluster.format = OLDER;
    }
}

fn register(id: &str, tier: u8) -> Command {
    let mut command = crate::nodes::register(id, 1, None);
    if let Command::Register { instance, .. } = &mut command {
        instance.tier = tier;
    }
    command
}

async fn until_format(node: &Node, format: u8) {
    let what = format!("format {format}");
    until(&what, || node.status().format == format).await;
}

/// What the older program does not know is refused, and what it knows is not.
async fn refuses(node: &Node, id: &str) {
    let refused = node.submit(register(id, 1)).await.unwrap_err();
    let (needed, written) = (WITH_TIERS, OLDER);
    assert_eq!(refused, SubmitError::TooNew { needed, written });
    node.submit(register(id, 0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_that_a_member_cannot_read_until_all_have_the_newer_program() {
    let mut nodes = Nodes::tuned("formats", one_is_older);
    nodes.leader().await;
    for (name, node) in &nodes.running {
        until_format(node, OLDER).await;
        refuses(node, &format!("a-{name}")).await;
    }
    let overview = nodes.running["n0"].overview().await;
    let said = overview
        .nodes
        .iter()
        .map(|n| n.report.as_ref().unwrap().format);
    let latest = registry::FORMAT;
    assert_eq!(said.collect::<Vec<_>>(), [latest, latest, OLDER]);
    // While it is away, too; and by a leader that has never heard of it.
    nodes.stop("n2");
    for name in ["n0", "n1"] {
        nodes.stop(name);
        nodes.start(name);
    }
    nodes.leader().await;
    for name in ["n0", "n1"] {
        refuses(&nodes.running[name], &format!("b-{name}")).await;
    }
    // It comes back with the newer program.
    nodes.tune(|_| {});
    nodes.start("n2");
    for (name, node) in &nodes.running {
        until_format(node, latest).await;
        node.submit(register(&format!("c-{name}"), 1))
            .await
            .unwrap();
    }
    // And with the older one again: what is new from now on is not written any more.
    nodes.stop("n2");
    nodes.tune(one_is_older);
    nodes.start("n2");
    for (name, node) in &nodes.running {
        until_format(node, OLDER).await;
        refuses(node, &format!("d-{name}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_taken_in_counts_from_then_on() {
    let mut nodes = Nodes::tuned("formats-joining", |options| {
        let cluster = options.cluster.as_mut().unwrap();
        if cluster.node == "n3" {
            cluster.format = OLDER;
        }
    });
    let leader = nodes.leader().await;
    nodes.running[&leader]
        .submit(register("a", 1))
        .await
        .unwrap();
    nodes.join("n3", &leader);
    for (name, node) in &nodes.running {
        until_format(node, OLDER).await;
        refuses(node, &format!("b-{name}")).await;
    }
    let remove = registry::replication::Change::Remove {
        name: "n3".into(),
        force: false,
    };
    let asked = tokio::time::timeout(SOON, nodes.running[&leader].change_cluster(remove));
    asked.await.unwrap().unwrap();
    let node = &nodes.running[&leader];
    until_format(node, registry::FORMAT).await;
    node.submit(register("c", 1)).await.unwrap();
}
