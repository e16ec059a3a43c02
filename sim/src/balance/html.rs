//! The report: one file without anything from elsewhere, readable by eye, by keyboard and by voice, by day and night.

use std::fmt::Write;

use super::table::{Row, Study};

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #59636e; --paper: #ffffff; --line: #d1d9e0; --ours: #0a58ca; --theirs: #8c959f; --bound: #1a7f37 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --faint: #9198a1; --paper: #0d1117; --line: #3d444d; --ours: #58a6ff; --theirs: #6e7681; --bound: #3fb950 } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .875rem }
th, td { text-align: right; padding: .15rem .6rem; border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left }
svg { max-width: 100%; height: auto } svg text { fill: var(--ink); font: 12px system-ui, sans-serif }
.faint { color: var(--faint) } pre, div.wide { overflow-x: auto } pre { font-size: .8rem }";

/// The whole report; `texts` are titles and what stands below them, as it is.
pub fn report(study: &Study, texts: &[(&str, String)]) -> String {
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>pointsman: simulated balancing</title><style>{STYLE}</style><h1>Simulated balancing</h1>\
         <p>{} scenarios, {} rules, {} seeds; the same arrivals, work and misfortunes for every rule. p99 with 95 % \
         intervals. The settings of others are the best of the sweep at the end. Blue is ours, green sees what no \
         balancer can.</p><nav><ul>",
        study.scenarios.len(),
        study.rules.len(),
        study.seeds
    );
    for (n, scenario) in study.scenarios.iter().enumerate() {
        let _ = write!(out, "<li><a href=\"#s{n}\">{}</a>", escaped(&scenario.name));
    }
    out.push_str("</ul></nav><main>");
    for (n, scenario) in study.scenarios.iter().enumerate() {
        let _ = write!(
            out,
            "<section id=\"s{n}\"><h2>{}</h2><p class=\"faint\">{}</p>",
            escaped(&scenario.name),
            escaped(&scenario.about)
        );
        match scenario.windows.len() {
            1 => {
                let rows = study.rows(n, 0);
                bars(&mut out, &scenario.name, &rows);
                table(&mut out, &rows);
            }
            _ => lines(&mut out, study, n),
        }
        out.push_str("</section>");
    }
    for (title, text) in texts {
        let _ = write!(
            out,
            "<section><h2>{}</h2><pre>{}</pre></section>",
            escaped(title),
            escaped(text)
        );
    }
    out.push_str("</main></html>\n");
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn colour(name: &str) -> &'static str {
    match name {
        _ if name.starts_with("pointsman") => "var(--ours)",
        _ if name.starts_with("oracle") => "var(--bound)",
        _ => "var(--theirs)",
    }
}

/// Where a value is on a logarithmic scale from `least` to `most`, from 0 to 1.
fn place(value: f64, least: f64, most: f64) -> f64 {
    ((value / least).ln() / (most / least).ln()).clamp(0.0, 1.0)
}

fn bars(out: &mut String, title: &str, rows: &[Row]) {
    const WIDTH: f64 = 480.0;
    let height = 22 * rows.len() + 10;
    let most = rows.iter().map(|r| r.p99.mean).fold(1.0, f64::max) * 1.05;
    let least = rows
        .iter()
        .map(|r| r.p99.mean)
        .fold(most, f64::min)
        .max(0.1)
        / 2.0;
    let _ = write!(
        out,
        "<svg role=\"img\" aria-label=\"p99 of each rule, {}; the table below has the figures\" viewBox=\"0 0 800 {height}\" \
         width=\"800\" height=\"{height}\">",
        escaped(title)
    );
    for (n, row) in rows.iter().enumerate() {
        let y = 22 * n + 5;
        let length = (place(row.p99.mean, least, most) * WIDTH).max(1.0);
        let at = |value: f64| 210.0 + place(value.max(least), least, most) * WIDTH;
        let (from, to) = (
            at(row.p99.mean - row.p99.within),
            at(row.p99.mean + row.p99.within),
        );
        let text = y + 13;
        let _ = write!(
            out,
            "<text x=\"204\" y=\"{text}\" text-anchor=\"end\">{}</text><rect x=\"210\" y=\"{y}\" width=\"{length:.1}\" \
             height=\"16\" fill=\"{}\"/><path d=\"M{from:.1} {} H{to:.1}\" stroke=\"var(--ink)\" fill=\"none\"/>\
             <text x=\"{:.1}\" y=\"{text}\">{:.1} ms</text>",
            escaped(&row.name),
            colour(&row.name),
            y + 8,
            216.0 + length.max(to - 210.0),
            row.p99.mean
        );
    }
    out.push_str("</svg>");
}

