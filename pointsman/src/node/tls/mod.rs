//! Certificates and keys: loaded from the files that the configuration names, watched, and published to the workers.

pub(super) mod load;
mod names;
mod ocsp;
mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use config::{CertificateSource, Config, ListenerTls, Protocol, ServiceTls, join};
use model::{CertificateName, ServiceKey};
use proxy::{InstanceTls, TlsTable};
use rustls::ServerConfig;
use telemetry::{Exposition, Kind};

use super::Shared;
use super::unfit::Unfit;

/// How often files are looked at. `stat` costs a microsecond, and whoever renews a certificate looks at the clock.
const LOOK: Duration = Duration::from_secs(1);

/// How long before its end a certificate is warned of: those that are renewed by themselves (every 60 of 90 days, or two
/// thirds of their life) are late by then.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// How often that is said again.
const REMIND: Duration = Duration::from_secs(86_400);

/// How the front of ZooKeeper's clients is called in what is said of certificates.
const FRONT: &str = "front zookeeper";

/// What the workers and fronts have, and what it was made from.
#[derive(Default)]
pub(super) struct Certificates {
    listeners: BTreeMap<Arc<str>, Entry<ListenerSettings, Arc<ServerConfig>>>,
    services: BTreeMap<ServiceKey, Entry<ServiceTls, InstanceTls>>,
    /// Of ZooKeeper's clients.
    zookeeper: Option<Entry<ListenerSettings, Arc<ServerConfig>>>,
    /// Changed files that could not be used.
    failures: u64,
    /// The node's data directory, below which those are that it is given.
    data: PathBuf,
}

/// What was made from settings and the files that they name.
#[derive(Clone)]
struct Entry<S, M> {
    settings: S,
    prints: Vec<Print>,
    made: Made<M>,
    /// Whether the files have changed since, into something that cannot be used.
    stale: bool,
}

/// Something made from files, and the certificates in it that are shown to others.
#[derive(Clone)]
struct Made<M> {
    value: M,
    shown: Vec<Shown>,
    /// Those that the node is yet to be given.
    missing: Vec<CertificateName>,
}

/// A certificate that is shown to others.
#[derive(Clone)]
struct Shown {
    file: PathBuf,
    /// The name under which the node was given it, if it was.
    given: Option<CertificateName>,
    /// Those that it is for.
    names: Vec<String>,
    /// The first second at which it is good.
    not_before: SystemTime,
    /// The last second at which it is good.
    not_after: SystemTime,
}

impl Shown {
    fn has_expired(&self, now: SystemTime) -> bool {
        self.not_after < now
    }
}

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
    ocsp: Option<PathBuf>,
    /// The name under which the node is given it.
    given: Option<CertificateName>,
}

impl Files {
    fn of(cert: &Path, key: &Path) -> Self {
        Self {
            cert: cert.into(),
            key: key.into(),
            ocsp: None,
            given: None,
        }
    }
}

/// What a file looks like from outside.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Print(PathBuf, Option<(u64, u64, SystemTime)>);

impl Print {
    pub(super) fn of(path: &Path) -> Self {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).ok();
        let seen = metadata.and_then(|m| Some((m.ino(), m.len(), m.modified().ok()?)));
        Self(path.into(), seen)
    }
}

/// Settings that name files.
trait Settings: Clone + PartialEq {
    type Made: Clone;
    fn files(&self) -> Vec<&Path>;
    fn load(&self) -> anyhow::Result<Made<Self::Made>>;
}

/// What a listener's TLS is made from: the protocols that it offers go by what it speaks, and by whether that may be HTTP/2.
#[derive(Clone, PartialEq)]
struct ListenerSettings {
    tls: ListenerTls,
    protocol: Protocol,
    http2: bool,
    certificates: Vec<Files>,
}

impl ListenerSettings {
    /// With what the node is given below `data`.
    fn new(tls: &ListenerTls, protocol: Protocol, http2: bool, data: &Path) -> Self {
        let files = |certificate: &config::Certificate| {
            let files = match &certificate.source {
                CertificateSource::Files { cert, key } => Files::of(cert, key),
                CertificateSource::Given(name) => store::files(data, name),
            };
            let ocsp = certificate.ocsp.clone();
            Files { ocsp, ..files }
        };
        Self {
            certificates: tls.certificates.iter().map(files).collect(),
            tls: tls.clone(),
            protocol,
            http2,
        }
    }
}

