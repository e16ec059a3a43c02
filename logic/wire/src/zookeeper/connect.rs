use super::field::{Fields, Malformed};

/// The length of a password.
pub const PASSWORD: usize = 16;

/// The first frame of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest<'a> {
    /// The last transaction it has seen.
    pub last_zxid: i64,
    /// The timeout it asks for, in milliseconds.
    pub timeout: i32,
    /// The session it comes back to; zero for a new one.
    pub session: i64,
    /// That session's password.
    pub password: &'a [u8],
    /// Whether a server that cannot write will do. Old clients do not say.
    pub read_only: Option<bool>,
}

impl<'a> ConnectRequest<'a> {
    /// Reads the frame's body.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(body);
        let _version = fields.int()?;
        Ok(Self {
            last_zxid: fields.long()?,
            timeout: fields.int()?,
            session: fields.long()?,
            password: fields.buffer()?.unwrap_or_default(),
            read_only: match fields.is_empty() {
                true => None,
                false => Some(fields.flag()?),
            },
        })
    }
}

/// The first frame of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectResponse {
    /// The timeout that holds, in milliseconds; zero if there is no such session.
    pub timeout: i32,
    /// The session.
    pub session: i64,
    /// What it takes to come back to it.
    pub password: [u8; PASSWORD],
    /// Whether the server cannot write; only said to clients that have said something about it.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// What whoever comes back to a session that is over is told.
    pub fn refused(read_only: Option<bool>) -> Self {
        Self {
            timeout: 0,
            session: 0,
            password: [0; PASSWORD],
            read_only: read_only.map(|_| false),
        }
    }

    /// Appends it as a frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        let length = 4 + 4 + 8 + 4 + PASSWORD + usize::from(self.read_only.is_some());
        out.extend_from_slice(&(length as i32).to_be_bytes());
        out.extend_from_slice(&0_i32.to_be_bytes());
        out.extend_from_slice(&self.timeout.to_be_bytes());
        out.extend_from_slice(&self.session.to_be_bytes());
        out.extend_from_slice(&(PASSWORD as i32).to_be_bytes());
        out.extend_from_slice(&self.password);
        if let Some(read_only) = self.read_only {
            out.push(read_only.into());
        }
    }
}
