//! A text in a stream.

/// Finds a text in a stream that is cut anywhere. After a mismatch it begins anew, at most one byte in: right for texts
/// like ours, of which no beginning longer than that comes again within.
pub(crate) struct Pattern {
    text: &'static [u8],
    matched: usize,
}

impl Pattern {
    pub(crate) const fn new(text: &'static [u8]) -> Self {
        Self { text, matched: 0 }
    }

    /// How often the text ends in these bytes, which follow the former ones.
    pub(crate) fn count(&mut self, bytes: &[u8]) -> usize {
        let mut found = 0;
        for byte in bytes {
            self.matched = match *byte == self.text[self.matched] {
                true => self.matched + 1,
                false => usize::from(*byte == self.text[0]),
            };
            if self.matched == self.text.len() {
                self.matched = 0;
                found += 1;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_found_however_the_stream_is_cut() {
        let stream = b"2a\r\nevent: change\nid: 7\ndata: {}\n\n\r\n2a\r\nevent: change\n";
        for cut in 0..stream.len() {
            let mut pattern = Pattern::new(b"event: change");
            let (first, second) = stream.split_at(cut);
            assert_eq!(pattern.count(first) + pattern.count(second), 2);
        }
        assert_eq!(
            Pattern::new(b"event: change").count(b":\n\nevent: snapshot"),
            0
        );
    }
}
