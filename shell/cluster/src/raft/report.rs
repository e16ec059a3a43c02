//! How nodes are, by what they say of themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver;
use registry::replication::{Report, Request, Response};

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
    let others = members.nodes.iter().filter(|(id, _)| **id != node);
    let asked = others.map(async |(id, member)| {
        let link = network.link(*id, member, Use::Questions);
        match link.ask(Request::Report, PATIENCE).await {
            Ok(Response::Report(report)) => Some((*id, *report)),
            _ => None,
        }
    });
    let mut reports: BTreeMap<u64, Report> = join_all(asked).await.into_iter().flatten().collect();
    reports.insert(node, report(raft, shared));
    reports
}
