//! Figures as text.

use std::fmt::Write;

use super::check::Checked;
use super::measure::Estimate;
use super::study::Cell;
use super::sweep::Tried;
use super::{Kind, Scenario};

/// All that was measured.
#[derive(Debug)]
pub struct Study {
    /// What was simulated.
    pub scenarios: Vec<Scenario>,
    /// By which rules; the first is the one that the others are compared with.
    pub rules: Vec<Kind>,
    /// By scenario, then by rule.
    pub cells: Vec<Vec<Cell>>,
    /// From how many seeds.
    pub seeds: u64,
}

/// One rule's line in a scenario's table.
#[derive(Clone, Debug)]
pub struct Row {
    /// The rule.
    pub name: String,
    /// In milliseconds.
    pub mean: f64,
    /// In milliseconds.
    pub p50: f64,
    /// In milliseconds, with its interval.
    pub p99: Estimate,
    /// In milliseconds.
    pub p999: f64,
    /// Percent.
    pub missed: f64,
    /// Percent.
    pub failed: f64,
    /// The busiest server's utilisation by the mean.
    pub imbalance: f64,
    /// p99 of the first rule by this one's, seed by seed.
    pub ratio: Estimate,
}

impl Study {
    /// A scenario's table, for one of its windows.
    pub fn rows(&self, scenario: usize, window: usize) -> Vec<Row> {
        let cells = &self.cells[scenario];
        let ours = cells[0].values(window, |f| f.p99);
        let row = |(kind, cell): (&Kind, &Cell)| Row {
            name: kind.name(),
            mean: cell.estimate(window, |f| f.mean).mean,
            p50: cell.estimate(window, |f| f.p50).mean,
            p99: cell.estimate(window, |f| f.p99),
            p999: cell.estimate(window, |f| f.p999).mean,
            missed: 100.0 * cell.estimate(window, |f| f.missed).mean,
            failed: 100.0 * cell.estimate(window, |f| f.failed).mean,
            imbalance: cell.estimate(window, |f| f.imbalance).mean,
            ratio: Estimate::ratio(&ours, &cell.values(window, |f| f.p99)),
        };
        self.rules.iter().zip(cells).map(row).collect()
    }

    /// The load that a rule sustains in a scenario whose windows are named after their loads: where its p99 passes
    /// `limit`, or more than one request in ten thousand misses its deadline, between two windows by logarithms.
    pub fn sustained(&self, scenario: usize, rule: usize, limit: f64) -> f64 {
        let cell = &self.cells[scenario][rule];
        let mut before: Option<(f64, f64)> = None;
        for (n, window) in self.scenarios[scenario].windows.iter().enumerate() {
            let load: f64 = window.name.parse().unwrap_or(0.0);
            let p99 = cell.estimate(n, |f| f.p99).mean;
            if cell.estimate(n, |f| f.missed).mean > 1e-4 {
                return before.map_or(0.0, |(load, _)| load);
            }
            if p99 > limit {
                return before.map_or(0.0, |(from, at)| {
                    from + (load - from) * (limit / at).ln() / (p99 / at).ln()
                });
            }
            before = Some((load, p99));
        }
        before.map_or(0.0, |(load, _)| load)
    }

    /// All tables.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (n, scenario) in self.scenarios.iter().enumerate() {
            let _ = writeln!(out, "\n{}: {}", scenario.name, scenario.about);
            match scenario.windows.len() {
                1 => table(&mut out, &self.rows(n, 0)),
                _ => self.ramp(&mut out, n),
            }
        }
        out
    }

    fn ramp(&self, out: &mut String, scenario: usize) {
        let windows = &self.scenarios[scenario].windows;
        let _ = write!(out, "  {:<28}", "p99 ms (% missed) at load");
        for window in windows {
            let _ = write!(out, "{:>13}", window.name);
        }
        let _ = writeln!(out);
        for (rule, cell) in self.rules.iter().zip(&self.cells[scenario]) {
            let _ = write!(out, "  {:<28}", rule.name());
            for n in 0..windows.len() {
                let missed = 100.0 * cell.estimate(n, |f| f.missed).mean;
                let p99 = cell.estimate(n, |f| f.p99).mean;
                let shown = match missed > 0.0 {
                    true => format!("{p99:.0} ({missed:.2})"),
                    false => format!("{p99:.1}"),
                };
                let _ = write!(out, "{shown:>13}");
            }
            let _ = writeln!(out);
        }
    }
}

fn table(out: &mut String, rows: &[Row]) {
    let _ = writeln!(
        out,
        "  {:<28}{:>8}{:>8}{:>18}{:>9}{:>10}{:>9}{:>9}  ours / theirs, p99",
        "ms", "mean", "p50", "p99", "p99.9", "missed %", "failed %", "max/mean"
    );
    for row in rows {
        let p99 = format!("{:.1} ± {:.1}", row.p99.mean, row.p99.within);
        let _ = writeln!(
            out,
            "  {:<28}{:>8.2}{:>8.2}{p99:>18}{:>9.1}{:>10.4}{:>9.3}{:>9.2}  {:.3} ± {:.3}",
            row.name,
            row.mean,
            row.p50,
            row.p999,
            row.missed,
            row.failed,
            row.imbalance,
            row.ratio.mean,
            row.ratio.within
        );
    }
}

/// The load that each rule sustains in the ramps, at three times the p99 of an idle fleet.
pub fn sustained(study: &Study, limit: f64) -> String {
    let mut out = format!(
        "\nload sustained with p99 <= {limit:.0} ms (3 x unloaded) and fewer than 0.01 % missed\n"
    );
    let ramps = study
        .scenarios
        .iter()
        .enumerate()
        .filter(|(_, s)| s.windows.len() > 1);
    for (n, scenario) in ramps {
        let _ = writeln!(out, "  {}", scenario.name);
        for (r, rule) in study.rules.iter().enumerate() {
            let _ = writeln!(
                out,
                "    {:<28}{:>6.2}",
                rule.name(),
                study.sustained(n, r, limit)
            );
        }
    }
    out
}

/// What was tried of others' settings.
pub fn sweep(tried: &[Vec<Tried>]) -> String {
    let mut out = String::from(
        "\nothers' settings: p99 ms under antagonists at 0.9 and 1.27 with 4 balancers, the same with 50; by the best\n",
    );
    for tried in tried.iter().flatten() {
        let shown: Vec<String> = tried.p99.iter().map(|p| format!("{p:>8.1}")).collect();
        let _ = writeln!(
            out,
            "  {:<22} {:<62}{}  {:.3}",
            tried.kind.name(),
            tried.kind.settings(),
            shown.concat(),
            tried.score
        );
    }
    out
}

/// What was checked.
pub fn checks(checked: &[Checked]) -> String {
    let line = |c: &Checked| {
        let word = if c.holds { "holds " } else { "FAILS " };
        format!("{word} {} ({})\n", c.what, c.figures)
    };
    checked.iter().map(line).collect()
}
