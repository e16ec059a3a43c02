//! Requests through the balancers of all nodes that clients reach: none may fail.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::caller::{Caller, connect};
use crate::ground::{WORLD, address};
use crate::harness::{Connection, Origin, read_request};
use crate::histories::Books;
use crate::nodes::Site;

/// A pause between two requests of a client.
const PAUSE: Duration = Duration::from_millis(4);
/// How long an answer may take until it counts as none.
const PATIENCE: Duration = Duration::from_secs(10);
/// Instances that are always there; one more comes and goes.
const LASTING: u16 = 3;
/// How long that one stays, and stays away.
const STAY: Duration = Duration::from_millis(1_500);

/// What came of requests.
#[derive(Default)]
pub(crate) struct Traffic {
    pub(crate) answered: AtomicU64,
    /// Without an answer from a node that ended, was frozen or cut off meanwhile: nobody could have saved them.
    pub(crate) disturbed: AtomicU64,
    pub(crate) moved: AtomicU64,
    pub(crate) worst: Mutex<Duration>,
    pub(crate) failed: Mutex<Vec<String>>,
}

/// An instance of the service.
fn origin(number: u16) -> Origin {
    let mut origin = Origin::raw(|mut connection, _| {
        while read_request(&mut connection).is_some() {
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            if connection.try_send(answer).is_err() {
                return;
            }
        }
    });
    // Where the nodes reach it.
    origin.stop();
    let at = format!("{}:{}", address(WORLD), 9_000 + number);
    origin.address = at.parse::<SocketAddr>().expect("an address");
    origin.start();
    origin
}

fn instance(origin: &Origin) -> (String, String) {
    let path = format!("/v1/services/web/instances/o{}", origin.port());
    let body = json!({ "address": address(WORLD), "port": origin.port(), "persistent": true });
    (path, body.to_string())
}

/// Starts the instances that stay, and registers them.
pub(crate) fn begin(site: &Site) -> Result<Vec<Origin>, String> {
    let origins: Vec<Origin> = (0..LASTING).map(origin).collect();
    for origin in &origins {
        let (path, body) = instance(origin);
        let answer = Caller::default().call(site, "PUT", &path, &body);
        let answer = answer.map_err(|e| format!("an instance was to be registered: {e:?}"))?;
        if answer.status != 201 {
            return Err(format!("an instance was not registered: {}", answer.text()));
        }
    }
    Ok(origins)
}

impl Traffic {
    /// An instance comes, and goes properly, again and again: it is deregistered first.
    pub(crate) fn roll(&self, books: &Books, sites: &[Arc<Site>]) {
        let mut origin = origin(LASTING);
        let (path, body) = instance(&origin);
        let mut caller = Caller::default();
        let mut do_it = |method: &str, body: &str| {
            while !books.is_over() {
                for site in sites.iter().filter(|site| site.is_open()) {
                    let answer = caller.call(site, method, &path, body);
                    if answer.is_ok_and(|a| [200, 201, 204, 404].contains(&a.status)) {
                        return;
                    }
                }
                std::thread::sleep(PAUSE);
            }
        };
        while !books.is_over() {
            do_it("PUT", &body);
            std::thread::sleep(STAY);
            do_it("DELETE", "");
            std::thread::sleep(STAY);
            // Nodes that are cut off send requests still, and find nobody.
            origin.stop();
            self.moved.fetch_add(1, Relaxed);
            std::thread::sleep(STAY);
            if !books.is_over() {
                origin.start();
            }
        }
    }

    /// Sends requests to whichever nodes are there, until it is over.
    pub(crate) fn run(&self, books: &Books, sites: &[Arc<Site>], seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut held: BTreeMap<usize, (u64, Connection)> = BTreeMap::new();
        while !books.is_over() {
            let site = &sites[random.usize(..sites.len())];
            let generation = site.generation();
            if site.is_open() {
                let kept = held
                    .remove(&site.place)
                    .filter(|(life, _)| *life == generation);
                // New connections are to be taken, too.
                let kept = kept.filter(|_| random.u8(..10) > 0);
                let begun = Instant::now();
                match ask(site, kept.map(|(_, connection)| connection)) {
                    Ok(connection) => {
                        self.answered.fetch_add(1, Relaxed);
                        let mut worst = self.worst.lock().expect("a time");
                        *worst = begun.elapsed().max(*worst);
                        held.insert(site.place, (generation, connection));
                    }
                    Err(_) if site.generation() != generation => {
                        self.disturbed.fetch_add(1, Relaxed);
                    }
                    Err(why) => {
                        let what = format!(
                            "a request through {} failed after {:.1?}: {why}",
                            site.name(),
                            begun.elapsed()
                        );
                        self.failed.lock().expect("failures").push(what.clone());
                        books.violated(what);
                    }
                }
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Asks; gives the connection back.
fn ask(site: &Site, held: Option<Connection>) -> Result<Connection, String> {
    let mut connection = match held {
        Some(connection) => connection,
        None => connect(site.web, PATIENCE, PATIENCE).map_err(|e| format!("connect: {e}"))?,
    };
    let answer = connection.try_get("web", "/")?;
    match (answer.status, answer.body.as_slice()) {
        (200, b"ok") => Ok(connection),
        (status, body) => Err(format!("{status} {}", String::from_utf8_lossy(body))),
    }
}
