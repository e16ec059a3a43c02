//! What a node does for itself and others besides agreeing with them.

use std::sync::Arc;

use openraft::Raft;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use super::change::Changes;
use super::found::Newcomer;
use super::machine::Machine;
use super::network::Network;
use super::read::Reads;
use super::report;
use super::types::{Types, spawn};
use crate::company::{Ask, Asked};
use crate::node::Shared;

/// What a node among others does besides agreeing with them.
pub(super) struct Company {
    pub(super) node: u64,
    pub(super) raft: Raft<Types, Machine>,
    pub(super) network: Network,
    pub(super) shared: Arc<Shared>,
}

impl Company {
    pub(super) fn changes(&self) -> Changes {
        Changes {
            node: self.node,
            raft: self.raft.clone(),
            network: self.network.clone(),
            shared: Arc::clone(&self.shared),
            busy: Arc::default(),
        }
    }

    pub(super) fn tasks(
        &self,
        asked: Asked,
        (address, join): (Box<str>, Vec<String>),
        changes: &Changes,
    ) -> Vec<JoinHandle<()>> {
        let reads = Reads {
            raft: self.raft.clone(),
            network: self.network.clone(),
            shared: Arc::clone(&self.shared),
        };
        let newcomer = Newcomer {
            node: self.node,
            raft: self.raft.clone(),
            network: self.network.clone(),
            shared: Arc::clone(&self.shared),
            address,
            join,
        };
        let measuring = reads.clone();
        vec![
            spawn(reads.confirm(asked.confirms)),
            spawn(async move {
                newcomer.run().await;
                measuring.measure().await;
            }),
            spawn(answer(changes.clone(), asked.asks)),
            spawn(changes.clone().tidy_up()),
        ]
    }
}

/// Answers what is asked of this node, each question whenever its answer is there.
async fn answer(changes: Changes, mut asked: UnboundedReceiver<Ask>) {
    while let Some(ask) = asked.recv().await {
        let changes = changes.clone();
        spawn(async move {
            match ask {
                Ask::Change(change, answer) => {
                    let _ = answer.send(changes.pass_on(change).await);
                }
                Ask::HandOver(answer) => {
                    if changes.leads() {
                        // If nobody can take it, there is nothing to be done.
                        let _ = changes.hand_over(None).await;
                    }
                    let _ = answer.send(());
                }
                Ask::Suspect(instances) => changes.suspect(instances).await,
                Ask::Overview(answer) => {
                    let (raft, network) = (&changes.raft, &changes.network);
                    let reports = report::overview(changes.node, raft, network, &changes.shared);
                    let _ = answer.send(reports.await);
                }
            }
        });
    }
}
