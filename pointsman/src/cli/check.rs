//! `config check|schema|show`, and reading configuration for `serve`.

use std::fs;
use std::io::{Write, stdout};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;
use config::{Fault, Parsed, Severity, Source};
use serde_json::json;

use super::Files;
use super::output::Palette;
use crate::node::unfit;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Find every fault in the configuration, and in the files that it names
    Check {
        #[command(flatten)]
        files: Files,
        /// Leave out the files that the configuration names, such as certificates: for a check elsewhere than where it is used
        #[arg(long)]
        no_files: bool,
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
        Command::Check {
            files,
            no_files,
            json,
        } => check(files, !no_files, *json),
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

fn check(files: &Files, with_files: bool, as_json: bool) -> anyhow::Result<ExitCode> {
    let sources = read(files)?;
    if sources.is_empty() {
        bail!("there is no file to check: name one with -c FILE");
    }
    let (faults, valid) = match parse(&sources) {
        Ok(parsed) => {
            let unfit = unfit::find(&parsed.config, with_files).0;
            let valid = unfit.is_empty();
            let unfit = unfit.into_iter().map(|(key, what)| Fault {
                severity: Severity::Error,
                place: parsed.place_of(&sources, &key),
                key,
                what,
                hint: String::new(),
            });
            let unfit: Vec<_> = unfit.collect();
            ([parsed.warnings, unfit].concat(), valid)
        }
        Err(faults) => (faults.0, false),
    };
    if as_json {
        let list: Vec<_> = faults
            .iter()
            .map(|fault| {
                json!({
                    "severity": fault.severity.to_string(),
                    "file": fault.place.file, "line": fault.place.line, "column": fault.place.column,
                    "key": fault.key, "what": fault.what, "hint": fault.hint,
                })
            })
            .collect();
        writeln!(stdout(), "{}", json!({ "valid": valid, "faults": list }))?;
    } else {
        for fault in &faults {
            writeln!(stdout(), "{fault}")?;
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
                "{} {} error(s)",
                palette.bad("not valid:"),
                faults
                    .iter()
                    .filter(|fault| fault.severity == Severity::Error)
                    .count()
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
