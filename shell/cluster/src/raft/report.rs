//! How nodes are, by what they say of themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver;
use registry::replication::{Report, Request, Response};
use tokio::task::JoinSet;

use super::machine::Machine;
use super::network::{Network, Use};
use super::types::Types;
use crate::node::{Shared, lock};

/// How long a node may take to say how it is: whoever looks at a cluster looks when something is wrong with it.
const PATIENCE: Duration = Duration::from_millis(500);

/// How this node is.
pub(super) fn report(raft: &Raft<Types, Machine>, shared: &Shared) -> Report {
    let last = raft.metrics().borrow_watched().last_log_index;
    Report {
        last: last.unwrap_or(0),
        ..shared.report()
    }
}

/// How all nodes are that answer.
pub(super) async fn overview(
    node: u64,
    raft: &Raft<Types, Machine>,
    network: &Network,
    shared: &Shared,
) -> BTreeMap<u64, Report> {
    let members = lock(&shared.known).membership.clone();
    let mut asked = JoinSet::new();
    for (id, member) in members.nodes.iter().filter(|(id, _)| **id != node) {
        let (id, link) = (*id, network.link(*id, member, Use::Questions));
        asked.spawn(async move {
            match link.ask(Request::Report, PATIENCE).await {
                Ok(Response::Report(report)) => Some((id, *report)),
                _ => None,
            }
        });
    }
    let mut reports: BTreeMap<u64, Report> = asked.join_all().await.into_iter().flatten().collect();
    reports.insert(node, report(raft, shared));
    reports
}
