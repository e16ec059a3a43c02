//! Answers on their way to clients, gathered so that one call sends many.

use std::net::{IpAddr, SocketAddr};

use crate::rt::{Offload, Outgoing, Packets, UdpSock};

/// Bytes gathered before they are sent even if more may come.
const FULL: usize = 256 * 1024;

/// Packets gathered likewise.
const MANY: usize = 64;

/// The longest packet that is sent together with others: what fits every usual way without fragments, which cannot be
/// sent together.
const TOGETHER: usize = 1_400;

/// Packets that the kernel takes at once at the most, all of one length.
const SEGMENTS: usize = 64;

/// What clients have still to get.
#[derive(Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    items: Vec<Item>,
}

struct Item {
    to: SocketAddr,
    from: Option<IpAddr>,
    end: usize,
    stride: usize,
}

impl Outbox {
    /// Adds packets for a client; `from` is the address of ours that it knows.
    pub(super) fn push(&mut self, to: SocketAddr, from: Option<IpAddr>, packets: &Packets<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(packets.bytes);
        let end = self.bytes.len();
        let before = match self.items.len() {
            0 | 1 => 0,
            n => self.items[n - 2].end,
        };
        if let Some(last) = self.items.last_mut() {
            let held = last.end - before;
            let fits = last.stride <= TOGETHER
                && packets.bytes.len() <= last.stride.min(packets.stride)
                && !packets.bytes.is_empty()
                && held.is_multiple_of(last.stride)
                && held / last.stride < SEGMENTS;
            if last.to == to && last.from == from && fits {
                last.end = end;
                return;
            }
        }
        debug_assert!(end >= start, "bytes are only added");
        self.items.push(Item {
            to,
            from,
            end,
            stride: packets.stride,
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether it is time to send.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= FULL || self.items.len() >= MANY
    }

    /// Sends everything; returns how many packets were lost for want of room.
    pub(super) fn send(&mut self, sock: &UdpSock, offload: &Offload) -> usize {
        let mut start = 0;
        let items = self.items.iter().map(|item| {
            let bytes = &self.bytes[std::mem::replace(&mut start, item.end)..item.end];
            Outgoing {
                to: item.to,
                from: item.from,
                bytes,
                stride: item.stride,
            }
        });
        let items: Vec<_> = items.collect();
        let lost = sock.send_all(offload, &items);
        drop(items);
        self.items.clear();
        self.bytes.clear();
        // After a burst of long packets it does not keep their room.
        self.bytes.shrink_to(FULL);
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(bytes: &[u8], stride: usize) -> Packets<'_> {
        Packets {
            from: ([127, 0, 0, 1], 1).into(),
            to: None,
            bytes,
            stride,
        }
    }

    #[test]
    fn several_short_packets_are_no_last_one() {
        let client = ([127, 0, 0, 1], 1).into();
        let mut outbox = Outbox::default();
        outbox.push(client, None, &packets(&[1; 100], 100));
        outbox.push(client, None, &packets(&[2; 80], 40));
        let ends: Vec<_> = outbox.items.iter().map(|i| (i.end, i.stride)).collect();
        assert_eq!(ends, [(100, 100), (180, 40)]);
    }

    #[test]
    fn packets_of_one_length_to_one_client_go_together_up_to_a_shorter_one() {
        let (a, b) = (([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
        let mut outbox = Outbox::default();
        for (to, len) in [
            (a, 100),
            (a, 100),
            (a, 40),
            (a, 40),
            (b, 40),
            (a, 0),
            (a, 0),
        ] {
            outbox.push(to, None, &packets(&[1; 100][..len], len.max(1)));
        }
        let ends: Vec<_> = outbox
            .items
            .iter()
            .map(|i| (i.to == a, i.end, i.stride))
            .collect();
        let expected = [
            (true, 240, 100),
            (true, 280, 40),
            (false, 320, 40),
            (true, 320, 1),
            (true, 320, 1),
        ];
        assert_eq!(ends, expected);
    }
}
