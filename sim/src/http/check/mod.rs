//! The properties that a finished run must have, one a file.

mod answers;
mod leaks;
mod memory;
mod once;
mod records;

use super::world::World;

/// Looks at everything.
pub(super) fn all(world: &World) {
    for stats in &world.numbers.services {
        let (sent, won) = (stats.total(|s| &s.hedges), stats.total(|s| &s.hedges_won));
        (0..sent).for_each(|_| world.ledger.cover("hedge"));
        (0..won).for_each(|_| world.ledger.cover("hedge that won"));
    }
    let checks: [fn(&World) -> Vec<String>; 5] = [
        answers::check,
        once::check,
        leaks::check,
        memory::check,
        records::check,
    ];
    for violation in checks.iter().flat_map(|check| check(world)) {
        world.ledger.violate(world.network.now(), violation);
    }
}
