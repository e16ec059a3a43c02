//! Leases: none ends that is renewed, and one that is not does.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::caller::{Caller, connect};
use crate::histories::Books;
use crate::nodes::Site;

/// How many there are.
const COUNT: usize = 8;
/// How long they last without a heartbeat.
const TTL: Duration = Duration::from_secs(6);
/// How often heartbeats are sent.
const BEAT: Duration = Duration::from_millis(400);
/// How long an answer to them may take: nodes that do not answer are passed over.
const PATIENCE: Duration = Duration::from_millis(600);
/// An owner that was itself held up for longer has not done its part.
const LATE: Duration = Duration::from_secs(2);
/// How long a lease that ran out may take to be found out, on a busy machine.
const FOUND_OUT: Duration = Duration::from_secs(60);

/// How they are kept.
#[derive(Default)]
pub(crate) struct Kept {
    /// Their ids have this in them; another one after their owner was late.
    life: Mutex<u64>,
    pub(crate) beats: Mutex<u64>,
}

fn path(id: &str) -> String {
    format!("/v1/services/lease/instances/{id}")
}

fn id(life: u64, number: usize) -> String {
    format!("kept-{life}-{number}")
}

/// Registers a lease; an error in words if that is refused.
fn register(site: &Site, id: &str, ttl: Duration) -> Result<(), String> {
    let lease = json!({ "ttl": format!("{}ms", ttl.as_millis()), "grace": "1h" });
    let body = json!({ "address": "10.0.0.8", "port": 1, "lease": lease }).to_string();
    let answer = Caller::default().call(site, "PUT", &path(id), &body);
    match answer {
        Ok(answer) if [200, 201].contains(&answer.status) => Ok(()),
        Ok(answer) => Err(format!(
            "{}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        )),
        Err(e) => Err(format!("{e:?}")),
    }
}

impl Kept {
    /// Registers all of them, anew if there were some.
    pub(crate) fn begin(&self, site: &Site) -> Result<(), String> {
        let mut life = self.life.lock().expect("a life");
        *life += 1;
        (0..COUNT).try_for_each(|number| register(site, &id(*life, number), TTL))
    }

    /// Sends heartbeats for all of them until it is over: to the next node each time, or to one behind it that answers.
    pub(crate) fn run(&self, books: &Books, sites: &[Arc<Site>]) {
        let (mut at, mut last) = (0, Instant::now());
        while !books.is_over() {
            let life = *self.life.lock().expect("a life");
            let beats: Vec<Value> = (0..COUNT)
                .map(|number| json!({ "service": "lease", "id": id(life, number) }))
                .collect();
            let body = json!({ "beats": beats }).to_string();
            for _ in 0..sites.len() {
                at = (at + 1) % sites.len();
                if beat(&sites[at], &body) {
                    *self.beats.lock().expect("a count") += 1;
                    break;
                }
            }
            if last.elapsed() > BEAT + PATIENCE * sites.len() as u32 + LATE {
                eprintln!(
                    "  the owner of the leases was late by {:.1?}: they are begun anew",
                    last.elapsed()
                );
                while !books.is_over() && sites.iter().all(|site| self.begin(site).is_err()) {
                    std::thread::sleep(BEAT);
                }
            }
            last = Instant::now();
            std::thread::sleep(BEAT);
        }
    }

    /// None of them has ever ended: nothing about them has changed since they were registered.
    pub(crate) fn verify(&self, site: &Site) -> Result<(), String> {
        let life = *self.life.lock().expect("a life");
        for number in 0..COUNT {
            let id = id(life, number);
            let seen = read(site, &id)?;
            if seen["health"] != "passing" || seen["created"] != seen["modified"] {
                return Err(format!(
                    "the lease of {id} was renewed all the time, and has ended: {seen}"
                ));
            }
        }
        Ok(())
    }
}

fn beat(site: &Site, body: &str) -> bool {
    let Ok(mut connection) = connect(site.api, PATIENCE, PATIENCE) else {
        return false;
    };
    let request = format!(
        "POST /v1/heartbeats HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.try_send(request).is_ok() && connection.try_answer().is_ok_and(|a| a.status == 200)
}

fn read(site: &Site, id: &str) -> Result<Value, String> {
    let path = format!("{}?consistency=linearizable", path(id));
    let answer = Caller::default().call(site, "GET", &path, "");
    let answer = answer.map_err(|e| format!("{} was asked for {id}: {e:?}", site.name()))?;
    let body = serde_json::from_slice(&answer.body).unwrap_or_default();
    match answer.status {
        200 => Ok(body),
        status => Err(format!(
            "{} has answered for {id} with {status}: {body}",
            site.name()
        )),
    }
}

/// Registers a lease that nobody renews.
pub(crate) fn silent(site: &Site, round: u64) -> Result<String, String> {
    let id = format!("silent-{round}");
    register(site, &id, Duration::from_secs(2)).map(|()| id)
}

/// Waits until it has ended.
pub(crate) fn until_ended(site: &Site, id: &str) -> Result<(), String> {
    let began = Instant::now();
    while read(site, id)?["health"] != "critical" {
        if began.elapsed() > FOUND_OUT {
            return Err(format!(
                "nobody has renewed the lease of {id}, and it does not end"
            ));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
