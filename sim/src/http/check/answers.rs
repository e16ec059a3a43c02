//! Property: an outcome other than the right answer has its reason in what the instances or the client did.

use crate::http::ledger::{Deed, Ledger, Manner, Outcome, Told};
use crate::http::scene::Scene;
use crate::http::world::World;

pub(super) fn check(world: &World) -> Vec<String> {
    world.ledger.with(|ledger| {
        let told = ledger.told.values();
        let unjust = told.filter(|t| !is_just(t, ledger, &world.scene));
        let violation = |t: &Told| {
            let deeds = deeds(ledger, t.ask.id);
            format!(
                "{:x} as {:?} had {:?} without reason; deeds {deeds:?}",
                t.ask.id, t.manner, t.outcome
            )
        };
        unjust.map(violation).collect()
    })
}

fn deeds(ledger: &Ledger, id: u64) -> Vec<Option<Deed>> {
    let arrivals = ledger.arrivals.get(&id).into_iter().flatten();
    arrivals.map(|a| a.deed).collect()
}

fn is_just(told: &Told, ledger: &Ledger, scene: &Scene) -> bool {
    // A listener that is taken away, or a proxy that drains, may end connections between requests.
    let ending = [ledger.drained, ledger.unlistened];
    let ending = ending.iter().flatten().any(|&at| at <= told.ended);
    let by_instances = by_instances(told, ledger, scene);
    match (told.manner, told.outcome) {
        (_, Outcome::Unwatched) | (Manner::Stuck, _) => true,
        (_, Outcome::Nothing) => ending || told.manner == Manner::Garbage || by_instances,
        (Manner::Garbage, outcome) => matches!(outcome, Outcome::Refused(400..=505)),
        (Manner::SlowHead, outcome) => outcome == Outcome::Refused(408),
        (Manner::BigHead, outcome) => matches!(outcome, Outcome::Refused(414 | 431)),
        (Manner::SlowBody, Outcome::Refused(408) | Outcome::Cut) => true,
        (Manner::BadChunk, Outcome::Refused(400) | Outcome::Cut) => true,
        (Manner::SlowBody | Manner::BadChunk, Outcome::Right) => false,
        _ => by_instances,
    }
}

/// Whether what the instances of its service are like, or did to this request, explains the outcome.
fn by_instances(told: &Told, ledger: &Ledger, scene: &Scene) -> bool {
    let deeds: Vec<_> = deeds(ledger, told.ask.id).into_iter().flatten().collect();
    let did = |what: &[Deed]| deeds.iter().any(|d| what.contains(d));
    let natures = &scene.services[told.ask.service].instances;
    match told.outcome {
        Outcome::Right => did(&[Deed::Answered, Deed::Extra]),
        Outcome::Tunnel => did(&[Deed::Tunnelled]),
        Outcome::TooEarly => did(&[Deed::Early]),
        Outcome::Eager => did(&[Deed::Eager]),
        // The reset that tells of the cut may overtake what came before it.
        Outcome::Cut | Outcome::Nothing => did(&[Deed::DiedWithin, Deed::Stalled]),
        Outcome::Refused(502) => {
            // An instance that closes with a part of the request unread resets its own answer away.
            let misdeeds = [
                Deed::Garbage,
                Deed::HugeHead,
                Deed::Flood,
                Deed::Unasked,
                Deed::DiedBefore,
                Deed::DiedWithin,
                Deed::Early,
            ];
            // A connection that is closed, or has stray bytes on it, just as a request goes out on it.
            let stale = |n: &crate::http::scene::Nature| {
                n.closes_idle.is_some() || n.misdeeds.contains(&Deed::Extra)
            };
            did(&misdeeds) || natures.iter().any(|n| n.refuses || stale(n))
        }
        Outcome::Refused(504) => {
            did(&[Deed::Silent, Deed::Stalled]) || natures.iter().any(|n| n.black_hole)
        }
        _ => false,
    }
}
