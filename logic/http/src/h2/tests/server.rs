//! Our side against the `h2` crate as server: as in `peer`, the other way round.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use fastrand::Rng;

use super::peer::Wire;
use super::*;
use crate::h1::{BodyDecoder, Framing, MethodKind, parse_response};

/// One request: its body is to come back.
struct Asked {
    key: Key,
    number: usize,
    unsent: Vec<u8>,
    body: Vec<u8>,
    ended: bool,
    got: Vec<u8>,
}

struct Client {
    machine: Connection,
    head: Head,
    held: Vec<u8>,
    bodies: VecDeque<Vec<u8>>,
    asked: Vec<Asked>,
    begun: usize,
    done: usize,
}

const NOW: Moment = Moment::from_millis(1);

impl Client {
    fn step(&mut self, wire: &Wire, rng: &mut Rng) {
        let mut down = wire.down.borrow_mut();
        if !self.machine.is_full() {
            let n = rng.usize(0..=down.bytes.len().min(40_000));
            self.held.extend(down.bytes.drain(..n));
        }
        let mut input = &self.held[..];
        while let Some(event) = self.machine.handle(&mut input, &mut self.head, NOW) {
            assert!(matches!(event, Event::Readable(_)), "{event:?}");
        }
        self.held = input.to_vec();
        while self.machine.poll_writable(&mut 0).is_some() {}
        while rng.bool() && self.machine.vacancies() > 0 && !self.bodies.is_empty() {
            self.begin(rng);
        }
        for mut asked in std::mem::take(&mut self.asked) {
            match rng.bool() && self.go_on(&mut asked, rng) {
                true => self.done += 1,
                false => self.asked.push(asked),
            }
        }
        let n = rng.usize(0..=self.machine.poll_output().len());
        let mut up = wire.up.borrow_mut();
        up.bytes.extend(&self.machine.poll_output()[..n]);
        self.machine.sent(n);
        up.ready = rng.usize(0..=up.bytes.len());
    }

    fn begin(&mut self, rng: &mut Rng) {
        let number = self.begun;
        self.begun += 1;
        let body = self.bodies.pop_front().unwrap();
        let head = format!(
            "POST /{number} HTTP/1.1\r\nHost: shop.example\r\nX-Name: {}\r\nTransfer-Encoding: chunked\r\n\
             TE: trailers\r\nConnection: te\r\n\r\n",
            "n".repeat(rng.usize(0..400)),
        );
        let mut block = Vec::new();
        write_request(
            head.as_bytes(),
            "http",
            |_, value| Some(value),
            &[],
            &mut block,
        );
        let key = self.machine.ask(&block, MethodKind::Post, false).unwrap();
        self.asked.push(Asked {
            key,
            number,
            unsent: body.clone(),
            body,
            ended: false,
            got: Vec::new(),
        });
    }

    /// True if it is done.
    fn go_on(&mut self, asked: &mut Asked, rng: &mut Rng) -> bool {
        if !asked.ended {
            let most = rng.usize(0..=asked.unsent.len());
            let n = self.machine.write(asked.key, &asked.unsent[..most], false);
            asked.unsent.drain(..n.unwrap());
            if asked.unsent.is_empty() {
                asked.ended = true;
                let trailers = format!("x-sum: {}\r\n", asked.body.len());
                self.machine.finish(asked.key, trailers.as_bytes());
            }
        }
        let mut buffer = vec![0; rng.usize(1..30_000)];
        match self.machine.read(asked.key, &mut buffer) {
            Taken::Bytes(n) => asked.got.extend_from_slice(&buffer[..n]),
            Taken::Nothing => {}
            Taken::End => {
                let trailers = self.machine.take_trailers(asked.key).unwrap_or_default();
                check(asked, &trailers);
                self.machine.release(asked.key, Code::Cancel, NOW);
                return true;
            }
            Taken::Reset => panic!("nobody breaks anything off"),
        }
        false
    }
}

