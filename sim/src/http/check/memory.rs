//! Property: what is somewhere between an instance and its client is bounded, however large the message.

use crate::http::world::World;

/// What the proxy may keep of one message: a buffer read and not yet sent, with its framing, on its way into
/// another.
const HELD: u64 = 200 * 1024;

pub(super) fn check(world: &World) -> Vec<String> {
    // Each side's connection may have a window's worth under way.
    let bound = HELD + 2 * world.scene.conditions.window as u64;
    let (down, up) = world.ledger.with(|l| (l.most_held_down, l.most_held_up));
    let over = |(what, held): (&str, u64)| {
        (held > bound).then(|| format!("{held} bytes of {what} were held, over {bound}"))
    };
    [("an answer", down), ("a request", up)]
        .into_iter()
        .filter_map(over)
        .collect()
}
