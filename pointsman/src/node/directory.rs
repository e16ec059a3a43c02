//! The registry's operations, as the fronts want them.

use std::sync::Arc;

use cluster::SubmitError;
use fronts::{Changes, Closed, Committed, Directory, Heartbeat, Pending, Reason, Refused};
use model::{InstanceId, Revision, ServiceKey};
use registry::{Command, Compacted, Event, Registry, Service};

/// The node's registry.
pub(super) struct Local(pub(super) cluster::Node);

impl Directory for Local {
    fn submit(&self, command: Command) -> Pending<'_, Result<Committed, Refused>> {
        Box::pin(async move {
            let committed = self.0.submit(command).await.map_err(|why| refused(&why))?;
            Ok(Committed {
                revision: committed.revision,
                reply: committed.reply,
            })
        })
    }

    fn heartbeat(&self, instances: &[(ServiceKey, InstanceId)]) -> Vec<Heartbeat> {
        let found = self.0.heartbeat(instances);
        found.into_iter().map(heartbeat).collect()
    }

    fn registry(&self) -> Registry {
        self.0.read(Registry::clone)
    }

    fn service(&self, key: &ServiceKey) -> (Revision, Option<Arc<Service>>) {
        self.0
            .read(|registry| (registry.revision(), registry.service(key).cloned()))
    }

    fn watch(&self, key: &ServiceKey) -> Box<dyn Changes> {
        Box::new(Watch(self.0.watch(key)))
    }

    fn events_since(&self, revision: Revision, key: &ServiceKey) -> Result<Vec<Event>, Compacted> {
        self.0.events_since(revision, Some(key))
    }
}

struct Watch(cluster::ServiceWatch);

impl Changes for Watch {
    fn changed(&mut self) -> Pending<'_, Result<(), Closed>> {
        Box::pin(async {
            match self.0.changed().await {
                Ok(_) => Ok(()),
                Err(cluster::Closed) => Err(Closed),
            }
        })
    }
}

fn heartbeat(found: cluster::Heartbeat) -> Heartbeat {
    match found {
        cluster::Heartbeat::Renewed => Heartbeat::Renewed,
        cluster::Heartbeat::Woken => Heartbeat::Woken,
        cluster::Heartbeat::Persistent => Heartbeat::Persistent,
        cluster::Heartbeat::NotFound => Heartbeat::NotFound,
    }
}

fn refused(why: &SubmitError) -> Refused {
    let reason = match why {
        SubmitError::Overloaded => Reason::Overloaded,
        SubmitError::TooLarge { .. } => Reason::TooLarge,
        SubmitError::NotWritten { .. } => Reason::NotWritten,
        SubmitError::ReadOnly { .. } => Reason::ReadOnly,
        SubmitError::Closed => Reason::Closing,
    };
    Refused {
        reason,
        detail: why.to_string(),
    }
}
