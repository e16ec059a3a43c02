//! Real sockets against a registry in memory.

mod calls;
mod certificates;
mod forwarding;
mod hostile;
pub(crate) mod memory;
mod openapi;
mod polls;
mod reading;
mod refused;
mod watches;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Backend, Options, Watchers, serve};
use memory::Memory;
use wire::Answer;

/// Longer than anything here takes, unless it hangs.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// A server on a free port.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) memory: Arc<Memory>,
    pub(crate) watchers: Arc<Watchers>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Options::default(), 10_000).await
    }

    pub(crate) async fn with(options: Options, history: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let memory = Memory::new(history);
        let watchers: Arc<Watchers> = Arc::default();
        let backend = Backend {
            directory: memory.clone(),
            traffic: memory.clone(),
            watchers: watchers.clone(),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(serve(listener, backend, options, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            memory,
            watchers,
            stop: Some(stop),
            task,
        }
    }

    pub(crate) async fn call(&self, method: &str, target: &str, body: Option<Value>) -> Answer {
        let body = body.map(|body| body.to_string());
        self.raw(
            method,
            target,
            &[("Content-Type", "application/json")],
            body,
        )
        .await
    }

    pub(crate) async fn raw(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Answer {
        let body = body.unwrap_or_default();
        let headers: String = headers
            .iter()
            .map(|(n, v)| format!("{n}: {v}\r\n"))
            .collect();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\
             {headers}\r\n{body}",
            self.address,
            body.len()
        );
        tokio::time::timeout(LONG, wire::exchange(self.address, request.into_bytes()))
            .await
            .unwrap()
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.call("GET", target, None).await
    }

    /// Registers a plain instance.
    pub(crate) async fn put(&self, service: &str, id: &str) -> Answer {
        let target = format!("/v1/services/{service}/instances/{id}");
        let body = json!({ "address": "10.0.0.1", "port": 80 });
        let answer = self.call("PUT", &target, Some(body)).await;
        assert!(answer.status < 300, "{answer:?}");
        answer
    }

    pub(crate) fn shut_down(&mut self) {
        drop(self.stop.take());
    }

    pub(crate) async fn stopped(self) {
        tokio::time::timeout(LONG, self.task)
            .await
            .unwrap()
            .unwrap();
    }
}
