use model::{Health, Incarnation, Instance, InstanceId, Revision, Role, Timestamp};

use crate::Keyed;

/// An instance as the registry keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What was registered.
    pub instance: Instance,
    /// What the active check says last; passing when there is none.
    pub check_health: Health,
    /// What the lease says: passing while it holds, warning while the mass-loss guard holds it over,
    /// critical once it ran out. Passing when there is none.
    pub lease_health: Health,
    /// Why the check is not passing, in the prober's words.
    pub reason: Option<Box<str>>,
    /// What it is to the others of its service, as the check saw it last. `None` when no check learns that.
    pub role: Option<Role>,
    /// The command by which it was seen to turn from a replica into the primary. `None` for a replica, and for
    /// one that was a primary when it was first seen.
    pub promoted: Option<Revision>,
    /// When its id was first registered.
    pub created: Revision,
    /// When anything in this record that readers can see changed last.
    pub modified: Revision,
    /// The last command that renewed its lease. A decision to expire it names the one it was based
    /// on, and is void if there has been another since.
    pub renewed: Revision,
    /// Which life at which address: changes with the host or the port, and when it comes back after its removal.
    pub incarnation: Incarnation,
    /// When this incarnation was registered, by the wall clock of the node that took it.
    pub registered_at: Timestamp,
}

impl Record {
    /// The one verdict: the worst of what lease and check say. `enabled` and `drain` are an operator's wish
    /// about traffic and say nothing about health.
    pub fn health(&self) -> Health {
        self.check_health.max(self.lease_health)
    }

    /// The record of an instance that is registered at `revision`, given what stood there before.
    pub(crate) fn registered(
        instance: Instance,
        at: Timestamp,
        revision: Revision,
        before: Option<&Self>,
    ) -> Self {
        let same_address = before
            .filter(|old| old.instance.host == instance.host && old.instance.port == instance.port);
        let check_health = match (&instance.check, same_address) {
            (None, _) => Health::Passing,
            // Same process at the same address: what is known of it stays known. Otherwise a deployment that
            // changes a tag, or adds a check, would take every instance out of traffic until its next probe.
            (Some(_), Some(old)) => old.check_health,
            // Nobody has looked yet. Whoever declares a check says that being started is not enough to
            // be sent traffic, even when it heartbeats.
            (Some(_), None) => Health::Unknown,
        };
        let reason = same_address
            .filter(|_| check_health != Health::Passing)
            .and_then(|old| old.reason.clone());
        // The same process without a check may be promoted and demoted unseen; at another address it is another.
        let known = same_address.filter(|_| instance.check.is_some());
        Self {
            check_health,
            role: known.and_then(|old| old.role),
            promoted: known.and_then(|old| old.promoted),
            // A registration is a heartbeat.
            lease_health: Health::Passing,
            reason,
            created: before.map_or(revision, |old| old.created),
            modified: revision,
            renewed: revision,
            incarnation: same_address.map_or(Incarnation(revision.0), |old| old.incarnation),
            registered_at: same_address.map_or(at, |old| old.registered_at),
            instance,
        }
    }
}

impl Keyed for Record {
    type Key = InstanceId;

    fn key(&self) -> &InstanceId {
        &self.instance.id
    }
}
