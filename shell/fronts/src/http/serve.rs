//! Accepts connections and serves them until the shutdown.

use std::future::pending;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use model::Counter;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::stall::Stall;
use super::{Api, Backend, Options, router};

/// The longest request head. Names have 255 bytes and there are few parameters; a cookie jar or a long URL of
/// a tag filter fits many times over.
const MAX_HEAD: usize = 32 << 10;

/// So many more are served when there are as many connections as there may be, with one short answer each: watchers stay for
/// weeks, and an operator has to see how the node is, take an instance out, or send a heartbeat all the same.
const SPARE: usize = 32;
/// How long such a connection may be without a complete request head: others wait for its place.
const SPARE_TIMEOUT: Duration = Duration::from_secs(2);

/// Marks the requests of a connection that is there for one short answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spare;

/// How connections come in, for metrics and for an operator.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// Whether there are as many as there may be, and further ones get one short answer each.
    pub full: AtomicBool,
    /// Times that the kernel accepted nothing: for want of descriptors, most likely.
    pub failed: Counter,
}

/// Serves the native API on `listener` until `shutdown` completes; then ends watches and long polls, lets other requests
/// finish for as long as the options say, and returns.
pub async fn serve(
    listener: TcpListener,
    backend: Backend,
    options: Options,
    shutdown: impl Future<Output = ()>,
) {
    let (closing, closed) = watch::channel(false);
    let door = Door {
        listener,
        seats: Arc::new(Semaphore::new(options.max_connections)),
        spare: Arc::new(Semaphore::new(SPARE)),
        arrivals: options.arrivals.clone(),
    };
    let (idle_timeout, drain_timeout) = (options.idle_timeout, options.drain_timeout);
    let server = Server {
        router: router(Arc::new(Api::new(backend, options, closed.clone()))),
        http: http(idle_timeout),
        closing: closed,
    };
    let brief = Server {
        router: server.router.clone().layer(Extension(Spare)),
        http: { http(SPARE_TIMEOUT) }.keep_alive(false).clone(),
        closing: server.closing.clone(),
    };
    let mut tasks = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        // What is ready first in this order: a seat is taken before a spare one.
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            (stream, seat) = door.enter() => {
                tasks.spawn(server.clone().connection(stream, seat));
            }
            (stream, seat) = door.enter_briefly() => {
                tasks.spawn(brief.clone().connection(stream, seat));
            }
        }
        while tasks.try_join_next().is_some() {}
    }
    drop(door);
    closing.send_replace(true);
    // What is not done by then is cut off with the tasks.
    let _ = timeout(drain_timeout, async {
        while tasks.join_next().await.is_some() {}
    })
    .await;
}

/// Where connections come in.
struct Door {
    listener: TcpListener,
    seats: Arc<Semaphore>,
    spare: Arc<Semaphore>,
    arrivals: Arc<Arrivals>,
}

impl Door {
    /// The next connection, once there is a seat.
    async fn enter(&self) -> (TcpStream, OwnedSemaphorePermit) {
        let full = self.seats.available_permits() == 0;
        self.arrivals.full.store(full, Relaxed);
        let seat = Arc::clone(&self.seats).acquire_owned().await;
        self.arrivals.full.store(false, Relaxed);
        self.accept(seat).await
    }

    /// The next connection, while there is none, for one short answer. Beyond the spare ones nothing is accepted: clients wait
    /// in the listener's queue, which costs us nothing.
    async fn enter_briefly(&self) -> (TcpStream, OwnedSemaphorePermit) {
        if !self.arrivals.full.load(Relaxed) {
            return pending().await;
        }
        let seat = Arc::clone(&self.spare).acquire_owned().await;
        self.accept(seat).await
    }

    async fn accept(
        &self,
        seat: Result<OwnedSemaphorePermit, AcquireError>,
    ) -> (TcpStream, OwnedSemaphorePermit) {
        match seat {
            Ok(seat) => (accept(&self.listener, &self.arrivals).await, seat),
            // The semaphores are never closed.
            Err(_) => pending().await,
        }
    }
}

#[derive(Clone)]
struct Server {
    router: Router,
    http: http1::Builder,
    closing: watch::Receiver<bool>,
}

impl Server {
    async fn connection(mut self, stream: TcpStream, _seat: OwnedSemaphorePermit) {
        // Answers are small and complete: waiting to fill a packet gains nothing. If it fails, the peer has gone.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(self.router);
        let stream = TokioIo::new(Stall::new(stream));
        let mut connection = pin!(self.http.serve_connection(stream, service));
        // An error ends the connection, and there is nobody left to be told.
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = self.closing.wait_for(|closing| *closing) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

fn http(idle_timeout: Duration) -> http1::Builder {
    let mut http = http1::Builder::new();
    // No `pipeline_flush`: with it, hyper 1 buffers a body without bounds for a peer that does not read.
    http.timer(TokioTimer::new())
        .header_read_timeout(idle_timeout)
        .keep_alive(true)
        .max_buf_size(MAX_HEAD);
    http
}

async fn accept(listener: &TcpListener, arrivals: &Arrivals) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // A client that left before it was accepted.
            Err(e) if e.kind() == ErrorKind::ConnectionAborted => {}
            // No file descriptors, or no memory: they come back when somebody leaves, and until then the loop
            // must not spin.
            Err(_) => {
                arrivals.failed.add(1);
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}