fn check(asked: &Asked, trailers: &[u8]) {
    let limits = &SETTINGS.limits;
    let got = &asked.got[..];
    let hints = parse_response(got, &mut 0, limits, MethodKind::Post);
    let hints = hints.unwrap().unwrap();
    assert!(hints.is_interim());
    let got = &got[hints.head_len..];
    let answer = parse_response(got, &mut 0, limits, MethodKind::Post);
    let answer = answer.unwrap().unwrap();
    assert_eq!((answer.status, answer.framing), (200, Framing::UntilClose));
    let path = answer.fields.find("x-path").unwrap();
    assert_eq!(path, format!("/{}", asked.number).as_bytes());
    assert!(got[answer.head_len..] == asked.body, "{}", asked.number);
    assert_eq!(
        trailers,
        format!("x-sum: {}\r\n", asked.body.len()).as_bytes()
    );
    assert!(BodyDecoder::new(answer.framing).trailers().is_empty());
}

async fn echo(
    request: http_types::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    part: usize,
) {
    let hints = http_types::Response::builder()
        .status(103)
        .header("link", "</a>");
    respond.send_informational(hints.body(()).unwrap()).unwrap();
    assert_eq!(request.headers()["te"], "trailers");
    let path = request.uri().path().to_owned();
    let response = http_types::Response::builder().header("x-path", path);
    let mut stream = respond
        .send_response(response.body(()).unwrap(), false)
        .unwrap();
    let mut up = request.into_body();
    while let Some(bytes) = up.data().await {
        let bytes = bytes.unwrap();
        up.flow_control().release_capacity(bytes.len()).unwrap();
        let mut rest = bytes;
        while !rest.is_empty() {
            stream.reserve_capacity(rest.len().min(part));
            let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
            let n = room.unwrap().unwrap().min(rest.len());
            stream.send_data(rest.split_to(n), false).unwrap();
        }
    }
    let trailers = up.trailers().await.unwrap().unwrap();
    stream.send_trailers(trailers).unwrap();
}

fn run(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let wire = Wire::default();
    let settings = Settings {
        max_streams: rng.u32(1..20),
        stream_window: rng.u32(65_535..300_000),
        connection_window: rng.u32(300_000..600_000),
        ..SETTINGS
    };
    let most = if seed.is_multiple_of(8) {
        400_000
    } else {
        3_000
    };
    let all = rng.usize(1..30);
    let body = |rng: &mut Rng| {
        let length = rng.usize(0..most);
        std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
    };
    let mut client = Client {
        machine: Connection::client(settings, NOW),
        head: Head::default(),
        held: Vec::new(),
        bodies: (0..all).map(|_| body(&mut rng)).collect(),
        asked: Vec::new(),
        begun: 0,
        done: 0,
    };
    let mut cx = Context::from_waker(Waker::noop());
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(rng.u32(1..10))
        .initial_window_size(rng.u32(1..100_000))
        .initial_connection_window_size(rng.u32(65_535..200_000))
        .max_frame_size(rng.u32(16_384..60_000));
    let mut shaking = pin!(builder.handshake::<_, Bytes>(wire.far()));
    let mut connection = loop {
        if let Poll::Ready(shaken) = shaking.as_mut().poll(&mut cx) {
            break shaken.unwrap();
        }
        client.step(&wire, &mut rng);
    };
    let mut served: Vec<Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
    let mut rounds = 0;
    while client.done < all {
        if let Poll::Ready(accepted) = connection.poll_accept(&mut cx) {
            let (request, respond) = accepted.unwrap().unwrap();
            served.push(Box::pin(echo(request, respond, rng.usize(1..50_000))));
        }
        served.retain_mut(|task| task.as_mut().poll(&mut cx).is_pending());
        client.step(&wire, &mut rng);
        rounds += 1;
        assert!(rounds < 200_000, "seed {seed} hangs");
    }
    assert_eq!(client.machine.streams(), 0);
    assert_eq!(client.machine.over(), None);
}

#[test]
fn whatever_is_asked_is_answered_however_it_is_cut() {
    for seed in 0..60 {
        run(seed);
    }
}
