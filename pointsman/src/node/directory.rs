//! The registry's operations, as the fronts want them.

use std::sync::Arc;

use ::cluster::{ReadError, SubmitError};
use fronts::{
    Changes, Closed, Cluster, Demand, Directory, Freshness, Home, Pending, Pieces, Reason, Refused,
};
use model::{InstanceId, Revision, ServiceKey};
use registry::replication::Change;
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

    fn freshness(&self) -> Freshness {
        Freshness {
            age: self.0.registry.age(),
            leader: self.0.registry.confirmed_leader(),
        }
    }

    fn catch_up(&self, demand: Demand) -> Pending<'_, Result<(), Refused>> {
        Box::pin(async move {
            let registry = &self.0.registry;
            let met = match demand {
                Demand::Linearizable => registry.catch_up().await,
                Demand::NoOlder(age) => registry.no_older_than(age).await,
            };
            met.map_err(|why| Refused {
                reason: match why {
                    ReadError::Unconfirmed { .. } => Reason::NoLeader,
                    ReadError::TooOld { .. } => Reason::Stale,
                },
                detail: format!(
                    "{why}; ask another node, or without consistency and max_stale, or look at `pointsman cluster status`"
                ),
            })
        })
    }

    fn cluster(&self) -> Pending<'_, Cluster> {
        Box::pin(super::cluster::view(&self.0.registry))
    }

    fn home(&self, name: &str) -> Home {
        self.0.home(name)
    }

    fn change_cluster(&self, change: Change) -> Pending<'_, Result<String, Refused>> {
        Box::pin(async move {
            let changed = self.0.registry.change_cluster(change).await;
            changed.map(String::from).map_err(|why| Refused {
                reason: match why.passing {
                    true => Reason::NoLeader,
                    false => Reason::Unchanged,
                },
                detail: why.to_string(),
            })
        })
    }

    fn snapshot(&self) -> std::io::Result<Pieces> {
        self.0.registry.export()
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
        SubmitError::TooNew { .. } => Reason::TooNew,
        SubmitError::Closed => Reason::Closing,
    };
    Refused {
        reason,
        detail: why.to_string(),
    }
}
