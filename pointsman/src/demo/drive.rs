//! `demo --check`: the main job, done and judged by itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::sample::Sample;
use crate::cli::Palette;
use crate::node::Node;

/// Connections that send requests at the same time.
const CLIENTS: usize = 16;

/// What the clients have seen.
#[derive(Default)]
struct Tally {
    by_instance: BTreeMap<String, usize>,
    failures: Vec<String>,
}

/// Sends `requests` requests; kills an instance after the first third and has it back before the last.
pub(super) async fn check(
    node: &Node,
    listener: SocketAddr,
    samples: &mut [Sample],
    requests: usize,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let victim = samples.first().context("there are samples")?;
    let third = requests / 3;
    let mut total = Tally::default();
    let say = |what: &str| {
        if !as_json {
            println!("{what}");
        }
    };
    say(&format!("{third} requests over three instances"));
    total.add(send(listener, third).await?);
    say(&format!(
        "{third} more while {} ({}) is killed",
        victim.name, victim.address
    ));
    let sending = tokio::spawn(send(listener, third));
    tokio::time::sleep(Duration::from_millis(20)).await;
    victim.crash();
    victim.until(false).await;
    total.add(sending.await??);
    let without = send(listener, third / 2).await?;
    let missed = without.by_instance.contains_key(victim.name);
    total.add(without);
    say(&format!("waiting for {} to come back", victim.name));
    victim.until(true).await;
    super::wait_until_passing(node, samples.len()).await?;
    let after = send(listener, requests - 2 * third - third / 2).await?;
    let back = after.by_instance.contains_key(victim.name);
    total.add(after);
    let good = total.failures.is_empty() && back && !missed;
    report(&total, good, back, missed, as_json);
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn report(total: &Tally, good: bool, back: bool, missed: bool, as_json: bool) {
    let failed = total.failures.len();
    if as_json {
        println!(
            "{}",
            json!({ "by_instance": total.by_instance, "failed": failed, "ok": good })
        );
        return;
    }
    let palette = Palette::for_stdout();
    let all: usize = total.by_instance.values().sum();
    for (instance, count) in &total.by_instance {
        let share = 100.0 * *count as f64 / all.max(1) as f64;
        println!("  {instance:<8} {count:>8}  {share:5.1} %");
    }
    if missed {
        println!("{}", palette.bad("the killed instance was said to answer"));
    }
    if !back {
        println!("{}", palette.bad("the restarted instance got no requests"));
    }
    for why in total.failures.iter().take(5) {
        println!("  {}", palette.bad(why));
    }
    let line = format!("failed: {failed}");
    println!(
        "{}",
        if good {
            palette.good(&line)
        } else {
            palette.bad(&line)
        }
    );
}

impl Tally {
    fn add(&mut self, other: Self) {
        for (instance, count) in other.by_instance {
            *self.by_instance.entry(instance).or_default() += count;
        }
        self.failures.extend(other.failures);
    }
}

async fn send(listener: SocketAddr, requests: usize) -> anyhow::Result<Tally> {
    let left = Arc::new(AtomicUsize::new(requests));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(client(listener, left.clone()));
    }
    let mut total = Tally::default();
    while let Some(tally) = clients.join_next().await {
        total.add(tally?);
    }
    Ok(total)
}

/// Sends requests on one connection as long as any are left.
async fn client(listener: SocketAddr, left: Arc<AtomicUsize>) -> Tally {
    let mut tally = Tally::default();
    let mut connection = None;
    while left
        .fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1))
        .is_ok()
    {
        match ask(listener, &mut connection).await {
            Ok(instance) => *tally.by_instance.entry(instance).or_default() += 1,
            Err(why) => {
                connection = None;
                tally.failures.push(format!("{why:#}"));
            }
        }
    }
    tally
}

/// One request; returns which instance answered.
async fn ask(listener: SocketAddr, connection: &mut Option<TcpStream>) -> anyhow::Result<String> {
    let stream = match connection {
        Some(stream) => stream,
        None => connection.insert(TcpStream::connect(listener).await.context("connect")?),
    };
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: demo\r\n\r\n")
        .await
        .context("send")?;
    let mut answer = Vec::new();
    loop {
        let n = stream.read_buf(&mut answer).await.context("receive")?;
        anyhow::ensure!(
            n > 0,
            "the connection was closed before the answer was complete"
        );
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            anyhow::ensure!(
                head.starts_with("HTTP/1.1 200 "),
                "{}",
                head.lines().next().unwrap_or_default()
            );
            if let Some(instance) = body
                .strip_prefix("hello from ")
                .and_then(|b| b.strip_suffix('\n'))
            {
                return Ok(instance.to_owned());
            }
        }
    }
}
