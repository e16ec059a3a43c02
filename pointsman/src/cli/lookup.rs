//! `service list`, `service show` and `explain`.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Remote;
use super::client::Client;
use super::output::{Palette, table};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List services and how well they are
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Show a service's instances
    Show {
        /// The service
        service: String,
        #[command(flatten)]
        remote: Remote,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ExplainOptions {
    /// The URL, as a client would use it, or host:port. https asks a listener with TLS, http one without
    url: String,
    /// The request's method
    #[arg(long, default_value = "GET")]
    method: String,
    /// The client's address
    #[arg(long)]
    client: Option<String>,
    /// A protocol that the client's TLS hello offers, such as h2; may be repeated
    #[arg(long)]
    alpn: Vec<String>,
    /// A header field of the request, such as 'X-Canary: yes'; may be repeated
    #[arg(long)]
    header: Vec<String>,
    #[command(flatten)]
    remote: Remote,
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::List { remote } => list(remote),
        Command::Show { service, remote } => show(service, remote),
    }
}

fn list(remote: &Remote) -> anyhow::Result<ExitCode> {
    let client = Client::new(remote);
    let answer = client.read(&client.url(&["v1", "services"], &[]))?;
    if remote.json {
        writeln!(stdout(), "{answer}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let palette = Palette::for_stdout();
    let rows: Vec<_> = each(&answer["services"])
        .map(|service| {
            let count = |health: &str| service[health].as_u64().unwrap_or(0);
            let shown = |health: &str| match count(health) {
                0 => palette.dim("0"),
                n if health == "passing" => palette.good(&n.to_string()),
                n if ["critical", "unresolved"].contains(&health) => palette.bad(&n.to_string()),
                n => n.to_string(),
            };
            let shown = ["passing", "warning", "unknown", "critical", "unresolved"].map(shown);
            [
                vec![text(&service["service"]), text(&service["instances"])],
                shown.into(),
            ]
            .concat()
        })
        .collect();
    table(
        &[
            "SERVICE",
            "INSTANCES",
            "PASSING",
            "WARNING",
            "UNKNOWN",
            "CRITICAL",
            "UNRESOLVED",
        ],
        &rows,
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a service's instances. Fails when there are none, so that scripts can ask.
pub(super) fn show(service: &str, remote: &Remote) -> anyhow::Result<ExitCode> {
    let client = Client::new(remote);
    let answer = client.read(&client.url(&["v1", "services", service], &[]))?;
    let none = each(&answer["instances"]).next().is_none();
    if remote.json {
        writeln!(stdout(), "{answer}")?;
    } else if none {
        writeln!(stdout(), "service {service} has no instances")?;
    } else {
        instances(&answer["instances"])?;
    }
    Ok(if none {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn instances(list: &Value) -> std::io::Result<()> {
    let palette = Palette::for_stdout();
    let rows: Vec<_> = each(list)
        .map(|instance| {
            let traffic = match (&instance["enabled"], &instance["drain"]) {
                (Value::Bool(false), _) => "disabled",
                (_, Value::Bool(true)) => "draining",
                _ => "",
            };
            let lease = instance["lease"]["ttl"].as_str().unwrap_or("persistent");
            let unresolved = instance["unresolved"].as_str();
            let reason = unresolved
                .or(instance["reason"].as_str())
                .unwrap_or_default();
            vec![
                text(&instance["id"]),
                format!("{}:{}", text(&instance["address"]), instance["port"]),
                health(instance, palette),
                instance["role"].as_str().unwrap_or_default().to_owned(),
                text(&instance["weight"]),
                lease.to_owned(),
                format!("{traffic} {reason}").trim().to_owned(),
            ]
        })
        .collect();
    table(
        &[
            "INSTANCE", "ADDRESS", "HEALTH", "ROLE", "WEIGHT", "LEASE", "NOTE",
        ],
        &rows,
    )
}

pub(crate) fn explain(options: &ExplainOptions) -> anyhow::Result<ExitCode> {
    let client = Client::new(&options.remote);
    let mut query = vec![
        ("url", options.url.as_str()),
        ("method", options.method.as_str()),
    ];
    query.extend(options.client.as_deref().map(|client| ("client", client)));
    let alpn = options.alpn.join(",");
    query.extend((!alpn.is_empty()).then_some(("alpn", alpn.as_str())));
    let headers = options.header.join("\n");
    query.extend((!headers.is_empty()).then_some(("headers", headers.as_str())));
    let answer = client.read(&client.url_of_all(&["v1", "explain"], &query))?;
    let code = match answer["reaches_instance"].as_bool() {
        Some(false) => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    };
    if options.remote.json {
        writeln!(stdout(), "{answer}")?;
        return Ok(code);
    }
    let palette = Palette::for_stdout();
    writeln!(stdout(), "{}", palette.strong(&text(&answer["verdict"])))?;
    if let Some(route) = answer["route"].as_object() {
        let part = |name: &str| text(&route[name]);
        writeln!(
            stdout(),
            "  route    {} (host {}, path {}): {}",
            part("name"),
            part("host"),
            part("path"),
            part("why")
        )?;
        writeln!(stdout(), "  action   {}", part("action"))?;
    }
    for filter in each(&answer["filters"]) {
        writeln!(stdout(), "  filter   {}", text(filter))?;
    }
    for passed in each(&answer["passed_over"]) {
        let line = format!(
            "  before   {}: {}",
            text(&passed["id"]),
            text(&passed["why"])
        );
        writeln!(stdout(), "{}", palette.dim(&line))?;
    }
    if answer["service"].is_object() {
        candidates(&answer["service"], palette)?;
    }
    Ok(code)
}

/// The instances that there were to choose from.
fn candidates(service: &Value, palette: Palette) -> std::io::Result<()> {
    writeln!(stdout(), "  policy   {}", text(&service["policy"]))?;
    let chosen = &service["chosen"];
    let rows: Vec<_> = each(&service["instances"])
        .map(|instance| {
            let mark = if instance["id"] == *chosen {
                "→"
            } else {
                " "
            };
            vec![
                format!("{mark} {}", text(&instance["id"])),
                text(&instance["address"]),
                health(instance, palette),
                instance["role"].as_str().unwrap_or_default().to_owned(),
                text(&instance["weight"]),
                text(&instance["tier"]),
                text(&instance["in_flight"]),
                text(&instance["why"]),
            ]
        })
        .collect();
    table(
        &[
            "  INSTANCE",
            "ADDRESS",
            "HEALTH",
            "ROLE",
            "WEIGHT",
            "TIER",
            "IN FLIGHT",
            "WHY",
        ],
        &rows,
    )
}

/// How an instance is: whatever its checks find, without an address it gets nothing.
fn health(instance: &Value, palette: Palette) -> String {
    match instance["unresolved"].is_string() {
        true => palette.bad("unresolved"),
        false => palette.health(&text(&instance["health"])),
    }
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// A value as people read it.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
