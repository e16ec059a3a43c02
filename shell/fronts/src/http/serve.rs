//! Accepts connections and serves them until the shutdown.

use std::future::pending;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use model::Counter;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::stall::Stall;
use super::{Api, Backend, Options, router};

/// The longest request head. Names have 255 bytes and there are few parameters; a cookie jar or a long URL of
/// a tag filter fits many times over.
const MAX_HEAD: usize = 32 << 10;

/// How connections come in, for metrics and for an operator.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// Whether there are as many as there may be, and further ones wait.
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
    let connections = Arc::new(Semaphore::new(options.max_connections));
    let arrivals = options.arrivals.clone();
    let (idle_timeout, drain_timeout) = (options.idle_timeout, options.drain_timeout);
    let server = Server {
        router: router(Arc::new(Api::new(backend, options, closed.clone()))),
        http: http(idle_timeout),
        closing: closed,
    };
    let mut tasks = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        // At the limit nothing is accepted: clients wait in the listener's queue, which costs us nothing, for somebody to leave.
        let permit = async {
            let permit = Arc::clone(&connections).acquire_owned();
            arrivals
                .full
                .store(connections.available_permits() == 0, Relaxed);
            let permit = permit.await;
            arrivals.full.store(false, Relaxed);
            match permit {
                Ok(permit) => (accept(&listener, &arrivals).await, permit),
                Err(_) => pending().await,
            }
        };
        tokio::select! {
            (stream, permit) = permit => {
                tasks.spawn(server.clone().connection(stream, permit));
            }
            () = &mut shutdown => break,
        }
        while tasks.try_join_next().is_some() {}
    }
    drop(listener);
    closing.send_replace(true);
    // What is not done by then is cut off with the tasks.
    let _ = timeout(drain_timeout, async {
        while tasks.join_next().await.is_some() {}
    })
    .await;
}

#[derive(Clone)]
struct Server {
    router: Router,
    http: http1::Builder,
    closing: watch::Receiver<bool>,
}

impl Server {
    async fn connection(mut self, stream: TcpStream, _permit: OwnedSemaphorePermit) {
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
