//! Looks time and again at what is not told of when it happens, and tells what has become of it.

use std::sync::Arc;
use std::time::Duration;

use model::ServiceTable;
use tokio::time::sleep;

use super::descriptors::Shortage;
use super::ejections::Ejections;
use super::{Events, Kind};
use crate::node::Shared;

/// What lasts for less need not be known; and a node that is alone and idle should sleep.
const LOOK: Duration = Duration::from_secs(1);
/// An election takes a look or two.
const ELECTION: u32 = 3;

/// Tells of what happens, for ever.
pub(in crate::node) async fn watch(shared: Arc<Shared>) {
    let mut seen = Seen::default();
    loop {
        seen.look(&shared);
        shared.events.sum_up();
        sleep(LOOK).await;
    }
}

/// How everything was at the last look.
#[derive(Default)]
struct Seen {
    lead: Lead,
    refused: u64,
    held: u64,
    fault: Option<String>,
    ejections: Ejections,
    /// Services of which too few instances are healthy, by their number.
    panicking: Vec<bool>,
    shortage: Shortage,
}

impl Seen {
    fn look(&mut self, shared: &Shared) {
        let events = &shared.events;
        if shared.registry.number().is_some() {
            self.cluster(shared);
        }
        let stats = shared.registry.stats();
        if stats.fault != self.fault {
            events.tell(Kind::Registry, || match &stats.fault {
                Some(fault) => format!("nothing can be registered here: {fault}"),
                None => "what is registered is written again".into(),
            });
            self.fault = stats.fault;
        }
        if let Some(line) = guard(self.held, stats.held) {
            events.tell(Kind::Guard, || line);
        }
        self.held = stats.held;
        self.shortage.look(shared, events);
        let table = shared.proxy.table();
        self.ejections.look(&table.services, proxy::now(), events);
        self.panicking(&table.services, events);
        for fault in shared.proxy.handshake_faults() {
            let (listener, client, why) = (fault.listener, fault.client, fault.why);
            let line = || format!("listener {listener}: no TLS handshake with {client}: {why}");
            events.tell(Kind::Tls, line);
        }
    }

    fn cluster(&mut self, shared: &Shared) {
        let (events, status) = (&shared.events, shared.registry.status());
        for line in self.lead.look(&status.node, status.leader, status.term) {
            events.tell(Kind::Cluster, || line);
        }
        let refused = shared.registry.stats().peers_refused;
        if let Some(why) = status.refused.filter(|_| refused != self.refused) {
            events.tell(Kind::Peer, || why);
            // The last one hides those before it.
            events.hide(Kind::Peer, refused - self.refused - 1);
        }
        self.refused = refused;
    }

    fn panicking(&mut self, services: &[Arc<ServiceTable>], events: &Events) {
        self.panicking.resize(services.len(), false);
        for (service, before) in services.iter().zip(&mut self.panicking) {
            let least = service.balancing.panic_below;
            let now = least > 0 && balance::is_panicking(&service.endpoints, &service.balancing);
            if std::mem::replace(before, now) == now {
                continue;
            }
            let key = service.view();
            events.tell(Kind::Panic, || match now {
                true => format!(
                    "less than {least} % of service {key} is healthy: health is ignored, and all of its instances get requests"
                ),
                false => format!("the health of service {key} counts again"),
            });
        }
    }
}

/// What there is to say of the mass-loss guard.
fn guard(before: u64, now: u64) -> Option<String> {
    match (before, now) {
        (0, 1..) => Some(format!(
            "{now} leases have run out and are held over: too many in a short time, as if the network had failed and not the instances"
        )),
        (1.., 0) => Some("no leases are held over any more".into()),
        _ => None,
    }
}

/// Who was said to lead.
#[derive(Default)]
struct Lead {
    leader: Option<String>,
    term: u64,
    /// How many looks in a row have found nobody.
    missing: u32,
}

impl Lead {
    /// What there is to say, now that this node, `own`, knows of this leader.
    fn look(&mut self, own: &str, leader: Option<String>, term: u64) -> Vec<String> {
        let mut lines = Vec::new();
        let Some(leader) = leader else {
            self.missing += 1;
            if self.leader.as_deref() == Some(own) {
                lines.push("this node leads no more".into());
                self.leader = None;
            }
            if self.missing == ELECTION {
                let what = "nobody leads: without a majority nothing can be registered; traffic goes on by what is known";
                lines.push(what.into());
            }
            return lines;
        };
        let was_missing = std::mem::take(&mut self.missing) >= ELECTION;
        let same = self.leader.as_ref() == Some(&leader) && self.term == term;
        if same && !was_missing {
            return lines;
        }
        if self.leader.as_deref() == Some(own) && leader != own {
            lines.push("this node leads no more".into());
        }
        lines.push(match leader == own {
            true => format!("this node leads now, in term {term}"),
            false => format!("{leader} leads now, in term {term}"),
        });
        (self.leader, self.term) = (Some(leader), term);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leads_is_told_once_and_that_nobody_does_only_after_an_election_should_be_over() {
        let mut lead = Lead::default();
        let mut look = |leader: &str, term| {
            let leader = (!leader.is_empty()).then(|| leader.to_owned());
            lead.look("a", leader, term).join("; ")
        };
        assert_eq!(look("", 0), "");
        assert_eq!(look("b", 1), "b leads now, in term 1");
        assert_eq!(look("b", 1), "");
        assert_eq!([look("", 1), look("", 1)], ["", ""]);
        assert_eq!(look("a", 2), "this node leads now, in term 2");
        assert_eq!(
            look("c", 3),
            "this node leads no more; c leads now, in term 3"
        );
        assert_eq!(look("a", 4), "this node leads now, in term 4");
        assert_eq!(look("", 4), "this node leads no more");
        assert_eq!(look("", 4), "");
        assert!(look("", 5).starts_with("nobody leads: without a majority"));
        assert_eq!(look("", 5), "");
        // The same as before is news after that.
        assert_eq!(look("c", 5), "c leads now, in term 5");
        assert_eq!([look("", 5), look("", 5)], ["", ""]);
        assert_ne!(look("", 5), "");
        assert_eq!(look("c", 5), "c leads now, in term 5");
    }
}
