//! An origin that takes requests in their strictest form only, and says what it has understood; and what a client hears of that.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::{Payload, Reading};
use crate::harness::{Connection, Home, Node, Origin};

/// The request that follows each payload.
const NEXT: &[u8] = b"GET /~~~x HTTP/1.1\r\nHost: a\r\n\r\n";

/// A node before a judge.
pub(super) struct Judge {
    node: Node,
    seen: Arc<Mutex<Seen>>,
    _origin: Origin,
}

#[derive(Debug, Default)]
struct Seen {
    /// How many payloads there were.
    count: usize,
    /// Every whole request at the origin: its path and body.
    requests: Vec<(String, Vec<u8>)>,
    /// What every client was told that its requests had been.
    told: Vec<(String, Vec<u8>)>,
    /// Requests that may have arrived whole although their clients were told otherwise, or may yet.
    late: Vec<(String, Vec<u8>)>,
    /// What the origin cannot take.
    divergent: Vec<String>,
}

impl Judge {
    pub(super) fn new() -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let sees = seen.clone();
        let origin = Origin::raw(move |mut connection, _| {
            loop {
                match next(&mut connection) {
                    Ok(Some((path, body))) => {
                        let answer = echo(&path, &body);
                        sees.lock().unwrap().requests.push((path, body));
                        if connection.try_send(answer).is_err() {
                            return;
                        }
                    }
                    Ok(None) => return,
                    Err(why) => return sees.lock().unwrap().divergent.push(why),
                }
            }
        });
        let node = Home::new(crate::SHOP).start();
        node.register("shop", "a", &crate::lasting(&origin));
        node.until_eligible("/", 1);
        Self {
            node,
            seen,
            _origin: origin,
        }
    }

    pub(super) fn sits_over(&self, all: &[Payload]) {
        for (class, bytes, reading) in all {
            self.hears(class, bytes, *reading);
        }
        self.ends();
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// The payload's number, and the bytes with it.
    fn number(&self, bytes: &[u8]) -> (String, Vec<u8>) {
        let mut seen = self.seen();
        seen.count += 1;
        let number = format!("{:03}", seen.count);
        let bytes = named(bytes, &number);
        (number, bytes)
    }

    /// Sends a payload, with another request behind it, and looks at what arrives.
    pub(super) fn hears(&self, class: &str, payload: &[u8], reading: Reading) {
        let (number, bytes) = self.number(&[payload, NEXT].concat());
        let mut client = Connection::open(self.node.web());
        let patience = Duration::from_millis(400);
        client.stream.set_read_timeout(Some(patience)).unwrap();
        // It may have been refused before all of it was sent.
        let _ = client.try_send(&bytes);
        let mut answers = Vec::new();
        hear(&mut client, &mut answers);
        // What waits for more will get no more.
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        let patience = Some(crate::harness::PATIENCE);
        client.stream.set_read_timeout(patience).unwrap();
        hear(&mut client, &mut answers);
        let shown = payload.escape_ascii().to_string();
        self.judges(class, &shown, &number, reading, &answers, true);
    }

    /// Sends a request in HTTP/2: its fields, and its body in parts.
    pub(super) fn hears_stream(
        &self,
        class: &str,
        fields: &[(&[u8], &[u8])],
        parts: &[super::frames::Part],
        reading: Reading,
    ) {
        let (number, bytes) = self.number(&super::frames::request(fields, parts));
        let answer = super::frames::ask(self.node.web(), &bytes);
        let shown = format!("{:?}", fields.iter().map(show).collect::<Vec<_>>());
        let answers: Vec<_> = answer.into_iter().collect();
        self.judges(class, &shown, &number, reading, &answers, false);
    }

    fn judges(
        &self,
        class: &str,
        shown: &str,
        number: &str,
        reading: Reading,
        answers: &[(u16, Vec<u8>)],
        followed: bool,
    ) {
        let what = format!("{class}: {shown}");
        let mut expected = Vec::new();
        if let Reading::Yes(body) | Reading::Perhaps(body) = reading {
            expected.push((format!("/{number}a"), named(body, number)));
            if followed {
                expected.push((format!("/{number}x"), Vec::new()));
            }
        }
        let served: Vec<_> = answers
            .iter()
            .filter(|(status, _)| *status == 200)
            .collect();
        let told: Vec<_> = served.iter().map(|(_, text)| said(text)).collect();
        assert!(
            expected.starts_with(&told),
            "{what}: it was read as {told:?}"
        );
        if let Reading::Yes(_) = reading {
            assert_eq!(told, expected, "{what}: {answers:?}");
        }
        for (status, _) in answers.iter().filter(|(status, _)| *status != 200) {
            assert!((400..600).contains(status), "{what}: {status}");
        }
        // Whoever comes next gets its own answer, on whatever connections there are to the origin.
        let probe = format!("GET /{number}p HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let mut client = Connection::open(self.node.web());
        client.send(probe);
        let probed = said(&client.answer().body);
        assert_eq!(probed, (format!("/{number}p"), Vec::new()), "{what}");
        let mut seen = self.seen();
        seen.told.extend(told);
        seen.told.push(probed);
        assert!(seen.divergent.is_empty(), "{what}: {:?}", seen.divergent);
        if let Reading::Late(body) = reading {
            seen.late.push((format!("/{number}a"), named(body, number)));
        }
        let mine = |(path, _): &&(String, Vec<u8>)| path.starts_with(&format!("/{number}"));
        let arrived = seen.requests.iter().filter(mine);
        let arrived = arrived.filter(|one| !seen.late.contains(one)).count();
        assert_eq!(
            arrived,
            seen.told.iter().filter(mine).count(),
            "{what}: {:?}",
            seen.requests.iter().filter(mine).collect::<Vec<_>>()
        );
    }

    /// Nothing has arrived that no client was told of.
    pub(super) fn ends(&self) {
        let mut seen = self.seen();
        let Seen {
            requests,
            told,
            late,
            ..
        } = &mut *seen;
        for one in late {
            // Once, be it before the client was told or after.
            if let Some(at) = requests.iter().position(|request| request == one) {
                requests.remove(at);
            }
        }
        requests.sort();
        told.sort();
        assert_eq!(requests, told);
        assert!(seen.count > 30, "{}", seen.count);
    }
}

/// Bytes with their number in them.
fn named(bytes: &[u8], number: &str) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    while let Some(at) = bytes.windows(3).position(|w| w == b"~~~") {
        bytes[at..at + 3].copy_from_slice(number.as_bytes());
    }
    bytes
}

