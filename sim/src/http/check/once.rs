//! Property: a request reaches an instance at most once unless it may be repeated, never without the bytes of its
//! body, and one that may be repeated does not fail while an instance that would answer it is left.

use crate::http::ask::{Body, got};
use crate::http::ledger::{Deed, Ledger, Outcome, Told};
use crate::http::scene::{Nature, Scene};
use crate::http::world::World;

pub(super) fn check(world: &World) -> Vec<String> {
    world.ledger.with(|ledger| {
        let told = ledger.told.values();
        told.flat_map(|t| {
            [
                often(t, ledger, &world.scene),
                changed(t, ledger),
                given_up(t, &world.scene),
            ]
        })
        .flatten()
        .collect()
    })
}

fn often(told: &Told, ledger: &Ledger, scene: &Scene) -> Option<String> {
    let ask = &told.ask;
    let times = ledger.arrivals.get(&ask.id).map_or(0, Vec::len);
    // A connection that was closed unused is not the instance's failure: its request goes out once more.
    let service = &scene.services[ask.service];
    let hedged = 1 + usize::from(service.hedges.is_some());
    let most = match ask.is_idempotent() {
        true => 2 * hedged * (1 + usize::from(service.retries)),
        false => 1,
    };
    (times > most).then(|| {
        format!(
            "{:x} ({}) reached instances {times} times",
            ask.id, ask.method
        )
    })
}

fn changed(told: &Told, ledger: &Ledger) -> Option<String> {
    let ask = &told.ask;
    let right = got(&ask.payload(), matches!(ask.body, Body::Chunks(_, true)));
    let arrivals = ledger.arrivals.get(&ask.id)?;
    let wrong = arrivals
        .iter()
        .filter_map(|a| a.got.as_ref())
        .find(|got| **got != right)?;
    Some(format!(
        "{:x} arrived as {wrong} instead of {right}",
        ask.id
    ))
}

fn given_up(told: &Told, scene: &Scene) -> Option<String> {
    let Outcome::Refused(status @ 502..=504) = told.outcome else {
        return None;
    };
    let service = &scene.services[told.ask.service];
    // The first instance is always eligible.
    let healthy = is_healthy(&service.instances[0]);
    let tries = usize::from(service.retries) + 1 >= service.instances.len();
    let repeatable = told.ask.is_idempotent() && told.ask.body == Body::None;
    let fails_fast = |n: &Nature| {
        let fast = [
            Deed::Garbage,
            Deed::HugeHead,
            Deed::DiedBefore,
            Deed::Unasked,
        ];
        n.misdeeds.iter().all(|d| fast.contains(d))
    };
    let all_fast = service.instances.iter().all(fails_fast);
    let should = healthy && tries && repeatable && all_fast && !told.ask.upgrade;
    should.then(|| {
        format!(
            "{:x} had {status} while a healthy instance was left",
            told.ask.id
        )
    })
}

fn is_healthy(nature: &Nature) -> bool {
    nature.misdeeds.is_empty() && !nature.refuses && !nature.black_hole
}
