//! What checks have found, on its way into the registry.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{Health, InstanceId, ServiceKey};
use registry::{Command, Registry, Service, Verdict};
use tokio::time::Instant;

use super::Shared;

/// Whoever has doubted itself believes itself for so long, and until it finds something well again: if a service is really down,
/// every node doubts it once at the most until that is written.
const BELIEF: Duration = Duration::from_secs(30);

/// How often a node looks who leads.
const LOOK: Duration = Duration::from_millis(200);
/// When nobody has led for so long, nobody will soon: an election takes less than a second.
const LEADERLESS: Duration = Duration::from_secs(2);

/// Verdicts of the checks go into the registry: those of the node that leads. The others check too, and so know what holds
/// when one of them takes the lead, and ask whoever leads to look, too; but two that see an instance from different places
/// would contradict each other for ever.
pub(super) async fn take(shared: Arc<Shared>, mut reports: health::Reports) {
    let (mut doubted, mut well_since): (Option<Instant>, bool) = (None, false);
    while let Some(verdicts) = reports.recv().await {
        if let Some(keys) = shared.findings.take(&verdicts) {
            shared.refresh(keys.into_iter());
            continue;
        }
        well_since |= verdicts.iter().any(|v| v.health == Health::Passing);
        let believes = doubted.is_some_and(|then| then.elapsed() < BELIEF || !well_since);
        if shared.registry.leads()
            // It has others.
            && shared.registry.leader().is_some()
            && !believes
            && shared.registry.read(|registry| most_are_down(registry, &verdicts))
        {
            (doubted, well_since) = (Some(Instant::now()), false);
            eprintln!(
                "pointsman: the checks of this node find most instances of a service down: another node is to lead, and to look for \
                 itself"
            );
            shared.registry.hand_over().await;
        }
        if !shared.registry.leads() {
            let seen = shared.registry.read(|registry| {
                let contrary = verdicts.into_iter().filter(|v| contradicts(registry, v));
                contrary.map(|v| (v.key, v.id)).collect::<Vec<_>>()
            });
            if !seen.is_empty() {
                shared.registry.suspect(seen);
            }
            continue;
        }
        if let Err(fault) = shared.registry.verdicts(verdicts).await {
            eprintln!("pointsman: verdicts of checks were not stored: {fault}");
            shared.check_anew();
        }
    }
}

/// Checks everything anew once this node leads, and once nobody does or somebody does again: what was found before was for
/// others to know, and is not said twice. Ends at once for a node that is alone, which always leads.
pub(super) async fn mind_leader(shared: Arc<Shared>) {
    if shared.registry.number().is_none() {
        return;
    }
    let (mut led, mut last_led) = (shared.registry.leads(), Instant::now());
    loop {
        tokio::time::sleep(LOOK).await;
        let leads = shared.registry.leads();
        let mut anew = leads && !led;
        led = leads;
        if shared.registry.confirmed_leader().is_some() {
            last_led = Instant::now();
            if let Some(found) = shared.findings.end() {
                shared.refresh(found.keys());
                anew = true;
            }
        } else if last_led.elapsed() > LEADERLESS {
            anew |= shared.findings.begin();
        }
        if anew {
            shared.check_anew();
        }
    }
}

/// What this node's checks have found while nobody leads, and nothing can be written: until somebody does, it goes by that itself.
#[derive(Default)]
pub(crate) struct Findings(Mutex<Option<Found>>);

type Found = BTreeMap<ServiceKey, BTreeMap<InstanceId, Verdict>>;

impl Findings {
    /// Nobody leads; false if that is known.
    fn begin(&self) -> bool {
        let mut found = self.lock();
        let begins = found.is_none();
        found.get_or_insert_default();
        begins
    }

    /// Somebody leads; returns what was found, if nobody did before.
    fn end(&self) -> Option<Found> {
        self.lock().take()
    }

