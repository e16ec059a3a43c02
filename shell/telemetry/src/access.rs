//! The access log: formatted and written on a thread of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use http::trace::write_hex;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::Counter;
use serde::Serialize;

use crate::sink::Sink;
use crate::{AccessRecord, Record, Try, connection};

/// Batches that may wait to be written, of up to 128 records each. More are lost, and counted.
const WAITING: usize = 256;

/// How a record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// The combined log format of Apache and nginx.
    Combined,
    /// The same, and behind it `key=value` with what it lacks: the trace, timings, and every attempt.
    Extended,
}

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
}

/// A running access log.
pub struct AccessLog {
    to: SyncSender<Vec<Record>>,
    reopen: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl AccessLog {
    /// Opens the log and starts its thread, which adds to `lost` what it cannot write.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn start(format: Format, target: Target, lost: Arc<Counter>) -> io::Result<Self> {
        let out = Sink::new(open(&target)?, lost);
        let (to, records) = sync_channel(WAITING);
        let reopen = Arc::new(AtomicBool::new(false));
        let asked = reopen.clone();
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || run(&records, format, &target, out, &asked))?;
        Ok(Self { to, reopen, thread })
    }

    /// Where workers send their batches.
    pub fn sender(&self) -> SyncSender<Vec<Record>> {
        self.to.clone()
    }

    /// Opens the file again before the next write: for log rotation.
    pub fn reopen(&self) {
        self.reopen.store(true, Relaxed);
    }

    /// Writes what waits and ends, once every worker has dropped its sender.
    pub fn finish(self) {
        drop(self.to);
        // A panic there has been reported on standard error already.
        let _ = self.thread.join();
    }
}

enum Out {
    Stdout,
    File(File),
}

impl Out {
    /// A file that was not rotated, only opened again, may end within a line.
    fn is_empty(&self) -> bool {
        match self {
            Self::Stdout => false,
            Self::File(file) => file.metadata().is_ok_and(|file| file.len() == 0),
        }
    }
}

impl Write for Out {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout => io::stdout().write(text),
            Self::File(file) => file.write(text),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().flush(),
            Self::File(file) => file.flush(),
        }
    }
}

fn open(target: &Target) -> io::Result<Out> {
    match target {
        Target::Stdout => Ok(Out::Stdout),
        Target::File(path) => OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map(Out::File)
            .map_err(|fault| {
                io::Error::new(
                    fault.kind(),
                    format!("access log {}: {fault}", path.display()),
                )
            }),
    }
}

fn run(
    records: &Receiver<Vec<Record>>,
    format: Format,
    target: &Target,
    mut out: Sink<Out>,
    reopen: &AtomicBool,
) {
    let mut text = Vec::new();
    while let Ok(batch) = records.recv() {
        if reopen.swap(false, Relaxed) {
            match open(target) {
                Ok(new) if new.is_empty() => out.begin(new),
                Ok(same) => out.to = same,
                Err(fault) => eprintln!("pointsman: {fault}; going on with the old file"),
            }
        }
        text.clear();
        for record in &batch {
            match (format, record) {
                (Format::Json, Record::Request(record)) => json(record, &mut text),
                (Format::Combined, Record::Request(record)) => {
                    combined(record, &mut text);
                    text.push(b'\n');
                }
                (Format::Extended, Record::Request(record)) => extended(record, &mut text),
                (Format::Json, Record::Connection(record)) => connection::json(record, &mut text),
                (Format::Combined | Format::Extended, Record::Connection(record)) => {
                    connection::combined(record, &mut text);
                }
            }
        }
        out.write(&text);
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    listener: &'a str,
    route: Option<&'a str>,
    client: String,
    method: &'a str,
    host: &'a str,
    target: &'a str,
    version: &'a str,
    status: u16,
    ended: &'a str,
    duration_us: u64,
    waited_us: u64,
    received: u64,
    sent: u64,
    service: Option<String>,
    instance: Option<&'a str>,
    address: Option<String>,
    attempts: u8,
    tries: Vec<TryLine<'a>>,
    trace_id: Option<String>,
    span_id: Option<String>,
    request_id: &'a str,
    user_agent: Option<&'a str>,
    referer: Option<&'a str>,
}

#[derive(Serialize)]
struct TryLine<'a> {
    instance: &'a str,
    address: String,
    status: u16,
    ended: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    at_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_us: Option<u64>,
    duration_us: u64,
}

impl<'a> TryLine<'a> {
    fn of(one: &'a Try) -> Self {
        Self {
            instance: one.instance.as_str(),
            address: one.address.to_string(),
            status: one.status,
            ended: one.ended,
            why: one.why.as_deref(),
            at_us: micros(one.at),
            connect_us: one.connect.map(micros),
            tls_us: one.tls.map(micros),
            first_byte_us: one.first_byte.map(micros),
            duration_us: micros(one.duration),
        }
    }
}

const fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}

