use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Raft, ServerState};
use registry::replication::{Proposer as Number, Request, Response};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use super::Batch;
use super::disk::Disk;
use super::machine::Machine;
use super::network::{Network, Use};
use super::rounds::Rounds;
use super::types::{Ended, Proposal, Types};
use crate::SubmitError;
use crate::ground::Work;
use crate::intake::Intake;
use crate::node::{Shared, secret};
use crate::queue::{Job, Message};

/// How long a batch is tried to be put into the log: some elections.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the leader may take to commit a batch, until it is asked again.
const ANSWER: Duration = Duration::from_millis(1_500);
/// How long until a try that failed is followed by another.
const TRY_AGAIN: Duration = Duration::from_millis(20);
/// How long what is in the log may take to be applied here, until that is asked for again.
const APPLY: Duration = Duration::from_secs(1);

/// Puts what is queued into the log: all that waits, as one entry, by whichever node leads.
pub(super) struct Proposer {
    raft: Raft<Types, Machine>,
    shared: Arc<Shared>,
    disk: Disk,
    network: Network,
    rounds: Rounds,
    node: u64,
    number: Number,
}

/// What became of a try.
enum Tried {
    /// It is in the log, or was, or will be.
    Taken,
    /// It is not, and another try may be better.
    Failed,
    /// It is not, and nothing will change that.
    Refused(SubmitError),
}

impl Proposer {
    pub(super) fn new(
        node: u64,
        raft: Raft<Types, Machine>,
        shared: Arc<Shared>,
        disk: Disk,
        network: Network,
        rounds: Rounds,
    ) -> Self {
        let number = Number {
            run: secret(),
            number: 0,
        };
        Self {
            raft,
            shared,
            disk,
            network,
            rounds,
            node,
            number,
        }
    }

    /// Runs until told to close, or until nobody is left who could tell.
    pub(super) async fn run(&mut self, messages: UnboundedReceiver<Message>) {
        let mut intake = Intake::new(messages);
        let mut closing = false;
        while !closing && intake.wait().await {
            intake.gather(|| self.is_idle());
            let (work, last) = intake.take();
            closing = last;
            for jobs in work {
                self.propose(jobs).await;
            }
        }
    }

    /// Whether this node leads, and nothing is on its way to the others: then its thread has nothing else to do.
    fn is_idle(&self) -> bool {
        let threads = matches!(self.shared.work, Work::Threads);
        threads && self.shared.leads() && !self.rounds.is_under_way()
    }

    /// Puts a batch into the log, and waits until it is applied here. What comes meanwhile goes into the next.
    async fn propose(&mut self, jobs: Vec<Job>) {
        if let Err(why) = self.disk.ready() {
            return self.shared.refuse(jobs, &why);
        }
        self.number.number += 1;
        let number = self.number;
        let batch = Arc::new(batch_of(self.node, number, &jobs));
        let mut ended = pin!(self.shared.pending.put(number, jobs));
        let given_up = Instant::now() + PATIENCE;
        let mut sent = false;
        loop {
            let before = sent;
            let tried = tokio::select! {
                biased;
                _ = &mut ended => return,
                () = sleep_until(given_up) => Tried::Refused(match sent {
                    true => SubmitError::Interrupted,
                    false => SubmitError::NoLeader,
                }),
                tried = self.attempt(&batch, &mut sent) => tried,
            };
            let pause = match tried {
                Tried::Taken => APPLY,
                Tried::Failed => TRY_AGAIN,
                Tried::Refused(why) => {
                    // What was sent before may be in the log all the same.
                    let why = match before {
                        true => SubmitError::Interrupted,
                        false => why,
                    };
                    if let Some(mut waiting) = self.shared.pending.take(number) {
                        self.shared.refuse(std::mem::take(&mut waiting.jobs), &why);
                    }
                    return;
                }
            };
            // After a change of leader the same batch is sent to the next, which knows it by its number.
            tokio::select! {
                biased;
                _ = &mut ended => return,
                () = sleep(pause) => {}
            }
        }
    }

    async fn attempt(&self, batch: &Arc<Batch>, sent: &mut bool) -> Tried {
        let metrics = self.raft.server_metrics();
        let (state, leader) = {
            let metrics = metrics.borrow_watched();
            let members = metrics.membership_config.membership();
            let leader = metrics.current_leader;
            let member = leader.and_then(|id| Some((id, members.get_node(&id)?.clone())));
            (metrics.state, member)
        };
        if state == ServerState::Leader {
            self.rounds.turn().await;
            *sent = true;
            let (ended, end) = oneshot::channel();
            let proposal = Proposal(Arc::clone(batch));
            let written = self.raft.client_write_ff(proposal, Some(Ended(ended)));
            if written.await.is_err() {
                return Tried::Refused(SubmitError::Closed);
            }
            // Applied, and then the batch has ended already; or not put into the log.
            let _ = end.await;
            return Tried::Failed;
        }
        let Some((leader, member)) = leader.filter(|(id, _)| *id != self.node) else {
            return Tried::Failed;
        };
        let mut bytes = Vec::with_capacity(batch.records.len() + 32);
        batch.encoded().encode(&mut bytes);
        let link = self.network.link(leader, &member, Use::Questions);
        *sent = true;
        let response = tokio::select! {
            biased;
            response = link.ask(Request::Propose(&bytes), ANSWER) => response,
            // A leader that was frozen, or cut off, or whose disk takes nothing, may never answer; whoever has followed it does.
            () = self.followed(leader) => return Tried::Failed,
        };
        match response {
            Ok(Response::Done) => Tried::Taken,
            Ok(Response::Refused {
                passing: false,
                why,
            }) => Tried::Refused(SubmitError::NotWritten(why.into())),
            _ => Tried::Failed,
        }
    }

    /// Waits until another node leads than this one.
    async fn followed(&self, leader: u64) {
        let mut metrics = self.raft.server_metrics();
        loop {
            let now = metrics.borrow_and_update().current_leader;
            if now.is_some_and(|now| now != leader) {
                return;
            }
            if metrics.changed().await.is_err() {
                // It is over; so will be the question.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// All jobs as one batch.
pub(super) fn batch_of(node: u64, number: Number, jobs: &[Job]) -> Batch {
    let mut records = Vec::with_capacity(jobs.iter().map(|job| job.records.len()).sum());
    for job in jobs {
        records.extend_from_slice(&job.records);
    }
    Batch {
        node,
        proposer: number,
        records,
    }
}
