//! How fast requests are broken off that the server may not have looked at.

use super::code::Code;
use super::frame;

/// So many at once, and as many again when the server has read them. What is built on the `h2` library (hyper, tonic) ends a
/// connection at the 21st request that was reset before the program took it up, and with it what others have asked for;
/// those that it has read and those that come next are 20 together.
const AT_ONCE: u8 = 10;

/// What was broken off and not said yet. That a server has read what it was told is known from its acknowledgement of settings
/// that change nothing: it has to give one at once (RFC 9113 §6.5.3). A PING would say as much, but gRPC's servers end the
/// connection of a client that sends more than a few of them.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Resets that the server may not have read. Behind the last one that may be sent it is asked whether it has.
    unread: u8,
    /// Whether the settings that the connection began with are acknowledged.
    begun: bool,
    /// Streams whose reset waits, which count for the server until it comes.
    held: Vec<u32>,
}

impl Pace {
    /// Streams that are open for the server, and for nobody else.
    pub(super) const fn held(&self) -> usize {
        self.held.len()
    }

    /// Breaks off a request of which no answer has come, now or as soon as it may be.
    pub(super) fn reset(&mut self, stream: u32, output: &mut Vec<u8>) {
        if self.unread == AT_ONCE {
            self.held.push(stream);
            return;
        }
        frame::write_reset(stream, Code::Cancel, output);
        self.unread += 1;
        if self.unread == AT_ONCE {
            frame::write_settings(&[], output);
        }
    }

    /// The server has acknowledged settings of ours, in the order in which they were sent.
    pub(super) fn acknowledged(&mut self, output: &mut Vec<u8>) {
        let first = !std::mem::replace(&mut self.begun, true);
        if first || self.unread < AT_ONCE {
            return;
        }
        self.unread = 0;
        let now = self.held.len().min(AT_ONCE as usize);
        let held: Vec<u32> = self.held.drain(..now).collect();
        for stream in held {
            self.reset(stream, output);
        }
    }

    /// The connection is over.
    pub(super) fn clear(&mut self) {
        self.held = Vec::new();
    }
}
