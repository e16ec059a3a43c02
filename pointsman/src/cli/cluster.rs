//! `cluster status|add|remove|promote|transfer`.

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::Client;
use super::output::{Palette, table};
use super::{Files, Remote, cluster_data};

/// A node that lacks more than this is not just a moment behind.
const FAR_BEHIND: u64 = 1_000;
/// A node that was not heard of for longer than this is gone, or cut off.
const SILENT_MS: u64 = 2_000;
/// A disk with less room than this is soon full: as much as some segments of the log and a snapshot take.
const LITTLE_ROOM: u64 = 256 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show who leads, how each node is, and what to do. Fails when something is wrong
    Status {
        #[command(flatten)]
        remote: Remote,
    },
    /// Take a node in that was started with an empty data directory and `join`; it votes once it has what the others have
    Add {
        /// Its name
        name: String,
        /// Where the other nodes reach it, as HOST:PORT
        address: String,
        /// It follows and serves, and does not vote
        #[arg(long)]
        observer: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Make an observer a voter
    Promote {
        /// Its name
        name: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Let a node go, for good
    Remove {
        /// Its name
        name: String,
        /// Even if no majority of those who stay answers at present
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Let another node lead
    Transfer {
        /// Its name; whoever has most of the log, if none is named
        #[arg(long, value_name = "NAME")]
        to: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Show which node serves all subscribers that go by a name
    Home {
        /// The name
        name: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Save all that is registered in a file, with checksums
    Snapshot {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        remote: Remote,
    },
    /// Begin an empty data directory with a snapshot, while its node does not run. In a cluster, it is the first node of a new
    /// one. Which node's, has to be said: by its configuration, or, of one that runs without, by its data directory
    Restore {
        /// The snapshot
        file: PathBuf,
        #[command(flatten)]
        whose: Whose,
        /// Print JSON, for scripts
        #[arg(long)]
        json: bool,
    },
    /// Make a node that has lost the others a cluster of its own, while it does not run; a node that was alone too
    Recover {
        #[command(flatten)]
        files: Files,
        /// The others are lost, or will be emptied: if they run on, there are two clusters
        #[arg(long)]
        yes: bool,
        /// Print JSON, for scripts
        #[arg(long)]
        json: bool,
    },
    /// Move a node's data aside, while it does not run, so that it can be taken in as a new one. Which node's, has to be said: by
    /// its configuration, or by its data directory
    Wipe {
        #[command(flatten)]
        whose: Whose,
        /// What only this node has is not needed
        #[arg(long)]
        yes: bool,
        /// Print JSON, for scripts
        #[arg(long)]
        json: bool,
    },
}

/// Which node's data a command is about.
#[derive(Debug, Args)]
pub(crate) struct Whose {
    #[command(flatten)]
    pub(super) files: Files,
    /// The node's data directory
    #[arg(long, value_name = "DIR", conflicts_with = "files")]
    pub(super) data_dir: Option<PathBuf>,
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Status { remote } => status(remote),
        Command::Add {
            name,
            address,
            observer,
            remote,
        } => {
            let client = Client::patient(remote);
            let url = client.url_of_all(&["v1", "cluster", "nodes", name], &[]);
            let body = json!({ "address": address, "observer": observer });
            done(remote, &client.put(&url, &body)?)
        }
        Command::Promote { name, remote } => {
            let client = Client::patient(remote);
            let url = client.url_of_all(&["v1", "cluster", "nodes", name, "promote"], &[]);
            done(remote, &client.post(&url)?)
        }
        Command::Remove {
            name,
            force,
            remote,
        } => {
            let client = Client::patient(remote);
            let force: &[_] = if *force { &[("force", "true")] } else { &[] };
            let url = client.url_of_all(&["v1", "cluster", "nodes", name], force);
            done(remote, &client.remove(&url)?)
        }
        Command::Transfer { to, remote } => {
            let client = Client::patient(remote);
            let to: Vec<_> = to.iter().map(|to| ("to", to.as_str())).collect();
            let url = client.url_of_all(&["v1", "cluster", "transfer"], &to);
            done(remote, &client.post(&url)?)
        }
        Command::Home { name, remote } => home(name, remote),
        Command::Snapshot { file, remote } => cluster_data::snapshot(file, remote),
        Command::Restore { file, whose, json } => cluster_data::restore(file, whose, *json),
        Command::Recover { files, yes, json } => cluster_data::recover(files, *yes, *json),
        Command::Wipe { whose, yes, json } => cluster_data::wipe(whose, *yes, *json),
    }
}

fn done(remote: &Remote, answer: &Value) -> anyhow::Result<ExitCode> {
    match remote.json {
        true => writeln!(stdout(), "{answer}")?,
        false => writeln!(stdout(), "{}", answer["message"].as_str().unwrap_or("done"))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn home(name: &str, remote: &Remote) -> anyhow::Result<ExitCode> {
    let client = Client::new(remote);
    let answer = client.read(&client.url_of_all(&["v1", "cluster", "home"], &[("name", name)]))?;
    if remote.json {
        writeln!(stdout(), "{answer}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let api = answer["api"].as_str();
    match answer["node"].as_str().filter(|node| !node.is_empty()) {
        Some(node) => writeln!(stdout(), "{node}  {}", api.unwrap_or("-"))?,
        None => writeln!(stdout(), "this node, which is alone")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn status(remote: &Remote) -> anyhow::Result<ExitCode> {
    let client = Client::new(remote);
    let answer = client.read(&client.url_of_all(&["v1", "cluster"], &[]))?;
    let advice = advice(&answer);
    let code = match advice.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    };
    if remote.json {
        let mut answer = answer;
        answer["advice"] = advice.into();
        writeln!(stdout(), "{answer}")?;
        return Ok(code);
    }
    show(&answer)?;
    let palette = Palette::for_stdout();
    for line in advice {
        writeln!(stdout(), "{} {line}", palette.bad("!"))?;
    }
    for note in answer["notes"].as_array().into_iter().flatten() {
        let note = note.as_str().unwrap_or_default();
        writeln!(stdout(), "{} {note}", palette.dim("note:"))?;
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
        "leader {}, term {}; seen from {}, at revision {}, in format {}",
        text(&answer["leader"]),
        answer["term"],
        text(&answer["node"]),
        answer["revision"],
        answer["format"]
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
                seconds(&node["age_ms"]),
                size(&node["disk_used"]),
                size(&node["disk_free"]),
                clients(node),
                text(&node["version"]),
                health(node).into(),
            ]
        })
        .collect();
    let heading = [
        "NODE", "ADDRESS", "ROLE", "BEHIND", "LAG", "DATA", "FREE", "CLIENTS", "VERSION", "HEALTH",
    ];
    table(&heading, &rows)?;
    Ok(())
}

/// Sessions of ZooKeeper's clients, and watches.
fn clients(node: &Value) -> String {
    match (node["sessions"].as_u64(), node["watches"].as_u64()) {
        (Some(sessions), Some(watches)) => format!("{sessions} + {watches}"),
        (None, Some(watches)) => watches.to_string(),
        _ => "-".into(),
    }
}

fn health(node: &Value) -> &'static str {
    match (&node["answers"], &node["fault"]) {
        (Value::Bool(false), _) => "silent",
        (_, Value::String(_)) => "faulty",
        _ if is_out_of_date(node) => "out of date",
        _ => "well",
    }
}

fn seconds(millis: &Value) -> String {
    match millis.as_u64() {
        Some(millis) => format!("{:.1} s", millis as f64 / 1_000.0),
        None => "-".into(),
    }
}

fn size(bytes: &Value) -> String {
    let Some(bytes) = bytes.as_u64() else {
        return "-".into();
    };
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64 / 1_024.0;
    let mut unit = 0;
    while size >= 1_024.0 && unit + 1 < units.len() {
        (size, unit) = (size / 1_024.0, unit + 1);
    }
    format!("{size:.1} {}", units[unit])
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
    let voters = nodes(answer).filter(|node| node["votes"] == true).count();
    if let Some(trouble) = answer["trouble"].as_str() {
        advice.push(trouble.to_owned());
    } else if answer["leader"].is_null() {
        advice.push(match voters {
            0 => "this node knows of no cluster yet: it must reach those in [cluster] peers or join, and they must reach it; if they \
                  run, what keeps them apart is in the status and the messages of both sides"
                .into(),
            _ => format!(
                "no node leads, so nothing can be written: {} of the {voters} voters must run and reach each other. Only if so many \
                 are lost for good: `pointsman cluster recover -c FILE` on the one that has most",
                voters / 2 + 1
            ),
        });
    }
    for node in nodes(answer) {
        advice.extend(about(node, answer));
    }
    advice.extend(older_programs(answer));
    if voters == 2 {
        let observer = nodes(answer).find(|node| node["votes"] == false);
        let observer = observer.and_then(|node| node["name"].as_str());
        let third = observer.map_or("add a third".into(), |name| {
            format!("make {name} the third by `pointsman cluster promote {name}`, or add another")
        });
        advice.push(format!("two voters survive the loss of none: {third}"));
    }
    if let Some(refused) = answer["refused"].as_str() {
        advice.push(refused.to_owned());
    }
    advice
}

/// What is wrong with one of the nodes.
fn about(node: &Value, answer: &Value) -> Vec<String> {
    let name = node["name"].as_str().unwrap_or("-");
    let at = node["address"].as_str().unwrap_or("-");
    let led = !answer["leader"].is_null();
    let leads = node["name"] == answer["leader"];
    if node["answers"] == false {
        // Without a leader, nobody can be removed.
        let lost = led.then(|| format!(". If it is lost: `pointsman cluster remove {name}`"));
        return vec![format!(
            "{name} does not answer: start it, or see whether {at} is reached{}",
            lost.unwrap_or_default()
        )];
    }
    let mut advice = Vec::new();
    let own = node["name"] == answer["node"];
    let fault = node["fault"].as_str();
    // What ails the node that says so, it has said at first.
    let ails = if own {
        answer["fault"].as_str().or(answer["trouble"].as_str())
    } else {
        fault
    };
    let silent = |ms: &Value| ms.as_u64().is_some_and(|ms| ms > SILENT_MS);
    // Another that has just started has asked nobody yet.
    let lags = silent(&node["age_ms"]) || (own && node["age_ms"].is_null());
    if !own && let Some(fault) = fault {
        advice.push(format!("{name}: {fault}"));
    } else if led && !leads && ails.is_none() && (lags || silent(&node["heard_ms"])) {
        advice.push(format!(
            "{name} runs, and does not follow the leader: see whether the other nodes reach it at {at}, and whether it listens there \
             ([cluster] bind)"
        ));
    }
    if { node["behind"].as_u64() }.is_some_and(|behind| behind > FAR_BEHIND) {
        advice.push(format!(
            "{name} is far behind: if that does not shrink, look at its disk"
        ));
    }
    if { node["disk_free"].as_u64() }.is_some_and(|free| free < LITTLE_ROOM) {
        let free = size(&node["disk_free"]);
        advice.push(format!(
            "the disk of {name} is nearly full ({free} free): make room, or it will take no writes"
        ));
    }
    advice
}

fn is_out_of_date(node: &Value) -> bool {
    node["age_ms"].as_u64().is_none_or(|age| age > SILENT_MS)
}

/// Which nodes have a program that is older than that of others.
fn older_programs(answer: &Value) -> Vec<String> {
    let formats = nodes(answer).filter_map(|node| node["format"].as_u64());
    let latest = formats.max().unwrap_or(0);
    let older = nodes(answer).filter_map(|node| {
        let format = node["format"].as_u64().filter(|format| *format < latest)?;
        let name = node["name"].as_str().unwrap_or("-");
        Some(format!(
            "{name} has a program that reads format {format} at most, so that nothing is written that takes format {latest}: \
             start the newer one there"
        ))
    });
    older.collect()
}

fn nodes(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["nodes"].as_array().into_iter().flatten()
}

/// A node of a cluster says its name, also before it belongs to it.
fn is_alone(answer: &Value) -> bool {
    answer["node"] == ""
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a cluster of three looks from `a`, which leads and is well, as the others are.
    fn well() -> Value {
        let node = |name: &str, heard: Value| {
            json!({
                "name": name, "address": format!("{name}:7071"), "votes": true, "answers": true, "behind": 0, "heard_ms": heard,
                "age_ms": 20, "disk_free": 1_u64 << 40, "format": 6, "fault": null,
            })
        };
        let nodes = json!([
            node("a", Value::Null),
            node("b", json!(50)),
            node("c", json!(50))
        ]);
        json!({ "node": "a", "leader": "a", "nodes": nodes, "fault": null, "trouble": null, "refused": null })
    }

    /// The same, when something has been done to it.
    fn advice_when(change: impl Fn(&mut Value)) -> Vec<String> {
        let mut answer = well();
        change(&mut answer);
        advice(&answer)
    }

    #[test]
    fn nothing_is_advised_where_all_is_well() {
        assert_eq!(advice(&well()), [""; 0]);
    }

    #[test]
    fn a_node_that_says_what_ails_it_is_not_to_be_started_or_removed() {
        let advice = advice_when(|answer| {
            answer["nodes"][1]["fault"] = "No space left on device".into();
            answer["nodes"][1]["heard_ms"] = 9_000.into();
            answer["nodes"][1]["age_ms"] = 9_000.into();
        });
        assert_eq!(advice, ["b: No space left on device"]);
    }

    #[test]
    fn a_node_that_runs_and_follows_nobody_is_not_well() {
        let asked_itself = advice_when(|answer| {
            answer["node"] = "c".into();
            answer["nodes"][2]["age_ms"] = Value::Null;
        });
        let asked_another = advice_when(|answer| answer["nodes"][2]["age_ms"] = 9_000.into());
        let not_heard = advice_when(|answer| answer["nodes"][2]["heard_ms"] = 9_000.into());
        for advice in [asked_itself, asked_another, not_heard] {
            assert!(
                advice.len() == 1 && advice[0].contains("reach it at c:7071"),
                "{advice:?}"
            );
        }
        // It may have started a moment ago.
        let begins = advice_when(|answer| answer["nodes"][2]["age_ms"] = Value::Null);
        assert_eq!(begins, [""; 0]);
    }

    #[test]
    fn without_a_leader_nobody_can_be_removed_and_all_copies_are_old() {
        let advice = advice_when(|answer| {
            answer["leader"] = Value::Null;
            answer["nodes"][0]["age_ms"] = 9_000.into();
            for lost in [1, 2] {
                answer["nodes"][lost]["answers"] = false.into();
                answer["nodes"][lost]["age_ms"] = Value::Null;
            }
        });
        assert_eq!(advice.len(), 3, "{advice:?}");
        assert!(advice[0].contains("2 of the 3 voters") && advice[0].contains("cluster recover"));
        assert!(advice[1].starts_with("b does not answer") && advice[2].starts_with("c does not"));
        assert!(!advice.concat().contains("cluster remove"), "{advice:?}");
    }

    #[test]
    fn a_third_voter_is_made_of_an_observer_if_there_is_one() {
        let observed = advice_when(|answer| answer["nodes"][2]["votes"] = false.into());
        assert!(observed.concat().contains("`pointsman cluster promote c`"));
        let two = advice_when(|answer| {
            answer["nodes"].as_array_mut().expect("nodes").pop();
        });
        assert!(two.concat().contains("add a third"), "{two:?}");
    }
}
