//! `[listener.NAME.http2]`: connections that carry many requests at a time.

use model::{ByteSize, Http2Limits};

use crate::declare::{declare, resolved};
use crate::reader::Reader;
use crate::rule::default;
use crate::tree::Node;
use crate::value::Resolved;

declare! {
    /// HTTP/2, which an `https` listener offers by ALPN, and an `http` listener understands from clients that begin
    /// with it (prior knowledge).
    pub(crate) struct Http2Keys {
        /// Whether it is spoken.
        // What one connection carries instead of six, and what gRPC needs.
        enabled: bool => default(true),
        /// The most requests of one connection at a time.
        // What nginx has; browsers use no more than 100.
        max_concurrent_streams: u32 => default(128u32).within(1..=10_000),
        /// How much of a request's body is taken ahead of its instance.
        // 256 KiB on their way allow 20 Mbit/s at a distance of 100 ms; the specification begins with 64.
        stream_window: ByteSize => default(ByteSize(256 << 10)).within(ByteSize(64 << 10)..=ByteSize(16 << 20)),
        /// The same for all requests of a connection together: what it may make us keep.
        // Four uploads whose instances do not take them; requests without a body need none of it.
        connection_window: ByteSize => default(ByteSize(1 << 20)).within(ByteSize(64 << 10)..=ByteSize(64 << 20)),
    }
}

resolved!(Http2Limits);

impl Resolved for Http2Limits {
    type Keys = Http2Keys;

    fn resolve(keys: Http2Keys, node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        if keys.connection_window < keys.stream_window {
            let what =
                "has a connection_window below its stream_window, which no request could use";
            let hint = "make connection_window as large as stream_window, or larger";
            cx.error(node.at, what, hint);
            return None;
        }
        Some(Self {
            enabled: keys.enabled,
            max_concurrent_streams: keys.max_concurrent_streams,
            stream_window: u32::try_from(keys.stream_window.0).ok()?,
            connection_window: u32::try_from(keys.connection_window.0).ok()?,
        })
    }

    fn keys(&self) -> Http2Keys {
        Http2Keys {
            enabled: self.enabled,
            max_concurrent_streams: self.max_concurrent_streams,
            stream_window: ByteSize(self.stream_window.into()),
            connection_window: ByteSize(self.connection_window.into()),
        }
    }
}
