//! What nodes of a cluster send each other: anything may come, and what is accepted is what was meant.

use registry::replication::{Body, Hello, Membership, Message, Origin, Request, commands};

/// Pieces of messages.
pub const TOKENS: &[&str] = &[
    "\0", "\u{1}", "\u{2}", "\u{3}", "\u{4}", "\u{5}", "\u{6}", "\u{7}", "\u{10}", "\u{7f}", "\0\u{1}", "\0\u{1}\u{1}", "\0\u{1}\u{5}",
    "\0\u{1}\u{6}", "\0\u{1}\u{7}", "\0\u{1}\u{8}", "\0\u{1}\u{9}", "\0\u{1}\u{a}", "\0\u{1}\u{c}", "\u{1}\u{1}\u{8}", "\u{1}\u{1}\u{b}", "\u{1}\u{1}\u{5}", "shop", "default", "n1", "10.0.0.1:7071", "pointsman", "\u{e9}",
];

/// Panics if a promise is broken.
pub fn run(data: &[u8]) {
    if let Ok(message) = Message::decode(data) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message));
        if let Message::Request(_, Request::Append { entries, .. }) = &message {
            for (_, body) in entries {
                if let Body::Batch(batch) = body {
                    let _ = commands(batch.commands);
                }
            }
        }
    }
    if let Ok(hello) = Hello::decode(data) {
        let mut bytes = Vec::new();
        hello.encode(&mut bytes);
        assert_eq!(Hello::decode(&bytes), Ok(hello));
    }
    if let Ok(membership) = Membership::read(data) {
        let mut bytes = Vec::new();
        membership.write(&mut bytes);
        assert_eq!(Membership::read(&bytes), Ok(membership));
    }
    if let Ok(origin) = Origin::read(data) {
        let mut bytes = Vec::new();
        origin.write(&mut bytes);
        assert_eq!(Origin::read(&bytes), Ok(origin));
    }
}
