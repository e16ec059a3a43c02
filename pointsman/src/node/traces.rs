//! Traces: what the configuration says of them, for who exports them.

use std::sync::Arc;

use anyhow::Context;
use config::Config;
use rustls::ClientConfig;
use telemetry::{Exposition, Kind, TraceCounts, TraceExport, TraceOptions};

use super::cluster::node_name;
use super::tls::load;
use super::unfit::at;

/// How long the end of the process may wait for the last spans to be taken.
pub(super) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Starts the export, if there is to be one.
pub(super) fn start(
    config: &Config,
    counts: &Arc<TraceCounts>,
) -> anyhow::Result<Option<TraceExport>> {
    let Some(traces) = &config.telemetry.traces else {
        return Ok(None);
    };
    let own = [
        ("service.name", traces.service_name.clone()),
        ("service.version", env!("CARGO_PKG_VERSION").into()),
        ("service.instance.id", node_name(config).into()),
    ];
    // What is said in the configuration stands.
    let own = own
        .into_iter()
        .filter(|(name, _)| !traces.resource.contains_key(*name));
    let own = own.map(|(name, value)| (name.into(), value));
    let options = TraceOptions {
        host: traces.endpoint.host.clone(),
        port: traces.endpoint.port,
        target: traces.endpoint.target().into(),
        tls: tls(config)?,
        headers: traces
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.0.clone()))
            .collect(),
        resource: own.chain(traces.resource.clone()).collect(),
        queue: traces.queue as usize,
        timeout: traces.timeout,
    };
    let export = TraceExport::start(options, counts.clone());
    Ok(Some(export.context("traces cannot be exported")?))
}

/// What connections to the collector need, if they are encrypted.
pub(super) fn tls(config: &Config) -> anyhow::Result<Option<Arc<ClientConfig>>> {
    let traces = config.telemetry.traces.as_ref();
    let traces = traces.filter(|traces| traces.endpoint.tls);
    let tls = traces.map(|traces| load::collector(traces.ca.as_deref()));
    tls.transpose().map_err(at("telemetry.traces"))
}

/// What became of them.
pub(super) fn metrics(counts: &TraceCounts, out: &mut Exposition) {
    let name = "pointsman_trace_spans_exported_total";
    out.metric(name, Kind::Counter, "Spans that the collector has taken.");
    out.sample(name, &[], counts.exported.value());
    let name = "pointsman_trace_spans_lost_total";
    let help = "Spans that the collector refused, or that could not be sent in time.";
    out.metric(name, Kind::Counter, help);
    for (why, count) in [
        ("refused", &counts.refused),
        ("undelivered", &counts.undelivered),
    ] {
        out.sample(name, &[("why", why)], count.value());
    }
    let name = "pointsman_trace_requests_lost_total";
    let help = "Requests whose spans were lost because the queue to the collector was full.";
    out.metric(name, Kind::Counter, help);
    out.sample(name, &[], counts.overflowed.value());
    let name = "pointsman_trace_export_failures_total";
    let help = "Attempts to send spans to the collector that failed.";
    out.metric(name, Kind::Counter, help);
    out.sample(name, &[], counts.failures.value());
}
