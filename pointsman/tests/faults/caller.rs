//! Calls of the API by clients that give up in time.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::{Answer, Connection};
use crate::nodes::Site;

/// How long a connection may take.
pub(crate) const CONNECT: Duration = Duration::from_millis(500);
/// How long an answer may take: an election, and more.
const ANSWER: Duration = Duration::from_secs(3);

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Nothing was sent.
    Unsent,
    /// It was sent, and nobody knows what came of it.
    Unknown,
}

/// A client with a connection that it keeps.
#[derive(Default)]
pub(crate) struct Caller {
    held: Option<(SocketAddr, u64, Connection)>,
}

impl Caller {
    /// Asks a node.
    pub(crate) fn call(
        &mut self,
        site: &Site,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<Answer, Failed> {
        let key = (site.api, site.generation());
        let held = self.held.take().filter(|(at, life, _)| (*at, *life) == key);
        let mut connection = match held {
            Some((_, _, connection)) => connection,
            None => connect(site.api, CONNECT, ANSWER).map_err(|_| Failed::Unsent)?,
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        connection.try_send(request).map_err(|_| Failed::Unknown)?;
        let answer = connection.try_answer().map_err(|_| Failed::Unknown)?;
        if answer.header("connection") != Some("close") {
            self.held = Some((key.0, key.1, connection));
        }
        Ok(answer)
    }

    /// The connection will not be used again: whoever moves away opens another.
    pub(crate) fn leave(&mut self) {
        self.held = None;
    }
}

/// Connects, with bounds for that and for what follows.
pub(crate) fn connect(
    to: SocketAddr,
    within: Duration,
    patience: Duration,
) -> std::io::Result<Connection> {
    let stream = TcpStream::connect_timeout(&to, within)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.set_nodelay(true)?;
    Ok(Connection {
        stream,
        ahead: Vec::new(),
    })
}

/// The kind of problem that an answer tells of; empty if it is none.
pub(crate) fn problem(answer: &Answer) -> String {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let kind = body["type"].as_str().unwrap_or_default();
    kind.rsplit(':').next().unwrap_or_default().to_owned()
}

/// Whether a refusal promises that nothing was written, and nothing will be.
pub(crate) fn is_undone(answer: &Answer) -> bool {
    [
        "no-leader",
        "not-written",
        "overloaded",
        "closing",
        "read-only",
    ]
    .contains(&problem(answer).as_str())
}
