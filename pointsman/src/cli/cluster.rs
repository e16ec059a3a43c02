//! `cluster status`.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::Remote;
use super::client::Client;
use super::output::{Palette, table};

/// A node that lacks more than this is not just a moment behind.
const FAR_BEHIND: u64 = 1_000;
/// A node that was not heard of for longer than this is gone, or cut off.
const SILENT_MS: u64 = 2_000;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show who leads, how far each node is, and what to do. Fails when something is wrong
    Status {
        #[command(flatten)]
        remote: Remote,
    },
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    let Command::Status { remote } = command;
    let client = Client::new(remote);
    let answer = client.read(&client.url_of_all(&["v1", "cluster"], &[]))?;
    let advice = advice(&answer);
    let code = match advice.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    };
    if remote.json {
        writeln!(stdout(), "{answer}")?;
        return Ok(code);
    }
    show(&answer)?;
    let palette = Palette::for_stdout();
    for line in advice {
        writeln!(stdout(), "{} {line}", palette.bad("!"))?;
    }
    Ok(code)
}

fn show(answer: &Value) -> anyhow::Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut out = stdout();
    if is_alone(answer) {
        writeln!(
            out,
            "this node is alone, at revision {}",
            answer["revision"]
        )?;
        return Ok(());
    }
    writeln!(
        out,
        "leader {}, term {}; seen from {}, at revision {}",
        text(&answer["leader"]),
        answer["term"],
        text(&answer["node"]),
        answer["revision"]
    )?;
    let rows: Vec<_> = nodes(answer)
        .map(|node| {
            let role = match (node["name"] == answer["leader"], &node["votes"]) {
                (true, _) => "leader",
                (_, Value::Bool(true)) => "voter",
                _ => "observer",
            };
            let number = |value: &Value, unit: &str| match value.as_u64() {
                Some(number) => format!("{number}{unit}"),
                None => "-".into(),
            };
            vec![
                text(&node["name"]),
                text(&node["address"]),
                role.into(),
                number(&node["behind"], ""),
                number(&node["heard_ms"], " ms"),
            ]
        })
        .collect();
    table(&["NODE", "ADDRESS", "ROLE", "BEHIND", "HEARD"], &rows)?;
    Ok(())
}

/// What is wrong, and what to do about it.
fn advice(answer: &Value) -> Vec<String> {
    let mut advice = Vec::new();
    if let Some(fault) = answer["fault"].as_str() {
        advice.push(format!("the disk of this node: {fault}"));
    }
    if is_alone(answer) {
        return advice;
    }
    if answer["leader"].is_null() {
        let voters = nodes(answer).filter(|node| node["votes"] == true).count();
        advice.push(format!(
            "no node leads, so nothing can be written: {} of the {voters} voters must run and reach each other",
            voters / 2 + 1
        ));
    }
    for node in nodes(answer).filter(|node| node["name"] != answer["leader"]) {
        let name = node["name"].as_str().unwrap_or("-");
        let at = node["address"].as_str().unwrap_or("-");
        if node["heard_ms"].as_u64().is_some_and(|ms| ms > SILENT_MS) {
            advice.push(format!(
                "{name} does not answer: start it, or see whether {at} is reached"
            ));
        } else if node["behind"]
            .as_u64()
            .is_some_and(|behind| behind > FAR_BEHIND)
        {
            advice.push(format!(
                "{name} is far behind: if that does not shrink, look at its disk"
            ));
        }
    }
    if let Some(refused) = answer["refused"].as_str() {
        advice.push(format!("{refused}: compare [cluster] on the two nodes"));
    }
    advice
}

fn nodes(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["nodes"].as_array().into_iter().flatten()
}

fn is_alone(answer: &Value) -> bool {
    nodes(answer).next().is_none()
}