fn hex(bytes: &[u8]) -> String {
    let mut digits = vec![0; 2 * bytes.len()];
    write_hex(bytes, &mut digits);
    digits.into_iter().map(char::from).collect()
}

fn json(record: &AccessRecord, out: &mut Vec<u8>) {
    let (request, instance) = (&record.request, record.instance.as_ref());
    let trace = record.trace.as_deref();
    let line = Line {
        time: timestamp(record.at).to_string(),
        listener: &record.listener,
        route: record.route.as_deref(),
        client: record.client.to_string(),
        method: &request.method,
        host: &request.authority,
        target: &request.target,
        version: request.version,
        status: record.status,
        ended: record.ended,
        duration_us: micros(record.duration),
        waited_us: micros(record.waited),
        received: record.received,
        sent: record.sent,
        service: instance.map(|i| i.service.to_string()),
        instance: instance.map(|i| i.id.as_str()),
        address: instance.map(|i| i.address.to_string()),
        attempts: record.attempts,
        tries: record.tries.iter().map(TryLine::of).collect(),
        trace_id: trace.map(|trace| hex(&trace.id)),
        span_id: trace.and_then(|trace| trace.span).map(|span| hex(&span)),
        request_id: &request.id,
        user_agent: request.user_agent.as_deref(),
        referer: request.referer.as_deref(),
    };
    serde_json::to_writer(&mut *out, &line).expect("texts and numbers become JSON");
    out.push(b'\n');
}

fn combined(record: &AccessRecord, out: &mut Vec<u8>) {
    let request = &record.request;
    let time = clf_time(record.at);
    let quoted = |text: Option<&str>| text.map_or_else(|| "-".to_owned(), escape);
    let line = format!(
        "{} - - [{time}] \"{} {} HTTP/{}\" {} {} \"{}\" \"{}\"",
        record.client.ip(),
        escape(&request.method),
        escape(&request.target),
        request.version,
        record.status,
        record.sent,
        quoted(request.referer.as_deref()),
        quoted(request.user_agent.as_deref()),
    );
    out.extend_from_slice(line.as_bytes());
}

/// Values have no blanks in them, but for the attempts, which stand in quotes with `; ` between them.
fn extended(record: &AccessRecord, out: &mut Vec<u8>) {
    combined(record, out);
    let trace = record.trace.as_deref();
    let line = format!(
        " listener={} route={} id={} trace={} ended={} duration_us={} waited_us={} tries=\"{}\"\n",
        record.listener,
        record.route.as_deref().unwrap_or("-"),
        escape(&record.request.id).replace(' ', "\\x20"),
        trace.map_or_else(|| "-".to_owned(), |trace| hex(&trace.id)),
        record.ended,
        micros(record.duration),
        micros(record.waited),
        record
            .tries
            .iter()
            .map(tried)
            .collect::<Vec<_>>()
            .join("; "),
    );
    out.extend_from_slice(line.as_bytes());
}

fn tried(one: &Try) -> String {
    let line = TryLine::of(one);
    let mut text = format!(
        "{} {} {} {} at_us={}",
        escape(line.instance),
        line.address,
        line.status,
        line.ended,
        line.at_us
    );
    let phases = [
        ("connect_us", line.connect_us),
        ("tls_us", line.tls_us),
        ("first_byte_us", line.first_byte_us),
        ("duration_us", Some(line.duration_us)),
    ];
    for (name, took) in phases {
        if let Some(took) = took {
            text.push_str(&format!(" {name}={took}"));
        }
    }
    if let Some(why) = line.why {
        text.push_str(&format!(" why={}", escape(why).replace(' ', "\\x20")));
    }
    text
}

/// As nginx does: quotes, backslashes and anything unprintable as `\xHH`, so that no client can forge a
/// line or a field.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f.. => out.push_str(&format!("\\x{byte:02X}")),
            _ => out.push(char::from(byte)),
        }
    }
    out
}

/// As the common log format has it.
pub(crate) fn clf_time(at: SystemTime) -> String {
    let time = timestamp(at).to_zoned(TimeZone::UTC);
    time.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string()
}

