//! Against the `h2` crate as client: requests and answers of all sizes, cut into pieces of any size on the way, both sides
//! taking their time. What was sent must be what arrives.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use fastrand::Rng;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;

/// Bytes under way, and how many of them may be taken now.
#[derive(Default)]
pub(super) struct Pipe {
    pub(super) bytes: VecDeque<u8>,
    pub(super) ready: usize,
}

/// The client's end of a connection.
#[derive(Clone, Default)]
pub(super) struct Wire {
    pub(super) up: Rc<RefCell<Pipe>>,
    pub(super) down: Rc<RefCell<Pipe>>,
}

impl Wire {
    /// The server's end.
    pub(super) fn far(&self) -> Self {
        let (up, down) = (self.down.clone(), self.up.clone());
        Self { up, down }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut down = self.down.borrow_mut();
        let n = down.ready.min(buffer.remaining());
        if n == 0 {
            return Poll::Pending;
        }
        down.ready -= n;
        let bytes: Vec<u8> = down.bytes.drain(..n).collect();
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.up.borrow_mut().bytes.extend(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What is served on one stream: the body comes back as it went, with a trailer that says how long it was.
struct Echo {
    key: Key,
    unsent: Vec<u8>,
    length: usize,
    ended: bool,
}

/// The machine with a server behind it, both on the far side of the wire.
struct Server {
    machine: Connection,
    head: Head,
    held: Vec<u8>,
    served: Vec<Echo>,
    finished: usize,
}

impl Server {
    fn step(&mut self, wire: &Wire, rng: &mut Rng) {
        let now = Moment::from_millis(1);
        if !self.machine.is_full() {
            let mut up = wire.up.borrow_mut();
            let n = rng.usize(0..=up.bytes.len().min(40_000));
            self.held.extend(up.bytes.drain(..n));
        }
        let mut input = &self.held[..];
        while let Some(event) = self.machine.handle(&mut input, &mut self.head, now) {
            match event {
                Event::Request(key) => {
                    let request = self.head.request();
                    let named = request.fields.find("x-name").unwrap_or_default();
                    let mut block = Vec::new();
                    hpack::write_status(200, &mut block);
                    write_field(b"X-Echo", named, &mut block);
                    self.machine.send_head(key, &block, false);
                    self.served.push(Echo {
                        key,
                        unsent: Vec::new(),
                        length: 0,
                        ended: false,
                    });
                }
                Event::Readable(_) => {}
                event => panic!("{event:?}"),
            }
        }
        self.held = input.to_vec();
        while self.machine.poll_writable(&mut 0).is_some() {}
        let served = std::mem::take(&mut self.served);
        for mut echo in served {
            match rng.bool() && self.echo(&mut echo, rng) {
                true => self.finished += 1,
                false => self.served.push(echo),
            }
        }
        let n = rng.usize(0..=self.machine.poll_output().len());
        let mut down = wire.down.borrow_mut();
        down.bytes.extend(&self.machine.poll_output()[..n]);
        self.machine.sent(n);
        down.ready = rng.usize(0..=down.bytes.len());
    }

    /// True if it is done.
    fn echo(&mut self, echo: &mut Echo, rng: &mut Rng) -> bool {
        if echo.unsent.is_empty() && !echo.ended {
            let mut buffer = vec![0; rng.usize(1..30_000)];
            match self.machine.read(echo.key, &mut buffer) {
                Taken::Bytes(n) => echo.unsent.extend_from_slice(&buffer[..n]),
                Taken::Nothing => {}
                Taken::End => echo.ended = true,
                Taken::Reset => panic!("nobody breaks anything off"),
            }
        }
        let n = self.machine.write(echo.key, &echo.unsent, false).unwrap();
        echo.unsent.drain(..n);
        echo.length += n;
        if !echo.ended || !echo.unsent.is_empty() {
            return false;
        }
        let sent = self.machine.take_trailers(echo.key).unwrap_or_default();
        let trailers = [&sent, format!("x-length: {}\r\n", echo.length).as_bytes()].concat();
        self.machine.finish(echo.key, &trailers);
        self.machine
            .release(echo.key, Code::Internal, Moment::from_millis(1));
        true
    }
}

async fn ask(
    mut sender: h2::client::SendRequest<Bytes>,
    number: usize,
    body: Vec<u8>,
    part: usize,
) {
    let name = format!("request-{number}-{}", "n".repeat(number * 7 % 200));
    let request = http_types::Request::builder()
        .method("POST")
        .uri("http://shop.example/path?query")
        .header("x-name", &name)
        .header("cookie", "a=1; b=2")
        .body(())
        .unwrap();
    let mut ready = sender.clone().ready().await.unwrap();
    let (answer, mut upload) = ready.send_request(request, false).unwrap();
    drop(sender.poll_ready(&mut Context::from_waker(Waker::noop())));
    let (mut answer, mut sent) = (pin!(answer), 0);
    let mut got = Vec::new();
    let mut answered = None;
    std::future::poll_fn(|cx| {
        while sent < body.len() {
            let want = part.min(body.len() - sent);
            upload.reserve_capacity(want);
            match upload.poll_capacity(cx) {
                Poll::Ready(Some(Ok(n))) => {
                    let n = n.min(want);
                    let bytes = Bytes::copy_from_slice(&body[sent..sent + n]);
                    upload.send_data(bytes, false).unwrap();
                    sent += n;
                }
                Poll::Ready(other) => panic!("{other:?}"),
                Poll::Pending => break,
            }
        }
        if sent == body.len() {
            sent += 1;
            let mut trailers = http_types::HeaderMap::new();
            trailers.insert("x-sum", "1".parse().unwrap());
            upload.send_trailers(trailers).unwrap();
        }
        if answered.is_none() {
            match answer.as_mut().poll(cx) {
                Poll::Ready(response) => answered = Some(response.unwrap()),
                Poll::Pending => return Poll::Pending,
            }
        }
        let Some(response) = &mut answered else {
            return Poll::Pending;
        };
        loop {
            match response.body_mut().poll_data(cx) {
                Poll::Ready(Some(data)) => {
                    let data = data.unwrap();
                    got.extend_from_slice(&data);
                    let flow = response.body_mut().flow_control();
                    flow.release_capacity(data.len()).unwrap();
                }
                Poll::Ready(None) => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        match response.body_mut().poll_trailers(cx) {
            Poll::Ready(trailers) => {
                let trailers = trailers.unwrap().unwrap();
                assert_eq!(trailers["x-length"], body.len().to_string());
                assert_eq!(trailers["x-sum"], "1");
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    assert_eq!(answered.unwrap().headers()["x-echo"], name);
    assert!(got == body, "request {number}");
}

fn run(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let wire = Wire::default();
    let settings = Settings {
        max_streams: rng.u32(2..20),
        stream_window: rng.u32(65_535..300_000),
        connection_window: rng.u32(300_000..600_000),
        ..SETTINGS
    };
    let mut server = Server {
        machine: Connection::new(settings, Moment::from_millis(1)),
        head: Head::default(),
        held: Vec::new(),
        served: Vec::new(),
        finished: 0,
    };
    let mut cx = Context::from_waker(Waker::noop());
    let mut builder = h2::client::Builder::new();
    builder
        // It begins before it has heard how many it may have at a time.
        .initial_max_send_streams(settings.max_streams as usize)
        .initial_window_size(rng.u32(1..100_000))
        .initial_connection_window_size(rng.u32(65_535..200_000))
        .max_frame_size(rng.u32(16_384..60_000));
    let mut shaking = pin!(builder.handshake::<_, Bytes>(wire.clone()));
    let (sender, connection) = loop {
        if let Poll::Ready(shaken) = shaking.as_mut().poll(&mut cx) {
            break shaken.unwrap();
        }
        server.step(&wire, &mut rng);
    };
    let mut connection = pin!(connection);
    let most = if seed.is_multiple_of(8) {
        400_000
    } else {
        3_000
    };
    let mut asked: Vec<Pin<Box<dyn Future<Output = ()>>>> = (0..rng.usize(1..30))
        .map(|number| {
            let length = rng.usize(0..most);
            let body = std::iter::repeat_with(|| rng.u8(..)).take(length).collect();
            let ask = ask(sender.clone(), number, body, rng.usize(1..50_000));
            Box::pin(ask) as Pin<Box<dyn Future<Output = ()>>>
        })
        .collect();
    let all = asked.len();
    drop(sender);
    let mut rounds = 0;
    while !asked.is_empty() {
        asked.retain_mut(|ask| ask.as_mut().poll(&mut cx).is_pending());
        if let Poll::Ready(ended) = connection.as_mut().poll(&mut cx) {
            assert!(asked.is_empty(), "{ended:?}");
        }
        server.step(&wire, &mut rng);
        rounds += 1;
        assert!(rounds < 200_000, "seed {seed} hangs");
    }
    assert_eq!((server.finished, server.machine.streams()), (all, 0));
    assert_eq!(server.machine.over(), None);
}

#[test]
fn whatever_goes_comes_back_however_it_is_cut() {
    for seed in 0..60 {
        run(seed);
    }
}
