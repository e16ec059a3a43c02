//! Mail servers speak first: SMTP (RFC 5321 §4.2), IMAP (RFC 3501 §7.1), POP3 (RFC 1939 §4).

use super::{Fault, MAX_LINE, Step, said};

#[derive(Clone, Copy)]
pub(super) enum Greeting {
    Smtp,
    Imap,
    Pop3,
}

impl Greeting {
    /// Reads one line. After a good one it takes its leave, or the server would log a lost connection.
    pub(super) fn step(self, unread: &[u8], out: &mut Vec<u8>) -> Result<Step, Fault> {
        let (name, good, bad, farewell): (_, &[&[u8]], &[&[u8]], _) = match self {
            Self::Smtp => ("SMTP", &[b"220"], &[b"4", b"5"], &b"QUIT\r\n"[..]),
            Self::Imap => (
                "IMAP",
                &[b"* OK", b"* PREAUTH"],
                &[b"* BYE"],
                b"a LOGOUT\r\n",
            ),
            Self::Pop3 => ("POP3", &[b"+OK"], &[b"-ERR"], b"QUIT\r\n"),
        };
        let Some(end) = unread.iter().position(|&b| b == b'\n') else {
            // What no greeting begins with has no end that is worth waiting for.
            let possible = |start: &&[u8]| {
                start
                    .iter()
                    .zip(unread)
                    .all(|(a, b)| a.eq_ignore_ascii_case(b))
            };
            return match good.iter().chain(bad).any(possible) && unread.len() < MAX_LINE {
                true => Ok(Step::More),
                false => Err(Fault::Foreign(name)),
            };
        };
        let line = &unread[..end];
        let begins = |starts: &[&[u8]]| {
            let with = |start: &&[u8]| {
                line.get(..start.len())
                    .is_some_and(|l| l.eq_ignore_ascii_case(start))
            };
            starts.iter().any(with)
        };
        match (begins(good), begins(bad)) {
            // `220-` and more lines, the last with a space.
            (true, _) if matches!(self, Self::Smtp) && line.get(3) == Some(&b'-') => {
                Ok(Step::Used(end + 1))
            }
            (true, _) => {
                out.extend_from_slice(farewell);
                Ok(Step::Done(None))
            }
            (_, true) => Err(Fault::Refused(said(line))),
            _ => Err(Fault::Foreign(name)),
        }
    }
}
