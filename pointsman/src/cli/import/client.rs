//! As much of a client of ZooKeeper's protocol as copying a tree takes.

use std::fmt;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, ensure};
use wire::zookeeper::{ErrorCode, Fields, MAX_FRAME, Malformed, OpCode, xid};

use super::accepted;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Client {
    stream: TcpStream,
    name: String,
    xid: i32,
}

/// A node, as far as it is copied.
pub(super) struct Node {
    pub(super) data: Option<Vec<u8>>,
    /// Permission bits, scheme and id of each line of its access list.
    access: Vec<(i32, String, String)>,
    pub(super) ephemeral: bool,
    /// How many children it ever had.
    pub(super) creates: u32,
}

/// A server does not do what it was asked for.
#[derive(Debug)]
pub(super) struct Refused(pub(super) i32, pub(super) OpCode);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ErrorCode::of(self.0) {
            Some(code) => write!(f, "{:?} was refused: {code:?}", self.1),
            None => write!(f, "{:?} was refused with {}", self.1, self.0),
        }
    }
}

impl std::error::Error for Refused {}

impl Client {
    pub(super) fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)
            .with_context(|| format!("{address} cannot be reached; is ZooKeeper's port right?"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Self {
            stream,
            name: address.into(),
            xid: 0,
        };
        let mut request = vec![0; 12];
        request.extend_from_slice(&(PATIENCE.as_millis() as i32).to_be_bytes());
        request.extend_from_slice(&[0; 8]);
        request.extend_from_slice(&buffer(Some(&[0; 16])));
        client.send(&request)?;
        let answer = client.frame()?;
        ensure!(
            answer.len() >= 16 && answer[8..16] != [0; 8],
            "{address} gives no session"
        );
        Ok(client)
    }

    pub(super) fn authenticate(&mut self, identity: &str) -> anyhow::Result<()> {
        let identity = buffer(Some(identity.as_bytes()));
        let record = [vec![0; 4], text("digest"), identity].concat();
        let (error, _) = self.ask(xid::AUTH, OpCode::Auth, &record)?;
        accepted(OpCode::Auth, error)
    }

    /// A node with everything that is copied of it; `None` if there is none.
    pub(super) fn read(&mut self, path: &str) -> anyhow::Result<Option<Node>> {
        let Some(body) = self.found(OpCode::GetData, &[text(path), vec![0]].concat())? else {
            return Ok(None);
        };
        let mut node = node(&body).context("an answer that is none")?;
        if let Some(body) = self.found(OpCode::GetAcl, &text(path))? {
            node.access = access(&body).context("an answer that is none")?;
        }
        Ok(Some(node))
    }

    /// The names of its children; `None` if it is gone.
    pub(super) fn children(&mut self, path: &str) -> anyhow::Result<Option<Vec<String>>> {
        let record = [text(path), vec![0]].concat();
        let Some(body) = self.found(OpCode::GetChildren, &record)? else {
            return Ok(None);
        };
        let mut fields = Fields::new(&body);
        let count = fields.count()?;
        let names: Result<_, Malformed> = (0..count)
            .map(|_| fields.text().map(str::to_owned))
            .collect();
        Ok(Some(names?))
    }

    pub(super) fn create(&mut self, path: &str, node: &Node) -> anyhow::Result<()> {
        let record = creation(path, node.data.as_deref(), &node.access);
        let next = self.next_xid();
        let (error, _) = self.ask(next, OpCode::Create, &record)?;
        accepted(OpCode::Create, error).with_context(|| format!("{path} cannot be created"))
    }

    pub(super) fn set(&mut self, path: &str, data: Option<&[u8]>) -> anyhow::Result<()> {
        let record = [text(path), buffer(data), vec![255; 4]].concat();
        let next = self.next_xid();
        let (error, _) = self.ask(next, OpCode::SetData, &record)?;
        accepted(OpCode::SetData, error).with_context(|| format!("{path} cannot be set"))
    }

    /// Creates a child and deletes it again, so many times, at once.
    pub(super) fn touch_children(&mut self, path: &str, times: u32) -> anyhow::Result<()> {
        let child = format!("{}/pointsman-import", path.trim_end_matches('/'));
        let everybody = [(31, "world".to_owned(), "anyone".to_owned())];
        let mut record = Vec::new();
        for _ in 0..times {
            record.extend(operation(
                OpCode::Create,
                &creation(&child, None, &everybody),
            ));
            record.extend(operation(
                OpCode::Delete,
                &[text(&child), vec![255; 4]].concat(),
            ));
        }
        record.extend_from_slice(&[255, 255, 255, 255, 1, 255, 255, 255, 255]);
        let next = self.next_xid();
        let (error, body) = self.ask(next, OpCode::Multi, &record)?;
        accepted(OpCode::Multi, error)?;
        let mut fields = Fields::new(&body);
        let (code, _) = (fields.int()?, fields.flag()?);
        match code == OpCode::Error.code() {
            // Which one of them is wrong does not matter: they are all alike.
            true => accepted(OpCode::Multi, fields.int()?),
            false => Ok(()),
        }
    }

    fn found(&mut self, op: OpCode, record: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
        let next = self.next_xid();
        match self.ask(next, op, record)? {
            (0, body) => Ok(Some(body)),
            (error, _) if error == ErrorCode::NoNode.code() => Ok(None),
            (error, _) => Err(Refused(error, op).into()),
        }
    }

    fn next_xid(&mut self) -> i32 {
        self.xid = self.xid.wrapping_add(1) & i32::MAX;
        self.xid
    }

    fn ask(&mut self, xid: i32, op: OpCode, record: &[u8]) -> anyhow::Result<(i32, Vec<u8>)> {
        let head = [xid.to_be_bytes(), op.code().to_be_bytes()].concat();
        self.send(&[&head, record].concat())?;
        let answer = self.frame()?;
        let mut fields = Fields::new(&answer);
        let (_, _, error) = (fields.int()?, fields.long()?, fields.int()?);
        Ok((error, answer[16..].to_vec()))
    }

    fn send(&mut self, body: &[u8]) -> anyhow::Result<()> {
        let sent = self.stream.write_all(&buffer(Some(body)));
        sent.with_context(|| format!("{} has closed the connection", self.name))
    }

    fn frame(&mut self) -> anyhow::Result<Vec<u8>> {
        let lost = || {
            format!(
                "{} has closed the connection, or does not answer",
                self.name
            )
        };
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).with_context(lost)?;
        let length = u32::from_be_bytes(length) as usize;
        // Lists of children may be longer than any request.
        ensure!(
            length <= 256 * MAX_FRAME,
            "{} says what is no answer",
            self.name
        );
        let mut body = Vec::new();
        let read = (&self.stream).take(length as u64).read_to_end(&mut body);
        ensure!(read.with_context(lost)? == length, "{}", lost());
        Ok(body)
    }
}

