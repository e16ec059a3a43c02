//! Pointsman's own API: HTTP/1.1. A key is an instance, a write its registration with another port.

use std::io::Write;
use std::net::SocketAddr;

use super::{Ask, Heard, Pattern, Wire};
use crate::load::Answers;

/// Instances of a service.
const OF_A_SERVICE: u64 = 10;

pub(super) struct Connection {
    host: String,
    answers: Answers,
    statuses: Vec<u16>,
    random: fastrand::Rng,
    /// What a watch begins with, and what each change does.
    watch: Option<(Pattern, Pattern)>,
}

impl Connection {
    pub(super) fn new(host: SocketAddr) -> Self {
        Self {
            host: host.to_string(),
            answers: Answers::default(),
            statuses: Vec::new(),
            random: fastrand::Rng::new(),
            watch: None,
        }
    }

    fn put(&mut self, path: &str, out: &mut Vec<u8>) {
        // Another one than before: what changes nothing need not be written.
        let port = self.random.u16(1_024..);
        let body = format!(r#"{{"address":"10.0.0.1","port":{port},"persistent":true}}"#);
        let (host, length) = (&self.host, body.len());
        // Writing to memory does not fail.
        let _ = write!(
            out,
            "PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
    }

    fn get(&self, path: &str, out: &mut Vec<u8>) {
        let _ = write!(out, "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
    }
}

impl Wire for Connection {
    fn greet(&mut self, _: &mut Vec<u8>) -> usize {
        0
    }

    fn ask(&mut self, ask: Ask, out: &mut Vec<u8>) {
        match ask {
            Ask::Make(key) | Ask::Set(key) => self.put(&path(key), out),
            Ask::Change => self.put("/v1/services/watched/instances/it", out),
            Ask::Get(key) => self.get(&path(key), out),
            Ask::GetLinearizable(key) => {
                self.get(&format!("{}?consistency=linearizable", path(key)), out);
            }
            Ask::Watch => {
                self.watch = Some((
                    Pattern::new(b"event: snapshot"),
                    Pattern::new(b"event: change"),
                ));
                self.get("/v1/services/watched/watch", out);
            }
            Ask::Create | Ask::Leave => unreachable!("the native API has no such request"),
        }
    }

    fn ping(&mut self, _: &mut Vec<u8>) {}

    fn take(&mut self, input: &mut Vec<u8>, _: &mut Vec<u8>) -> anyhow::Result<Heard> {
        if let Some((snapshot, change)) = &mut self.watch {
            let heard = Heard {
                answers: snapshot.count(input),
                failed: 0,
                events: change.count(input),
            };
            input.clear();
            return Ok(heard);
        }
        self.answers.take(input, &mut self.statuses)?;
        input.clear();
        let refused = self.statuses.iter().filter(|s| !(200..300).contains(*s));
        let failed = refused.count();
        let answers = self.statuses.drain(..).count();
        Ok(Heard {
            answers,
            failed,
            events: 0,
        })
    }
}

fn path(key: u64) -> String {
    format!(
        "/v1/services/bench-{}/instances/n-{key}",
        key / OF_A_SERVICE
    )
}
