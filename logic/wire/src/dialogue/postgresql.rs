//! PostgreSQL's frontend/backend protocol, version 3.0 (its manual, chapter "Message Formats").

use md5::{Digest, Md5};
use model::Role;

use super::scram::{MECHANISM, Scram};
use super::{Fault, Login, MAX_MESSAGE, NONCE, Step, said, until_zero};

/// Who asks when no user is configured. `pg_isready` does the same: that there is no such user is an answer.
const NOBODY: &str = "pointsman";
/// There in every installation.
const DATABASE: &str = "postgres";

const VERSION: u32 = 3 << 16;
const FOREIGN: Fault = Fault::Foreign("PostgreSQL");

pub(super) struct Machine<'a> {
    login: Login<'a>,
    nonce: [u8; NONCE],
    scram: Option<Scram<'a>>,
    stage: Stage,
}

enum Stage {
    LoggingIn,
    /// Asked whether it is in recovery; its answer, once that came.
    Asked(Option<Role>),
}

impl<'a> Machine<'a> {
    pub(super) fn new(login: Login<'a>, nonce: [u8; NONCE], out: &mut Vec<u8>) -> Self {
        let mut startup = VERSION.to_be_bytes().to_vec();
        for (name, value) in [
            ("user", login.user.unwrap_or(NOBODY)),
            ("database", login.database.unwrap_or(DATABASE)),
            ("application_name", "pointsman-check"),
        ] {
            startup.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
        }
        startup.push(0);
        out.extend_from_slice(&(startup.len() as u32 + 4).to_be_bytes());
        out.extend_from_slice(&startup);
        Self {
            login,
            nonce,
            scram: None,
            stage: Stage::LoggingIn,
        }
    }

    pub(super) fn step(&mut self, unread: &[u8], out: &mut Vec<u8>) -> Result<Step, Fault> {
        if unread
            .first()
            .is_some_and(|kind| !kind.is_ascii_alphanumeric())
        {
            return Err(FOREIGN);
        }
        let Some(&[kind, a, b, c, d]) = unread.first_chunk::<5>() else {
            return Ok(Step::More);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if !(4..=MAX_MESSAGE).contains(&length) {
            return Err(FOREIGN);
        }
        let Some(body) = unread.get(5..=length) else {
            return Ok(Step::More);
        };
        match kind {
            b'R' if self.login.user.is_none() => return Ok(Step::Done(None)),
            b'R' => self.authenticate(body, out)?,
            b'E' => return self.refused(body),
            b'D' => self.stage = Stage::Asked(row(body)?),
            b'Z' => match self.stage {
                Stage::LoggingIn => {
                    put(b'Q', b"SELECT pg_catalog.pg_is_in_recovery()\0", out);
                    self.stage = Stage::Asked(None);
                }
                Stage::Asked(role) => {
                    put(b'X', b"", out);
                    return Ok(Step::Done(role));
                }
            },
            // Parameters, the key to cancel with, notices, how a row looks, what command is complete.
            b'S' | b'K' | b'N' | b'T' | b'C' | b'v' => {}
            _ => return Err(FOREIGN),
        }
        Ok(Step::Used(1 + length))
    }

    fn authenticate(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let (code, rest) = body.split_first_chunk::<4>().ok_or(FOREIGN)?;
        let asks = |what: &str| Err(Fault::Unsupported(what.into()));
        match u32::from_be_bytes(*code) {
            0 => {}
            3 => put(b'p', &[self.password()?.as_bytes(), b"\0"].concat(), out),
            5 => {
                let answer = md5(self.login.user.unwrap_or(NOBODY), self.password()?, rest);
                put(b'p', answer.as_bytes(), out);
            }
            10 => {
                let mut offered = rest.split(|&b| b == 0);
                if !offered.any(|name| name == MECHANISM.as_bytes()) {
                    return asks("a SASL mechanism other than SCRAM-SHA-256");
                }
                let scram = Scram::new(self.password()?, self.nonce);
                let first = scram.first();
                let length = (first.len() as u32).to_be_bytes();
                put(
                    b'p',
                    &[MECHANISM.as_bytes(), b"\0", &length, first.as_bytes()].concat(),
                    out,
                );
                self.scram = Some(scram);
            }
            11 => {
                let answer = self.scram.as_mut().ok_or(FOREIGN)?.respond(rest)?;
                put(b'p', answer.as_bytes(), out);
            }
            12 => self.scram.as_ref().ok_or(FOREIGN)?.finish(rest)?,
            7 | 8 => return asks("GSSAPI"),
            9 => return asks("SSPI"),
            _ => return asks("a way to log in that is not known"),
        }
        Ok(())
    }

    fn password(&self) -> Result<&'a str, Fault> {
        let none = || Fault::Unsupported("a password (none is configured)".into());
        self.login.password.ok_or_else(none)
    }

    fn refused(&self, body: &[u8]) -> Result<Step, Fault> {
        let (code, message) = error(body);
        // It logged us in: only the question was not answered.
        if matches!(self.stage, Stage::Asked(_)) {
            return Ok(Step::Done(None));
        }
        // Class 28 and 3D000: no such user, not from there, no such database. It answers, and nobody told us whom to
        // be. All others (starting up, shutting down, too many connections) are no answers.
        match self.login.user.is_none() && (code.starts_with(b"28") || code == b"3D000") {
            true => Ok(Step::Done(None)),
            false => Err(Fault::Refused(said(message))),
        }
    }
}

/// The code and the message of an error.
fn error(body: &[u8]) -> (&[u8], &[u8]) {
    let (mut code, mut message) = (&b""[..], &b"an error without a message"[..]);
    let mut rest = body;
    while let Some((&kind, after)) = rest.split_first()
        && let Some((text, after)) = until_zero(after)
    {
        match kind {
            b'C' => code = text,
            b'M' => message = text,
            _ => {}
        }
        rest = after;
    }
    (code, message)
}

/// The row that holds whether it is in recovery.
fn row(body: &[u8]) -> Result<Option<Role>, Fault> {
    match body {
        [0, 1, 0, 0, 0, 1, b't'] => Ok(Some(Role::Replica)),
        [0, 1, 0, 0, 0, 1, b'f'] => Ok(Some(Role::Primary)),
        _ => Err(FOREIGN),
    }
}

fn md5(user: &str, password: &str, salt: &[u8]) -> String {
    let hash = |parts: [&[u8]; 2]| -> String {
        let digest = Md5::new()
            .chain_update(parts[0])
            .chain_update(parts[1])
            .finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let inner = hash([password.as_bytes(), user.as_bytes()]);
    format!("md5{}\0", hash([inner.as_bytes(), salt]))
}

/// Appends a message.
fn put(kind: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
}
