//! The client/server protocol of MySQL and MariaDB, version 10 (MySQL's internals manual, "Connection Phase").

use model::Role;
use sha1::{Digest, Sha1};
use sha2::Sha256;

use super::{Fault, Login, MAX_MESSAGE, Step, said, until_zero};

const FOREIGN: Fault = Fault::Foreign("MySQL");

// Capabilities.
const LONG_PASSWORD: u32 = 1;
const CONNECT_WITH_DB: u32 = 1 << 3;
const PROTOCOL_41: u32 = 1 << 9;
const SECURE_CONNECTION: u32 = 1 << 15;
const PLUGIN_AUTH: u32 = 1 << 19;

const NATIVE: &[u8] = b"mysql_native_password";
const CACHING_SHA2: &[u8] = b"caching_sha2_password";

pub(super) struct Machine<'a> {
    login: Login<'a>,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    Greeting,
    LoggingIn,
    /// Asked whether it is read-only: packets of the answer that came.
    Asked(u8),
}

impl<'a> Machine<'a> {
    pub(super) fn new(login: Login<'a>) -> Self {
        Self {
            login,
            stage: Stage::Greeting,
        }
    }

    pub(super) fn step(&mut self, unread: &[u8], out: &mut Vec<u8>) -> Result<Step, Fault> {
        let Some(&[a, b, c, number]) = unread.first_chunk::<4>() else {
            return Ok(Step::More);
        };
        let length = u32::from_le_bytes([a, b, c, 0]) as usize;
        if !(1..=MAX_MESSAGE).contains(&length) {
            return Err(FOREIGN);
        }
        let Some(body) = unread.get(4..4 + length) else {
            return Ok(Step::More);
        };
        let next = number.wrapping_add(1);
        match self.stage {
            Stage::Greeting => self.greeted(body, next, out)?,
            Stage::LoggingIn => {
                if let Some(done) = self.logged_in(body, next, out)? {
                    return Ok(done);
                }
            }
            Stage::Asked(packets) => match (packets, body[0]) {
                // It logged us in: only the question was not answered.
                (_, 0xff) => return Ok(done(None, out)),
                // The number of columns, the column, and the end of the columns.
                (0..3, _) => self.stage = Stage::Asked(packets + 1),
                _ => return Ok(done(row(body), out)),
            },
        }
        Ok(Step::Used(4 + length))
    }

    fn greeted(&mut self, body: &[u8], next: u8, out: &mut Vec<u8>) -> Result<(), Fault> {
        // Too many connections, or a host that it does not talk to.
        if body[0] == 0xff {
            return Err(refused(body));
        }
        let greeting = Greeting::read(body).ok_or(FOREIGN)?;
        let mut capabilities = LONG_PASSWORD | PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH;
        if self.login.database.is_some() {
            capabilities |= CONNECT_WITH_DB;
        }
        capabilities &= greeting.capabilities;
        if capabilities & PROTOCOL_41 == 0 || capabilities & SECURE_CONNECTION == 0 {
            return Err(Fault::Unsupported(
                "a protocol from before MySQL 4.1".into(),
            ));
        }
        // A plugin that we do not speak is one that only some users have: then the server asks again.
        let plugin = Some(greeting.plugin).filter(|p| [NATIVE, CACHING_SHA2].contains(p));
        let plugin = plugin.unwrap_or(NATIVE);
        let proof = self.proof(plugin, &greeting.challenge).unwrap_or_default();
        let mut response = capabilities.to_le_bytes().to_vec();
        response.extend((MAX_MESSAGE as u32).to_le_bytes());
        // utf8_general_ci, which all of them know.
        response.push(33);
        response.extend([0; 23]);
        // Without a user we are refused, which does not count as a connection error; hanging up now would, and after a
        // hundred the server would block our host.
        response.extend_from_slice(self.login.user.unwrap_or_default().as_bytes());
        response.extend([0, proof.len() as u8]);
        response.extend(proof);
        if let Some(database) = self.login.database {
            response.extend_from_slice(&[database.as_bytes(), b"\0"].concat());
        }
        if capabilities & PLUGIN_AUTH != 0 {
            response.extend_from_slice(&[plugin, b"\0"].concat());
        }
        put(next, &response, out);
        self.stage = Stage::LoggingIn;
        Ok(())
    }