fn show((name, value): &(&[u8], &[u8])) -> String {
    format!("{}: {}", name.escape_ascii(), value.escape_ascii())
}

/// Hears answers until the connection ends, or nothing comes for a while, or both requests have theirs: what a third would be, arrives
/// and is not told.
fn hear(client: &mut Connection, answers: &mut Vec<(u16, Vec<u8>)>) {
    while answers.len() < 2
        && let Ok(answer) = client.try_answer()
    {
        answers.push((answer.status, answer.body));
    }
}

fn echo(path: &str, body: &[u8]) -> Vec<u8> {
    let said = [path.as_bytes(), b"\n", body].concat();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", said.len());
    [head.as_bytes(), &said].concat()
}

/// What the origin says that it has understood.
fn said(text: &[u8]) -> (String, Vec<u8>) {
    let end = text.iter().position(|&b| b == b'\n').unwrap_or(text.len());
    let path = String::from_utf8_lossy(&text[..end]).into_owned();
    (path, text.get(end + 1..).unwrap_or_default().to_vec())
}

/// The next request, by the strictest reading; `None` at the end, also one in the middle: what was broken off is no request.
fn next(connection: &mut Connection) -> Result<Option<(String, Vec<u8>)>, String> {
    let Some(head) = until(connection, b"\r\n\r\n") else {
        return Ok(None);
    };
    let odd = |why: &str| format!("{why}: {}", head.escape_ascii());
    let text = &head[..head.len() - 4];
    let mut lines = Vec::new();
    for line in split(text) {
        if line.iter().any(|b| b"\r\n\0".contains(b)) {
            return Err(odd("a line end within a line"));
        }
        lines.push(line);
    }
    let words: Vec<_> = lines[0].split(|&b| b == b' ').collect();
    let [method, target, b"HTTP/1.1"] = *words else {
        return Err(odd("no request line"));
    };
    let plain = target
        .iter()
        .all(|b| (0x21..0x7f).contains(b) && *b != b'#');
    if !is_token(method) || !plain || !target.starts_with(b"/") {
        return Err(odd("an odd request line"));
    }
    let (mut length, mut chunked, mut hosts) = (None, false, 0);
    for line in &lines[1..] {
        let colon = line.iter().position(|&b| b == b':');
        let Some((name, value)) = colon.map(|at| (&line[..at], line[at + 1..].trim_ascii())) else {
            return Err(odd("a line without a colon"));
        };
        if !is_token(name) {
            return Err(odd("an odd name"));
        }
        // Servers that make variables of fields take these for the same.
        let name: Vec<u8> = name
            .iter()
            .map(|b| {
                if *b == b'_' {
                    b'-'
                } else {
                    b.to_ascii_lowercase()
                }
            })
            .collect();
        match &*name {
            b"host" => hosts += 1,
            b"content-length" => {
                let digits = value.iter().all(u8::is_ascii_digit) && !value.is_empty();
                let canonical = value == b"0" || !value.starts_with(b"0");
                if length.is_some() || !digits || !canonical {
                    return Err(odd("an odd length"));
                }
                length = std::str::from_utf8(value).unwrap().parse::<usize>().ok();
            }
            b"transfer-encoding" => {
                if chunked || value != b"chunked" {
                    return Err(odd("an odd coding"));
                }
                chunked = true;
            }
            b"upgrade" if value.eq_ignore_ascii_case(b"h2c") => return Err(odd("h2c")),
            b"http2-settings" | b"proxy-connection" | b"keep-alive" => {
                return Err(odd("a field of the connection"));
            }
            _ => {}
        }
    }
    if hosts != 1 || length.is_some() && chunked {
        return Err(odd("not one host, or two lengths"));
    }
    let path = String::from_utf8_lossy(target).into_owned();
    if chunked {
        return Ok(chunks(connection)?.map(|body| (path, body)));
    }
    let body = exactly(connection, length.unwrap_or(0));
    Ok(body.map(|body| (path, body)))
}

