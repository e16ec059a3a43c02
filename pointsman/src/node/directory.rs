//! The registry's operations, as the fronts want them.

use std::sync::Arc;

use ::cluster::SubmitError;
use fronts::{Changes, Closed, Cluster, Directory, Pending, Reason, Refused};
use model::{InstanceId, Revision, ServiceKey};
use registry::{Command, Committed, Compacted, Event, Heartbeat, Registry, Service};

use super::Shared;

/// The node's registry. An instance that is registered without a check gets its service's from the
/// configuration, so that every reader sees how it is checked.
pub(super) struct Local(pub(super) Arc<Shared>);

impl Directory for Local {
    fn submit(&self, mut command: Command) -> Pending<'_, Result<Committed, Refused>> {
        if let Command::Register { key, instance, .. } = &mut command
            && instance.check.is_none()
        {
            instance.check = self.0.tables().settings(key).check.clone().map(Box::new);
        }
        Box::pin(async move {
            let committed = self.0.registry.submit(command).await;
            committed.map_err(|why| refused(&why))
        })
    }

    fn heartbeat(&self, instances: &[(ServiceKey, InstanceId)]) -> Vec<Heartbeat> {
        self.0.registry.heartbeat(instances)
    }

    fn registry(&self) -> Registry {
        self.0.registry.read(Registry::clone)
    }

    fn service(&self, key: &ServiceKey) -> (Revision, Option<Arc<Service>>) {
        self.0
            .registry
            .read(|registry| (registry.revision(), registry.service(key).cloned()))
    }

    fn cluster(&self) -> Cluster {
        super::cluster::view(&self.0.registry)
    }

    fn watch(&self, key: &ServiceKey) -> Box<dyn Changes> {
        Box::new(Watch(self.0.registry.watch(key)))
    }

    fn events_since(&self, revision: Revision, key: &ServiceKey) -> Result<Vec<Event>, Compacted> {
        self.0.registry.events_since(revision, Some(key))
    }
}

struct Watch(::cluster::ServiceWatch);

impl Changes for Watch {
    fn changed(&mut self) -> Pending<'_, Result<(), Closed>> {
        Box::pin(async {
            match self.0.changed().await {
                Ok(_) => Ok(()),
                Err(::cluster::Closed) => Err(Closed),
            }
        })
    }
}

pub(super) fn refused(why: &SubmitError) -> Refused {
    let reason = match why {
        SubmitError::Overloaded => Reason::Overloaded,
        SubmitError::TooLarge { .. } => Reason::TooLarge,
        SubmitError::NotWritten { .. } => Reason::NotWritten,
        SubmitError::ReadOnly { .. } => Reason::ReadOnly,
        SubmitError::NoLeader => Reason::NoLeader,
        SubmitError::Interrupted => Reason::Interrupted,
        SubmitError::Closed => Reason::Closing,
    };
    Refused {
        reason,
        detail: why.to_string(),
    }
}
