//! Property: every request has one access record, and records and counters agree with what clients saw.

use std::collections::BTreeMap;

use model::{CLASSES, DURATION_BOUNDS, ListenerStats, Sharded};
use telemetry::{AccessRecord, Try};

use crate::http::ledger::{Ledger, Manner, Outcome, Told};
use crate::http::world::World;

pub(super) fn check(world: &World) -> Vec<String> {
    let mut of_request: BTreeMap<u64, Vec<&AccessRecord>> = BTreeMap::new();
    for record in &world.records {
        if let Some(id) = id_of(record) {
            of_request.entry(id).or_default().push(record);
        }
    }
    let none = Vec::new();
    let mut found = world.ledger.with(|ledger| {
        let told = ledger.told.values();
        told.filter_map(|t| one(t, of_request.get(&t.ask.id).unwrap_or(&none), ledger))
            .collect::<Vec<_>>()
    });
    found.extend(totals(world));
    found.extend(world.records.iter().filter_map(tries));
    found
}

/// What is wrong with the attempts of one record: they come one after the other, or two at a time where one hedges the other,
/// within the request's time; nothing follows an answer; what was sent to the same instance again is no attempt of its own.
fn tries(record: &AccessRecord) -> Option<String> {
    let tries = &record.tries;
    let complain = |what: &str| Some(format!("attempts {what}: {record:?}"));
    let again = tries.iter().enumerate().filter(|(place, one)| {
        let mut later = tries[place + 1..].iter();
        ["stale", "refused"].contains(&one.ended) && later.any(|l| l.instance == one.instance)
    });
    if tries.len() - again.count() != usize::from(record.attempts) {
        return complain("are not as many as were counted");
    }
    let end = |one: &Try| one.at + one.duration;
    if !tries.is_sorted_by_key(|one| one.at) {
        return complain("are not in order");
    }
    let with_others = |one: &Try| {
        let under_way = |other: &&Try| other.at <= one.at && one.at < end(other);
        tries.iter().filter(under_way).count()
    };
    if tries.iter().any(|one| with_others(one) > 2) {
        return complain("are three at a time");
    }
    let begins = tries.first().is_none_or(|first| first.at == record.waited);
    let late = tries.iter().any(|one| end(one) > record.duration);
    if !begins || late || record.waited > record.duration {
        return complain("are not within the request's time");
    }
    let within = |one: &Try| {
        let connect = one.connect.unwrap_or_default();
        one.first_byte.unwrap_or_default().max(connect) <= one.duration
    };
    if !tries.iter().all(within) {
        return complain("took less time than their parts");
    }
    let mut told: Vec<&Try> = tries.iter().filter(|t| t.ended != "too_late").collect();
    told.sort_by_key(|one| end(one));
    let (last, before) = told.split_last()?;
    if before.iter().any(|one| one.ended == "ok") {
        return complain("go on after an answer");
    }
    let answered = last.ended == "ok" && last.first_byte.is_some();
    let agree = answered && last.status == record.status && record.instance.is_some();
    (last.ended == "ok" && !agree)
        .then(|| complain("do not end with the answer"))
        .flatten()
}

fn id_of(record: &AccessRecord) -> Option<u64> {
    let id = record.request.target.rsplit('/').next()?;
    u64::from_str_radix(id, 16).ok()
}

