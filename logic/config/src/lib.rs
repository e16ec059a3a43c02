//! Configuration: text in, a validated tree out. No file is read here and no environment: both are
//! arguments.
//!
//! [`parse`] finds every fault at once. [`Config::to_toml`] writes the effective values back,
//! [`diff`] says what a change of configuration changes and what of it needs a restart, and [`schema`] and
//! [`reference()`] describe every key. All of it comes from one declaration of the keys.

mod bind;
mod check;
mod diff;
mod expand;
mod fault;
mod instance;
mod listener;
mod reader;
mod reference;
mod route;
mod rule;
mod service;
mod shown;
mod text;
mod top;
mod tree;
mod value;

#[cfg(test)]
mod tests;

use toml::de::DeTable;

pub use diff::{Change, Edit, diff};
pub use fault::{Fault, Faults, Place, Severity};
pub use listener::Listener;
pub use reference::{Absence, Key, Section, Shape, reference, schema};
pub use route::{Answer, Route, RouteAction};
pub use service::Service;
pub use text::{AccessFormat, Durability, LogTarget, Percent, Protocol};
pub use top::{AccessLog, Api, Config, Guard, Log, Node, Registry};

use crate::expand::Expander;
use crate::reader::Reader;
use crate::tree::{At, Node as TreeNode, Raw};
use crate::value::Value;

/// The longest source. A hundred thousand static instances take a tenth of it.
const MAX_SOURCE: usize = 16 << 20;

/// The text of one file.
#[derive(Clone, Debug)]
pub struct Source {
    /// How faults name it: its path.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// A configuration without errors.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The configuration, every default filled in.
    pub config: Config,
    /// What is most likely not meant as it stands.
    pub warnings: Vec<Fault>,
}

/// Makes one configuration out of all sources, in their order: tables are joined, `[[lists of tables]]`
/// appended, and a key set twice is a fault.
///
/// `env` answers for environment variables, which texts may name as `${NAME}` or `${NAME:-default}`.
///
/// # Errors
///
/// Everything that is wrong, the warnings too.
pub fn parse(sources: &[Source], env: &dyn Fn(&str) -> Option<String>) -> Result<Parsed, Faults> {
    let mut log = reader::Log::new(sources);
    let mut expander = Expander::new(env);
    let mut tree = tree::Table::new();
    let mut complete = true;
    for (number, source) in sources.iter().enumerate() {
        if source.text.len() > MAX_SOURCE {
            let start = At {
                source: number,
                offset: 0,
            };
            let hint = "split it, or register instances through the API";
            log.error(start, "", "is longer than 16 MiB", hint);
            complete = false;
            continue;
        }
        let (table, errors) = DeTable::parse_recoverable(&source.text);
        for error in &errors {
            let offset = error.span().map_or(0, |span| span.start);
            let what = format!("is no TOML: {}", error.message());
            log.error(
                At {
                    source: number,
                    offset,
                },
                "",
                what,
                "",
            );
        }
        complete &= errors.is_empty();
        let table = tree::convert(number, table.into_inner(), &mut expander, &mut log);
        tree::merge(&mut tree, table, "", &mut log);
    }
    let root = TreeNode {
        at: At::default(),
        raw: Raw::Table(tree),
    };
    // What the TOML parser guessed on a faulty line is not worth a second message.
    let (lines, kept) = (log.faulty_lines(), log.count());
    let config = Config::read(&root, &mut Reader::new(&mut log, complete));
    bind::no_two_alike(&root, &mut log);
    log.forget_on(&lines, kept);
    match config {
        Some(config) if log.errors() == 0 => Ok(Parsed {
            config,
            warnings: log.into_faults(),
        }),
        _ => Err(Faults(log.into_faults())),
    }
}
