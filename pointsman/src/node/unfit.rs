//! What keeps a configuration from being used on this machine: the files that it names, and what the machine is called. Starting
//! a node and `config check` find it by the same code, so that they agree.

use std::fmt;

use config::Config;

use super::files::Files;
use super::tls::Certificates;
use super::{cluster, traces};

/// Faults, each with its key in the configuration. As an error it has at least one.
#[derive(Debug, Default)]
pub(crate) struct Unfit(pub(crate) Vec<(String, String)>);

impl Unfit {
    /// Adds what was found below a key.
    pub(super) fn add(&mut self, key: &str, fault: anyhow::Error) {
        match fault.downcast::<Self>() {
            Ok(below) => {
                let below = below.0.into_iter();
                self.0
                    .extend(below.map(|(own, what)| (format!("{key}.{own}"), what)));
            }
            Err(fault) => self.0.push((key.into(), format!("{fault:#}"))),
        }
    }

    /// What was made of it all, unless something was found.
    pub(super) fn unless_any<T>(self, made: T) -> anyhow::Result<T> {
        match self.0.is_empty() {
            true => Ok(made),
            false => Err(self.into()),
        }
    }
}

/// Tells by which key a fault came about.
pub(super) fn at(key: &str) -> impl FnOnce(anyhow::Error) -> anyhow::Error {
    move |fault| {
        let mut unfit = Unfit::default();
        unfit.add(key, fault);
        unfit.into()
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (key, what)) in self.0.iter().enumerate() {
            let line = if n > 0 { "\n" } else { "" };
            write!(f, "{line}{key}: {what}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Unfit {}

/// Finds what keeps a configuration from being used here; of the files that it names only `with_files`. Nothing is written or
/// bound: a node may be running with it.
pub(crate) fn find(config: &Config, with_files: bool) -> Unfit {
    // Each names its keys whole.
    let found = match with_files {
        false => vec![cluster::fitting_name(config).map(drop)],
        true => vec![
            cluster::options(config).map(drop),
            Certificates::at(&config.node.data_dir)
                .follow(config)
                .map(drop),
            Files::default().follow(config).map(drop),
            traces::tls(config).map(drop),
        ],
    };
    let mut unfit = Unfit::default();
    for fault in found.into_iter().filter_map(Result::err) {
        match fault.downcast::<Unfit>() {
            Ok(faults) => unfit.0.extend(faults.0),
            Err(fault) => unfit.0.push((String::new(), format!("{fault:#}"))),
        }
    }
    unfit
}
