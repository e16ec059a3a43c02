//! Which certificate a client is shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Certificates by the names in them.
#[derive(Debug, Default)]
pub(super) struct ByName {
    exact: BTreeMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    /// By what follows the `*.`.
    wildcard: BTreeMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    all: Vec<Arc<CertifiedKey>>,
}

impl ByName {
    /// Adds a certificate with these names in it.
    pub(super) fn add(&mut self, names: &[String], certificate: &Arc<CertifiedKey>) {
        for name in names {
            let name = name.to_ascii_lowercase();
            let (map, name) = match name.strip_prefix("*.") {
                Some(rest) => (&mut self.wildcard, rest),
                None => (&mut self.exact, &*name),
            };
            map.entry(name.into())
                .or_default()
                .push(certificate.clone());
        }
        self.all.push(certificate.clone());
    }

    /// The first that the client can verify: of those with the name, then with a wildcard for it (RFC 6125 §6.4.3: one
    /// label), then of all.
    fn find(
        &self,
        name: Option<&str>,
        usable: impl Fn(&CertifiedKey) -> bool,
    ) -> Option<&Arc<CertifiedKey>> {
        let name = name.unwrap_or_default().to_ascii_lowercase();
        let parent = name.split_once('.').map_or("", |(_, parent)| parent);
        let named = [self.exact.get(&*name), self.wildcard.get(parent)];
        let mut ordered = named.into_iter().flatten().chain([&self.all]).flatten();
        ordered.find(|certificate| usable(certificate))
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let usable = |c: &CertifiedKey| c.key.choose_scheme(schemes).is_some();
        self.find(hello.server_name(), usable).cloned()
    }
}