impl Settings for ListenerSettings {
    type Made = Arc<ServerConfig>;

    fn files(&self) -> Vec<&Path> {
        let certificates = self.certificates.iter();
        let files = certificates.flat_map(|c| [Some(&c.cert), Some(&c.key), c.ocsp.as_ref()]);
        let ca = self.tls.client_auth.as_ref().map(|(_, ca)| ca);
        files.chain([ca]).flatten().map(PathBuf::as_path).collect()
    }

    fn load(&self) -> anyhow::Result<Made<Self::Made>> {
        load::listener(self)
    }
}

impl Settings for ServiceTls {
    type Made = InstanceTls;

    fn files(&self) -> Vec<&Path> {
        let (cert, key) = self.identity.as_ref().map(|(c, k)| (c, k)).unzip();
        let files = [self.ca.as_ref(), cert, key].into_iter().flatten();
        files.map(PathBuf::as_path).collect()
    }

    fn load(&self) -> anyhow::Result<Made<Self::Made>> {
        load::service(self)
    }
}

impl<S: Settings> Entry<S, S::Made> {
    /// Takes over what `before` made of the same settings and files.
    fn new(settings: S, before: Option<&Self>) -> anyhow::Result<Self> {
        if let Some(before) = before.filter(|before| before.settings == settings) {
            return Ok(before.clone());
        }
        // Seen before they are read: what changes in between is read again.
        let prints = prints(&settings);
        Ok(Self {
            made: settings.load()?,
            settings,
            prints,
            stale: false,
        })
    }

    /// Loads files that have changed. `None`: none has.
    fn look(&mut self) -> Option<anyhow::Result<()>> {
        let prints = prints(&self.settings);
        if prints == self.prints {
            return None;
        }
        self.prints = prints;
        let loaded = self.settings.load();
        let loaded = loaded.and_then(|new| self.made.replaced_by(new));
        self.stale = loaded.is_err();
        Some(loaded.map(|made| self.made = made))
    }
}

impl<M> Made<M> {
    /// What follows it: `new`, unless that has expired and this has not.
    fn replaced_by(&self, new: Self) -> anyhow::Result<Self> {
        let now = SystemTime::now();
        let good = |file: &Path| {
            let before = self.shown.iter().find(|shown| shown.file == file);
            before.is_some_and(|shown| !shown.has_expired(now))
        };
        let worse = new
            .shown
            .iter()
            .find(|s| s.has_expired(now) && good(&s.file));
        match worse {
            None => Ok(new),
            Some(shown) => bail!("the certificate in {} has expired", shown.file.display()),
        }
    }
}

fn prints(settings: &impl Settings) -> Vec<Print> {
    settings.files().into_iter().map(Print::of).collect()
}

impl Certificates {
    /// None yet, of a node with this data directory.
    pub(super) fn at(data: &Path) -> Self {
        Self {
            data: data.into(),
            ..Self::default()
        }
    }