    fn logged_in(
        &mut self,
        body: &[u8],
        next: u8,
        out: &mut Vec<u8>,
    ) -> Result<Option<Step>, Fault> {
        match (body[0], &body[1..]) {
            (0, _) => {
                put(0, b"\x03SELECT @@global.read_only", out);
                self.stage = Stage::Asked(0);
            }
            (0xff, _) => {
                let code = body.get(1..3).map(|c| u16::from_le_bytes([c[0], c[1]]));
                // Access denied, in its three forms: an answer, when nobody told us whom to be.
                let denied = matches!(code, Some(1044 | 1045 | 1698));
                return match denied && self.login.user.is_none() {
                    true => Ok(Some(Step::Done(None))),
                    false => Err(refused(body)),
                };
            }
            (0xfe, rest) => {
                let (plugin, challenge) = until_zero(rest).ok_or_else(old_passwords)?;
                let challenge = challenge.strip_suffix(b"\0").unwrap_or(challenge);
                // A server that does not know a user asks for the plugin of any other, lest one could tell. Whoever wants to
                // be refused need not speak it.
                let nothing = self.login.user.is_none().then(Vec::new);
                let proof = self.proof(plugin, challenge).or(nothing);
                let unknown = || Fault::Unsupported(format!("the login plugin {}", said(plugin)));
                put(next, &proof.ok_or_else(unknown)?, out);
            }
            // caching_sha2_password: the server remembers the password, and an OK follows.
            (1, [3]) => {}
            (1, [4]) => {
                let what = "the password itself, for it does not have it cached: log this user in once over TLS, or \
                            give it mysql_native_password";
                return Err(Fault::Unsupported(what.into()));
            }
            _ => return Err(FOREIGN),
        }
        Ok(None)
    }

    /// What proves that we know the password; `None` for a plugin that we do not speak.
    fn proof(&self, plugin: &[u8], challenge: &[u8]) -> Option<Vec<u8>> {
        let password = self.login.password.unwrap_or_default().as_bytes();
        let proof = match plugin {
            NATIVE => native(password, challenge),
            CACHING_SHA2 => caching_sha2(password, challenge),
            _ => return None,
        };
        Some(if password.is_empty() {
            Vec::new()
        } else {
            proof
        })
    }
}

struct Greeting<'a> {
    capabilities: u32,
    challenge: Vec<u8>,
    plugin: &'a [u8],
}

impl<'a> Greeting<'a> {
    fn read(body: &'a [u8]) -> Option<Self> {
        let (_version, rest) = until_zero(body.strip_prefix(&[10])?)?;
        let first = rest.get(4..12)?;
        let low = u16::from_le_bytes([*rest.get(13)?, *rest.get(14)?]);
        // Servers that end here are from before 4.1.
        let Some(more) = rest.get(15..) else {
            return Some(Self {
                capabilities: low.into(),
                challenge: first.into(),
                plugin: b"",
            });
        };
        let high = u16::from_le_bytes([*more.get(3)?, *more.get(4)?]);
        let second = more.get(16..)?;
        // Twelve bytes and a zero, whatever the length in front of them says.
        let plugin = second.get(13..).unwrap_or_default();
        Some(Self {
            capabilities: u32::from(high) << 16 | u32::from(low),
            challenge: [first, second.get(..12)?].concat(),
            plugin: until_zero(plugin).map_or(plugin, |(name, _)| name),
        })
    }
}

fn native(password: &[u8], challenge: &[u8]) -> Vec<u8> {
    let once = Sha1::digest(password);
    let mask = Sha1::new()
        .chain_update(challenge)
        .chain_update(Sha1::digest(once))
        .finalize();
    once.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}

fn caching_sha2(password: &[u8], challenge: &[u8]) -> Vec<u8> {
    let once = Sha256::digest(password);
    let twice = Sha256::digest(once);
    let mask = Sha256::new()
        .chain_update(twice)
        .chain_update(challenge)
        .finalize();
    once.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}

fn old_passwords() -> Fault {
    Fault::Unsupported("a password as before MySQL 4.1".into())
}

/// A row of one column: 0 or OFF for a server that takes writes. MariaDB knows more words than ON for one that
/// does not.
fn row(body: &[u8]) -> Option<Role> {
    let (&length, text) = body.split_first()?;
    match text.get(..usize::from(length))? {
        b"0" | b"OFF" => Some(Role::Primary),
        b"" => None,
        _ => Some(Role::Replica),
    }
}

/// Code, then `#` and a state of five characters, then the message.
fn refused(body: &[u8]) -> Fault {
    let message = body.get(3..).unwrap_or_default();
    let message = match message.first() {
        Some(b'#') => message.get(6..).unwrap_or_default(),
        _ => message,
    };
    Fault::Refused(said(message))
}

fn done(role: Option<Role>, out: &mut Vec<u8>) -> Step {
    put(0, b"\x01", out);
    Step::Done(role)
}

/// Appends a packet.
fn put(number: u8, body: &[u8], out: &mut Vec<u8>) {
    let [a, b, c, _] = (body.len() as u32).to_le_bytes();
    out.extend_from_slice(&[a, b, c, number]);
    out.extend_from_slice(body);
}