/// What is wrong with the records of one request.
fn one(told: &Told, records: &[&AccessRecord], ledger: &Ledger) -> Option<String> {
    let id = told.ask.id;
    let complain = |what: String| Some(format!("{id:x} ({:?}) {what}: {records:?}", told.outcome));
    if records.len() > 1 {
        return complain(format!("has {} records", records.len()));
    }
    let heard = !matches!(told.outcome, Outcome::Nothing | Outcome::Unwatched);
    let headless = matches!(
        told.manner,
        Manner::SlowHead | Manner::Garbage | Manner::BigHead
    );
    if !heard || headless || told.manner == Manner::Stuck {
        return None;
    }
    let [record] = records else {
        return complain("has no record".into());
    };
    let arrivals = ledger.arrivals.get(&id).map_or(0, Vec::len);
    // An attempt may find a pooled connection closed, and open another.
    if 2 * usize::from(record.attempts) < arrivals {
        return complain(format!("says less than {arrivals} attempts"));
    }
    if record.tries.len() < arrivals {
        return complain(format!("tells less than {arrivals} attempts"));
    }
    if told.outcome == Outcome::Cut {
        return (record.ended == "ok").then(|| format!("{id:x} was cut, and its record says ok"));
    }
    if told.outcome == Outcome::Tunnel {
        return (record.status != 101 || record.ended != "ok")
            .then(|| format!("{id:x}: {record:?}"));
    }
    if let Outcome::Refused(status) = told.outcome
        && record.status != status
    {
        return complain(format!("was answered {status}"));
    }
    if record.sent != told.answer_bytes {
        return complain(format!("was sent {} bytes", told.answer_bytes));
    }
    let whole = (told.ask.head().len() + told.ask.framed_body().len()) as u64;
    let plain = told.outcome == Outcome::Right && !told.ask.expects && !told.ask.upgrade;
    if plain && record.received != whole {
        return complain(format!("sent {whole} bytes"));
    }
    None
}

fn totals(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    let mut same = |what: &str, counted: u64, recorded: u64| {
        if counted != recorded {
            found.push(format!("{what}: {counted} counted, {recorded} recorded"));
        }
    };
    let records = || world.records.iter();
    for (number, stats) in world.numbers.listeners.iter().enumerate() {
        let name = format!("listener-{number}");
        let here = || records().filter(|r| *r.listener == *name);
        same(
            "bytes sent",
            stats.total(|l| &l.sent),
            here().map(|r| r.sent).sum(),
        );
        same(
            &format!("requests timed at {name}"),
            timed(stats),
            here().count() as u64,
        );
        for (s, stats) in world.numbers.routes[number].iter().enumerate() {
            let route = format!("route-{s}");
            let of_route = || here().filter(|r| r.route.as_deref() == Some(&*route));
            let whole = |class: u16| {
                of_route()
                    .filter(|r| is_whole(r) && r.status / 100 == class)
                    .count()
            };
            for class in 1..=5 {
                let counted = stats.total(|r| &r.answered[usize::from(class) - 1]);
                same(
                    &format!("{name} {route} {class}xx"),
                    counted,
                    whole(class) as u64,
                );
            }
            let cut = of_route().filter(|r| !is_whole(r)).count();
            same(
                &format!("{name} {route} aborted"),
                stats.total(|r| &r.aborted),
                cut as u64,
            );
        }
    }
    for (s, stats) in world.numbers.services.iter().enumerate() {
        let route = format!("route-{s}");
        let of_service = || records().filter(|r| r.route.as_deref() == Some(&*route));
        let attempts: u64 = of_service().map(|r| u64::from(r.attempts)).sum();
        let begun: u64 = world.numbers.endpoints[s]
            .iter()
            .map(|e| e.requests())
            .sum();
        same(&format!("attempts at service {s}"), begun, attempts);
        same(
            &format!("attempts told of service {s}"),
            stats.total(|r| &r.attempts),
            attempts,
        );
        let refused = of_service().filter(|r| r.attempts == 0).count() as u64;
        let requests = stats.total(|r| &r.requests);
        same(
            &format!("requests to service {s}"),
            requests,
            of_service().count() as u64 - refused,
        );
    }
    found
}

/// Whether the client got an answer whole: one of ours, to a request that went nowhere, says why it is one.
fn is_whole(record: &AccessRecord) -> bool {
    let cut = [
        "client_left",
        "client_too_slow",
        "deadline_passed",
        "drained",
    ];
    record.ended == "ok" || record.tries.is_empty() && !cut.contains(&record.ended)
}

/// Requests in the histograms of a listener.
fn timed(stats: &Sharded<ListenerStats>) -> u64 {
    let of_class = |class: usize| {
        let counts = 0..=DURATION_BOUNDS.len();
        counts.map(move |n| stats.total(|l| &l.durations[class].counts[n]))
    };
    (0..CLASSES).flat_map(of_class).sum()
}
