//! Property: a drained run ends, and leaves nothing behind.

use crate::http::world::World;

pub(super) fn check(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    let mut must_be_zero = |what: String, count: u64| {
        if count != 0 {
            found.push(format!("at the end, {what}: {count}"));
        }
    };
    must_be_zero(
        "clients at work".into(),
        world.ledger.with(|l| l.busy) as u64,
    );
    must_be_zero(
        "open ends of connections".into(),
        world.network.open_ends() as u64,
    );
    must_be_zero("pooled connections".into(), world.simulated.pooled() as u64);
    for (s, endpoints) in world.numbers.endpoints.iter().enumerate() {
        for (i, stats) in endpoints.iter().enumerate() {
            must_be_zero(
                format!("in flight at {s}.{i}"),
                u64::from(stats.in_flight()),
            );
        }
    }
    for (number, stats) in world.numbers.listeners.iter().enumerate() {
        let accepted = stats.total(|l| &l.accepted);
        let closed = stats.total(|l| &l.closed);
        if accepted != closed {
            found.push(format!(
                "listener {number}: {accepted} accepted, {closed} closed"
            ));
        }
    }
    found
}
