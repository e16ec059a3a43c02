//! What a node stands on, in whose place simulations put their own: the network, and threads.

use std::sync::Arc;

use crate::peers::{Tcp, Transport};

/// What a node stands on.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) work: Work,
}

/// Where work is done that waits for the disk.
#[derive(Clone)]
pub(crate) enum Work {
    /// On threads of its own.
    Threads,
    /// Where everything else is done, a while later.
    #[cfg(test)]
    Later(Arc<dyn Fn() -> std::time::Duration + Send + Sync>),
}

impl Ground {
    /// The operating system.
    pub(crate) fn real() -> Self {
        Self {
            transport: Arc::new(Tcp),
            work: Work::Threads,
        }
    }
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Work")
    }
}
