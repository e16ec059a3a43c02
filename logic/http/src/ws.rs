//! WebSocket framing (RFC 6455 §5), as far as a tunnel needs it: where one frame ends and the next begins.

/// A Close frame to a client, unmasked, with 1012, "service restart": connect again (RFC 6455 §5.5.1; the code is
/// registered with IANA).
pub const SERVICE_RESTART: [u8; 4] = [0x88, 2, 0x03, 0xf4];

/// The opcode of a Close frame.
const CLOSE: u8 = 8;

/// One direction's frames, seen go by.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    /// The beginning of a frame that is not there whole: at most 2 bytes, 8 of a long length, 4 of a mask.
    header: [u8; 14],
    have: u8,
    /// What is still to come of the present frame.
    left: u64,
    closed: bool,
}

impl Frames {
    /// More bytes went by.
    pub fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len() as u64);
                self.left -= skipped;
                bytes = &bytes[skipped as usize..];
                continue;
            }
            self.header[usize::from(self.have)] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if self.have >= 2 && usize::from(self.have) == self.header_len() {
                self.left = self.payload_len();
                self.closed |= self.header[0] & 0x0f == CLOSE;
                self.have = 0;
            }
        }
    }

    /// Whether another frame may be put in here. Between the parts of a fragmented message only a control frame may
    /// (§5.4), which a Close frame is.
    pub const fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Whether a Close frame has begun: nothing of meaning follows it.
    pub const fn has_closed(&self) -> bool {
        self.closed
    }

    /// Known as soon as there are two bytes.
    fn header_len(&self) -> usize {
        let length = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        2 + length + mask
    }

    fn payload_len(&self) -> u64 {
        let [_, short, a, b, c, d, e, f, g, h, ..] = self.header;
        match short & 0x7f {
            126 => u16::from_be_bytes([a, b]).into(),
            127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            short => short.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let bit = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match length {
            0..=125 => frame.push(bit | length as u8),
            126..=0xffff => {
                frame.push(bit | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(bit | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(masked.then_some([1, 2, 3, 4]).into_iter().flatten());
        // What looks like frames is payload.
        frame.extend(std::iter::repeat_n(0x88, length));
        frame
    }

    #[test]
    fn frames_end_where_their_length_says_however_they_are_cut() {
        for masked in [false, true] {
            for length in [0, 1, 125, 126, 65_535, 65_536] {
                let bytes = frame(2, length, masked);
                for piece in [1, 2, 7, 1_000, bytes.len()] {
                    let mut frames = Frames::default();
                    let mut seen = 0;
                    for part in bytes.chunks(piece) {
                        frames.see(part);
                        seen += part.len();
                        assert_eq!(frames.is_between(), seen == bytes.len(), "{length} {seen}");
                    }
                    assert!(!frames.has_closed());
                }
            }
        }
    }

    #[test]
    fn many_frames_in_one_piece_are_told_apart_and_a_close_is_seen() {
        let mut bytes = [frame(1, 5, true), frame(9, 0, false), frame(2, 300, true)].concat();
        let mut frames = Frames::default();
        frames.see(&bytes);
        assert!(frames.is_between() && !frames.has_closed());
        bytes.extend(SERVICE_RESTART);
        let mut frames = Frames::default();
        frames.see(&bytes[..bytes.len() - 1]);
        assert!(!frames.is_between() && frames.has_closed());
        frames.see(&bytes[bytes.len() - 1..]);
        assert!(frames.is_between());
    }

    #[test]
    fn a_length_without_end_is_waited_for_and_no_more() {
        let mut frames = Frames::default();
        frames.see(&[0x82, 0x7f, 255, 255, 255, 255, 255, 255, 255, 255]);
        frames.see(&[0; 100_000]);
        assert!(!frames.is_between());
    }
}
