//! `pointsman-sim balance`.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;

use super::catalogue::{self, Extent, antagonists};
use super::rule::Sees;
use super::study::study;
use super::sweep::sweep;
use super::table::{self, Study};
use super::{Kind, check, html, lasting};

/// What to simulate.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Short runs, to see that everything works
    #[arg(long)]
    quick: bool,
    /// Only the checks: against theory, of the books, of a few orderings
    #[arg(long)]
    check: bool,
    /// From how many seeds (default: 10, or 2 with --quick)
    #[arg(long)]
    seeds: Option<u64>,
    /// Only scenarios whose name contains this
    #[arg(long, default_value = "")]
    scenario: String,
    /// Only rules whose name contains this; the first is compared with the others
    #[arg(long, default_value = "")]
    rule: String,
    /// Where to write the report
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Runs and prints.
///
/// # Errors
/// When a check fails, nothing matches, or the report cannot be written.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let began = Instant::now();
    if options.check {
        let checked = check::check();
        print!("{}", table::checks(&checked));
        if checked.iter().any(|c| !c.holds) {
            bail!("a check failed");
        }
        return Ok(());
    }
    let extent = if options.quick {
        Extent::Quick
    } else {
        Extent::Full
    };
    let seeds = options.seeds.unwrap_or(if options.quick { 2 } else { 10 });
    let mut scenarios = catalogue::scenarios(extent);
    scenarios.retain(|s| s.name.contains(&options.scenario));
    let mut rules = catalogue::rules();
    rules.retain(|r| r.name().contains(&options.rule));
    // Rules of others play no part in it.
    let lasting = options.rule.is_empty() && "long connections".contains(&options.scenario);
    if (scenarios.is_empty() || rules.is_empty()) && !lasting {
        bail!("no scenario or no rule has such a name");
    }
    let cells = study(&scenarios, &rules, seeds);
    let study = Study {
        scenarios,
        rules,
        cells,
        seeds,
    };
    print!("{}", study.text());
    let mut texts = vec![(
        "Load sustained",
        table::sustained(&study, 3.0 * unloaded(extent)),
    )];
    let whole = options.scenario.is_empty() && options.rule.is_empty();
    if lasting {
        texts.push(("Long connections", lasting::text()));
    }
    if whole {
        texts.push(("Others' settings", table::sweep(&sweep(extent))));
        texts.push(("Checks", table::checks(&check::theory())));
    }
    for (_, text) in &texts {
        print!("{text}");
    }
    if let Some(file) = &options.html {
        let report = html::report(&study, &texts);
        std::fs::write(file, report).with_context(|| format!("cannot write {}", file.display()))?;
        println!("\nreport: {}", file.display());
    }
    let events: u64 = study
        .cells
        .iter()
        .flatten()
        .flat_map(|c| &c.runs)
        .map(|r| r.events)
        .sum();
    println!("{events} events in {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// p99 of a fleet with next to nothing to do, in milliseconds.
fn unloaded(extent: Extent) -> f64 {
    let seconds = if extent == Extent::Quick { 10.0 } else { 60.0 };
    let rule = [Kind::Oracle(Sees::Shortest)];
    study(&[antagonists(0.1, 1, seconds)], &rule, 3)[0][0]
        .estimate(0, |f| f.p99)
        .mean
}