fn table(out: &mut String, rows: &[Row]) {
    out.push_str(
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Figures\"><table><thead><tr><th scope=\"col\">rule\
         <th scope=\"col\">mean ms<th scope=\"col\">p50<th scope=\"col\">p99<th scope=\"col\">p99.9<th scope=\"col\">missed %\
         <th scope=\"col\">failed %<th scope=\"col\">max / mean use<th scope=\"col\">ours / theirs, p99</thead><tbody>",
    );
    for row in rows {
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}<td>{:.2}<td>{:.2}<td>{:.1} ± {:.1}<td>{:.1}<td>{:.4}<td>{:.3}<td>{:.2}<td>{:.3} ± {:.3}",
            escaped(&row.name),
            row.mean,
            row.p50,
            row.p99.mean,
            row.p99.within,
            row.p999,
            row.missed,
            row.failed,
            row.imbalance,
            row.ratio.mean,
            row.ratio.within
        );
    }
    out.push_str("</tbody></table></div>");
}

/// p99 by load.
fn lines(out: &mut String, study: &Study, scenario: usize) {
    const WIDTH: f64 = 560.0;
    const HEIGHT: f64 = 360.0;
    let windows = &study.scenarios[scenario].windows;
    let cells = &study.cells[scenario];
    let p99 = |rule: usize, window: usize| cells[rule].estimate(window, |f| f.p99).mean;
    let x = |window: usize| 50.0 + WIDTH * window as f64 / (windows.len() - 1) as f64;
    let y = |value: f64| 10.0 + HEIGHT * (1.0 - place(value, 10.0, 5_000.0));
    let _ = write!(
        out,
        "<svg role=\"img\" aria-label=\"p99 by load; the table below has the figures\" viewBox=\"0 0 820 410\" width=\"820\" \
         height=\"410\">"
    );
    for tick in [10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0] {
        let _ = write!(
            out,
            "<path d=\"M50 {0:.1} H610\" stroke=\"var(--line)\"/><text x=\"44\" y=\"{1:.1}\" text-anchor=\"end\">{tick}</text>",
            y(tick),
            y(tick) + 4.0
        );
    }
    for (n, window) in windows.iter().enumerate() {
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"390\" text-anchor=\"middle\">{}</text>",
            x(n),
            window.name
        );
    }
    let mut labels: Vec<(f64, String, &str)> = Vec::new();
    for (r, rule) in study.rules.iter().enumerate() {
        let points: Vec<String> = (0..windows.len())
            .map(|w| format!("{:.1},{:.1}", x(w), y(p99(r, w))))
            .collect();
        let wide = if r == 0 { 4 } else { 2 };
        let name = rule.name();
        let _ = write!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{wide}\"/>",
            points.join(" "),
            colour(&name)
        );
        labels.push((y(p99(r, windows.len() - 1)), name.clone(), colour(&name)));
    }
    // Labels that would lie upon each other move down.
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut last: f64 = 0.0;
    for (at, name, _) in labels {
        last = at.max(last + 13.0);
        let _ = write!(
            out,
            "<text x=\"616\" y=\"{last:.1}\">{}</text>",
            escaped(&name)
        );
    }
    out.push_str("</svg>");
    by_load(out, study, scenario);
}

fn by_load(out: &mut String, study: &Study, scenario: usize) {
    let windows = &study.scenarios[scenario].windows;
    let cells = &study.cells[scenario];
    out.push_str("<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Figures\"><table><thead><tr><th scope=\"col\">p99 ms (% missed)");
    for window in windows {
        let _ = write!(out, "<th scope=\"col\">{}", window.name);
    }
    out.push_str("</thead><tbody>");
    for (r, rule) in study.rules.iter().enumerate() {
        let _ = write!(out, "<tr><th scope=\"row\">{}", escaped(&rule.name()));
        for (n, _) in windows.iter().enumerate() {
            let p99 = cells[r].estimate(n, |f| f.p99).mean;
            let missed = 100.0 * cells[r].estimate(n, |f| f.missed).mean;
            let _ = match missed > 0.0 {
                true => write!(out, "<td>{p99:.0} ({missed:.2})"),
                false => write!(out, "<td>{p99:.1}"),
            };
        }
    }
    out.push_str("</tbody></table></div>");
}
