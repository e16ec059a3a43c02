//! What checks have found, on its way into the registry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{Health, InstanceId, ServiceKey};
use registry::{Registry, Verdict};
use tokio::time::Instant;

use super::Shared;

/// Who has doubted itself believes itself for so long. Should everything really be down, every node doubts it once at the
/// most until that is written.
const BELIEF: Duration = Duration::from_secs(600);

/// Verdicts of the checks go into the registry: those of the node that leads. The others check too, and so know what holds
/// when one of them takes the lead, and ask whoever leads to look, too; but two that see an instance from different places
/// would contradict each other for ever.
pub(super) async fn take(shared: Arc<Shared>, mut reports: health::Reports) {
    let mut doubted: Option<Instant> = None;
    while let Some(verdicts) = reports.recv().await {
        let believes = doubted.is_some_and(|then| then.elapsed() < BELIEF);
        if shared.registry.leads()
            // It has others.
            && shared.registry.leader().is_some()
            && !believes
            && shared.registry.read(|registry| nobody_is_well(registry, &verdicts))
        {
            doubted = Some(Instant::now());
            eprintln!(
                "pointsman: the checks of this node find no instance well at all: another one is to lead, and to look for itself"
            );
            shared.registry.hand_over().await;
        }
        if !shared.registry.leads() {
            let seen = verdicts
                .into_iter()
                .map(|verdict| (verdict.key, verdict.id));
            shared.registry.suspect(seen.collect());
            continue;
        }
        if let Err(fault) = shared.registry.verdicts(verdicts).await {
            eprintln!("pointsman: verdicts of checks were not stored: {fault}");
            shared.check_anew();
        }
    }
}

/// Whether, with these verdicts, all instances that are checked are down, of several. A leader that sees that is more
/// likely cut off from all of them than all of them are down; and what it writes, all nodes would go by.
fn nobody_is_well(registry: &Registry, verdicts: &[Verdict]) -> bool {
    let found: BTreeMap<(&ServiceKey, &InstanceId), Health> = verdicts
        .iter()
        .map(|verdict| ((&verdict.key, &verdict.id), verdict.health))
        .collect();
    if found.values().all(|health| *health != Health::Critical) {
        return false;
    }
    let mut checked = 0;
    for service in registry.services() {
        for record in service.instances() {
            if record.instance.check.is_none() {
                continue;
            }
            checked += 1;
            let found = found.get(&(&service.key, &record.instance.id));
            if *found.unwrap_or(&record.check_health) != Health::Critical {
                return false;
            }
        }
    }
    checked > 1
}

#[cfg(test)]
mod tests {
    use model::{CheckKind, CheckSpec, Host, Incarnation, Instance, Timestamp, Weight};
    use registry::Command;

    use super::*;

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
    fn whoever_finds_nobody_well_doubts_it_and_whoever_finds_one_does_not() {
        let mut registry = Registry::default();
        register(&mut registry, "a", true);
        let lost = [found(&registry, "a", Health::Critical)];
        // One by itself may well be down.
        assert!(!nobody_is_well(&registry, &lost));
        register(&mut registry, "b", true);
        register(&mut registry, "unchecked", false);
        let well = Command::SetHealth(vec![found(&registry, "b", Health::Passing)]);
        registry.apply(registry.revision().next(), &well);
        assert!(!nobody_is_well(&registry, &lost));
        let both = [lost[0].clone(), found(&registry, "b", Health::Critical)];
        assert!(nobody_is_well(&registry, &both));
        // The second, once the first is known to be lost.
        registry.apply(
            registry.revision().next(),
            &Command::SetHealth(lost.to_vec()),
        );
        assert!(nobody_is_well(&registry, &both[1..]));
        assert!(!nobody_is_well(
            &registry,
            &[found(&registry, "a", Health::Passing)]
        ));
        assert!(!nobody_is_well(&registry, &[]));
    }
}
