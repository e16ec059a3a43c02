//! What is asked for.

/// One kind of load.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) connections: usize,
    /// Bytes of an answer's body.
    pub(super) size: usize,
    /// A connection for each request.
    pub(super) close: bool,
    /// Whether answers are so large that peers have other settings for them.
    pub(super) large: bool,
    /// Requests a second at which latency is measured: below what the slowest contender does.
    pub(super) rate: f64,
    /// The share of the best peer's cost that ours may be.
    pub(super) target: f64,
}

impl Case {
    pub(super) fn all() -> [Self; 4] {
        [
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
                ..Self::small()
            },
            Self {
                name: "64 at a time, 128 B, Connection: close",
                close: true,
                rate: 8_000.0,
                target: 0.90,
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
            close: false,
            large: false,
            rate: 20_000.0,
            target: 0.80,
        }
    }

    /// The request, for a proxy at `host`.
    pub(super) fn request(&self, host: std::net::SocketAddr) -> Vec<u8> {
        let close = if self.close {
            "Connection: close\r\n"
        } else {
            ""
        };
        format!("GET /{} HTTP/1.1\r\nHost: {host}\r\n{close}\r\n", self.size).into()
    }
}
