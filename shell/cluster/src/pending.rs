use std::sync::Mutex;

use registry::replication::Proposer;
use tokio::sync::oneshot;

use crate::node::lock;
use crate::queue::Job;

/// The batch of this node that is under way: those who wait get their answers where it is applied, here, whichever
/// node has put it into the log.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<Option<Waiting>>);

/// Those who wait for a batch.
#[derive(Debug)]
pub(crate) struct Waiting {
    proposer: Proposer,
    pub(crate) jobs: Vec<Job>,
    /// Dropped when the batch is done with.
    _done: oneshot::Sender<()>,
}

impl Pending {
    /// Puts a batch there; what is returned ends when it is done with.
    pub(crate) fn put(&self, proposer: Proposer, jobs: Vec<Job>) -> oneshot::Receiver<()> {
        let (_done, ended) = oneshot::channel();
        *lock(&self.0) = Some(Waiting {
            proposer,
            jobs,
            _done,
        });
        ended
    }

    /// Takes the batch, if it is this one.
    pub(crate) fn take(&self, proposer: Proposer) -> Option<Waiting> {
        lock(&self.0).take_if(|waiting| waiting.proposer == proposer)
    }
}
