//! Asks a gRPC server whether it is well, on our own side of HTTP/2.

use std::time::Duration;

use http::grpc::health;
use http::h1::{self, MethodKind};
use http::h2::{Connection, Head, Key, Settings, Taken, write_request};
use model::{GrpcCheck, Moment};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::probe::{BODY, LIMITS, Stream, broken};

/// Limits in time are the probe's.
const NEVER: Duration = Duration::from_secs(86_400);

const SETTINGS: Settings = Settings {
    max_streams: 1,
    stream_window: 65_535,
    connection_window: 65_535,
    limits: LIMITS,
    idle: NEVER,
    request_head: NEVER,
};

/// Asks once. `host` is what it is asked as.
pub(crate) async fn ask(
    mut stream: Box<dyn Stream>,
    check: &GrpcCheck,
    host: &str,
    scheme: &str,
) -> Result<(), String> {
    let now = Moment::from_millis(0);
    let mut machine = Connection::client(SETTINGS, now);
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/grpc\r\nTE: trailers\r\n\
         User-Agent: pointsman-check\r\n\r\n",
        health::PATH
    );
    let mut block = Vec::new();
    let value = |_: &[u8], value| Some(value);
    write_request(head.as_bytes(), scheme, value, &[], &mut block);
    let key = machine.ask(&block, MethodKind::Post, false);
    let key = key.ok_or("no request can be begun")?;
    machine.write(key, &health::question(&check.service), true);
    let answer = converse(&mut stream, &mut machine, key, now).await?;
    let parsed = h1::parse_response(&answer, &mut 0, &LIMITS, MethodKind::Post);
    let Ok(Some(response)) = &parsed else {
        return Err("the answer is no HTTP".into());
    };
    let trailers = machine.take_trailers(key).unwrap_or_default();
    health::verdict(response, &answer[response.head_len..], &trailers)
}

/// The whole answer, its head among it.
async fn converse(
    stream: &mut Box<dyn Stream>,
    machine: &mut Connection,
    key: Key,
    now: Moment,
) -> Result<Vec<u8>, String> {
    let (mut head, mut held, mut answer) = (Head::default(), Vec::new(), Vec::new());
    loop {
        let output = machine.poll_output();
        if !output.is_empty() {
            let sent = output.len();
            let written = stream.write_all(output).await;
            written.map_err(|fault| broken(&fault))?;
            machine.sent(sent);
        }
        let read = stream.read_buf(&mut held).await;
        if read.map_err(|fault| broken(&fault))? == 0 {
            return Err("the connection was closed without an answer".into());
        }
        let mut input = &held[..];
        while machine.handle(&mut input, &mut head, now).is_some() {}
        held = input.to_vec();
        let mut piece = [0; 4_096];
        loop {
            match machine.read(key, &mut piece) {
                Taken::Bytes(n) => answer.extend_from_slice(&piece[..n]),
                Taken::Nothing => break,
                Taken::End => return Ok(answer),
                Taken::Reset => return Err("the server broke the request off".into()),
            }
            if answer.len() > BODY {
                return Err("the answer is too long".into());
            }
        }
        if let Some(why) = machine.over() {
            return Err(format!("the server speaks no HTTP/2: {why:?}"));
        }
    }
}
