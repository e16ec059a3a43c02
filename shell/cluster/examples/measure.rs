//! Measures a node in this process, without any protocol in front of it:
//!
//! ```text
//! cargo run --release -p pointsman-cluster --example measure -- DIRECTORY [INSTANCES]
//! ```
//!
//! The load is made by tasks of the same process, so it shares the cores with what it measures.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cluster::{Durability, Node, Options};
use model::{Host, Instance, Lease, ServiceKey, Timestamp, Weight};
use registry::{Command, Heartbeat};

const SERVICES: usize = 1_000;
const SUBMITTERS: usize = 4_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("name a directory to use")?);
    let count = arguments.next().map_or(Ok(1_000_000), |n| n.parse())?;
    fs::create_dir_all(&directory)?;
    sync_cost(&directory)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let data = directory.join("data");
    let _ = fs::remove_dir_all(&data);
    let mut options = Options::new(Durability::Disk(data.clone()));
    // So that the run has a snapshot in it.
    options.snapshot_after = 32 << 20;
    println!("empty process: {}", memory()?);

    let node = Node::open(&options)?;
    runtime.block_on(lone_writer(&node));
    let before = cpu()?;
    runtime.block_on(registrations(&node, count));
    println!(
        "  {:.2} µs of CPU each, the tasks' included",
        (cpu()? - before).as_secs_f64() * 1e6 / count as f64
    );
    println!("  with {count} instances: {}", memory()?);
    runtime.block_on(watchers(&node));
    heartbeats(&node, count, 1_000);
    heartbeats(&node, count, 1);
    println!("{:#?}", node.stats());
    node.shutdown();
    drop(node);
    drop(runtime);
    let began = Instant::now();
    let node = Node::open(&options)?;
    println!(
        "recovery of {} instances: {:.2?}, {} records after the snapshot at {}",
        node.stats().instances,
        began.elapsed(),
        node.recovery().records,
        node.recovery().snapshot
    );
    node.shutdown();
    fs::remove_dir_all(&data)?;
    Ok(())
}

/// What a sync of a small write costs, by how the file was made.
fn sync_cost(directory: &Path) -> io::Result<()> {
    const WRITES: u32 = 300;
    for (what, prepared) in [
        ("growing file", false),
        ("file of zeros written before", true),
    ] {
        let path = directory.join("sync");
        let mut file = fs::File::create(&path)?;
        if prepared {
            file.write_all(&vec![0; WRITES as usize * 4096])?;
            file.sync_all()?;
            io::Seek::rewind(&mut file)?;
        }
        let began = Instant::now();
        for _ in 0..WRITES {
            file.write_all(&[1; 4096])?;
            file.sync_data()?;
        }
        println!(
            "fdatasync after 4 KiB, {what}: {:.2?}",
            began.elapsed() / WRITES
        );
        fs::remove_file(path)?;
    }
    Ok(())
}

async fn lone_writer(node: &Node) {
    const WRITES: usize = 3_000;
    let mut took = Vec::with_capacity(WRITES);
    for i in 0..WRITES {
        let began = Instant::now();
        node.submit(register(i)).await.expect("the disk takes it");
        took.push(began.elapsed());
    }
    took.sort_unstable();
    let stats = node.stats();
    println!(
        "a lone writer: median {:.0?}, p99 {:.0?}, of which the sync {:.0?}",
        took[WRITES / 2],
        took[WRITES * 99 / 100],
        stats.sync_time / stats.batches as u32
    );
}