pub(crate) fn timestamp(at: SystemTime) -> Timestamp {
    // Before 9999 BC or after AD 9999 something else is wrong with the clock.
    Timestamp::try_from(at)
        .and_then(|t| t.round(jiff::Unit::Millisecond))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::{Answerer, RequestLine};

    fn tried(instance: &str, at: u64, status: u16, ended: &'static str) -> Try {
        Try {
            instance: instance.parse().unwrap(),
            address: "127.0.0.1:8000".parse().unwrap(),
            at: Duration::from_micros(at),
            connect: (at == 500).then(|| Duration::from_micros(30)),
            tls: None,
            first_byte: (status != 0).then(|| Duration::from_micros(350)),
            duration: Duration::from_micros(400),
            status,
            ended,
            why: (status == 0).then(|| "it is \"gone\"".into()),
            span: [3; 8],
        }
    }

    pub(crate) fn record() -> AccessRecord {
        AccessRecord {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            duration: Duration::from_micros(1_500),
            waited: Duration::from_micros(100),
            client: "192.0.2.1:999".parse().unwrap(),
            listener: "web".into(),
            route: Some("all".into()),
            request: RequestLine {
                method: "GET".into(),
                authority: "a.example:8443".into(),
                target: "/x?y=\"z\"".into(),
                scheme: "https",
                version: "1.1",
                id: "42".into(),
                user_agent: Some("curl\n\"evil\" é".into()),
                referer: None,
            },
            status: 200,
            received: 80,
            sent: 300,
            instance: Some(Answerer {
                service: model::ServiceKey::in_default("shop".parse().unwrap()),
                id: "a".parse().unwrap(),
                address: "127.0.0.1:8000".parse().unwrap(),
            }),
            attempts: 2,
            tries: vec![
                tried("b", 100, 0, "instance_left"),
                tried("a", 500, 200, "ok"),
            ],
            trace: Some(Box::new(crate::Trace {
                id: [1; 16],
                parent: Some([9; 8]),
                span: Some([2; 8]),
                flags: 1,
                state: None,
            })),
            ended: "ok",
        }
    }

    #[test]
    fn a_json_line_holds_everything_and_is_one_line() {
        let mut out = Vec::new();
        json(&record(), &mut out);
        assert_eq!(out.iter().filter(|&&b| b == b'\n').count(), 1);
        let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(line["time"], "2023-11-14T22:13:20.123Z");
        assert_eq!(line["service"], "shop");
        assert_eq!(line["duration_us"], 1_500);
        assert_eq!(line["user_agent"], "curl\n\"evil\" é");
        assert_eq!(line["referer"], serde_json::Value::Null);
    }

    #[test]
    fn every_attempt_is_told_with_what_took_how_long() {
        let mut out = Vec::new();
        json(&record(), &mut out);
        let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(line["waited_us"], 100);
        assert_eq!(line["trace_id"], "01".repeat(16));
        assert_eq!(line["span_id"], "02".repeat(8));
        let tries = line["tries"].as_array().unwrap();
        assert_eq!(tries[0]["ended"], "instance_left");
        assert_eq!(tries[0]["why"], "it is \"gone\"");
        assert_eq!(tries[1].get("why"), None);
        assert_eq!(
            (&tries[0]["status"], tries[0].get("first_byte_us")),
            (&0.into(), None)
        );
        assert_eq!(tries[1]["connect_us"], 30);
        assert_eq!(tries[1].get("tls_us"), None);
        assert_eq!(
            (&tries[1]["at_us"], &tries[1]["duration_us"]),
            (&500.into(), &400.into())
        );
    }

    #[test]
    fn an_extended_line_is_a_combined_one_with_the_rest_behind_it() {
        let mut line = Vec::new();
        combined(&record(), &mut line);
        let combined = String::from_utf8(line).unwrap();
        let mut line = Vec::new();
        extended(&record(), &mut line);
        let extended = String::from_utf8(line).unwrap();
        assert_eq!(
            extended.strip_prefix(&combined),
            Some(
                " listener=web route=all id=42 trace=01010101010101010101010101010101 ended=ok duration_us=1500 \
                 waited_us=100 tries=\"b 127.0.0.1:8000 0 instance_left at_us=100 duration_us=400 \
                 why=it\\x20is\\x20\\x22gone\\x22; a 127.0.0.1:8000 200 ok at_us=500 connect_us=30 first_byte_us=350 duration_us=400\"\n"
            )
        );
    }

    #[test]
    fn no_client_can_forge_a_combined_line() {
        let mut out = Vec::new();
        combined(&record(), &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] \"GET /x?y=\\x22z\\x22 HTTP/1.1\" 200 300 \"-\" \
             \"curl\\x0A\\x22evil\\x22 \\xC3\\xA9\""
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn records_that_a_full_disk_does_not_take_are_counted() {
        let lost = Arc::new(Counter::default());
        let full = Target::File("/dev/full".into());
        let log = AccessLog::start(Format::Json, full, lost.clone()).unwrap();
        let batch = || vec![Record::Request(record()), Record::Request(record())];
        log.sender().send(batch()).unwrap();
        log.sender().send(batch()).unwrap();
        log.finish();
        assert_eq!(lost.value(), 4);
    }

    #[test]
    fn a_rotated_file_is_opened_again() {
        let dir = std::env::temp_dir().join(format!("pointsman-access-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("access.log");
        let target = Target::File(path.clone());
        let log = AccessLog::start(Format::Combined, target, Arc::default()).unwrap();
        let sender = log.sender();
        sender.send(vec![Record::Request(record())]).unwrap();
        while std::fs::read(&path).unwrap().is_empty() {
            std::thread::yield_now();
        }
        std::fs::rename(&path, dir.join("access.log.1")).unwrap();
        log.reopen();
        let two = || Record::Request(record());
        sender.send(vec![two(), two()]).unwrap();
        drop(sender);
        log.finish();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
