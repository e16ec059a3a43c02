use super::fault::Fault;

/// How a message's body is delimited (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// So many bytes follow.
    Length(u64),
    /// Chunks follow, each with its length.
    Chunked,
    /// All up to the end of the connection; responses only.
    UntilClose,
}

/// What the fields say of the framing, before the message's kind is considered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Declared {
    pub(crate) length: Option<u64>,
    pub(crate) chunked: bool,
}

impl Declared {
    /// Takes in a Content-Length. A second one is refused even when equal: an origin or a cache behind us may
    /// have taken "5, 5" for something else than 5.
    pub(crate) fn note_length(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.length.is_some() {
            return Err(Fault::LengthTwice);
        }
        if self.chunked {
            return Err(Fault::LengthAndCoding);
        }
        self.length = Some(decimal(value).ok_or(Fault::Length)?);
        Ok(())
    }

    /// Takes in a Transfer-Encoding. Only `chunked` is spoken by anyone; lists, repeats and odd spellings of it are
    /// the classic ways to make two servers disagree.
    pub(crate) fn note_coding(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.chunked {
            return Err(Fault::CodingTwice);
        }
        if self.length.is_some() {
            return Err(Fault::LengthAndCoding);
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Fault::Coding);
        }
        self.chunked = true;
        Ok(())
    }
}

/// A number below 2^63: servers that keep lengths in a signed word take larger ones for negative.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    let mut number = 0u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u64::from(digit - b'0');
    }
    (number < 1 << 63).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_plain_decimal_numbers_below_two_to_the_63() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"007"), Some(7));
        assert_eq!(decimal(b"9223372036854775807"), Some(i64::MAX as u64));
        for odd in [
            "",
            "+5",
            "-1",
            "5,5",
            "5 ",
            " 5",
            "0x5",
            "5.0",
            "9223372036854775808",
            "99999999999999999999",
            "18446744073709551621",
        ] {
            assert_eq!(decimal(odd.as_bytes()), None, "{odd:?}");
        }
    }
}
