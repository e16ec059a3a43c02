use super::codes::OpCode;
use super::field::{Fields, Malformed};

/// A request, without its number.
#[derive(Clone, Debug)]
pub enum Request<'a> {
    /// Creates a node.
    Create(Create<'a>),
    /// Deletes one.
    Delete {
        /// Which.
        path: &'a str,
        /// The version it must have, or −1.
        version: i32,
    },
    /// Asks whether there is one.
    Exists {
        /// Which.
        path: &'a str,
        /// Whether to tell of changes.
        watch: bool,
    },
    /// Reads data.
    GetData {
        /// Whose.
        path: &'a str,
        /// Whether to tell of changes.
        watch: bool,
    },
    /// Sets data.
    SetData {
        /// Whose.
        path: &'a str,
        /// What to.
        data: Option<&'a [u8]>,
        /// The version it must have, or −1.
        version: i32,
    },
    /// Reads an access list.
    GetAcl {
        /// Whose.
        path: &'a str,
    },
    /// Sets an access list.
    SetAcl {
        /// Whose.
        path: &'a str,
        /// Permission bits, scheme and id of each line.
        acl: Vec<(i32, &'a str, &'a str)>,
        /// The version the list must have, or −1.
        version: i32,
    },
    /// Lists children.
    GetChildren {
        /// Whose.
        path: &'a str,
        /// Whether to tell of changes.
        watch: bool,
        /// Whether the statistics are wanted too.
        stat: bool,
    },
    /// Waits for what was committed before.
    Sync {
        /// Comes back in the answer.
        path: &'a str,
    },
    /// Keeps the session.
    Ping,
    /// Compares a version.
    Check {
        /// Whose.
        path: &'a str,
        /// The version it must have, or −1.
        version: i32,
    },
    /// Several changes, of which all are made or none.
    Multi(MultiOps<'a>),
    /// Several reads.
    MultiRead(MultiOps<'a>),
    /// Changes the ensemble.
    Reconfig,
    /// Asks whether there is a watch (`remove` false), or takes it back.
    Watch {
        /// Of which path.
        path: &'a str,
        /// 1 children, 2 data, 3 any, 4 persistent, 5 persistent and recursive.
        kind: i32,
        /// Whether to take it back.
        remove: bool,
    },
    /// Proves an identity.
    Auth(AuthPacket<'a>),
    /// Sets watches again.
    SetWatches(Watches<'a>),
    /// A step of SASL.
    Sasl {
        /// What the client's mechanism says.
        token: &'a [u8],
    },
    /// Lists the session's ephemeral nodes below a prefix.
    GetEphemerals {
        /// The prefix.
        prefix: &'a str,
    },
    /// Counts all nodes below a path.
    GetAllChildrenNumber {
        /// The path.
        path: &'a str,
    },
    /// Sets a watch that stays.
    AddWatch {
        /// Of which path.
        path: &'a str,
        /// 0 persistent, 1 persistent and recursive.
        mode: i32,
    },
    /// Lists the client's identities.
    WhoAmI,
    /// Ends the session.
    CloseSession,
}

/// A node to be created.
#[derive(Clone, Debug)]
pub struct Create<'a> {
    /// By which operation, which is what the answer looks like.
    pub op: OpCode,
    /// Where.
    pub path: &'a str,
    /// Its data.
    pub data: Option<&'a [u8]>,
    /// Permission bits, scheme and id of each line of its access list.
    pub acl: Vec<(i32, &'a str, &'a str)>,
    /// 0 to 6: persistent, ephemeral, the two of them sequential, container, with time to live, the latter sequential.
    pub flags: i32,
    /// Its time to live in milliseconds, if it was said.
    pub ttl: Option<i64>,
}

/// An identity and its proof.
#[derive(Clone, Copy, Debug)]
pub struct AuthPacket<'a> {
    /// How it is proven.
    pub scheme: &'a str,
    /// The proof.
    pub auth: &'a [u8],
}

/// Watches to be set again.
#[derive(Clone, Debug)]
pub struct Watches<'a> {
    /// The last transaction the client has seen.
    pub relative_zxid: i64,
    /// Paths of: data, existence, children, persistent, persistent and recursive.
    pub paths: [Vec<&'a str>; 5],
}

/// The operations of a multi, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct MultiOps<'a> {
    fields: Fields<'a>,
}

impl<'a> MultiOps<'a> {
    /// The next operation; `None` at the end.
    ///
    /// # Errors
    ///
    /// When what follows is none.
    pub fn next_op(&mut self) -> Result<Option<(OpCode, Request<'a>)>, Malformed> {
        let code = self.fields.int()?;
        let done = self.fields.flag()?;
        let _error = self.fields.int()?;
        if done {
            return Ok(None);
        }
        let op = OpCode::of(code).ok_or(Malformed)?;
        let request = Request::fields(op, &mut self.fields)?;
        Ok(Some((op, request)))
    }
}

impl<'a> Request<'a> {
    /// Reads a frame's body after its number and operation.
    ///
    /// # Errors
    ///
    /// When the bytes are not what the operation needs.
    pub fn read(op: OpCode, body: &'a [u8]) -> Result<Self, Malformed> {
        Self::fields(op, &mut Fields::new(body))
    }

    fn fields(op: OpCode, f: &mut Fields<'a>) -> Result<Self, Malformed> {
        Ok(match op {
            OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
                Self::Create(Create::read(op, f)?)
            }
            OpCode::Delete => Self::Delete {
                path: f.text()?,
                version: f.int()?,
            },
            OpCode::Exists => Self::Exists {
                path: f.text()?,
                watch: f.flag()?,
            },
            OpCode::GetData => Self::GetData {
                path: f.text()?,
                watch: f.flag()?,
            },
            OpCode::SetData => Self::SetData {
                path: f.text()?,
                data: f.buffer()?,
                version: f.int()?,
            },
            OpCode::GetAcl => Self::GetAcl { path: f.text()? },
            OpCode::SetAcl => Self::SetAcl {
                path: f.text()?,
                acl: acl(f)?,
                version: f.int()?,
            },
            OpCode::GetChildren | OpCode::GetChildren2 => Self::GetChildren {
                path: f.text()?,
                watch: f.flag()?,
                stat: op == OpCode::GetChildren2,
            },
            OpCode::Sync => Self::Sync { path: f.text()? },
            OpCode::Check => Self::Check {
                path: f.text()?,
                version: f.int()?,
            },
            OpCode::Ping => Self::Ping,
            OpCode::Multi => Self::Multi(MultiOps { fields: *f }),
            OpCode::MultiRead => Self::MultiRead(MultiOps { fields: *f }),
            OpCode::Reconfig => Self::Reconfig,
            OpCode::CheckWatches | OpCode::RemoveWatches => Self::Watch {
                path: f.text()?,
                kind: f.int()?,
                remove: op == OpCode::RemoveWatches,
            },
            OpCode::Auth => Self::Auth(AuthPacket::read(f)?),
            OpCode::SetWatches | OpCode::SetWatches2 => Self::SetWatches(Watches::read(op, f)?),
            OpCode::Sasl => Self::Sasl {
                token: f.buffer()?.unwrap_or_default(),
            },
            OpCode::GetEphemerals => Self::GetEphemerals { prefix: f.text()? },
            OpCode::GetAllChildrenNumber => Self::GetAllChildrenNumber { path: f.text()? },
            OpCode::AddWatch => Self::AddWatch {
                path: f.text()?,
                mode: f.int()?,
            },
            OpCode::WhoAmI => Self::WhoAmI,
            OpCode::CloseSession => Self::CloseSession,
            OpCode::CreateSession | OpCode::DeleteContainer | OpCode::Error => {
                return Err(Malformed);
            }
        })
    }
}

