//! What is asked for.

use super::contender::Contender;

use super::Layer;
use super::handshake::Keys;

/// One kind of load.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) connections: usize,
    /// Bytes of an answer's body.
    pub(super) size: usize,
    /// Bytes that the instance writes at a time; 0: all of it.
    pub(super) writes: usize,
    /// A connection for each request.
    pub(super) close: bool,
    /// For connections in TLS, a connection for each request.
    pub(super) handshake: Option<Keys>,
    /// Whether instances speak HTTP/2, too.
    pub(super) many: bool,
    /// Whether answers are so large that peers have other settings for them.
    pub(super) large: bool,
    /// Requests a second at which latency is measured: below what the slowest contender does.
    pub(super) rate: f64,
    /// The share of the best peer's cost that ours may be.
    pub(super) target: f64,
    /// What our own code may take of a request, in µs; the rest is the kernel's.
    pub(super) user_target: Option<f64>,
}

impl Case {
    pub(super) fn all(layer: Layer) -> Vec<Self> {
        match layer {
            Layer::Http => Self::http(),
            Layer::Tls => Self::tls(),
            Layer::H2 => Self::h2(),
            Layer::Tcp => Self::tcp(),
        }
    }

    /// The same loads as seen by a proxy that passes them on; the kernel's share is larger, and so is what nobody can win.
    fn tcp() -> Vec<Self> {
        let small = Self {
            user_target: None,
            target: 0.97,
            ..Self::small()
        };
        vec![
            Self { ..small },
            Self {
                name: "64 connections, 100 KiB",
                size: 100 << 10,
                large: true,
                rate: 4_000.0,
                target: 1.0,
                ..small
            },
            Self {
                name: "16 connections, 1 MiB",
                connections: 16,
                size: 1 << 20,
                large: true,
                rate: 500.0,
                target: 0.65,
                ..small
            },
            Self {
                name: "4 streams of 16 MiB, written 1 MiB at a time",
                connections: 4,
                size: 16 << 20,
                writes: 1 << 20,
                large: true,
                rate: 40.0,
                target: 0.65,
                ..small
            },
            Self {
                name: "4 streams of 16 MiB, written 64 KiB at a time",
                connections: 4,
                size: 16 << 20,
                writes: 64 << 10,
                large: true,
                rate: 40.0,
                target: 0.65,
                ..small
            },
            Self {
                name: "64 at a time, 128 B, a connection each",
                close: true,
                rate: 8_000.0,
                target: 1.0,
                ..small
            },
        ]
    }

    fn tls() -> Vec<Self> {
        let small = Self {
            target: 0.72,
            user_target: None,
            ..Self::small()
        };
        let handshake = Self {
            name: "a full handshake (TLS 1.3, ECDSA P-256) and one request",
            close: true,
            handshake: Some(Keys::New),
            target: 0.60,
            ..small
        };
        vec![
            Self {
                name: "a session taken up again, and one request",
                handshake: Some(Keys::OfAnEarlierSession),
                ..handshake
            },
            handshake,
            Self {
                name: "64 connections, 100 KiB",
                size: 100 << 10,
                large: true,
                target: 0.65,
                ..small
            },
            small,
        ]
    }

    /// Clients that ask for much at a time on few connections.
    fn h2() -> Vec<Self> {
        let small = Self {
            name: "16 connections of 32 streams, 128 B",
            connections: 16,
            user_target: None,
            ..Self::small()
        };
        vec![
            Self {
                name: "16 connections of 32 streams, 128 B, HTTP/2 on both sides",
                many: true,
                ..small
            },
            Self {
                name: "16 connections of 32 streams, 100 KiB, HTTP/2 on both sides",
                many: true,
                size: 100 << 10,
                large: true,
                ..small
            },
            Self {
                name: "16 connections of 32 streams, 100 KiB",
                size: 100 << 10,
                large: true,
                ..small
            },
            small,
        ]
    }

    fn http() -> Vec<Self> {
        vec![
            Self::small(),
            Self {
                name: "512 connections, 128 B",
                connections: 512,
                target: 0.62,
                ..Self::small()
            },
            Self {
                name: "64 connections, 100 KiB",
                size: 100 << 10,
                large: true,
                rate: 4_000.0,
                target: 1.0,
                user_target: None,
                ..Self::small()
            },
            Self {
                name: "64 at a time, 128 B, Connection: close",
                close: true,
                rate: 8_000.0,
                target: 0.90,
                user_target: None,
                ..Self::small()
            },
        ]
    }

    /// Small answers on connections that stay.
    pub(super) fn small() -> Self {
        Self {
            name: "64 connections, 128 B",
            connections: 64,
            size: 128,
            writes: 0,
            close: false,
            handshake: None,
            many: false,
            large: false,
            rate: 20_000.0,
            target: 0.80,
            user_target: Some(1.5),
        }
    }

    /// Whether the contender is run in this case.
    pub(super) fn suits(&self, contender: &Contender) -> bool {
        if self.many != contender.many {
            return false;
        }
        if self.large {
            return !contender.only_small;
        }
        // The relay knows neither where a message ends nor that a connection should.
        let floor = contender.floor && (self.close || self.handshake.is_some());
        !floor && !contender.only_large
    }

    /// What is asked for.
    pub(super) fn path(&self) -> String {
        match self.writes {
            0 => format!("/{}", self.size),
            writes => format!("/{}/{writes}", self.size),
        }
    }

    /// A connection in HTTP/2 up to and with its first request, for a proxy at `host`.
    pub(super) fn first_of_many(&self, host: std::net::SocketAddr) -> Vec<u8> {
        let (path, host) = (format!("/{}", self.size), host.to_string());
        // GET and http by their indexes, the others as literals (RFC 7541).
        let mut block = vec![0x82, 0x86, 0x04, path.len() as u8];
        block.extend_from_slice(path.as_bytes());
        block.extend_from_slice(&[0x01, host.len() as u8]);
        block.extend_from_slice(host.as_bytes());
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        // END_STREAM, END_HEADERS, stream 1.
        bytes.extend_from_slice(&[0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1]);
        bytes.extend_from_slice(&block);
        bytes
    }

    /// The request, for a proxy at `host`.
    pub(super) fn request(&self, host: std::net::SocketAddr) -> Vec<u8> {
        let close = if self.close {
            "Connection: close\r\n"
        } else {
            ""
        };
        let path = self.path();
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{close}\r\n").into()
    }
}
