//! What this node answers to the others.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{InstanceId, ServiceKey};
use openraft::Raft;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use registry::replication::{
    Ballot, Batch as Encoded, Change, Crowd, EntryId, Heard, Message, Proposer, Request, Response,
    Vote, commands,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::change::Changes;
use super::disk::Disk;
use super::machine::{Machine, SnapshotFile, snapshot_of};
use super::rounds::Rounds;
use super::types::{Ended, Proposal, Types, entry_id, log_id, raft_vote, vote};
use super::{Batch, Entry, found, read, report};
use crate::SubmitError;
use crate::node::{Shared, lock};
use crate::peers::{Answers, Handler, Peer};
use crate::raft::spawn;
use crate::snapshot;
use crate::storage::{File, Storage};

/// How long a batch waits for another leader, if the disk of this one takes nothing: less than those who sent it wait for an
/// answer, and more than it takes to notice and to elect.
const RELIEF: Duration = Duration::from_millis(1_400);
/// How often is looked meanwhile.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// Where a snapshot is put that comes from the leader.
pub(crate) const INCOMING: &str = "snapshot.incoming";

/// A node, as the others see it.
pub(super) struct Replica {
    pub(super) raft: Raft<Types, Machine>,
    pub(super) shared: Arc<Shared>,
    pub(super) disk: Disk,
    pub(super) changes: Changes,
    pub(super) rounds: Rounds,
    pub(super) incoming: Mutex<Option<Incoming>>,
    /// Told of nodes whose connection ended.
    pub(super) lost: mpsc::UnboundedSender<u64>,
}

/// A snapshot that is being received.
pub(super) struct Incoming {
    vote: Vote,
    offset: u64,
    file: Box<dyn File>,
}

impl Handler for Replica {
    async fn handle(
        self: Arc<Self>,
        from: Peer,
        message: Vec<u8>,
        answers: Answers,
    ) -> io::Result<()> {
        let message = Message::decode(&message).map_err(io::Error::other)?;
        let Message::Request(number, request) = message else {
            return Err(io::Error::other("an answer that was not asked for"));
        };
        if let Some(question) = question(&request, from) {
            // They wait for others: what comes behind them must not.
            spawn(async move {
                let response = self.answer(question, from).await;
                answers.send(number, response).await;
            });
            return Ok(());
        }
        let response = match request {
            Request::Append {
                vote,
                previous,
                committed,
                entries,
            } => {
                let entries = entries.into_iter();
                let entries = entries.map(|(id, body)| Entry::read(id, body)).collect();
                self.append(vote, [previous, committed], entries).await
            }
            Request::Vote(ballot) => voted(self.raft.vote(vote_request(ballot)).await),
            Request::PreVote(ballot) => voted(self.raft.pre_vote(vote_request(ballot)).await),
            Request::Snapshot {
                vote,
                offset,
                last,
                bytes,
            } => self.part_of_snapshot(vote, offset, last, bytes).await,
            Request::Propose(_) if !read::knows(&self.shared, from.node, from.disk) => {
                refused(false, &self.not_ours(from))
            }
            Request::Propose(batch) => match self.admitted(batch)? {
                Ok(batch) => {
                    spawn(async move {
                        let response = self.propose(batch).await;
                        answers.send(number, response).await;
                    });
                    return Ok(());
                }
                Err(why) => refused(false, &why),
            },
            Request::Renew {
                instances,
                sessions,
            } => {
                self.shared.renew(&instances);
                self.shared.beat(&sessions);
                Response::Done
            }
            Request::Suspect(instances) => self.suspect(instances),
            Request::Transfer { .. }
            | Request::Who
            | Request::Reach { .. }
            | Request::Change(_)
            | Request::Report => refused(false, &"a question that was answered before"),
        };
        answers.send(number, response).await;
        Ok(())
    }

    fn met(&self, peer: Peer) {
        self.shared.company.met(peer.node, peer.disk, peer.format);
        // Whoever was refused before is right now, or comes again.
        if peer.means_us {
            *lock(&self.shared.peer_refused) = None;
        }
    }

    fn lost(&self, from: u64) {
        let _ = self.lost.send(from);
    }

    fn refused(&self, why: &str) {
        self.shared.counters.peers_refused.add(1);
        *lock(&self.shared.peer_refused) = Some((self.shared.now(), why.into()));
    }
}

/// What is answered whenever the answer is there.
enum Question {
    Who,
    Reach {
        prove: bool,
        crowd: Option<Crowd>,
    },
    Change(Change),
    Report,
    /// Waits for the last entries, which come behind it.
    Transfer {
        vote: Vote,
        to: u64,
        last: Option<EntryId>,
    },
    /// Whoever asks means another node, and may ask less.
    NotOfUs,
}

fn question(request: &Request<'_>, from: Peer) -> Option<Question> {
    match request {
        Request::Who => Some(Question::Who),
        Request::Change(change @ Change::Add { .. }) => Some(Question::Change(change.clone())),
        _ if !from.means_us => Some(Question::NotOfUs),
        Request::Reach { prove, crowd } => Some(Question::Reach {
            prove: *prove,
            crowd: crowd.clone(),
        }),
        Request::Change(change) => Some(Question::Change(change.clone())),
        Request::Report => Some(Question::Report),
        Request::Transfer { vote, to, last } => Some(Question::Transfer {
            vote: *vote,
            to: *to,
            last: *last,
        }),
        _ => None,
    }
}

impl Replica {
    async fn answer(&self, question: Question, from: Peer) -> Response {
        match question {
            Question::Who => {
                let standing = found::standing(&self.raft, &self.shared).await;
                Response::Standing(Box::new(standing))
            }
            Question::Reach { .. } if !self.changes.leads() => {
                refused(true, &"this node does not lead")
            }
            Question::Reach { .. } if !read::knows(&self.shared, from.node, from.disk) => {
                refused(false, &self.not_ours(from))
            }
            Question::Reach { prove, crowd } => {
                let crowds = self.tell_crowds(from, crowd);
                match read::reach(&self.raft, &self.shared, prove).await {
                    Ok((index, age)) => Response::Reached {
                        index,
                        // Rounded up: nothing may seem younger than it is.
                        age: age.as_micros().div_ceil(1_000) as u64,
                        crowds,
                    },
                    Err(why) => refused(true, &why),
                }
            }
            Question::Change(change) => {
                let made = match self.changes.leads() {
                    true => self.changes.make(change).await,
                    // Whoever wants to be taken in knows nobody else.
                    false if !from.means_us => self.changes.pass_on(change).await,
                    false => return refused(true, &"this node does not lead"),
                };
                match made {
                    Ok(said) => Response::Said(said),
                    Err(e) => refused(e.passing, &e.why),
                }
            }
            Question::Report => {
                let report = report::report(&self.raft, &self.shared);
                Response::Report(Box::new(report))
            }
            Question::Transfer { vote, to, last } => {
                let rpc = TransferLeaderRequest::new(raft_vote(vote), to, last.map(log_id));
                match self.raft.handle_transfer_leader(rpc).await {
                    Ok(Ok(())) => Response::Done,
                    Ok(Err(e)) => refused(true, &e),
                    Err(e) => refused(false, &e),
                }
            }
            Question::NotOfUs => {
                refused(false, &"this may be asked by members of the cluster only")
            }
        }
    }

    /// Notes whom a node serves, if it says so; then it is told whom the others do.
    fn tell_crowds(&self, from: Peer, crowd: Option<Crowd>) -> Vec<Heard> {
        let Some(crowd) = crowd else {
            return Vec::new();
        };
        let (shared, now) = (&self.shared, self.shared.now());
        shared.company.crowds.note(from.node, now, crowd);
        shared.company.crowds.heard(shared.node, from.node, now)
    }

    fn suspect(&self, instances: Vec<(ServiceKey, InstanceId)>) -> Response {
        self.shared.company.suspect(instances);
        Response::Done
    }

    fn not_ours(&self, from: Peer) -> String {
        let members = lock(&self.shared.known).membership.clone();
        let name = members
            .nodes
            .get(&from.node)
            .map_or("this node", |m| &*m.name);
        read::no_member(name)
    }

    async fn append(
        &self,
        leader: Vote,
        [previous, committed]: [Option<EntryId>; 2],
        entries: Vec<Entry>,
    ) -> Response {
        let rpc = AppendEntriesRequest {
            vote: raft_vote(leader),
            prev_log_id: previous.map(log_id),
            entries,
            leader_commit: committed.map(log_id),
        };
        match self.raft.append_entries(rpc).await {
            Ok(AppendEntriesResponse::Success) => Response::Done,
            Ok(AppendEntriesResponse::PartialSuccess(last)) => {
                Response::Partial(last.as_ref().map(entry_id))
            }
            Ok(AppendEntriesResponse::Conflict) => Response::Conflict,
            Ok(AppendEntriesResponse::HigherVote(higher)) => Response::HigherVote(vote(&higher)),
            Err(e) => refused(false, &e),
        }
    }

    /// Reads a batch of another node: what cannot be applied, here or at nodes with older programs, must not get into the log.
    fn admitted(&self, batch: &[u8]) -> io::Result<Result<Arc<Batch>, SubmitError>> {
        let batch = Encoded::decode(batch).map_err(io::Error::other)?;
        let given = commands(batch.commands).map_err(io::Error::other)?;
        let admitted = self.shared.queue.admit(&given);
        Ok(admitted.map(|()| Arc::new(Batch::read(batch))))
    }

    /// Puts a batch of another node into the log.
    async fn propose(&self, batch: Arc<Batch>) -> Response {
        if let Err(refusal) = self.room().await {
            return refusal;
        }
        let (node, proposer) = (batch.node, batch.proposer);
        if self.is_applied(node, proposer) {
            return Response::Done;
        }
        self.rounds.turn().await;
        let (ended, end) = oneshot::channel();
        let written = self
            .raft
            .client_write_ff(Proposal(batch), Some(Ended(ended)));
        if let Err(e) = written.await {
            return refused(true, &e);
        }
        let _ = end.await;
        match self.is_applied(node, proposer) {
            true => Response::Done,
            false => refused(true, &"this node does not lead"),
        }
    }

    /// Waits for a disk that takes nothing, as long as this node leads: another takes the lead for that reason.
    async fn room(&self) -> Result<(), Response> {
        let given_up = Instant::now() + RELIEF;
        while let Err(why) = self.disk.ready() {
            if !self.shared.leads() {
                return Err(refused(true, &"this node does not lead"));
            }
            if Instant::now() >= given_up {
                return Err(refused(false, &why));
            }
            sleep(TRY_AGAIN).await;
        }
        Ok(())
    }

    fn is_applied(&self, node: u64, proposer: Proposer) -> bool {
        let state = self.shared.state();
        !proposer.is_after(state.origin.proposed.get(&node))
    }

    async fn part_of_snapshot(
        &self,
        from: Vote,
        offset: u64,
        last: bool,
        bytes: &[u8],
    ) -> Response {
        let Some(storage) = self.disk.journal.storage() else {
            return refused(false, &"this node keeps nothing on disk");
        };
        let taken = self.take_part(&*storage, from, offset, bytes);
        if let Err(e) = taken {
            *lock(&self.incoming) = None;
            return refused(true, &e);
        }
        if !last {
            return Response::Done;
        }
        *lock(&self.incoming) = None;
        let read = storage.read(INCOMING);
        // Checked from its first byte to its last before anything is believed.
        let read = read.map(|file| snapshot::read(io::BufReader::with_capacity(1 << 16, file)));
        let _ = storage.remove(INCOMING);
        let (registry, origin) = match read {
            Ok(Ok((registry, origin, _))) => (registry, origin),
            Ok(Err(e)) => return refused(true, &format!("the snapshot came damaged: {e:?}")),
            Err(e) => return refused(true, &e),
        };
        let mut snapshot = snapshot_of(&origin, registry.revision());
        snapshot.snapshot = SnapshotFile::Received(Box::new((registry, origin)));
        match self
            .raft
            .install_full_snapshot(raft_vote(from), snapshot)
            .await
        {
            Ok(response) => Response::HigherVote(vote(&response.vote)),
            Err(e) => refused(false, &e),
        }
    }

    fn take_part(
        &self,
        storage: &dyn Storage,
        vote: Vote,
        offset: u64,
        bytes: &[u8],
    ) -> io::Result<()> {
        let mut incoming = lock(&self.incoming);
        if offset == 0 {
            let file = storage.create(INCOMING)?;
            *incoming = Some(Incoming {
                vote,
                offset: 0,
                file,
            });
        }
        let expected = incoming
            .as_mut()
            .filter(|i| i.vote == vote && i.offset == offset);
        let part = expected.ok_or_else(|| io::Error::other("a part of another snapshot"))?;
        part.file.append(bytes)?;
        part.offset += bytes.len() as u64;
        Ok(())
    }
}

fn vote_request(ballot: Ballot) -> VoteRequest<Types> {
    VoteRequest {
        vote: raft_vote(ballot.vote),
        last_log_id: ballot.last.map(log_id),
        leadership_transfer: ballot.transfer,
    }
}

fn voted<E: std::fmt::Display>(response: Result<VoteResponse<Types>, E>) -> Response {
    match response {
        Ok(response) => Response::Ballot {
            vote: vote(&response.vote),
            granted: response.vote_granted,
            last: response.last_log_id.as_ref().map(entry_id),
        },
        Err(e) => refused(false, &e),
    }
}

fn refused(passing: bool, why: &impl std::fmt::Display) -> Response {
    Response::Refused {
        passing,
        why: why.to_string().into(),
    }
}
