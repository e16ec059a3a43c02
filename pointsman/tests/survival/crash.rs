//! Killed at any moment: what was acknowledged is there, and nothing is half there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Connection, Home};

const LIVES: u64 = 200;
const CLIENTS: u64 = 6;

/// What clients know.
#[derive(Default)]
struct Known {
    /// By id: what was acknowledged last, or that it is gone.
    acknowledged: BTreeMap<String, Option<Value>>,
    /// Sent and not answered: it may be so or as it was.
    open: BTreeMap<String, Option<Value>>,
}

#[test]
fn two_hundred_kills_lose_nothing_acknowledged_and_leave_nothing_half_done() {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("SEED={seed}");
    let config = "[registry]\nsnapshot_bytes = \"1MiB\"\n[log.access]\nformat = \"off\"\n";
    let home = Home::new(config);
    let known = Mutex::new(Known::default());
    let mut random = Random(seed | 1);
    for life in 0..LIVES {
        let node = home.start();
        check(
            &node.read("/v1/services/s"),
            &mut known.lock().unwrap(),
            life,
        );
        let api = node.api;
        let lifetime = Duration::from_micros(random.below(60_000));
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let mut random = Random(random.next() | 1);
                let known = &known;
                scope.spawn(move || write(api, life, client, &mut random, known));
            }
            // The moment is what is random here: nothing is waited for.
            std::thread::sleep(lifetime);
            node.kill();
        });
    }
    let node = home.start();
    let mut known = known.into_inner().unwrap();
    check(&node.read("/v1/services/s"), &mut known, LIVES);
    let snapshots = node.said().text();
    assert!(!snapshots.contains("passed over"), "{snapshots}");
    println!("{} instances after {LIVES} lives", known.acknowledged.len());
    assert!(
        known.acknowledged.len() > 200,
        "too little was written to prove anything"
    );
}

/// Registers, replaces and removes until the node is gone.
fn write(api: SocketAddr, life: u64, client: u64, random: &mut Random, known: &Mutex<Known>) {
    let Ok(mut connection) = Connection::try_open(api) else {
        return;
    };
    for number in 0.. {
        // Each client has ids of its own, so that the order of what is said about one is known.
        let id = format!("c{client}-{}", (life * 40 + number) % 130);
        let body = (random.below(5) > 0).then(|| registration(random));
        let text = body.as_ref().map_or(String::new(), Value::to_string);
        let method = if body.is_some() { "PUT" } else { "DELETE" };
        let request = format!(
            "{method} /v1/services/s/instances/{id} HTTP/1.1\r\nHost: localhost\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        );
        known.lock().unwrap().open.insert(id.clone(), body.clone());
        let answer = connection.try_send(request).map_err(|e| e.to_string());
        let Ok(answer) = answer.and_then(|()| connection.try_answer()) else {
            return;
        };
        let mut known = known.lock().unwrap();
        known.open.remove(&id);
        match answer.status {
            200 | 201 | 204 => known.acknowledged.insert(id, body),
            // Nothing was there to be removed, and nothing is.
            404 => known.acknowledged.insert(id, None),
            other => panic!("{other}: {}", answer.text()),
        };
    }
}

/// A registration with something in every field, of any size.
fn registration(random: &mut Random) -> Value {
    let length = if random.below(8) == 0 { 3_000 } else { 30 };
    let text = "x".repeat(random.below(length) as usize);
    json!({
        "address": format!("10.0.{}.{}", random.below(256), random.below(256)),
        "port": 1 + random.below(65_535),
        "weight": random.below(65_536),
        "zone": format!("z{}", random.below(10)),
        "tags": [format!("t{}", random.next())],
        "metadata": { "filler": text, "number": random.next().to_string() },
        "persistent": true,
        "enabled": random.below(2) == 0,
        "drain": random.below(2) == 0,
    })
}

/// Compares what is there with what is known, and learns what became of what was open.
fn check(list: &Value, known: &mut Known, life: u64) {
    let found: BTreeMap<String, &Value> = list["instances"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|i| (i["id"].as_str().expect("an id").to_owned(), i))
        .collect();
    for id in found.keys() {
        let heard_of = known.acknowledged.contains_key(id) || known.open.contains_key(id);
        assert!(heard_of, "life {life}: {id} came from nowhere");
    }
    let ids: Vec<String> = known
        .acknowledged
        .keys()
        .chain(known.open.keys())
        .cloned()
        .collect();
    for id in ids {
        let is = found.get(&id).copied();
        let acknowledged = known.acknowledged.get(&id).cloned().flatten();
        let was_open = known.open.remove(&id);
        let as_acknowledged = same(is, acknowledged.as_ref());
        let as_open = was_open
            .as_ref()
            .is_some_and(|body| same(is, body.as_ref()));
        assert!(
            as_acknowledged || as_open,
            "life {life}: {id}\n is {is:?}\n acknowledged {acknowledged:?}\n open {was_open:?}"
        );
        let settled = if as_acknowledged {
            acknowledged
        } else {
            was_open.flatten()
        };
        known.acknowledged.insert(id, settled);
    }
}

/// Whether a record has every field as it was sent.
fn same(record: Option<&Value>, sent: Option<&Value>) -> bool {
    match (record, sent) {
        (None, None) => true,
        (Some(record), Some(sent)) => {
            let sent = sent.as_object().expect("an object");
            sent.iter().all(|(key, value)| record[key] == *value)
        }
        _ => false,
    }
}

/// Xorshift (Marsaglia 2003): the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
