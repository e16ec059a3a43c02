//! `config check|schema|show`, and reading configuration for `serve`.

use std::fs;
use std::io::{Write, stdout};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use config::{Parsed, Source};
use serde_json::json;

use super::Files;
use super::output::Palette;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Find every fault in the configuration
    Check {
        #[command(flatten)]
        files: Files,
        /// Print JSON, for scripts
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    /// Print every effective value, defaults included, as TOML
    Show {
        #[command(flatten)]
        files: Files,
    },
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Check { files, json } => check(files, *json),
        Command::Schema => {
            writeln!(stdout(), "{:#}", config::schema())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Show { files } => {
            write!(stdout(), "{}", load(files)?.config.to_toml())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check(files: &Files, as_json: bool) -> anyhow::Result<ExitCode> {
    let sources = read(files)?;
    let (faults, valid) = match parse(&sources) {
        Ok(parsed) => (parsed.warnings, Some(parsed.config)),
        Err(faults) => (faults.0, None),
    };
    // What is wrong only here: the host's name, say, if the node is to be called by it.
    let unsuitable = valid
        .as_ref()
        .and_then(|config| crate::node::suits_machine(config).err());
    let valid = valid.is_some() && unsuitable.is_none();
    if as_json {
        let mut list: Vec<_> = faults
            .iter()
            .map(|fault| {
                json!({
                    "severity": fault.severity.to_string(),
                    "file": fault.place.file, "line": fault.place.line, "column": fault.place.column,
                    "key": fault.key, "what": fault.what, "hint": fault.hint,
                })
            })
            .collect();
        list.extend(unsuitable.iter().map(|fault| {
            json!({
                "severity": "error", "file": "", "line": 0, "column": 0, "key": "cluster", "what": fault.to_string(), "hint": "",
            })
        }));
        writeln!(stdout(), "{}", json!({ "valid": valid, "faults": list }))?;
    } else {
        for fault in &faults {
            writeln!(stdout(), "{fault}")?;
        }
        if let Some(fault) = &unsuitable {
            writeln!(stdout(), "error: cluster: {fault}")?;
        }
        let palette = Palette::for_stdout();
        match valid {
            true => writeln!(
                stdout(),
                "{} {} file(s)",
                palette.good("valid:"),
                sources.len()
            )?,
            false => writeln!(
                stdout(),
                "{} nothing was changed",
                palette.bad("not valid:")
            )?,
        }
    }
    Ok(if valid {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Reads and checks configuration.
pub(crate) fn load(files: &Files) -> anyhow::Result<Parsed> {
    let sources = read(files)?;
    parse(&sources).map_err(|faults| anyhow::anyhow!("the configuration is not valid\n{faults}"))
}

fn parse(sources: &[Source]) -> Result<Parsed, config::Faults> {
    config::parse(sources, &|name| std::env::var(name).ok())
}

fn read(files: &Files) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in &files.files {
        for path in expand(path)? {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read the configuration {}", path.display()))?;
            let name = path.display().to_string();
            sources.push(Source { name, text });
        }
    }
    Ok(sources)
}

/// A directory stands for its `*.toml` files, by name.
fn expand(path: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry?.path();
        if file.extension().is_some_and(|e| e == "toml") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}
