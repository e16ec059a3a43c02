//! A connection's line in the access log.

use serde::Serialize;

use crate::ConnectionRecord;
use crate::access::{clf_time, escape, timestamp};

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    listener: &'a str,
    route: Option<&'a str>,
    client: String,
    protocol: &'a str,
    sni: Option<&'a str>,
    ended: &'a str,
    duration_us: u64,
    connect_us: u64,
    received: u64,
    sent: u64,
    service: Option<String>,
    instance: Option<&'a str>,
    address: Option<String>,
    attempts: u8,
}

pub(crate) fn json(record: &ConnectionRecord, out: &mut Vec<u8>) {
    let instance = record.instance.as_ref();
    let line = Line {
        time: timestamp(record.at).to_string(),
        listener: &record.listener,
        route: record.route.as_deref(),
        client: record.client.to_string(),
        protocol: record.protocol,
        sni: record.sni.as_deref(),
        ended: record.ended,
        duration_us: record.duration.as_micros() as u64,
        connect_us: record.connect.as_micros() as u64,
        received: record.received,
        sent: record.sent,
        service: instance.map(|i| i.service.to_string()),
        instance: instance.map(|i| i.id.as_str()),
        address: instance.map(|i| i.address.to_string()),
        attempts: record.attempts,
    };
    serde_json::to_writer(&mut *out, &line).expect("texts and numbers become JSON");
    out.push(b'\n');
}

/// The format knows only requests: the protocol stands for the method, the listener (or the server name) for the
/// target, and the way it ended for the version. There is no status.
pub(crate) fn combined(record: &ConnectionRecord, out: &mut Vec<u8>) {
    let target = record.sni.as_deref().unwrap_or(&record.listener);
    let line = format!(
        "{} - - [{}] \"{} {} {}\" 000 {} \"-\" \"-\"\n",
        record.client.ip(),
        clf_time(record.at),
        record.protocol.to_ascii_uppercase(),
        escape(target),
        record.ended,
        record.sent,
    );
    out.extend_from_slice(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_connection_is_one_line_in_both_formats() {
        let record = ConnectionRecord {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            duration: Duration::from_millis(1_500),
            connect: Duration::from_micros(80),
            protocol: "tcp",
            client: "192.0.2.1:999".parse().unwrap(),
            listener: "db".into(),
            route: None,
            sni: Some("evil\"\n".into()),
            received: 10,
            sent: 20,
            instance: None,
            attempts: 3,
            ended: "unavailable",
        };
        let mut out = Vec::new();
        json(&record, &mut out);
        let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(line["protocol"], "tcp");
        assert_eq!(line["connect_us"], 80);
        assert_eq!(line["service"], serde_json::Value::Null);
        out.clear();
        combined(&record, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] \"TCP evil\\x22\\x0A unavailable\" 000 20 \"-\" \"-\"\n"
        );
    }
}