    /// What a configuration needs; what is loaded already is taken from here.
    ///
    /// # Errors
    /// When a file cannot be used; the error names all of them.
    pub(super) fn follow(&self, config: &Config) -> anyhow::Result<Self> {
        let mut new = Self {
            failures: self.failures,
            ..Self::at(&self.data)
        };
        let mut unfit = Unfit::default();
        for (name, listener) in &config.listener {
            let Some(tls) = &listener.tls else { continue };
            let http2 = listener.http2.enabled;
            let settings = ListenerSettings::new(tls, listener.protocol, http2, &self.data);
            match Entry::new(settings, self.listeners.get(name)) {
                Ok(entry) => drop(new.listeners.insert(name.clone(), entry)),
                Err(fault) => unfit.add(&format!("{}.tls", join("listener", name)), fault),
            }
        }
        for (key, service) in &config.service {
            let Some(tls) = &service.tls else { continue };
            match Entry::new(tls.clone(), self.services.get(key)) {
                Ok(entry) => drop(new.services.insert(key.clone(), entry)),
                Err(fault) => {
                    unfit.add(&format!("{}.tls", join("service", &key.to_string())), fault);
                }
            }
        }
        let zookeeper = config.front.zookeeper.as_ref();
        if let Some(tls) = zookeeper.and_then(|front| front.tls.as_ref()) {
            // Bytes both ways, as far as TLS is concerned.
            let settings = ListenerSettings::new(tls, Protocol::Tcp, false, &self.data);
            match Entry::new(settings, self.zookeeper.as_ref()) {
                Ok(entry) => new.zookeeper = Some(entry),
                Err(fault) => unfit.add("front.zookeeper.tls", fault),
            }
        }
        unfit.unless_any(new)
    }

    /// For the workers, with what they had `before`: requests that began with an older routing table end by it.
    pub(super) fn table(&self, before: Option<&Self>) -> TlsTable {
        let mut table = before.map(|before| before.table(None)).unwrap_or_default();
        let listeners = self.listeners.iter();
        table
            .listeners
            .extend(listeners.map(|(name, e)| (name.clone(), e.made.value.clone())));
        let services = self.services.iter();
        table
            .services
            .extend(services.map(|(key, e)| (key.clone(), e.made.value.clone())));
        table
    }

    /// For checks of instances that speak TLS.
    fn checks(&self) -> BTreeMap<ServiceKey, health::Tls> {
        let services = self.services.iter();
        let checked = services.filter(|(_, entry)| entry.settings.checks);
        let tls = |made: &InstanceTls| health::Tls {
            config: made.config.clone(),
            many: made.many.clone(),
            server_name: made.server_name.clone(),
        };
        checked
            .map(|(key, entry)| (key.clone(), tls(&entry.made.value)))
            .collect()
    }

    /// For those who serve ZooKeeper's clients.
    pub(super) fn zookeeper(&self) -> Option<Arc<ServerConfig>> {
        self.zookeeper.as_ref().map(|e| e.made.value.clone())
    }

    /// Loads what has changed; returns whether anything is new, and what is to be said.
    fn look(&mut self) -> (bool, Vec<String>) {
        let listeners = self.listeners.iter_mut();
        let listeners = listeners.map(|(name, e)| (format!("listener {name}"), e.look()));
        let services = self.services.iter_mut();
        let services = services.map(|(key, e)| (format!("service {key}"), e.look()));
        let front = self.zookeeper.iter_mut();
        let front = front.map(|e| (FRONT.to_owned(), e.look()));
        let (mut changed, mut notes, mut failures) = (false, Vec::new(), 0);
        for (whose, looked) in listeners.chain(services).chain(front) {
            match looked {
                None => {}
                Some(Ok(())) => {
                    changed = true;
                    notes.push(format!("{whose}: its certificates were loaded again"));
                }
                Some(Err(fault)) => {
                    failures += 1;
                    notes.push(format!(
                        "ERROR: {whose}: {fault:#}; the certificates loaded before stay in use"
                    ));
                }
            }
        }
        self.failures += failures;
        (changed, notes)
    }

    /// Warnings of certificates that end soon, or have ended.
    pub(super) fn ending(&self) -> Vec<String> {
        let now = SystemTime::now();
        let mut notes = self.missing_notes();
        for (whose, shown) in self.shown() {
            let file = shown.file.display();
            match shown.not_after.duration_since(now) {
                Err(_) => notes.push(format!(
                    "WARNING: {whose}: the certificate in {file} has expired: peers will refuse it; renew it"
                )),
                Ok(left) if left < SOON => notes.push(format!(
                    "WARNING: {whose}: the certificate in {file} expires in {} days; renew it",
                    left.as_secs() / 86_400
                )),
                Ok(_) => {}
            }
        }
        notes
    }

