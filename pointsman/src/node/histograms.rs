//! Histograms of requests. How many series there are depends on the configuration alone, and on nothing that a client sends: for
//! each listener and each view of a service, at most six classes of status, each with [`DURATION_BOUNDS`] and three more; a class
//! that nothing was counted in has none.

use model::{CLASSES, DURATION_BOUNDS, Histogram, MOST_TRIES, RoutingTable, ServiceStats, Sharded};
use telemetry::{Exposition, Kind};

use super::metrics::labels;

/// The classes of status, as other metrics call them; first that of requests which nobody answered.
const CODES: [&str; CLASSES] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

type Labels<'a> = Vec<(&'static str, &'a str)>;

pub(super) fn render(table: &RoutingTable, out: &mut Exposition) {
    let name = "pointsman_listener_duration_seconds";
    let help = "From a request's head to its answer's last byte, by the first digit of the status.";
    out.metric(name, Kind::Histogram, help);
    for listener in table.listeners.iter().flatten() {
        for (class, code) in CODES.into_iter().enumerate() {
            let labels = vec![("listener", &*listener.name), ("code", code)];
            durations(name, &labels, &listener.stats, |s| &s.durations[class], out);
        }
    }
    let name = "pointsman_service_duration_seconds";
    out.metric(name, Kind::Histogram, help);
    for service in &table.services {
        let key = service.key.to_string();
        for (class, code) in CODES.into_iter().enumerate() {
            let labels = [&*labels(&key, service), &[("code", code)]].concat();
            durations(name, &labels, &service.stats, |s| &s.durations[class], out);
        }
    }
    of_services(
        table,
        "pointsman_service_first_byte_seconds",
        "From a request's head to the head of an instance's answer.",
        |s| &s.first_bytes,
        out,
    );
    of_services(
        table,
        "pointsman_service_connect_seconds",
        "How long new connections to instances took, without TLS.",
        |s| &s.connects,
        out,
    );
    tries(table, out);
}

fn of_services(
    table: &RoutingTable,
    name: &'static str,
    help: &str,
    of: fn(&ServiceStats) -> &Histogram,
    out: &mut Exposition,
) {
    out.metric(name, Kind::Histogram, help);
    for service in &table.services {
        let key = service.key.to_string();
        durations(name, &labels(&key, service), &service.stats, of, out);
    }
}

/// One histogram, all workers' together, unless there is nothing in it.
fn durations<T: Default>(
    name: &str,
    labels: &Labels<'_>,
    stats: &Sharded<T>,
    of: impl Fn(&T) -> &Histogram,
    out: &mut Exposition,
) {
    let counts = 0..=DURATION_BOUNDS.len();
    let counts: Vec<_> = counts.map(|n| stats.total(|s| &of(s).counts[n])).collect();
    let bounds = DURATION_BOUNDS.map(|micros| (micros as f64 / 1e6).to_string());
    let sum = stats.total(|s| &of(s).sum) as f64 / 1e9;
    histogram(name, labels, &bounds, (&counts, sum), out);
}

/// By number: that of a service which had no instance is 0.
fn tries(table: &RoutingTable, out: &mut Exposition) {
    let name = "pointsman_service_tries";
    out.metric(
        name,
        Kind::Histogram,
        "Requests by how many attempts they took.",
    );
    for service in &table.services {
        let key = service.key.to_string();
        let counts = 0..=MOST_TRIES;
        let counts: Vec<_> = counts
            .map(|n| service.stats.total(|s| &s.tries[n]))
            .collect();
        let bounds: Vec<_> = (0..MOST_TRIES).map(|n| n.to_string()).collect();
        let sum = service.stats.total(|s| &s.attempts) as f64;
        histogram(name, &labels(&key, service), &bounds, (&counts, sum), out);
    }
}

/// As many counts as bounds, and one for what is above them.
fn histogram(
    name: &str,
    labels: &Labels<'_>,
    bounds: &[String],
    (counts, sum): (&[u64], f64),
    out: &mut Exposition,
) {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return;
    }
    let bucket = format!("{name}_bucket");
    let mut below = 0;
    for (bound, count) in bounds.iter().zip(counts) {
        below += count;
        out.sample(&bucket, &[&**labels, &[("le", bound)]].concat(), below);
    }
    out.sample(&bucket, &[&**labels, &[("le", "+Inf")]].concat(), total);
    out.sample(&format!("{name}_sum"), labels, sum);
    out.sample(&format!("{name}_count"), labels, total);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_what_is_empty_is_not_there() {
        let stats = Sharded::<Histogram>::new(2);
        let mut out = Exposition::default();
        let labels = vec![("service", "a")];
        durations("x", &labels, &stats, |h| h, &mut out);
        // On a bound is below it.
        stats.of(0).took(250_000);
        stats.of(1).took(250_001);
        stats.of(1).took(60_000_000_000);
        durations("x", &labels, &stats, |h| h, &mut out);
        let text = out.finish();
        assert_eq!(text.lines().count(), DURATION_BOUNDS.len() + 3);
        for line in [
            "x_bucket{service=\"a\",le=\"0.00025\"} 1",
            "x_bucket{service=\"a\",le=\"0.0005\"} 2",
            "x_bucket{service=\"a\",le=\"10\"} 2",
            "x_bucket{service=\"a\",le=\"+Inf\"} 3",
            "x_count{service=\"a\"} 3",
            "x_sum{service=\"a\"} 60.000500001",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
    }
}
