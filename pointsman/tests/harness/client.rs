//! A client of HTTP/1.1 that hides nothing: it sends the bytes it is given.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::PATIENCE;

/// A connection.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    /// What came and was not asked for yet.
    pub(crate) ahead: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// Asks for `path` on a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    request(
        address,
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    )
}

/// Sends `bytes` on a connection of their own and reads one answer.
pub(crate) fn request(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Answer {
    let mut connection = Connection::open(address);
    connection.send(bytes);
    connection.answer()
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::try_open(address).unwrap_or_else(|e| panic!("no connection to {address}: {e}"))
    }

    pub(crate) fn try_open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            ahead: Vec::new(),
        })
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the request is sent");
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Asks for `path` and keeps the connection.
    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.try_get("localhost", path).expect("an answer")
    }

    pub(crate) fn try_get(&mut self, host: &str, path: &str) -> Result<Answer, String> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        self.try_send(head).map_err(|e| format!("send: {e}"))?;
        self.try_answer()
    }

    /// The next answer, whole.
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer")
    }

    pub(crate) fn try_answer(&mut self) -> Result<Answer, String> {
        let mut answer = self.try_head()?;
        while answer.status == 100 {
            answer = self.try_head()?;
        }
        if [101, 204, 304].contains(&answer.status) {
            return Ok(answer);
        }
        if answer.header("transfer-encoding").is_some() {
            answer.body = self.chunks()?;
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().map_err(|_| "an odd length".to_owned())?;
            answer.body = self.take(length)?;
        } else {
            while self.more()? {}
            answer.body = std::mem::take(&mut self.ahead);
        }
        Ok(answer)
    }

    /// The next answer's head alone.
    pub(crate) fn try_head(&mut self) -> Result<Answer, String> {
        let end = self.find(b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&self.take(end + 4)?).into_owned();
        let status = head.get(9..12).and_then(|s| s.parse().ok());
        Ok(Answer {
            status: status.ok_or_else(|| format!("no status in {head:?}"))?,
            head,
            body: Vec::new(),
        })
    }

    /// Exactly so many bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<Vec<u8>, String> {
        while self.ahead.len() < count {
            if !self.more()? {
                return Err(format!(
                    "closed after {} of {count} bytes",
                    self.ahead.len()
                ));
            }
        }
        Ok(self.ahead.drain(..count).collect())
    }

    /// Reads up to and with the next line end.
    pub(crate) fn line(&mut self) -> Result<String, String> {
        let end = self.find(b"\n")?;
        let line = self.take(end + 1)?;
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Whether the peer has closed, nothing more being there.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.ahead.is_empty() && !self.more().unwrap_or(false)
    }

    pub(crate) fn end_sending(&self) {
        self.stream.shutdown(Shutdown::Write).expect("half a close");
    }

    fn chunks(&mut self) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or(""), 16)
                .map_err(|_| format!("an odd chunk: {line:?}"))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.take(size)?);
            self.take(2)?;
        }
    }

    fn find(&mut self, wanted: &[u8]) -> Result<usize, String> {
        loop {
            let found = self.ahead.windows(wanted.len()).position(|w| w == wanted);
            if let Some(at) = found {
                return Ok(at);
            }
            if !self.more()? {
                let seen = String::from_utf8_lossy(&self.ahead).into_owned();
                return Err(format!("closed in the middle of {seen:?}"));
            }
        }
    }

    fn more(&mut self) -> Result<bool, String> {
        let mut buffer = [0; 16 * 1024];
        let n = self.stream.read(&mut buffer).map_err(|e| e.to_string())?;
        self.ahead.extend_from_slice(&buffer[..n]);
        Ok(n > 0)
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {} {:?}", self.status, self.text()))
    }
}
