//! Who gets what, live in a terminal; a line now and then elsewhere.

use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use model::Health;

use super::sample;
use crate::cli::Palette;
use crate::node::Node;

const EVERY: Duration = Duration::from_millis(500);

/// Shows the spread until Ctrl-C or SIGTERM.
pub(super) async fn show(node: &Node) -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let terminal = stdout().is_terminal();
    let mut drawn = 0;
    let mut before = Vec::new();
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        }
        let rows = rows(node);
        if terminal {
            draw(&rows, &before, &mut drawn)?;
        } else if rows
            .iter()
            .map(|r| r.health)
            .ne(before.iter().map(|r: &Row| r.health))
        {
            let line: Vec<_> = rows
                .iter()
                .map(|r| format!("{} {}", r.name, r.health))
                .collect();
            println!("{}", line.join(", "));
        }
        before = rows;
    }
}

struct Row {
    name: String,
    health: Health,
    requests: u64,
    in_flight: u32,
}

fn rows(node: &Node) -> Vec<Row> {
    let table = node.shared().proxy.table();
    let key = sample::service();
    let service = table.services.iter().find(|s| s.key == key);
    let endpoints = service.into_iter().flat_map(|s| &s.endpoints);
    endpoints
        .map(|endpoint| Row {
            name: endpoint.id.to_string(),
            health: endpoint.health,
            requests: endpoint.stats.requests(),
            in_flight: endpoint.stats.in_flight(),
        })
        .collect()
}

fn draw(rows: &[Row], before: &[Row], drawn: &mut usize) -> std::io::Result<()> {
    let palette = Palette::for_stdout();
    let mut text = String::new();
    if *drawn > 0 {
        // Up to where the last picture began; every line is overwritten and its rest erased.
        text.push_str(&format!("\x1b[{drawn}A"));
    }
    let most = rows.iter().map(|r| r.requests).max().unwrap_or(0).max(1);
    for row in rows {
        let old = before
            .iter()
            .find(|b| b.name == row.name)
            .map_or(0, |b| b.requests);
        let rate = row.requests.saturating_sub(old) as f64 / EVERY.as_secs_f64();
        let bar = "█".repeat((row.requests * 30 / most) as usize);
        let health = palette.health(row.health.as_str());
        let padding = " ".repeat(9 - row.health.as_str().len());
        text.push_str(&format!(
            "  {:<7} {health}{padding}{:>9} requests {rate:>8.0}/s {:>4} in flight  {bar}\x1b[K\n",
            row.name, row.requests, row.in_flight
        ));
    }
    *drawn = rows.len();
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
