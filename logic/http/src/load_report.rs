//! What instances tell of their load with their answers: the field `endpoint-load-metrics` of ORCA ("Open Request Cost
//! Aggregation", message `xds.data.orca.v3.OrcaLoadReport`), as Envoy, gRPC's libraries and vLLM write it: `TEXT` with
//! `name=value` and commas between, or `JSON` with the message.

use serde_json::Value;

/// The name of the field.
pub const FIELD: &str = "endpoint-load-metrics";

/// A metric of the report that a field's value is. Names are as in the text form, `cpu_utilization` or
/// `named_metrics.in_flight`. `None`: it is no report, or has no number of that name.
pub fn metric(value: &[u8], name: &str) -> Option<f64> {
    let value = std::str::from_utf8(value).ok()?;
    let (form, report) = value.split_once(' ')?;
    match form {
        "TEXT" => text(report, name),
        "JSON" => json(report, name),
        _ => None,
    }
}

fn text(report: &str, name: &str) -> Option<f64> {
    report
        .split(',')
        .filter_map(|metric| metric.split_once('='))
        .find(|(key, _)| key.trim() == name)
        .and_then(|(_, value)| value.trim().parse().ok())
}

/// Names of metrics may have dots in them; the only ones that are of a message within the message have one before.
fn json(report: &str, name: &str) -> Option<f64> {
    let report: Value = serde_json::from_str(report).ok()?;
    let of_a_map = name
        .split_once('.')
        .and_then(|(map, key)| report.get(map)?.get(key));
    report.get(name).or(of_a_map)?.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_name_in_text_and_in_json() {
        for report in [
            "TEXT cpu_utilization=0.3, named_metrics.in_flight=7,named_metrics.in_flight_max=9",
            r#"JSON {"cpu_utilization": 0.3, "named_metrics": {"in_flight": 7, "in_flight_max": 9}}"#,
        ] {
            let report = report.as_bytes();
            assert_eq!(metric(report, "named_metrics.in_flight"), Some(7.0));
            assert_eq!(metric(report, "cpu_utilization"), Some(0.3));
            assert_eq!(metric(report, "in_flight"), None);
            assert_eq!(metric(report, "rps_fractional"), None);
        }
    }

    #[test]
    fn what_is_no_report_has_no_metrics() {
        for value in [
            "",
            "TEXT",
            "TEXT ",
            "TEXT a",
            "TEXT a=",
            "TEXT a=b",
            "text a=1",
            "BIN CgkJmpmZmZmZyT8=",
            "JSON",
            "JSON {",
            "JSON [1]",
            r#"JSON {"a": "1"}"#,
            "a=1",
        ] {
            assert_eq!(metric(value.as_bytes(), "a"), None, "{value}");
        }
        assert_eq!(metric(b"TEXT a=\xff", "a"), None);
        let deep = format!("JSON {}", "[".repeat(30_000));
        assert_eq!(metric(deep.as_bytes(), "a"), None);
    }
}
