//! What a check of health says to a database, a cache or a mail server, and what it makes of the answers.
//!
//! A dialogue does no I/O: it is given what the server sent, and says what to send. It reads no more than it
//! needs, keeps no more than [`MAX_MESSAGE`], and ends at the first answer that decides.

mod greeting;
mod mysql;
mod postgresql;
mod redis;
mod scram;
#[cfg(test)]
mod tests;

use model::{CheckProtocol, Role};
use thiserror::Error;

/// Who asks. Without a user, a server that asks for one is as well as one that answers.
#[derive(Clone, Copy, Default)]
pub struct Login<'a> {
    /// The user's name.
    pub user: Option<&'a str>,
    /// The password.
    pub password: Option<&'a str>,
    /// The database, for PostgreSQL and MySQL.
    pub database: Option<&'a str>,
}

/// A conversation with one server.
pub struct Dialogue<'a> {
    machine: Machine<'a>,
    unread: Vec<u8>,
}

/// What a well server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it takes writes, if it says so.
    pub role: Option<Role>,
}

/// Why a server is not well. For people; of what the server said there is no more than a line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// It speaks something else.
    #[error("the answer is no {0}")]
    Foreign(&'static str),
    /// It said no.
    #[error("the server says: {0}")]
    Refused(String),
    /// It wants to be convinced in a way that we do not know.
    #[error("the server asks for {0}, which checks do not speak")]
    Unsupported(String),
    /// It cannot prove that it knows the password, though it should.
    #[error("the server does not know the password: it may not be the one that is meant")]
    Impostor,
}

/// The longest message that is waited for. The longest in answer to what is asked here, errors and notices, have
/// hundreds of bytes.
pub const MAX_MESSAGE: usize = 32 << 10;

/// The longest line. Twice what RFC 5321 and its extensions allow, and shorter than a message, for until it ends every
/// byte that comes has all before it looked at again.
const MAX_LINE: usize = 2 << 10;

/// How many bytes of chance [`Dialogue::new`] needs. As many as PostgreSQL's own client takes.
pub const NONCE: usize = 18;

enum Machine<'a> {
    Greeting(greeting::Greeting),
    MySql(mysql::Machine<'a>),
    PostgreSql(Box<postgresql::Machine<'a>>),
    Redis(redis::Machine),
}

/// What came of looking at what is unread.
enum Step {
    /// It is too little.
    More,
    /// So many bytes of it are done with.
    Used(usize),
    /// The server is well.
    Done(Option<Role>),
}

impl<'a> Dialogue<'a> {
    /// Begins, with the first bytes to send in `out`. `nonce` is to be unpredictable.
    pub fn new(
        protocol: CheckProtocol,
        login: Login<'a>,
        nonce: [u8; NONCE],
        out: &mut Vec<u8>,
    ) -> Self {
        let machine = match protocol {
            CheckProtocol::PostgreSql => {
                Machine::PostgreSql(Box::new(postgresql::Machine::new(login, nonce, out)))
            }
            CheckProtocol::MySql => Machine::MySql(mysql::Machine::new(login)),
            CheckProtocol::Redis => Machine::Redis(redis::Machine::new(login, out)),
            CheckProtocol::Smtp => Machine::Greeting(greeting::Greeting::Smtp),
            CheckProtocol::Imap => Machine::Greeting(greeting::Greeting::Imap),
            CheckProtocol::Pop3 => Machine::Greeting(greeting::Greeting::Pop3),
        };
        Self {
            machine,
            unread: Vec::new(),
        }
    }

    /// Takes in what the server sent; what is to be sent in turn is appended to `out`, a farewell at the end
    /// too. `None` while the server has more to say.
    ///
    /// # Errors
    /// Why the server is not well.
    pub fn handle(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<Answer>, Fault> {
        self.unread.extend_from_slice(bytes);
        let mut used = 0;
        loop {
            let unread = &self.unread[used..];
            let step = match &mut self.machine {
                Machine::Greeting(greeting) => greeting.step(unread, out),
                Machine::MySql(machine) => machine.step(unread, out),
                Machine::PostgreSql(machine) => machine.step(unread, out),
                Machine::Redis(machine) => machine.step(unread),
            };
            match step? {
                Step::Used(n) => used += n,
                Step::Done(role) => return Ok(Some(Answer { role })),
                Step::More => break,
            }
        }
        self.unread.drain(..used);
        Ok(None)
    }
}

/// A server's words, fit to be shown: one line of at most 200 characters.
fn said(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim()
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect()
}

/// The bytes up to a zero byte, and those after it.
fn until_zero(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&b| b == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}