impl<'a> Create<'a> {
    fn read(op: OpCode, f: &mut Fields<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            op,
            path: f.text()?,
            data: f.buffer()?,
            acl: acl(f)?,
            flags: f.int()?,
            ttl: match op {
                OpCode::CreateTtl => Some(f.long()?),
                _ => None,
            },
        })
    }
}

impl<'a> Watches<'a> {
    fn read(op: OpCode, f: &mut Fields<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            relative_zxid: f.long()?,
            paths: match op {
                OpCode::SetWatches => [paths(f)?, paths(f)?, paths(f)?, vec![], vec![]],
                _ => [paths(f)?, paths(f)?, paths(f)?, paths(f)?, paths(f)?],
            },
        })
    }
}

impl<'a> AuthPacket<'a> {
    fn read(f: &mut Fields<'a>) -> Result<Self, Malformed> {
        let _kind = f.int()?;
        Ok(Self {
            scheme: f.text()?,
            auth: f.buffer()?.unwrap_or_default(),
        })
    }
}

fn acl<'a>(f: &mut Fields<'a>) -> Result<Vec<(i32, &'a str, &'a str)>, Malformed> {
    let count = f.count()?;
    (0..count)
        .map(|_| Ok((f.int()?, f.text()?, f.text()?)))
        .collect()
}

fn paths<'a>(f: &mut Fields<'a>) -> Result<Vec<&'a str>, Malformed> {
    let count = f.count()?;
    (0..count).map(|_| f.text()).collect()
}
