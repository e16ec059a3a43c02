//! Registrations as registers: whoever registers writes a number, and reads are linearizable.

use std::sync::Arc;
use std::time::Duration;

use linear::{Model, Recorded};
use serde_json::{Value, json};

use crate::caller::{Caller, Failed, is_undone, problem};
use crate::harness::Answer;
use crate::histories::{Books, Ended, KEYS};
use crate::nodes::Site;

/// A pause between two calls of a client: the machine is to have time for what is tested.
const PAUSE: Duration = Duration::from_millis(15);

/// What is registered under an id.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Register(Option<u64>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Read(Option<u64>),
    /// Whether there was something before, if anybody knows.
    Write(u64, Option<bool>),
    /// Whether there was something to remove, if anybody knows.
    Remove(Option<bool>),
}

impl Model for Register {
    type Call = Call;

    fn after(&self, call: &Call) -> Option<Self> {
        let there = self.0.is_some();
        match *call {
            Call::Read(value) => (value == self.0).then(|| self.clone()),
            Call::Write(value, before) => before
                .is_none_or(|before| before == there)
                .then_some(Self(Some(value))),
            Call::Remove(found) => found
                .is_none_or(|found| found == there)
                .then_some(Self(None)),
        }
    }
}

pub(crate) fn id(round: u64, key: usize) -> String {
    format!("r{round}-k{key}")
}

fn path(round: u64, key: usize) -> String {
    format!("/v1/services/register/instances/{}", id(round, key))
}

/// Calls until it is over, now at one node, then at another.
pub(crate) fn run(books: &Books, sites: &[Arc<Site>], seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut caller = Caller::default();
    let mut at = random.usize(..sites.len());
    while !books.is_over() {
        if random.u8(..30) == 0 {
            at = random.usize(..sites.len());
            caller.leave();
        }
        if !call(books, &mut caller, &sites[at], &mut random) {
            at = (at + 1) % sites.len();
        }
        std::thread::sleep(PAUSE);
    }
}

/// One call; whether it was answered.
fn call(books: &Books, caller: &mut Caller, site: &Site, random: &mut fastrand::Rng) -> bool {
    let round = books.current();
    let key = random.usize(..KEYS);
    let (history, path) = (&round.registers[key], path(round.number, key));
    let begun = history.now();
    let kind = random.u8(..10);
    if kind < 5 {
        return match read(caller, site, &path) {
            Ok(Some(value)) => {
                history.answered(begun, Call::Read(value));
                true
            }
            Ok(None) => false,
            Err(strange) => {
                books.violated(strange);
                false
            }
        };
    }
    let value = books.value();
    let (answer, called): (_, fn(u64, Option<bool>) -> Call) = match kind {
        5..9 => (
            caller.call(site, "PUT", &path, &registration(value)),
            Call::Write,
        ),
        _ => (caller.call(site, "DELETE", &path, ""), |_, found| {
            Call::Remove(found)
        }),
    };
    match answer {
        Ok(answer) if [200, 201, 204, 404].contains(&answer.status) => {
            history.answered(
                begun,
                called(value, Some([200, 204].contains(&answer.status))),
            );
            true
        }
        Ok(answer) if is_undone(&answer) => false,
        Ok(answer) => {
            if problem(&answer) != "interrupted" {
                books.violated(format!(
                    "{} has answered a write with {}",
                    site.name(),
                    told(&answer)
                ));
            }
            history.lost(begun, called(value, None));
            false
        }
        Err(Failed::Unsent) => false,
        Err(Failed::Unknown) => {
            history.lost(begun, called(value, None));
            false
        }
    }
}

fn registration(value: u64) -> String {
    json!({
        "address": "10.0.0.9", "port": 1, "persistent": true, "metadata": { "value": value.to_string() }
    })
    .to_string()
}

fn told(answer: &Answer) -> String {
    format!(
        "{}: {}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
    )
}

/// What is registered; none if nobody knows now.
fn read(caller: &mut Caller, site: &Site, path: &str) -> Result<Option<Option<u64>>, String> {
    let path = format!("{path}?consistency=linearizable");
    let Ok(answer) = caller.call(site, "GET", &path, "") else {
        return Ok(None);
    };
    match answer.status {
        404 => Ok(Some(None)),
        200 => {
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let value = body["metadata"]["value"]
                .as_str()
                .and_then(|v| v.parse().ok());
            match value {
                Some(value) => Ok(Some(Some(value))),
                None => Err(format!("{} has no value in {}", site.name(), told(&answer))),
            }
        }
        503 => Ok(None),
        _ => Err(format!(
            "{} has answered a read with {}",
            site.name(),
            told(&answer)
        )),
    }
}

/// Reads all registers of a round once more, long after: what was acknowledged is there still.
pub(crate) fn read_again(ended: &mut Ended, site: &Site) -> Result<(), String> {
    let mut caller = Caller::default();
    for (key, calls) in ended.registers.iter_mut().enumerate() {
        let value = read(&mut caller, site, &path(ended.number, key))?;
        let value = value.ok_or_else(|| format!("{} does not answer", site.name()))?;
        // Behind all others.
        let (begun, ended) = (u64::MAX - 1, Some(u64::MAX));
        let call = Call::Read(value);
        calls.push(Recorded { begun, ended, call });
    }
    Ok(())
}
