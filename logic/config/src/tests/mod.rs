//! Whole configurations.

mod example;
mod faults;
mod hostile;
mod loops;
mod whole;

use crate::{Config, Fault, Faults, Parsed, Source, parse};

/// Every key, none of them at its default.
const FULL: &str = include_str!("full.toml");

fn source(name: &str, text: &str) -> Source {
    Source {
        name: name.into(),
        text: text.into(),
    }
}

fn env(name: &str) -> Option<String> {
    match name {
        "ODD" => Some("${odd}".into()),
        "PORT" => Some("8080".into()),
        "YES" => Some("true".into()),
        _ => None,
    }
}

fn parse_one(text: &str) -> Result<Parsed, Faults> {
    parse(&[source("a.toml", text)], &env)
}

#[track_caller]
fn config(text: &str) -> Config {
    parse_one(text)
        .unwrap_or_else(|faults| panic!("{faults}"))
        .config
}

#[track_caller]
fn faults(text: &str) -> Vec<Fault> {
    match parse_one(text) {
        Ok(_) => panic!("no fault in {text}"),
        Err(faults) => faults.0,
    }
}

/// Every leaf of a TOML tree by its path, which is that of faults.
fn leaves(value: &toml::Value, path: &str, out: &mut Vec<(String, toml::Value)>) {
    match value {
        toml::Value::Table(table) => {
            for (name, value) in table {
                leaves(value, &crate::tree::join(path, name), out);
            }
        }
        toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {
            for (n, item) in items.iter().enumerate() {
                leaves(item, &format!("{path}[{}]", n + 1), out);
            }
        }
        leaf => out.push((path.into(), leaf.clone())),
    }
}
