//! A client that shows what is on the wire.

use std::collections::VecDeque;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::LONG;

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub(crate) fn revision(&self) -> u64 {
        self.header("x-pointsman-revision")
            .unwrap()
            .parse()
            .unwrap()
    }

    /// The problem's type, without its prefix.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let body = self.json();
        assert_eq!(body["status"], self.status);
        assert!(
            !body["title"].as_str().unwrap().is_empty()
                && !body["detail"].as_str().unwrap().is_empty()
        );
        let kind = body["type"].as_str().unwrap();
        kind.strip_prefix("urn:pointsman:problem:").unwrap().into()
    }

    /// Where something is wrong, in order.
    pub(crate) fn places(&self) -> Vec<String> {
        let place = |error: &Value| {
            assert!(!error["detail"].as_str().unwrap().is_empty());
            let places = ["pointer", "parameter", "header"];
            let mut named = places.iter().filter_map(|kind| error[kind].as_str());
            named.next().unwrap().to_owned()
        };
        let body = self.json();
        let errors = body["errors"].as_array();
        errors.into_iter().flatten().map(place).collect()
    }
}

/// Sends bytes, and reads one answer until the connection ends.
pub(crate) async fn exchange(address: SocketAddr, request: Vec<u8>) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may answer, and close, before it has all of it.
    let _ = stream.write_all(&request).await;
    let mut reader = BufReader::new(stream);
    answer(&mut reader, request.starts_with(b"HEAD")).await
}

/// Reads one answer.
pub(crate) async fn answer(reader: &mut BufReader<TcpStream>, head_only: bool) -> Answer {
    let (status, headers) = head(reader).await;
    let mut answer = Answer {
        status,
        headers,
        body: Vec::new(),
    };
    if head_only || status == 204 || status == 304 {
        return answer;
    }
    if answer.header("transfer-encoding") == Some("chunked") {
        while let Some(piece) = chunk(reader).await {
            answer.body.extend(piece);
        }
    } else {
        let length = answer.header("content-length").unwrap().parse().unwrap();
        answer.body = vec![0; length];
        reader.read_exact(&mut answer.body).await.unwrap();
    }
    answer
}

async fn head(reader: &mut BufReader<TcpStream>) -> (u16, Vec<(String, String)>) {
    let mut line = String::new();
    reader.read_line(&mut line).await.unwrap();
    let status = line
        .split(' ')
        .nth(1)
        .unwrap_or_else(|| panic!("no answer: {line:?}"));
    let status = status.parse().unwrap();
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).await.unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return (status, headers);
        };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// The next chunk, or `None` at the end.
async fn chunk(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut line = String::new();
    reader.read_line(&mut line).await.ok()?;
    let size = usize::from_str_radix(line.trim_end(), 16).ok()?;
    let mut data = vec![0; size + 2];
    reader.read_exact(&mut data).await.ok()?;
    data.truncate(size);
    (size > 0).then_some(data)
}

/// A server-sent event.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) event: String,
    pub(crate) id: Option<u64>,
    pub(crate) data: Value,
}

/// An open watch.
pub(crate) struct Watch {
    reader: BufReader<TcpStream>,
    text: String,
    ready: VecDeque<Sent>,
}

impl Watch {
    pub(crate) async fn open(address: SocketAddr, target: &str, last: Option<u64>) -> Self {
        let last = last.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{last}\r\n");
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        Self::read(stream).await
    }

    /// The watch that was asked for on this connection.
    pub(crate) async fn read(stream: TcpStream) -> Self {
        let mut reader = BufReader::new(stream);
        let (status, headers) = timeout(LONG, head(&mut reader)).await.unwrap();
        assert_eq!(status, 200);
        assert!(headers.contains(&("content-type".into(), "text/event-stream".into())));
        Self {
            reader,
            text: String::new(),
            ready: VecDeque::new(),
        }
    }

    /// The next event, or `None` at the end; comments are passed over.
    pub(crate) async fn next(&mut self) -> Option<Sent> {
        while self.ready.is_empty() {
            let piece = timeout(LONG, chunk(&mut self.reader)).await.unwrap()?;
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
            while let Some(end) = self.text.find("\n\n") {
                let event: String = self.text.drain(..end + 2).collect();
                self.ready.extend(parse(event.trim_end()));
            }
        }
        self.ready.pop_front()
    }
}

fn parse(text: &str) -> Option<Sent> {
    let mut sent = Sent::default();
    for line in text.lines().filter(|line| !line.starts_with(':')) {
        match line.split_once(": ").unwrap() {
            ("event", event) => sent.event = event.into(),
            ("id", id) => sent.id = Some(id.parse().unwrap()),
            ("data", data) => sent.data = serde_json::from_str(data).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    (!sent.event.is_empty()).then_some(sent)
}
