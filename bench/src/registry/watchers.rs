//! Many watchers of one service, and how soon the last of them has a change.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use proxy::rt::{Executor, Handle, Reactor, Sock};
use serde_json::{Value, json};

use super::node::Node;
use crate::clients::Pattern;
use crate::report::{Table, quantile};

const INSTANCE: &str = "/v1/services/watched/instances/it";
/// Opened at the same time: fewer than the server's queue for connections holds.
const LANES: usize = 64;
/// What each change begins with.
const CHANGE: &[u8] = b"event: change";
/// How long all watchers may take to connect, or to hear of a change.
const PATIENCE: Duration = Duration::from_secs(60);
const READ: usize = 16 << 10;

pub(super) fn run(node: &Node, count: usize, changes: usize) -> anyhow::Result<Value> {
    println!("\n{count} watchers of one service, {changes} changes");
    change(node, 1)?;
    let before = node.memory().resident;
    let (address, (news, heard)) = (node.address, channel());
    std::thread::spawn(move || watch(address, count, news));
    everybody(&heard).context("not all watchers connected")?;
    let each = (node.memory().resident.saturating_sub(before) * 1024) / count as u64;
    let (mut half, mut all, mut committed) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..changes {
        let began = Instant::now();
        change(node, 2 + round as u64 % 2)?;
        committed.push(began.elapsed().as_secs_f64() * 1e3);
        let times = everybody(&heard).context("not all watchers heard of a change")?;
        let times: Vec<f64> = times
            .into_iter()
            .map(|at| (at - began).as_secs_f64() * 1e3)
            .collect();
        half.push(quantile(times.clone(), 0.5));
        all.push(quantile(times, 1.0));
    }
    let mut table = Table::new(&["ms after the change was sent", "p50", "p99", "max"]);
    let mut rows = Vec::new();
    for (name, values) in [
        ("answered", &committed),
        ("half of them have it", &half),
        ("all have it", &all),
    ] {
        let cells = [0.5, 0.99, 1.0].map(|q| quantile(values.clone(), q));
        let texts = cells.map(|cell| format!("{cell:.1}"));
        table.row([vec![name.to_owned()], texts.into()].concat());
        rows.push(
            json!({ "what": name, "p50_ms": cells[0], "p99_ms": cells[1], "max_ms": cells[2] }),
        );
    }
    table.print();
    println!(
        "  target: p99 ≤ 300 ms until all have it; {} KiB of the server's memory each",
        each / 1024
    );
    Ok(json!({ "watchers": count, "changes": changes, "times": rows, "bytes_each": each }))
}

fn change(node: &Node, weight: u64) -> anyhow::Result<()> {
    let registration = json!({
        "address": "10.255.255.1", "port": 80, "weight": weight, "persistent": true,
    });
    node.api.put(INSTANCE, &registration)
}

fn everybody(heard: &Receiver<Vec<Instant>>) -> anyhow::Result<Vec<Instant>> {
    Ok(heard.recv_timeout(PATIENCE)?)
}

/// Opens all watches and follows them, on this thread, as long as `news` is listened to. Sends when each was open, once all are;
/// then, for every change, when each had it, once all have.
fn watch(server: SocketAddr, count: usize, news: Sender<Vec<Instant>>) -> std::io::Result<()> {
    let reactor = Reactor::on_kernel()?;
    let executor = Executor::new(reactor.clone());
    let handle = executor.handle();
    let crowd = Rc::new(Crowd {
        server,
        count,
        begun: Cell::new(0),
        times: RefCell::new(Vec::with_capacity(count)),
        news,
        scratch: RefCell::new(vec![0; READ]),
        handle: handle.clone(),
    });
    for _ in 0..LANES {
        handle.spawn(open(crowd.clone()));
    }
    executor.run()
}

/// What all watchers share.
struct Crowd {
    server: SocketAddr,
    count: usize,
    begun: Cell<usize>,
    times: RefCell<Vec<Instant>>,
    news: Sender<Vec<Instant>>,
    scratch: RefCell<Vec<u8>>,
    handle: Handle,
}

impl Crowd {
    /// One more is open, or has the change.
    fn arrived(&self) {
        let mut times = self.times.borrow_mut();
        times.push(Instant::now());
        if times.len() == self.count && self.news.send(std::mem::take(&mut times)).is_err() {
            self.handle.stop();
        }
    }
}

/// Opens one watch after the other until there are enough.
async fn open(crowd: Rc<Crowd>) {
    while crowd.begun.get() < crowd.count {
        crowd.begun.set(crowd.begun.get() + 1);
        let Ok(sock) = Sock::connect(crowd.handle.reactor(), crowd.server).await else {
            return;
        };
        let request = format!(
            "GET /v1/services/watched/watch HTTP/1.1\r\nHost: {}\r\n\r\n",
            crowd.server
        );
        if !sock
            .try_send(request.as_bytes())
            .is_ok_and(|n| n == request.len())
        {
            return;
        }
        let mut snapshot = Pattern::new(b"event: snapshot");
        if heard(&crowd, &sock, &mut snapshot).await.is_none() {
            return;
        }
        crowd.arrived();
        crowd.handle.spawn(follow(crowd.clone(), sock));
    }
}

async fn follow(crowd: Rc<Crowd>, sock: Sock) {
    let mut pattern = Pattern::new(CHANGE);
    while let Some(times) = heard(&crowd, &sock, &mut pattern).await {
        (0..times).for_each(|_| crowd.arrived());
    }
}

/// Waits for the pattern; returns how often it was there. `None`: the connection has ended.
async fn heard(crowd: &Crowd, sock: &Sock, pattern: &mut Pattern) -> Option<usize> {
    loop {
        let found = {
            let mut scratch = crowd.scratch.borrow_mut();
            match sock.try_recv(&mut scratch).ok()? {
                Some(0) => return None,
                Some(n) => Some(pattern.count(&scratch[..n])),
                None => None,
            }
        };
        match found {
            Some(0) => {}
            Some(times) => return Some(times),
            None => sock.readable().await.ok()?,
        }
    }
}
