//! What gRPC puts into HTTP/2: its deadlines, its statuses, and which requests are its own
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

pub mod health;
mod web;

use std::time::Duration;

pub use web::{BadText, TextDecoder, write_data, write_head, write_trailers};

/// How a request says what it calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As gRPC does, over HTTP/2 with trailers.
    Plain,
    /// As browsers can: the trailers stand in the body.
    Web,
    /// The same, in Base64.
    WebText,
}

impl Kind {
    /// What a `content-type` says; `None` if it is none of gRPC's.
    pub fn of(content_type: &[u8]) -> Option<Self> {
        let (kind, _) = Self::split(content_type)?;
        Some(kind)
    }

    /// The kind, and what stands behind it: `+proto`, parameters.
    fn split(content_type: &[u8]) -> Option<(Self, &[u8])> {
        // The longest first.
        [Self::WebText, Self::Web, Self::Plain]
            .into_iter()
            .find_map(|kind| {
                let (name, rest) = content_type.split_at_checked(kind.as_str().len())?;
                let is = name.eq_ignore_ascii_case(kind.as_str().as_bytes());
                let ends = matches!(rest.first(), None | Some(b'+' | b';' | b' '));
                (is && ends).then_some((kind, rest))
            })
    }

    /// The content type, without what may stand behind it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "application/grpc",
            Self::Web => "application/grpc-web",
            Self::WebText => "application/grpc-web-text",
        }
    }

    /// The content type of a message of this kind that has the same in it as one with `content_type`.
    pub fn instead_of(self, content_type: &[u8]) -> Vec<u8> {
        let rest = Self::split(content_type).map_or(&b""[..], |(_, rest)| rest);
        [self.as_str().as_bytes(), rest].concat()
    }
}

/// A status code of gRPC, as far as we say any ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Nobody knows.
    Unknown = 2,
    /// The deadline passed.
    DeadlineExceeded = 4,
    /// Not allowed.
    PermissionDenied = 7,
    /// There is no such thing.
    Unimplemented = 12,
    /// Something is broken.
    Internal = 13,
    /// Try again later.
    Unavailable = 14,
    /// Nobody knows who asks.
    Unauthenticated = 16,
}

impl Status {
    /// What clients take an HTTP status for
    /// (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>).
    pub const fn of_http(status: u16) -> Self {
        match status {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502 | 503 | 504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}

/// The status that trailers say, as it is written there.
pub fn status_of(trailers: &[u8]) -> Option<&[u8]> {
    trailers.split(|&byte| byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at(memchr::memchr(b':', line)?);
        let is = name.eq_ignore_ascii_case(b"grpc-status");
        is.then(|| value[1..].trim_ascii())
    })
}

/// Appends a text as `grpc-message` has it: what is not printable, and `%`, as `%` and two digits.
pub fn write_message(text: &str, out: &mut String) {
    for byte in text.trim_end().bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => {
                let digit = |n: u8| char::from(b"0123456789ABCDEF"[usize::from(n & 0xf)]);
                out.extend(['%', digit(byte >> 4), digit(byte)]);
            }
        }
    }
}

/// Units of `grpc-timeout`, the finest first, in nanoseconds.
const UNITS: [(u8, u128); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

/// One more than the largest number that `grpc-timeout` may have.
const MOST: u128 = 100_000_000;

/// What a `grpc-timeout` says: at most eight digits and a unit. `None` if it is no such thing.
pub fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |n, d| n * 10 + u128::from(d - b'0'));
    let (_, nanos) = UNITS.iter().find(|(name, _)| name == unit)?;
    let nanos = number * nanos;
    Some(Duration::new(
        (nanos / 1_000_000_000) as u64,
        (nanos % 1_000_000_000) as u32,
    ))
}

/// Appends a `grpc-timeout` that is no longer than `left`, and as near as eight digits allow.
pub fn write_timeout(left: Duration, out: &mut Vec<u8>) {
    let nanos = left.as_nanos();
    let unit = UNITS.iter().find(|(_, unit)| nanos / unit < MOST);
    let (name, number) = match unit {
        Some((name, unit)) => (*name, nanos / unit),
        None => (b'H', MOST - 1),
    };
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(number).as_bytes());
    out.push(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_say_their_status() {
        let of = |text: &'static str| status_of(text.as_bytes()).map(<[u8]>::to_vec);
        assert_eq!(of("a: b\r\nGRPC-Status: 14\r\n"), Some(b"14".to_vec()));
        assert_eq!(
            of("grpc-status:0\r\ngrpc-message: x\r\n"),
            Some(b"0".to_vec())
        );
        assert_eq!(of("grpc-status-details: 14\r\n"), None);
        assert_eq!(of("grpc-status"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn content_types_of_grpc_are_known_whatever_is_in_them() {
        for (text, kind) in [
            ("application/grpc", Some(Kind::Plain)),
            ("application/grpc+proto", Some(Kind::Plain)),
            ("Application/GRPC;charset=x", Some(Kind::Plain)),
            ("application/grpc-web", Some(Kind::Web)),
            ("application/grpc-web+json", Some(Kind::Web)),
            ("application/grpc-web-text+proto", Some(Kind::WebText)),
            ("application/grpc-webby", None),
            ("application/grpcurl", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(Kind::of(text.as_bytes()), kind, "{text}");
        }
        let plain = Kind::Plain.instead_of(b"application/grpc-web-text+proto");
        assert_eq!(plain, b"application/grpc+proto");
        assert_eq!(
            Kind::Web.instead_of(b"application/grpc"),
            b"application/grpc-web"
        );
    }

    #[test]
    fn timeouts_have_eight_digits_and_a_unit() {
        for (text, nanos) in [
            ("1n", 1),
            ("99999999u", 99_999_999_000),
            ("250m", 250_000_000),
            ("0S", 0),
            ("2M", 120_000_000_000),
            ("1H", 3_600_000_000_000),
        ] {
            let expected = Some(Duration::from_nanos(nanos));
            assert_eq!(parse_timeout(text.as_bytes()), expected, "{text}");
        }
        for odd in [
            "",
            "S",
            "1",
            "1s",
            "-1S",
            "1.5S",
            "123456789S",
            " 1S",
            "1 S",
        ] {
            assert_eq!(parse_timeout(odd.as_bytes()), None, "{odd}");
        }
        assert!(parse_timeout(b"99999999H").is_some());
    }

    #[test]
    fn what_is_left_is_never_more_than_it_was() {
        for (left, text) in [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_999), "100000u"),
            (Duration::from_millis(99_999), "99999000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::MAX, "99999999H"),
        ] {
            let mut out = Vec::new();
            write_timeout(left, &mut out);
            assert_eq!(String::from_utf8(out.clone()).unwrap(), text);
            assert!(parse_timeout(&out).unwrap() <= left);
        }
    }

    #[test]
    fn messages_are_printable() {
        let mut out = String::new();
        write_message("50 % of ü\n", &mut out);
        assert_eq!(out, "50 %25 of %C3%BC");
    }
}
