//! ZooKeeper's clients: whatever they send, and in whatever pieces it comes, they are told the same, and no more is kept
//! than was sent.

use std::cell::Cell;

use model::{Moment, Timestamp};
use registry::{Committed, Registry};
use wire::zookeeper::{Frame, MAX_FRAME, frame};
use zookeeper::{Clients, Key, Limits, World};

/// Pieces of requests.
pub const TOKENS: &[&str] = &[
    "\0\0\0\u{1}", "\0\0\0\u{2}", "\0\0\0\u{4}", "\0\0\0\u{5}", "\0\0\0\u{8}", "\0\0\0\u{c}", "\0\0\0\u{e}", "\0\0\0\u{f}",
    "\0\0\0\u{12}", "\0\0\0\u{16}", "\0\0\0e", "\0\0\0i", "\0\0\0j", "\0\0\0k", "\0\0\0\u{2}/a", "\0\0\0\u{1}/", "\0\0\0\u{4}/a/b",
    "\0\0\0\u{1f}", "\0\0\0\u{5}world", "\0\0\0\u{6}anyone", "\0\0\0\u{6}digest", "\0\0\0\u{4}auth", "\0\0\0\0", "\0", "\u{1}",
    "ruok", "mntr", "\u{7f}\0\0\0", "/zookeeper/quota",
];

/// The request for a session that comes before everything else.
const CONNECT: &[u8] = &[
    0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 39, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0,
];

/// Panics if a promise is broken.
pub fn run(data: &[u8]) {
    // With and without a session.
    for connect in [CONNECT, &[]] {
        let whole = told(connect, &[data]);
        let drip: Vec<&[u8]> = data.chunks(1).collect();
        assert_eq!(told(connect, &drip), whole, "byte by byte");
        let pieces: Vec<&[u8]> = data.chunks(7).collect();
        assert_eq!(told(connect, &pieces), whole, "in pieces");
        check_frames(&whole, connect.is_empty());
    }
}

/// Everything that a client is told which sends these pieces.
fn told(connect: &[u8], pieces: &[&[u8]]) -> Vec<u8> {
    let mut scene = Scene {
        registry: Registry::default(),
        clients: Clients::new(Limits::default(), 5),
        drawn: Cell::new(1),
    };
    let peer = ([127, 0, 0, 1], 1).into();
    let key = scene.clients.accept(peer, Moment::ZERO);
    let mut all = Vec::new();
    let mut sent = 0;
    for piece in std::iter::once(&connect).chain(pieces) {
        sent += piece.len();
        scene.receive(key, piece);
        let take = scene.clients.take(key);
        all.extend_from_slice(&take.output);
        if take.close {
            break;
        }
    }
    // Every byte can ask for the largest answer there is: a node's data, or all that is watched.
    assert!(all.len() <= 1_000 + sent * (sent + 100));
    scene.clients.disconnected(key);
    assert_eq!(scene.clients.watch_counts().watches, 0);
    all
}

struct Scene {
    registry: Registry,
    clients: Clients,
    drawn: Cell<u64>,
}

impl Scene {
    /// Takes bytes, and carries out what they ask for to the end.
    fn receive(&mut self, key: Key, bytes: &[u8]) {
        let mut bytes = Some(bytes);
        loop {
            let drawn = &self.drawn;
            let draw = || drawn.replace(drawn.get().wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let world = World {
                registry: &self.registry,
                now: Moment::ZERO,
                wall: Timestamp(1),
                draw: &draw,
                pulse: &|_| None,
                node: None,
                passes_on: &|_, _, _| false,
                in_touch: true,
            };
            match bytes.take() {
                Some(bytes) => self.clients.receive(key, bytes, &world),
                None => self.clients.resume(key, &world),
            }
            while let Some((key, command, ticket)) = self.clients.poll_command() {
                let revision = self.registry.revision().next();
                let applied = self.registry.apply(revision, &command);
                self.clients.changed(&applied.tree);
                let reply = applied.reply;
                let committed = Committed { revision, reply };
                self.clients
                    .committed(key, &ticket, &self.registry, Some(&committed));
            }
            if !self.clients.is_resumable(key) {
                return;
            }
        }
    }
}

/// What is told is frames from the first byte to the last.
fn check_frames(mut told: &[u8], words: bool) {
    if words {
        return;
    }
    while let Frame::Whole(_, length) = frame(told) {
        told = &told[length..];
    }
    assert!(told.is_empty() || told.len() > MAX_FRAME);
}
