//! Files that filters name: read, watched, and made into what the data plane has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use config::{Config, PageSource, join};
use model::Users;

use super::Shared;
use super::tls::Print;
use super::unfit::Unfit;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The largest file that is read: a hundred thousand users fit.
const LARGEST: u64 = 16 << 20;

/// The files that a configuration names, as they were read last.
#[derive(Clone, Default)]
pub(super) struct Files {
    users: BTreeMap<PathBuf, Entry<Users>>,
    pages: BTreeMap<PathBuf, Entry<Page>>,
}

/// A page as it is sent.
pub(super) struct Page(pub(super) Arc<str>);

/// The largest page: it is kept in memory.
const LARGEST_PAGE: usize = 1 << 20;

struct Entry<T> {
    print: Print,
    value: Arc<T>,
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self {
            print: self.print.clone(),
            value: self.value.clone(),
        }
    }
}

/// What is made of a file's text.
trait Readable: Sized {
    fn made_of(text: String) -> anyhow::Result<Self>;
}

impl Readable for Users {
    fn made_of(text: String) -> anyhow::Result<Self> {
        http::filter::users(&text).map_err(anyhow::Error::msg)
    }
}

impl Readable for Page {
    fn made_of(text: String) -> anyhow::Result<Self> {
        if text.len() > LARGEST_PAGE {
            bail!("a page may have 1 MiB");
        }
        Ok(Self(text.into()))
    }
}

impl<T: Readable> Entry<T> {
    fn read(path: &Path) -> anyhow::Result<Self> {
        // Seen before it is read: what changes in between is read again.
        let print = Print::of(path);
        let read = || {
            if std::fs::metadata(path)?.len() > LARGEST {
                bail!("it is larger than 16 MiB");
            }
            T::made_of(std::fs::read_to_string(path)?)
        };
        let value =
            read().with_context(|| format!("the file {} cannot be used", path.display()))?;
        Ok(Self {
            print,
            value: Arc::new(value),
        })
    }

    /// Reads it again if it has changed; whether it has, and what is to be said.
    fn look(&mut self, path: &Path, notes: &mut Vec<String>) -> bool {
        if Print::of(path) == self.print {
            return false;
        }
        match Self::read(path) {
            Ok(new) => {
                notes.push(format!("the file {} was read again", path.display()));
                *self = new;
                true
            }
            Err(fault) => {
                // Said once for each change.
                self.print = Print::of(path);
                notes.push(format!(
                    "ERROR: {fault:#}; what was read before stays in use"
                ));
                false
            }
        }
    }
}

impl Files {
    /// What a configuration needs; what was read already is taken from here.
    ///
    /// # Errors
    /// When a file cannot be used; the error names all of them.
    pub(super) fn follow(&self, config: &Config) -> anyhow::Result<Self> {
        let mut new = Self::default();
        let mut unfit = Unfit::default();
        for (name, listener) in &config.listener {
            let key = join("listener", name);
            for (n, route) in listener.routes.iter().enumerate() {
                let (filters, handed) = (&route.filters, &listener.filters);
                // What the listener has handed down is written there.
                let whose = |handed| match handed {
                    true => format!("{key}.filters"),
                    false => format!("{key}.route[{}].filters", n + 1),
                };
                let auth = filters.basic_auth.as_ref();
                if let Some(path) = auth.and_then(|auth| auth.file.as_ref()) {
                    let whose = whose(filters.basic_auth == handed.basic_auth);
                    let key = format!("{whose}.basic_auth.file");
                    take(path, &self.users, &mut new.users, &key, &mut unfit);
                }
                let whose = whose(filters.error_pages == handed.error_pages);
                for (n, page) in filters.error_pages.iter().enumerate() {
                    if let PageSource::File(path) = &page.page {
                        let key = format!("{whose}.error_page[{}].file", n + 1);
                        take(path, &self.pages, &mut new.pages, &key, &mut unfit);
                    }
                }
            }
        }
        unfit.unless_any(new)
    }

    /// The users in a file.
    pub(super) fn users(&self, path: &Path) -> Option<&Arc<Users>> {
        self.users.get(path).map(|entry| &entry.value)
    }

    /// The page in a file.
    pub(super) fn page(&self, path: &Path) -> Option<&Arc<str>> {
        self.pages.get(path).map(|entry| &entry.value.0)
    }

    /// Reads what has changed; whether anything has, and what is to be said.
    fn look(&mut self) -> (bool, Vec<String>) {
        let mut notes = Vec::new();
        let mut changed = false;
        for (path, entry) in &mut self.users {
            changed |= entry.look(path, &mut notes);
        }
        for (path, entry) in &mut self.pages {
            changed |= entry.look(path, &mut notes);
        }
        (changed, notes)
    }
}

fn take<T: Readable>(
    path: &Path,
    known: &BTreeMap<PathBuf, Entry<T>>,
    new: &mut BTreeMap<PathBuf, Entry<T>>,
    key: &str,
    unfit: &mut Unfit,
) {
    // What a listener hands down comes once for each route.
    if new.contains_key(path) || unfit.0.iter().any(|(known, _)| known == key) {
        return;
    }
    let entry = match known.get(path) {
        Some(entry) => Ok(entry.clone()),
        None => Entry::read(path),
    };
    match entry {
        Ok(entry) => drop(new.insert(path.into(), entry)),
        Err(fault) => unfit.add(key, fault),
    }
}

/// Watches the files for as long as the node runs.
pub(super) async fn watch(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let own = shared.clone();
        // They may be on a disk that hangs.
        let notes = tokio::task::spawn_blocking(move || own.look_at_files()).await;
        for note in notes.unwrap_or_default() {
            eprintln!("pointsman: {note}");
        }
    }
}

impl Shared {
    fn look_at_files(&self) -> Vec<String> {
        let (config, mut files) = {
            let tables = self.tables();
            (tables.config().clone(), tables.files().clone())
        };
        let (changed, notes) = files.look();
        let mut tables = self.tables();
        // Another configuration has read what it needs by itself.
        if !Arc::ptr_eq(tables.config(), &config) {
            return notes;
        }
        match changed {
            true => tables.configure(&config, files),
            false => tables.keep(files),
        }
        drop(tables);
        if changed {
            self.refresh_all();
        }
        notes
    }
}
