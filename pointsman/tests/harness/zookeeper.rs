//! A client of ZooKeeper's protocol that shows what is on the wire.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// A session over one connection.
pub(crate) struct ZkClient<S = TcpStream> {
    stream: S,
    pub(crate) session: i64,
    pub(crate) password: Vec<u8>,
    xid: i32,
    /// Events that came in front of answers: type and path.
    pub(crate) events: Vec<(i32, String)>,
}

/// An answer: its error, and its body.
pub(crate) type ZkAnswer = (i32, Vec<u8>);

impl ZkClient {
    pub(crate) fn open(address: SocketAddr, timeout: i32) -> Self {
        Self::resume(address, timeout, 0, &[0; 16]).expect("a session")
    }

    /// Comes back to a session; `None` if it is over.
    pub(crate) fn resume(
        address: SocketAddr,
        timeout: i32,
        session: i64,
        password: &[u8],
    ) -> Option<Self> {
        let come = Self::attempt(address, timeout, session, password);
        come.ok().flatten()
    }

    /// Opens a session, which 0 stands for, or comes back to one; `None` if it is over.
    ///
    /// # Errors
    /// When the node is gone, or says nothing.
    pub(crate) fn attempt(
        address: SocketAddr,
        timeout: i32,
        session: i64,
        password: &[u8],
    ) -> io::Result<Option<Self>> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Self::over(stream, timeout, session, password)
    }
}

impl<S: Read + Write> ZkClient<S> {
    /// The same over a connection that there is.
    pub(crate) fn over(
        mut stream: S,
        timeout: i32,
        session: i64,
        password: &[u8],
    ) -> io::Result<Option<Self>> {
        let mut body = vec![0; 12];
        body.extend_from_slice(&timeout.to_be_bytes());
        body.extend_from_slice(&session.to_be_bytes());
        body.extend_from_slice(&zk_text(password));
        stream.write_all(&zk_text(&body))?;
        let reply = frame(&mut stream)?;
        let session = i64::from_be_bytes(reply[8..16].try_into().expect("a session"));
        let password = reply[20..36].to_vec();
        Ok((session != 0).then_some(Self {
            stream,
            session,
            password,
            xid: 0,
            events: Vec::new(),
        }))
    }

    pub(crate) fn send(&mut self, op: i32, record: &[u8]) -> i32 {
        self.xid += 1;
        let head = [self.xid.to_be_bytes(), op.to_be_bytes()].concat();
        let body = [&head, record].concat();
        // Whoever is sent away in the middle of it finds out when there is no answer.
        let _ = self.stream.write_all(&zk_text(&body));
        self.xid
    }

    /// The next answer; `None` if the connection is closed.
    pub(crate) fn answer(&mut self) -> Option<(i32, ZkAnswer)> {
        loop {
            let frame = frame(&mut self.stream).ok()?;
            let int = |at: usize| i32::from_be_bytes(frame[at..at + 4].try_into().expect("four"));
            match int(0) {
                -1 => {
                    let path = String::from_utf8(frame[28..].to_vec()).expect("a path");
                    self.events.push((int(16), path));
                }
                xid => return Some((xid, (int(12), frame[16..].to_vec()))),
            }
        }
    }

    pub(crate) fn ask(&mut self, op: i32, record: &[u8]) -> ZkAnswer {
        let sent = self.send(op, record);
        let (xid, answer) = self.answer().expect("an answer");
        assert_eq!(xid, sent);
        answer
    }

    /// Creates a node: 0 persistent, 1 ephemeral. The error.
    pub(crate) fn create(&mut self, path: &str, data: &[u8], flags: i32) -> i32 {
        self.ask(1, &zk_create(path, data, flags)).0
    }

    /// A node's data, or the error.
    pub(crate) fn data(&mut self, path: &str) -> Result<Vec<u8>, i32> {
        let (error, body) = self.ask(4, &[&zk_text(path.as_bytes())[..], &[0]].concat());
        match error {
            0 => Ok(body[4..body.len() - 68].to_vec()),
            error => Err(error),
        }
    }

    pub(crate) fn close(mut self) {
        assert_eq!(self.ask(-11, &[]).0, 0);
    }
}

/// A text with its length.
pub(crate) fn zk_text(text: &[u8]) -> Vec<u8> {
    [&(text.len() as i32).to_be_bytes(), text].concat()
}

pub(crate) fn zk_create(path: &str, data: &[u8], flags: i32) -> Vec<u8> {
    let everybody = [1_i32.to_be_bytes(), 31_i32.to_be_bytes()].concat();
    [
        zk_text(path.as_bytes()),
        zk_text(data),
        everybody,
        zk_text(b"world"),
        zk_text(b"anyone"),
        flags.to_be_bytes().to_vec(),
    ]
    .concat()
}

fn frame(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body)?;
    Ok(body)
}