fn chunks(connection: &mut Connection) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    loop {
        let Some(line) = until(connection, b"\r\n") else {
            return Ok(None);
        };
        let digits = &line[..line.len() - 2];
        let plain = digits.iter().all(u8::is_ascii_hexdigit) && (1..8).contains(&digits.len());
        if !plain {
            return Err(format!("an odd chunk: {}", line.escape_ascii()));
        }
        let size = usize::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        let Some(chunk) = exactly(connection, size + 2) else {
            return Ok(None);
        };
        if !chunk.ends_with(b"\r\n") {
            return Err(format!("a chunk's end: {}", chunk.escape_ascii()));
        }
        body.extend_from_slice(&chunk[..size]);
    }
    loop {
        let Some(line) = until(connection, b"\r\n") else {
            return Ok(None);
        };
        let line = &line[..line.len() - 2];
        if line.is_empty() {
            return Ok(Some(body));
        }
        let name = line.split(|&b| b == b':').next().unwrap();
        let frames = [&b"content-length"[..], b"transfer-encoding", b"host"];
        let lower = name.to_ascii_lowercase();
        if !is_token(name) || name.len() == line.len() || frames.contains(&&*lower) {
            return Err(format!("an odd trailer: {}", line.escape_ascii()));
        }
    }
}

fn is_token(text: &[u8]) -> bool {
    let odd = |b: &u8| !b.is_ascii_alphanumeric() && !b"!#$%&'*+-.^_`|~".contains(b);
    !text.is_empty() && !text.iter().any(odd)
}

/// Lines that end with CR LF.
fn split(text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(2).position(|w| w == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    lines
}

/// Up to and with `end`; `None` if the connection ends before.
fn until(connection: &mut Connection, end: &[u8]) -> Option<Vec<u8>> {
    loop {
        let found = connection.ahead.windows(end.len()).position(|w| w == end);
        if let Some(at) = found {
            return Some(connection.ahead.drain(..at + end.len()).collect());
        }
        more(connection)?;
    }
}

fn exactly(connection: &mut Connection, count: usize) -> Option<Vec<u8>> {
    while connection.ahead.len() < count {
        more(connection)?;
    }
    Some(connection.ahead.drain(..count).collect())
}

fn more(connection: &mut Connection) -> Option<()> {
    let mut buffer = [0; 4096];
    let n = connection.stream.read(&mut buffer).ok()?;
    connection.ahead.extend_from_slice(&buffer[..n]);
    connection.stream.flush().ok()?;
    (n > 0).then_some(())
}