    /// Warnings of certificates that the node is yet to be given.
    pub(super) fn missing_notes(&self) -> Vec<String> {
        let note = |(whose, name): (String, &CertificateName)| {
            format!(
                "WARNING: {whose}: there is no certificate {name} yet: give it by `pointsman certificate set {name} --certificate FILE --key FILE`"
            )
        };
        self.missing().map(note).collect()
    }

    /// Those that the node is yet to be given, with whose they are.
    fn missing(&self) -> impl Iterator<Item = (String, &CertificateName)> {
        let listeners = self.listeners.iter();
        let listeners = listeners.map(|(name, e)| (format!("listener {name}"), e));
        let front = self.zookeeper.iter().map(|e| (FRONT.to_owned(), e));
        listeners.chain(front).flat_map(|(whose, e)| {
            let missing = e.made.missing.iter();
            missing.map(move |name| (whose.clone(), name))
        })
    }

    /// The certificates shown, with whose they are.
    fn shown(&self) -> impl Iterator<Item = (String, &Shown)> {
        let listeners = self.listeners.iter().flat_map(|(name, e)| {
            let whose = move |shown| (format!("listener {name}"), shown);
            e.made.shown.iter().map(whose)
        });
        let services = self.services.iter().flat_map(|(key, e)| {
            let whose = move |shown| (format!("service {key}"), shown);
            e.made.shown.iter().map(whose)
        });
        let front = self.zookeeper.iter().flat_map(|e| {
            let shown = e.made.shown.iter();
            shown.map(|shown| (FRONT.to_owned(), shown))
        });
        listeners.chain(services).chain(front)
    }

    /// Adds what is known of certificates.
    pub(super) fn metrics(&self, out: &mut Exposition) {
        let name = "pointsman_certificate_expires_timestamp_seconds";
        out.metric(
            name,
            Kind::Gauge,
            "When a certificate that is shown expires.",
        );
        for (whose, shown) in self.shown() {
            let at = shown.not_after.duration_since(UNIX_EPOCH);
            let file = shown.file.display().to_string();
            let labels = [("of", &*whose), ("file", &*file)];
            out.sample(name, &labels, at.unwrap_or_default().as_secs());
        }
        let name = "pointsman_certificate_stale";
        let help = "1: the files on disk cannot be used, and what was loaded before still is.";
        out.metric(name, Kind::Gauge, help);
        let listeners = self.listeners.iter();
        let listeners = listeners.map(|(name, e)| (format!("listener {name}"), e.stale));
        let services = self.services.iter();
        let services = services.map(|(key, e)| (format!("service {key}"), e.stale));
        let front = self.zookeeper.iter();
        let front = front.map(|e| (FRONT.to_owned(), e.stale));
        for (whose, stale) in listeners.chain(services).chain(front) {
            out.sample(name, &[("of", &whose)], u64::from(stale));
        }
        let name = "pointsman_certificate_load_failures_total";
        out.metric(name, Kind::Counter, "Changed files that could not be used.");
        out.sample(name, &[], self.failures);
    }
}

/// Watches the files for as long as the node runs.
pub(super) async fn watch(shared: Arc<Shared>) {
    let mut reminded: Option<std::time::Instant> = None;
    loop {
        let own = shared.clone();
        // Files may be on a disk that hangs.
        let looked = tokio::task::spawn_blocking(move || own.look_at_certificates()).await;
        let mut notes = looked.unwrap_or_default();
        if !notes.is_empty() || reminded.is_none_or(|at| at.elapsed() >= REMIND) {
            reminded = Some(std::time::Instant::now());
            notes.extend(shared.certificates().ending());
        }
        for note in notes {
            eprintln!("pointsman: {note}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Shared {
    fn look_at_certificates(&self) -> Vec<String> {
        let mut certificates = self.certificates();
        let (changed, notes) = certificates.look();
        if changed {
            self.publish_tls(&certificates, None);
        }
        notes
    }

    /// Tells all who shake hands what they go by from now on.
    pub(super) fn publish_tls(&self, certificates: &Certificates, before: Option<&Certificates>) {
        self.proxy.publish_tls(certificates.table(before));
        self.prober.speak_tls(certificates.checks());
        self.zookeeper_tls.send_replace(certificates.zookeeper());
    }
}