    /// Keeps verdicts if nobody leads, and returns the services that they are about.
    fn take<'v>(&self, verdicts: &'v [Verdict]) -> Option<Vec<&'v ServiceKey>> {
        let mut found = self.lock();
        let found = found.as_mut()?;
        for verdict in verdicts {
            let service = found.entry(verdict.key.clone()).or_default();
            service.insert(verdict.id.clone(), verdict.clone());
        }
        Some(verdicts.iter().map(|verdict| &verdict.key).collect())
    }

    /// The service as it would be if that were written. Who of several is the primary stays as it was: that is not for one node to say.
    /// And where most would be down, they stay as they were: it may be this node that is cut off.
    pub(super) fn over(&self, registry: &Registry, key: &ServiceKey) -> Option<Arc<Service>> {
        let service = registry.service(key)?;
        let found = self.lock();
        let Some(found) = found.as_ref().and_then(|found| found.get(key)) else {
            return Some(Arc::clone(service));
        };
        let mut verdicts: Vec<Verdict> = found.values().cloned().collect();
        if most_are_down(registry, &verdicts) {
            verdicts.retain(|verdict| verdict.health != Health::Critical);
        }
        for verdict in &mut verdicts {
            verdict.role = service.instance(&verdict.id).and_then(|record| record.role);
        }
        let mut registry = registry.clone();
        registry.apply(registry.revision().next(), &Command::SetHealth(verdicts));
        registry.service(key).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Found>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it says more than the same for another reason.
fn contradicts(registry: &Registry, verdict: &Verdict) -> bool {
    let record = registry.instance(&verdict.key, &verdict.id);
    record.is_none_or(|r| (r.check_health, r.role) != (verdict.health, verdict.role))
}

/// Whether, with these verdicts, most instances of a service that are checked are down, of several. A leader that sees that is
/// as likely cut off from them as they are down; and what it writes, all nodes go by.
fn most_are_down(registry: &Registry, verdicts: &[Verdict]) -> bool {
    let mut found: BTreeMap<&ServiceKey, BTreeMap<&InstanceId, Health>> = BTreeMap::new();
    // Who is down for another reason than before has been known to be down.
    for verdict in verdicts.iter().filter(|v| contradicts(registry, v)) {
        let service = found.entry(&verdict.key).or_default();
        service.insert(&verdict.id, verdict.health);
    }
    // What is well again is no reason to doubt.
    found.retain(|_, service| service.values().any(|health| *health == Health::Critical));
    found.iter().any(|(key, found)| {
        let Some(service) = registry.service(key) else {
            return false;
        };
        let checked = service.instances().filter(|r| r.instance.check.is_some());
        let (mut whole, mut down) = (0_usize, 0);
        for record in checked {
            let health = found
                .get(&record.instance.id)
                .unwrap_or(&record.check_health);
            whole += 1;
            down += usize::from(*health == Health::Critical);
        }
        whole > 1 && 2 * down > whole
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{CheckKind, CheckSpec, Host, Incarnation, Instance, Timestamp, Weight};

    fn key() -> ServiceKey {
        ServiceKey::in_default("shop".parse().unwrap())
    }

    fn register(registry: &mut Registry, id: &str, checked: bool) {
        let check = CheckSpec {
            kind: CheckKind::Tcp,
            port: None,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            rise: 1,
            fall: 1,
        };
        let instance = Box::new(Instance {
            id: id.parse().unwrap(),
            host: Host::Ip("10.0.0.1".parse().unwrap()),
            port: 80.try_into().unwrap(),
            weight: Weight(1),
            tier: 0,
            zone: None,
            tags: Box::default(),
            metadata: None,
            lease: None,
            check: checked.then(|| Box::new(check)),
            enabled: true,
            drain: false,
        });
        let (key, at) = (key(), Timestamp(1));
        let command = Command::Register { key, instance, at };
        registry.apply(registry.revision().next(), &command);
    }

    fn found(registry: &Registry, id: &str, health: Health) -> Verdict {
        let id: InstanceId = id.parse().unwrap();
        let record = registry.instance(&key(), &id).unwrap();
        Verdict {
            key: key(),
            incarnation: Incarnation(record.incarnation.0),
            id,
            health,
            role: None,
            reason: None,
        }
    }

    #[test]
    fn a_leader_that_finds_most_of_a_service_down_doubts_it_and_one_that_finds_few_does_not() {
        let mut registry = Registry::default();
        register(&mut registry, "a", true);
        let down = |registry: &Registry, id| found(registry, id, Health::Critical);
        // One by itself may well be down.
        assert!(!most_are_down(&registry, &[down(&registry, "a")]));
        for id in ["b", "c", "d"] {
            register(&mut registry, id, true);
        }
        register(&mut registry, "unchecked", false);
        let two = ["a", "b"].map(|id| down(&registry, id));
        assert!(!most_are_down(&registry, &two));
        let third = down(&registry, "c");
        let three = [&two[..], std::slice::from_ref(&third)].concat();
        assert!(most_are_down(&registry, &three));
        // One after the other, too; and what is found well is no reason.
        let first = Command::SetHealth(two.to_vec());
        registry.apply(registry.revision().next(), &first);
        assert!(most_are_down(&registry, std::slice::from_ref(&third)));
        // Nor is another reason for what is known.
        let known = Command::SetHealth(vec![third.clone()]);
        registry.apply(registry.revision().next(), &known);
        assert!(!most_are_down(&registry, &[third]));
        assert!(!most_are_down(
            &registry,
            &[found(&registry, "d", Health::Passing)]
        ));
        assert!(!most_are_down(&registry, &[]));
    }

    #[test]
    fn while_nobody_leads_a_node_goes_by_what_it_finds_unless_most_would_be_down() {
        let mut registry = Registry::default();
        for id in ["a", "b", "c"] {
            register(&mut registry, id, true);
        }
        let well = ["a", "b", "c"].map(|id| found(&registry, id, Health::Passing));
        registry.apply(
            registry.revision().next(),
            &Command::SetHealth(well.to_vec()),
        );
        let findings = Findings::default();
        let seen = |findings: &Findings| -> Vec<Health> {
            let service = findings.over(&registry, &key()).unwrap();
            service.instances().map(|record| record.health()).collect()
        };
        let down = |id| [found(&registry, id, Health::Critical)];
        // What is found before is for whoever leads.
        assert_eq!(findings.take(&down("a")), None);
        assert_eq!(seen(&findings), [Health::Passing; 3]);
        assert!(findings.begin() && !findings.begin());
        assert_eq!(findings.take(&down("a")), Some(vec![&key()]));
        let one_down = [Health::Critical, Health::Passing, Health::Passing];
        assert_eq!(seen(&findings), one_down);
        findings.take(&down("b"));
        assert_eq!(seen(&findings), [Health::Passing; 3]);
        findings.take(&[found(&registry, "b", Health::Passing)]);
        assert_eq!(seen(&findings), one_down);
        assert!(
            findings
                .end()
                .is_some_and(|found| found.contains_key(&key()))
        );
        assert_eq!(seen(&findings), [Health::Passing; 3]);
        assert!(findings.end().is_none());
    }
}
