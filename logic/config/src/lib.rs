//! Configuration: text in, a validated tree out. No file is read here and no environment: both are
//! arguments.
//!
//! [`parse`] finds every fault at once. [`Config::to_toml`] writes the effective values back,
//! [`diff`] says what a change of configuration changes and what of it needs a restart, and [`schema`] and
//! [`reference()`] describe every key. All of it comes from one declaration of the keys.

mod aside;
mod auth;
mod bandwidth;
mod bind;
mod breaker;
mod check;
mod cluster;
mod compress;
mod condition;
mod cors;
mod deadline;
mod declare;
mod depth;
mod diff;
mod ejection;
mod error_page;
mod expand;
mod fault;
mod filter;
mod front;
mod hedge;
mod http2;
mod instance;
mod limit;
mod limits;
mod listener;
mod loops;
mod persistence;
mod reader;
mod reference;
mod respread;
mod route;
mod rule;
mod service;
mod shown;
mod stream;
mod telemetry;
mod text;
mod tls;
mod top;
mod tree;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use toml::de::DeTable;

pub use aside::{Aside, Mirror, Split};
pub use auth::BasicAuth;
pub use cluster::Cluster;
pub use diff::{Change, Edit, diff};
pub use error_page::{ErrorPage, PageSource};
pub use fault::{Fault, Faults, Place, Severity};
pub use filter::Filters;
pub use front::{Front, Zookeeper};
pub use limit::RateLimit;
pub use listener::Listener;
pub use reference::{Absence, Key, Section, Shape, reference, schema};
pub use route::{Answer, Route, RouteAction};
pub use service::Service;
pub use telemetry::{Collector, Share, Telemetry, Traces};
pub use text::{
    AccessFormat, ClientAuth, Durability, InstanceProtocol, LogTarget, Misdirected, PerTime,
    Percent, Protocol, Scheme, TlsVersion, TraceContext,
};
pub use tls::{Certificate, CertificateSource, ListenerTls, ServiceTls};
pub use top::{AccessLog, Api, Config, Guard, Log, Node, Registry};
pub use tree::join;

use crate::expand::Expander;
use crate::reader::Reader;
use crate::tree::{At, MAX_DEPTH, Node as TreeNode, Raw};
use crate::value::Value;

/// The longest source. A hundred thousand static instances take half of it.
const MAX_SOURCE: usize = 16 << 20;

/// The longest source of which more than the first syntax error is wanted. Each error takes hundreds of bytes,
/// and every other byte may be one.
const MAX_RECOVERED: usize = 1 << 20;

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
    /// Where each key was written.
    places: BTreeMap<String, At>,
}

impl Parsed {
    /// Where a key was written, or else the nearest one above it: for what shows only once the configuration is used.
    /// `sources` are those that it was made of.
    pub fn place_of(&self, sources: &[Source], key: &str) -> Place {
        let mut path = key;
        let at = loop {
            match (self.places.get(path), path.rfind(['.', '['])) {
                (Some(at), _) => break *at,
                (None, Some(end)) => path = &path[..end],
                (None, None) => break At::default(),
            }
        };
        reader::Log::new(sources).place(at)
    }
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
        let (table, whole) = read(number, &source.text, &mut log);
        complete &= whole;
        let table = tree::convert(number, table, &mut expander, &mut log);
        tree::merge(&mut tree, table, "", &mut log);
    }
    let root = TreeNode {
        at: At::default(),
        raw: Raw::Table(tree),
    };
    // What the TOML parser guessed on a faulty line is not worth a second message.
    let (lines, kept) = (log.faulty_lines(), log.count());
    let mut reader = Reader::new(&mut log, complete);
    let config = Config::read(&root, &mut reader);
    let places = reader.into_places();
    bind::no_two_alike(&root, &mut log);
    cluster::suits_node(&root, &mut log);
    if let Some(config) = &config {
        loops::none(config, &places, &mut log);
    }
    log.forget_on(&lines, kept);
    match config {
        Some(config) if log.errors() == 0 => Ok(Parsed {
            config,
            warnings: log.into_faults(),
            places,
        }),
        _ => Err(Faults(log.into_faults())),
    }
}

/// Parses one source: what could be made of it, and whether that is all.
fn read<'text>(
    source: usize,
    text: &'text str,
    log: &mut reader::Log<'_>,
) -> (DeTable<'text>, bool) {
    if text.len() > MAX_SOURCE {
        let hint = "split it, or register instances through the API";
        log.error(At { source, offset: 0 }, "", "is longer than 16 MiB", hint);
        return (DeTable::new(), false);
    }
    if let Some(offset) = depth::first_too_deep(text) {
        let what = format!("nests more than {MAX_DEPTH} brackets or dots");
        log.error(At { source, offset }, "", what, "no key is that deep");
        return (DeTable::new(), false);
    }
    let (table, errors) = if text.len() <= MAX_RECOVERED {
        let (table, errors) = DeTable::parse_recoverable(text);
        (table.into_inner(), errors)
    } else {
        match DeTable::parse(text) {
            Ok(table) => (table.into_inner(), Vec::new()),
            Err(error) => (DeTable::new(), vec![error]),
        }
    };
    let mut last = 0;
    for error in &errors {
        let offset = error.span().map_or(0, |span| span.start);
        let line = log.line(At { source, offset });
        // One mistake makes the parser stumble several times.
        if std::mem::replace(&mut last, line) == line {
            continue;
        }
        let what = format!("is no TOML: {}", error.message());
        // What TOML calls an invalid number or date is nearly always a text without quotes.
        let unquoted = error.message().starts_with("invalid");
        let hint = if unquoted {
            "write texts in quotes"
        } else {
            ""
        };
        log.error(At { source, offset }, "", what, hint);
    }
    (table, errors.is_empty())
}
