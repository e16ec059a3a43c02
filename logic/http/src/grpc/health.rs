//! The question whether a server is well, and its answer (`grpc.health.v1.Health/Check`,
//! <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).

use crate::h1::Response;
use crate::h2::fields_of;

/// The path of the question.
pub const PATH: &str = "/grpc.health.v1.Health/Check";

/// A message with the name of a service, which may be empty: the server as a whole is meant then.
pub fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        // Field 1, a string.
        message.push(0x0a);
        write_varint(service.len() as u64, &mut message);
        message.extend_from_slice(service.as_bytes());
    }
    let len = (message.len() as u32).to_be_bytes();
    [&[0], &len[..], &message].concat()
}

fn write_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Whether the answer says that the service is well.
///
/// # Errors
/// What else it says, in words for people.
pub fn verdict(response: &Response<'_>, body: &[u8], trailers: &[u8]) -> Result<(), String> {
    if response.status != 200 {
        return Err(format!("status {}, expected 200", response.status));
    }
    let of_trailers = |wanted: &str| {
        let mut fields = fields_of(trailers);
        fields.find_map(|(name, value)| {
            name.eq_ignore_ascii_case(wanted.as_bytes())
                .then_some(value)
        })
    };
    let field = |name: &str| of_trailers(name).or_else(|| response.fields.find(name));
    match field("grpc-status") {
        Some(b"0") => {}
        None => return Err("the answer is no gRPC: it has no grpc-status".into()),
        Some(b"5") => return Err("the server does not know this service (NOT_FOUND)".into()),
        Some(b"12") => return Err("the server has no health service (UNIMPLEMENTED)".into()),
        Some(status) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let message = field("grpc-message").map(text).unwrap_or_default();
            return Err(format!("grpc-status {} {message}", text(status)));
        }
    }
    match status(body) {
        Some(1) => Ok(()),
        Some(2) => Err("the service is not serving (NOT_SERVING)".into()),
        Some(3) => Err("the server does not know this service (SERVICE_UNKNOWN)".into()),
        Some(other) => Err(format!("the service's status is {other}")),
        None => Err("the answer has no status that can be read".into()),
    }
}

/// The status in a message: 0 if it has none, as Protocol Buffers leave out what is 0.
fn status(body: &[u8]) -> Option<u64> {
    let (&[0, a, b, c, d], message) = body.split_first_chunk()? else {
        return None;
    };
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    let mut rest = message.get(..len)?;
    let mut status = 0;
    while !rest.is_empty() {
        let tag = read_varint(&mut rest)?;
        let number = match tag & 7 {
            0 => read_varint(&mut rest)?,
            1 => skip(&mut rest, 8)?,
            2 => {
                let len = read_varint(&mut rest)?;
                skip(&mut rest, len)?
            }
            5 => skip(&mut rest, 4)?,
            _ => return None,
        };
        if tag == 0x08 {
            status = number;
        }
    }
    Some(status)
}

fn skip(rest: &mut &[u8], n: u64) -> Option<u64> {
    *rest = rest.get(usize::try_from(n).ok()?..)?;
    Some(0)
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::{Limits, MethodKind, parse_response};

    #[test]
    fn a_question_names_its_service() {
        assert_eq!(question(""), [0; 5]);
        assert_eq!(question("a.B"), b"\0\0\0\0\x05\x0a\x03a.B");
        let long = question(&"x".repeat(300));
        assert_eq!(long[..8], *b"\0\0\0\x01\x2f\x0a\xac\x02");
    }

    fn judged(head: &str, body: &[u8], trailers: &str) -> Result<(), String> {
        let limits = Limits {
            head: 1_000,
            fields: 10,
        };
        let parsed = parse_response(head.as_bytes(), &mut 0, &limits, MethodKind::Post);
        verdict(&parsed.unwrap().unwrap(), body, trailers.as_bytes())
    }

    const OK: &str = "HTTP/1.1 200 \r\n\r\n";

    #[test]
    fn only_a_server_that_says_so_is_well() {
        let well = b"\0\0\0\0\x02\x08\x01";
        assert_eq!(judged(OK, well, "grpc-status: 0\r\n"), Ok(()));
        // With fields that nobody knows yet.
        let more = b"\0\0\0\0\x0a\x12\x01x\x19\0\0\0\0\0\0\0\0\x08\x01";
        let len = (more.len() - 5) as u8;
        let more = [&more[..4], &[len], &more[5..]].concat();
        assert_eq!(judged(OK, &more, "grpc-status: 0\r\n"), Ok(()));
        for (head, body, trailers, part) in [
            (
                OK,
                &b"\0\0\0\0\x02\x08\x02"[..],
                "grpc-status: 0\r\n",
                "NOT_SERVING",
            ),
            (
                OK,
                b"\0\0\0\0\x02\x08\x03",
                "grpc-status: 0\r\n",
                "SERVICE_UNKNOWN",
            ),
            (OK, b"\0\0\0\0\0", "grpc-status: 0\r\n", "status is 0"),
            (OK, b"\0\0\0\0\x02\x08", "grpc-status: 0\r\n", "can be read"),
            (
                OK,
                b"\x01\0\0\0\x02\x08\x01",
                "grpc-status: 0\r\n",
                "can be read",
            ),
            (OK, b"", "grpc-status: 12\r\n", "UNIMPLEMENTED"),
            (
                OK,
                b"",
                "grpc-status: 8\r\ngrpc-message: full\r\n",
                "8 full",
            ),
            (OK, well, "", "no gRPC"),
            (
                "HTTP/1.1 200 \r\ngrpc-status: 5\r\n\r\n",
                b"",
                "",
                "NOT_FOUND",
            ),
            ("HTTP/1.1 503 \r\n\r\n", b"", "", "503"),
        ] {
            let why = judged(head, body, trailers).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }
}
