use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};

use model::{Revision, ServiceKey};
use thiserror::Error;
use tokio::sync::watch;

use crate::node::lock;

/// So many watchers are woken at once by whoever has made the change: to wake a thread for it costs more.
const FEW: usize = 4;

/// Wakes whoever waits for a change, of one service or of all: one channel for every service that is waited
/// for, so that a change of one wakes nobody who waits for another.
///
/// Waking many runs on a thread of its own. Ten thousand watchers take milliseconds to wake, which no writer should
/// wait for; and what changes meanwhile is told in one go.
#[derive(Debug)]
pub(crate) struct Hub {
    services: Mutex<HashMap<ServiceKey, watch::Sender<Revision>>>,
    all: watch::Sender<Revision>,
    pending: Mutex<Pending>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct Pending {
    revision: Revision,
    changed: Vec<Arc<ServiceKey>>,
    /// Up to where watchers are told, or are being told.
    told: Revision,
    /// The thread is at it.
    telling: bool,
    closed: bool,
}

/// A wait for changes of one service, whether it exists yet or not.
#[derive(Debug)]
pub struct ServiceWatch {
    hub: Arc<Hub>,
    key: ServiceKey,
    changes: watch::Receiver<Revision>,
}

/// The node is gone, and no more changes will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the node is shutting down")]
pub struct Closed;

impl ServiceWatch {
    /// Waits until the service has changed since the watch was made or last returned. Make the watch first, then read the
    /// state: whatever is not in the state read is told here. A return without a change to be seen is possible.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the node is shut down.
    pub async fn changed(&mut self) -> Result<Revision, Closed> {
        self.changes.changed().await.map_err(|_| Closed)?;
        Ok(*self.changes.borrow_and_update())
    }
}

impl Drop for ServiceWatch {
    /// The last watch of a service takes its channel away, or names nobody ever registers would pile up.
    fn drop(&mut self) {
        let mut services = lock(&self.hub.services);
        if services
            .get(&self.key)
            .is_some_and(|sender| sender.receiver_count() <= 1)
        {
            services.remove(&self.key);
        }
    }
}

impl Hub {
    pub(crate) fn new(revision: Revision) -> Self {
        Self {
            services: Mutex::default(),
            all: watch::Sender::new(revision),
            pending: Mutex::new(Pending {
                revision,
                told: revision,
                ..Pending::default()
            }),
            work: Condvar::new(),
        }
    }

    pub(crate) fn watch(self: &Arc<Self>, key: &ServiceKey, revision: Revision) -> ServiceWatch {
        let mut services = lock(&self.services);
        let changes = match services.get(key) {
            Some(sender) => sender.subscribe(),
            None => {
                let (sender, receiver) = watch::channel(revision);
                // A node shut down drops its channels; one made later would wait for ever.
                if !lock(&self.pending).closed {
                    services.insert(key.clone(), sender);
                }
                receiver
            }
        };
        ServiceWatch {
            hub: Arc::clone(self),
            key: key.clone(),
            changes,
        }
    }

    pub(crate) fn watch_all(&self) -> watch::Receiver<Revision> {
        self.all.subscribe()
    }

    pub(crate) fn watched_services(&self) -> usize {
        lock(&self.services).len()
    }

    /// Says that these services changed, up to `revision`. Only the thread that applies may call it.
    pub(crate) fn publish(&self, changed: Vec<Arc<ServiceKey>>, revision: Revision) {
        let few = self.has_few_watchers(&changed);
        {
            let mut pending = lock(&self.pending);
            let idle = !pending.telling && pending.revision <= pending.told;
            pending.revision = revision;
            if !(few && idle) {
                pending.changed.extend(changed);
                self.work.notify_one();
                return;
            }
            pending.told = revision;
        }
        self.tell(&changed, revision);
    }

    fn has_few_watchers(&self, changed: &[Arc<ServiceKey>]) -> bool {
        let services = lock(&self.services);
        let of_each = |key| services.get(key).map_or(0, watch::Sender::receiver_count);
        changed.len() <= FEW && changed.iter().map(|key| of_each(&**key)).sum::<usize>() <= FEW
    }

    pub(crate) fn close(&self) {
        lock(&self.pending).closed = true;
        self.work.notify_one();
    }

    /// The thread that wakes; ends after [`Hub::close`].
    pub(crate) fn run(&self) {
        loop {
            let mut pending = lock(&self.pending);
            pending.telling = false;
            while pending.revision <= pending.told && !pending.closed {
                pending = self
                    .work
                    .wait(pending)
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
            }
            if pending.revision <= pending.told {
                break;
            }
            pending.telling = true;
            pending.told = pending.revision;
            let told = pending.told;
            let mut changed = std::mem::take(&mut pending.changed);
            drop(pending);
            changed.sort_unstable_by_key(Arc::as_ptr);
            changed.dedup_by(|a, b| Arc::ptr_eq(a, b));
            self.tell(&changed, told);
        }
        lock(&self.services).clear();
    }

    fn tell(&self, changed: &[Arc<ServiceKey>], revision: Revision) {
        for key in changed {
            let services = lock(&self.services);
            if let Some(sender) = services.get(&**key) {
                sender.send_replace(revision);
            }
        }
        self.all.send_replace(revision);
    }
}
