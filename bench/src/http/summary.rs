//! Medians, and how ours compare.

use serde_json::{Value, json};

use super::case::Case;
use super::contender::Contender;
use super::round::Round;
use crate::report::{Table, median};

/// Prints the medians of each contender's clean rounds, and ours against the best of the others.
pub(super) fn print(case: &Case, contenders: &[&Contender], rounds: &[Vec<Round>]) -> Value {
    let mut table = Table::new(&[
        "medians",
        "µs CPU",
        "µs user",
        "requests/s",
        "p50 µs",
        "p99 µs",
        "MiB",
        "rounds",
    ]);
    let mut best: Option<(f64, &str)> = None;
    let (mut ours, mut floor) = (None, None);
    let mut json_rows = Vec::new();
    for (contender, rounds) in contenders.iter().zip(rounds) {
        let clean: Vec<&Round> = rounds.iter().filter(|round| round.is_clean()).collect();
        let of =
            |value: fn(&Round) -> f64| median(clean.iter().map(|round| value(round)).collect());
        let (cpu, user) = (of(|r| r.cpu), of(|r| r.user));
        table.row(vec![
            contender.name.into(),
            format!("{cpu:.2}"),
            format!("{user:.2}"),
            format!("{:.0}", of(|r| r.per_second)),
            format!("{:.0}", of(|r| r.p50)),
            format!("{:.0}", of(|r| r.p99)),
            format!("{:.1}", of(|r| r.resident as f64) / 1024.0),
            format!("{} of {}", clean.len(), rounds.len()),
        ]);
        json_rows.push(json!({
            "contender": contender.name, "cpu_us": cpu, "user_us": user,
            "rounds": rounds.iter().map(Round::json).collect::<Vec<_>>(),
        }));
        if clean.is_empty() {
            continue;
        }
        match contender.is_ours() {
            true => ours = Some((cpu, user)),
            false if contender.floor => floor = Some(cpu),
            false => {
                best = best
                    .filter(|(least, _)| *least <= cpu)
                    .or(Some((cpu, contender.name)));
            }
        }
    }
    table.print();
    if case.size >= 1 << 20 {
        print_gigabytes(case, contenders, &json_rows);
    }
    let ratio = ours.zip(best).map(|((cpu, user), (least, peer))| {
        let ratio = cpu / least;
        println!(
            "  CPU, ours / {peer}: {ratio:.2} (target ≤ {:.2})",
            case.target
        );
        let floor = floor.map(|floor| floor / least);
        if let Some(floor) = floor {
            println!("  CPU, relay / {peer}: {floor:.2}: what no proxy of user space does without");
        }
        if let Some(target) = case.user_target {
            println!("  user space, ours: {user:.2} µs (target ≤ {target})");
        }
        json!({ "peer": peer, "cpu": ratio, "target": case.target, "floor": floor })
    });
    json!({ "case": case.name, "contenders": json_rows, "ratio": ratio })
}

/// The same for each GB: from µs for so many bytes to ms.
fn print_gigabytes(case: &Case, contenders: &[&Contender], rows: &[Value]) {
    for (contender, row) in contenders.iter().zip(rows) {
        let cpu = row["cpu_us"].as_f64().unwrap_or_default() / 1e3;
        let gigabyte = cpu * 1e9 / case.size as f64;
        println!("  {}: {gigabyte:.0} ms of CPU a GB", contender.name);
    }
}
