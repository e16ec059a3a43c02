//! WebSocket frames: where they end does not hang on how the bytes came in.

use http::ws::Frames;

/// Heads of frames.
pub const TOKENS: &[&str] = &["\u{1}\u{5}", "\u{2}\u{7e}\0\u{7f}", "\u{2}\u{7f}\0\0\0\0\0\u{1}\0\0", "\u{8}\0", "\u{9}\0", "\0", "hello"];

/// Panics if a promise is broken.
pub fn run(data: &[u8]) {
    let whole = see(data, data.len());
    for size in [1, 3, 1 + data.len() % 64] {
        assert_eq!(see(data, size), whole, "in pieces of {size}");
    }
}

/// After which bytes a frame ends, and whether a Close frame has come, by the end.
fn see(data: &[u8], size: usize) -> (bool, bool) {
    let mut frames = Frames::default();
    data.chunks(size.max(1)).for_each(|piece| frames.see(piece));
    (frames.is_between(), frames.has_closed())
}
