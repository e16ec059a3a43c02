use std::sync::Arc;

use openraft::{Raft, ServerState};
use tokio::sync::mpsc::UnboundedReceiver;

use super::Batch;
use super::disk::Disk;
use super::machine::Machine;
use super::types::{Proposal, Types};
use crate::SubmitError;
use crate::node::Shared;
use crate::queue::{Job, MAX_RECORDS, Message};

/// Messages taken from the queue at a time.
const TAKE: usize = 4_096;

/// Puts what is queued into the log: all that waits, as one entry.
pub(super) struct Proposer {
    raft: Raft<Types, Machine>,
    shared: Arc<Shared>,
    disk: Disk,
}

impl Proposer {
    pub(super) fn new(raft: Raft<Types, Machine>, shared: Arc<Shared>, disk: Disk) -> Self {
        Self { raft, shared, disk }
    }

    /// Runs until told to close, or until nobody is left who could tell.
    pub(super) async fn run(&self, mut messages: UnboundedReceiver<Message>) -> Result<(), String> {
        let leads = self.raft.wait(None);
        let leading = leads.state(ServerState::Leader, "a cluster of one has a leader");
        leading.await.map_err(|e| e.to_string())?;
        let mut taken = Vec::with_capacity(TAKE);
        let mut closing = false;
        while !closing && messages.recv_many(&mut taken, TAKE).await > 0 {
            let (mut jobs, mut bytes) = (Vec::new(), 0);
            for message in taken.drain(..) {
                match message {
                    Message::Work(job) => {
                        if bytes + job.records.len() > MAX_RECORDS {
                            self.propose(std::mem::take(&mut jobs)).await;
                            bytes = 0;
                        }
                        bytes += job.records.len();
                        jobs.push(job);
                    }
                    Message::Close => closing = true,
                }
            }
            if !jobs.is_empty() {
                self.propose(jobs).await;
            }
        }
        Ok(())
    }

    async fn propose(&self, jobs: Vec<Job>) {
        if let Err(why) = self.disk.ready() {
            return self.shared.refuse(jobs, &why);
        }
        let (batch, ended) = Batch::new(jobs, Arc::clone(&self.shared));
        let batch = Arc::new(batch);
        let proposal = Proposal(Arc::clone(&batch));
        let sent = self
            .raft
            .client_write_ff(proposal.clone(), Some(proposal))
            .await;
        if sent.is_err() {
            return batch.give_up(&SubmitError::Closed);
        }
        drop(batch);
        // What comes meanwhile goes into the next.
        let _ = ended.await;
    }
}