async fn registrations(node: &Node, count: usize) {
    let began = Instant::now();
    let tasks: Vec<_> = (0..SUBMITTERS)
        .map(|first| {
            let node = node.clone();
            tokio::spawn(async move {
                for i in (first..count).step_by(SUBMITTERS) {
                    node.submit(register(i)).await.expect("the disk takes it");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let took = began.elapsed();
    let stats = node.stats();
    println!(
        "registrations by {SUBMITTERS} tasks: {:.0}/s durable, {:.0} in a batch, {:.2?} a sync",
        count as f64 / took.as_secs_f64(),
        stats.records as f64 / stats.batches as f64,
        stats.sync_time / stats.batches as u32
    );
}

async fn watchers(node: &Node) {
    const WATCHERS: usize = 10_000;
    let key = key(7);
    let (told, mut woken) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..WATCHERS {
        let (node, key, told) = (node.clone(), key.clone(), told.clone());
        tokio::spawn(async move {
            let mut watch = node.watch(&key);
            let _ = told.send(Instant::now());
            while watch.changed().await.is_ok() {
                let _ = told.send(Instant::now());
            }
        });
    }
    for _ in 0..WATCHERS {
        woken.recv().await;
    }
    let mut instance = instance(7);
    instance.weight = Weight(9);
    let change = Command::Register {
        key,
        instance: Box::new(instance),
        at: Timestamp(2),
    };
    let began = Instant::now();
    node.submit(change).await.expect("the disk takes it");
    let committed = began.elapsed();
    let mut last = began;
    for _ in 0..WATCHERS {
        last = woken.recv().await.unwrap_or(last).max(last);
    }
    println!(
        "{WATCHERS} watchers of one service: the last woke {:.2?} after the change was sent ({committed:.2?} until committed)",
        last - began
    );
}

/// Heartbeats in random order, `step` in a call. Their names are made just before, as parsing a request does,
/// and only the calls are timed.
fn heartbeats(node: &Node, count: usize, step: usize) {
    for threads in [1, 2] {
        let began = Instant::now();
        let running: Vec<_> = (0..threads)
            .map(|seed| {
                let node = node.clone();
                std::thread::spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    let keys: Vec<_> = (0..SERVICES).map(key).collect();
                    let (mut sent, mut took) = (0, Duration::ZERO);
                    while began.elapsed() < Duration::from_secs(3) {
                        let beats: Vec<_> = (0..10_000)
                            .map(|_| random.usize(0..count))
                            .map(|i| (keys[i % SERVICES].clone(), instance(i).id))
                            .collect();
                        for beats in beats.chunks(step) {
                            let began = Instant::now();
                            let found = node.heartbeat(beats);
                            took += began.elapsed();
                            assert!(found.iter().all(|f| *f == Heartbeat::Renewed));
                            sent += found.len();
                        }
                    }
                    sent as f64 / took.as_secs_f64()
                })
            })
            .collect();
        let rate: f64 = running
            .into_iter()
            .map(|t| t.join().expect("no panic"))
            .sum();
        println!(
            "heartbeats, {step} in a call, {threads} threads: {:.2} million/s",
            rate / 1e6
        );
    }
}

fn key(i: usize) -> ServiceKey {
    let name = format!("service-{:04}", i % SERVICES);
    ServiceKey::in_default(name.parse().expect("a name"))
}

fn instance(i: usize) -> Instance {
    Instance {
        id: format!("i-{i:07}").parse().expect("a name"),
        host: Host::Ip([10, (i >> 16) as u8, (i >> 8) as u8, i as u8].into()),
        port: 8080.try_into().expect("not zero"),
        weight: Weight(1),
        tier: 0,
        zone: None,
        tags: Box::default(),
        metadata: None,
        lease: Some(Lease {
            ttl: Duration::from_secs(600),
            grace: Duration::from_secs(60),
        }),
        check: None,
        enabled: true,
        drain: false,
    }
}

fn register(i: usize) -> Command {
    Command::Register {
        key: key(i),
        instance: Box::new(instance(i)),
        at: Timestamp(1),
    }
}

/// The CPU time of this process so far.
fn cpu() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let mut fields = stat.rsplit(')').next().unwrap_or("").split_whitespace();
    let ticks = |field: Option<&str>| field.and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    // User and system time are the fields 14 and 15, in hundredths of a second.
    let user = ticks(fields.nth(11));
    Ok(Duration::from_millis(10 * (user + ticks(fields.next()))))
}

fn memory() -> io::Result<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = |name| status.lines().find(|l| l.starts_with(name)).unwrap_or(name);
    Ok(format!("{}, {}", line("VmRSS:"), line("VmHWM:")).replace('\t', " "))
}