fn node(body: &[u8]) -> Result<Node, Malformed> {
    let mut fields = Fields::new(body);
    let data = fields.buffer()?.map(<[u8]>::to_vec);
    for _ in 0..4 {
        fields.long()?;
    }
    let (_, cversion, _) = (fields.int()?, fields.int()?, fields.int()?);
    let owner = fields.long()?;
    let (_, children) = (fields.int()?, fields.int()?);
    Ok(Node {
        data,
        access: Vec::new(),
        // Containers and nodes with a time to live have no session, and cannot be told from others.
        ephemeral: owner != 0,
        creates: (cversion.saturating_add(children) / 2).max(0) as u32,
    })
}

fn access(body: &[u8]) -> Result<Vec<(i32, String, String)>, Malformed> {
    let mut fields = Fields::new(body);
    let count = fields.count()?;
    (0..count)
        .map(|_| Ok((fields.int()?, fields.text()?.into(), fields.text()?.into())))
        .collect()
}

fn creation(path: &str, data: Option<&[u8]>, access: &[(i32, String, String)]) -> Vec<u8> {
    let mut record = [text(path), buffer(data)].concat();
    record.extend_from_slice(&(access.len() as i32).to_be_bytes());
    for (permissions, scheme, id) in access {
        record.extend_from_slice(&permissions.to_be_bytes());
        record.extend_from_slice(&text(scheme));
        record.extend_from_slice(&text(id));
    }
    record.extend_from_slice(&[0; 4]);
    record
}

fn operation(op: OpCode, record: &[u8]) -> Vec<u8> {
    let head = op.code().to_be_bytes();
    [&head[..], &[0, 255, 255, 255, 255], record].concat()
}

fn text(text: &str) -> Vec<u8> {
    buffer(Some(text.as_bytes()))
}

fn buffer(bytes: Option<&[u8]>) -> Vec<u8> {
    match bytes {
        Some(bytes) => [&(bytes.len() as i32).to_be_bytes(), bytes].concat(),
        None => vec![255; 4],
    }
}
