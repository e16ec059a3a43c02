//! Clients: each sends some packets and waits for as many answers, over and over.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// One kind of load.
pub(super) struct Case {
    pub(super) name: &'static str,
    clients: usize,
    /// Packets that a client has under way.
    window: usize,
    size: usize,
    /// A client for each question, as for DNS.
    pub(super) one_shot: bool,
}

pub(super) const CASES: [Case; 4] = [
    Case {
        name: "64 sessions, 128 B to and fro",
        clients: 64,
        window: 1,
        size: 128,
        one_shot: false,
    },
    Case {
        name: "512 sessions, 128 B to and fro, 64 at once",
        clients: 512,
        window: 1,
        size: 128,
        one_shot: false,
    },
    Case {
        name: "2 sessions, 1,200 B, 32 under way each",
        clients: 2,
        window: 32,
        size: 1_200,
        one_shot: false,
    },
    Case {
        name: "a session for each question, 64 B",
        clients: 64,
        window: 1,
        size: 64,
        one_shot: true,
    },
];

/// Packets under way at once: what the instance's socket buffer holds by default.
const AT_ONCE: usize = 64;

/// The clients of a round.
pub(super) struct Clients<'a> {
    case: &'a Case,
    target: SocketAddr,
    sockets: Vec<UdpSocket>,
    packet: Vec<u8>,
}

impl<'a> Clients<'a> {
    pub(super) fn new(case: &'a Case, target: SocketAddr) -> std::io::Result<Self> {
        let sockets = (0..case.clients).map(|_| socket(target));
        Ok(Self {
            case,
            target,
            sockets: sockets.collect::<Result<_, _>>()?,
            packet: vec![b'x'; case.size],
        })
    }

    /// Runs for so long; answers that came, and those that did not.
    pub(super) fn run(&mut self, time: Duration) -> std::io::Result<(u64, u64)> {
        let deadline = Instant::now() + time;
        let (mut answered, mut lost) = (0, 0);
        let mut buffer = vec![0; self.case.size + 1];
        while Instant::now() < deadline {
            if self.case.one_shot {
                for socket in &mut self.sockets {
                    *socket = self::socket(self.target)?;
                }
            }
            for sockets in self.sockets.chunks(AT_ONCE / self.case.window) {
                for socket in sockets {
                    for _ in 0..self.case.window {
                        socket.send(&self.packet)?;
                    }
                }
                for socket in sockets {
                    for _ in 0..self.case.window {
                        match socket.recv(&mut buffer) {
                            Ok(_) => answered += 1,
                            Err(_) => lost += 1,
                        }
                    }
                }
            }
        }
        Ok((answered, lost))
    }
}

fn socket(target: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    Ok(socket)
}
