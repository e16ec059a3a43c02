//! A small service as a team would write it: answers HTTP, registers itself, sends heartbeats.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use model::ServiceKey;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};

/// How long a crashed sample stays away.
const ABSENCE: Duration = Duration::from_secs(10);
/// How long one heartbeat holds.
const TTL: Duration = Duration::from_secs(3);

/// A running sample service.
pub(super) struct Sample {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    api: SocketAddr,
    crash: Arc<Notify>,
    /// Whether it is up.
    up: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// The service that all samples are instances of.
pub(super) fn service() -> ServiceKey {
    ServiceKey::in_default("hello".parse().expect("a valid name"))
}

impl Sample {
    /// Starts it and registers it at the API.
    pub(super) async fn start(name: &'static str, api: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("no port for a sample")?;
        let address = listener.local_addr()?;
        register(api, name, address).await?;
        let crash = Arc::new(Notify::new());
        let (up, _) = watch::channel(true);
        let life = live(name, address, api, listener, crash.clone(), up.clone());
        Ok(Self {
            name,
            address,
            api,
            crash,
            up,
            task: tokio::spawn(life),
        })
    }

    /// Ends it as a SIGKILL would: connections reset, no word to the registry.
    pub(super) fn crash(&self) {
        self.crash.notify_one();
    }

    /// Waits until it is up, or is not.
    pub(super) async fn until(&self, up: bool) {
        let mut state = self.up.subscribe();
        // The sender is ours: it does not go away.
        let _ = state.wait_for(|now| *now == up).await;
    }

    /// Deregisters and ends.
    pub(super) async fn leave(self) {
        let path = format!("/v1/services/hello/instances/{}", self.name);
        // The node stops as well: nobody needs to hear of a failure.
        let _ = request(self.api, "DELETE", &path, "").await;
        self.task.abort();
    }
}

async fn live(
    name: &'static str,
    address: SocketAddr,
    api: SocketAddr,
    listener: TcpListener,
    crash: Arc<Notify>,
    up: watch::Sender<bool>,
) {
    let mut listener = listener;
    loop {
        let mut connections = JoinSet::new();
        let mut beat = tokio::time::interval(TTL / 3);
        let path = format!("/v1/services/hello/instances/{name}/heartbeat");
        loop {
            tokio::select! {
                Ok((stream, _)) = listener.accept() => {
                    connections.spawn(answer(stream, name, crash.clone()));
                }
                // A node that is away is told again in a moment.
                _ = beat.tick() => drop(request(api, "POST", &path, "").await),
                () = crash.notified() => break,
            }
            while connections.try_join_next().is_some() {}
        }
        drop(listener);
        drop(connections);
        up.send_replace(false);
        tokio::time::sleep(ABSENCE).await;
        listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        let _ = register(api, name, address).await;
        up.send_replace(true);
    }
}

async fn answer(mut stream: TcpStream, name: &'static str, crash: Arc<Notify>) {
    // A killed process resets what it has open.
    let _ = stream.set_zero_linger();
    let mut held = Vec::new();
    loop {
        let end = held.windows(4).position(|w| w == b"\r\n\r\n");
        let Some(end) = end else {
            match stream.read_buf(&mut held).await {
                Ok(n) if n > 0 && held.len() < 16 * 1024 => continue,
                _ => return,
            }
        };
        let head: Vec<u8> = held.drain(..end + 4).collect();
        if head.starts_with(b"POST /crash ") {
            crash.notify_one();
        }
        let body = format!("hello from {name}\n");
        let length = body.len();
        let text = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nx-instance: {name}\r\n\r\n{body}"
        );
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn register(api: SocketAddr, name: &str, address: SocketAddr) -> anyhow::Result<()> {
    let body = json!({
        "address": address.ip().to_string(),
        "port": address.port(),
        "lease": { "ttl": format!("{}s", TTL.as_secs()), "grace": "60s" },
        "check": { "http": "/health", "interval": "1s", "timeout": "500ms" },
    });
    let path = format!("/v1/services/hello/instances/{name}");
    let status = request(api, "PUT", &path, &body.to_string()).await?;
    anyhow::ensure!(
        status.starts_with('2'),
        "the node did not register {name}: {status}"
    );
    Ok(())
}

/// One request to the API; returns the status.
async fn request(api: SocketAddr, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(api).await?;
    let text = format!(
        "{method} {path} HTTP/1.1\r\nhost: {api}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    Ok(answer.split(' ').nth(1).unwrap_or_default().to_owned())
}
