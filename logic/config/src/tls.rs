//! `[listener.NAME.tls]` and `[service.NAME.tls]`: which certificates, and whom to trust. Files are named here and read
//! elsewhere.

use std::path::PathBuf;

use model::CertificateName;

use crate::declare::{declare, resolved};
use crate::fault::Severity;
use crate::reader::Reader;
use crate::rule::{absent, default, required};
use crate::text::{ClientAuth, TlsVersion};
use crate::tree::Node;
use crate::value::Resolved;

/// TLS of a listener's clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// At least one; the first serves clients that ask for no name, or for one that no other has.
    pub certificates: Vec<Certificate>,
    /// The oldest version that clients may speak.
    pub min_version: TlsVersion,
    /// Protocols that the application speaks, the preferred one first; empty: it is not spoken of.
    pub alpn: Vec<Box<str>>,
    /// Whether clients show a certificate, and the file with those who may have signed it.
    pub client_auth: Option<(ClientAuth, PathBuf)>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Where they are.
    pub source: CertificateSource,
    /// A file with the OCSP answer (DER) that is sent along.
    pub ocsp: Option<PathBuf>,
}

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// In two files of PEM, the certificate's with those that lead from it towards a root.
    Files {
        /// The certificate's.
        cert: PathBuf,
        /// The key's.
        key: PathBuf,
    },
    /// The node is given them through its API, under this name.
    Given(CertificateName),
}

declare! {
    /// A certificate and its key: `cert` and `key`, or a `name`.
    pub(crate) struct CertificateKeys {
        /// A PEM file: the certificate first, then those that lead from it towards a root.
        cert: Option<PathBuf> => absent("only with a name"),
        /// A PEM file with the private key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
        key: Option<PathBuf> => absent("only with a name"),
        /// The name under which the node is given certificate and key, by `pointsman certificate set`.
        name: Option<CertificateName> => absent("only with cert and key"),
        /// A file with the OCSP answer (DER) that is sent along.
        ocsp: Option<PathBuf> => absent("none is sent"),
    }
}

declare! {
    /// TLS of a listener's clients, which ends here. Its files are watched: a changed one is taken over at once,
    /// an unusable one leaves everything as it was.
    pub(crate) struct ListenerTlsKeys {
        /// The certificates, chosen by the names in them: the name that a client asks for, then a wildcard for
        /// it, then the first of the list. Of several with one name, the one that the client can verify.
        certificates: Vec<Certificate> => required(),
        /// The oldest version: `"1.2"` or `"1.3"`.
        // What all clients of the last decade speak, with nothing that is known to be weak.
        min_version: TlsVersion => default(TlsVersion::Tls12),
        /// The protocols that a `tcp` listener's instances speak, for clients that ask by ALPN.
        alpn: Vec<Box<str>> => default(Vec::new()),
        /// Whether clients must show a certificate: `"required"`, or `"optional"` if those without are served, too.
        /// Instances of HTTP listeners get it as `Client-Cert` (RFC 9440).
        client_auth: Option<ClientAuth> => absent("they are not asked for one"),
        /// A PEM file with the authorities that sign clients' certificates.
        client_ca: Option<PathBuf> => absent("only without client_auth"),
    }
}

resolved!(Certificate);

impl Resolved for Certificate {
    type Keys = CertificateKeys;

    fn resolve(keys: CertificateKeys, node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let source = match (keys.cert, keys.key, keys.name) {
            (Some(cert), Some(key), None) => CertificateSource::Files { cert, key },
            (None, None, Some(name)) => CertificateSource::Given(name),
            _ => {
                let what = "is not one of cert with key, and name";
                let hint = "write cert = \"…\" and key = \"…\", or name = \"…\" for one that the node is given by `pointsman certificate set`";
                cx.error(node.at, what, hint);
                return None;
            }
        };
        let ocsp = keys.ocsp;
        Some(Self { source, ocsp })
    }

    fn keys(&self) -> CertificateKeys {
        let (cert, key, name) = match self.source.clone() {
            CertificateSource::Files { cert, key } => (Some(cert), Some(key), None),
            CertificateSource::Given(name) => (None, None, Some(name)),
        };
        let ocsp = self.ocsp.clone();
        CertificateKeys {
            cert,
            key,
            name,
            ocsp,
        }
    }
}

resolved!(ListenerTls);

impl Resolved for ListenerTls {
    type Keys = ListenerTlsKeys;

    fn resolve(keys: ListenerTlsKeys, node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let before = cx.log.errors();
        if keys.certificates.is_empty() {
            let path = format!("{}.certificates", cx.path());
            let hint = "add one: certificates = [{ cert = \"…\", key = \"…\" }]";
            cx.at_key(Severity::Error, &path, "is empty", hint);
        }
        for name in &keys.alpn {
            if name.is_empty() || name.len() > 255 {
                let path = format!("{}.alpn", cx.path());
                let hint = "such names have 1 to 255 bytes (RFC 7301)";
                cx.at_key(Severity::Error, &path, "has a name of no use", hint);
            }
        }
        let client_auth = match (keys.client_auth, keys.client_ca) {
            (Some(auth), Some(ca)) => Some((auth, ca)),
            (None, None) => None,
            (Some(_), None) => {
                let hint = "add client_ca = \"…\", the file with the authorities that sign clients' certificates";
                cx.error(node.at, "asks for certificates that nobody signs", hint);
                None
            }
            (None, Some(_)) => {
                let path = format!("{}.client_ca", cx.path());
                let hint = "add client_auth = \"required\" (or \"optional\"), or leave it out";
                let what = "is there, but clients are not asked for certificates";
                cx.at_key(Severity::Error, &path, what, hint);
                None
            }
        };
        (cx.log.errors() == before).then_some(Self {
            certificates: keys.certificates,
            min_version: keys.min_version,
            alpn: keys.alpn,
            client_auth,
        })
    }

    fn keys(&self) -> ListenerTlsKeys {
        ListenerTlsKeys {
            certificates: self.certificates.clone(),
            min_version: self.min_version,
            alpn: self.alpn.clone(),
            client_auth: self.client_auth.as_ref().map(|(auth, _)| *auth),
            client_ca: self.client_auth.as_ref().map(|(_, ca)| ca.clone()),
        }
    }
}

/// TLS towards a service's instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTls {
    /// The file with the authorities that sign their certificates; `None`: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// The name that their certificates must have; `None`: the instance's address.
    pub server_name: Option<Box<str>>,
    /// The files with the certificate that is shown to them, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether their certificates are looked at.
    pub verify: bool,
    /// Whether checks speak it, too.
    pub checks: bool,
}

declare! {
    /// TLS towards a service's instances. Its files are watched, as those of listeners are.
    pub(crate) struct ServiceTlsKeys {
        /// A PEM file with the authorities that sign the instances' certificates.
        ca: Option<PathBuf> => absent("those that the system trusts"),
        /// The name that the instances' certificates must have; it is asked for (SNI), too.
        server_name: Option<Box<str>> => absent("the instance's address, which its certificate must have"),
        /// A PEM file with the certificate that is shown to instances, and those that lead from it to a root.
        cert: Option<PathBuf> => absent("none is shown"),
        /// A PEM file with the certificate's private key.
        key: Option<PathBuf> => absent("only without cert"),
        /// Whether the instances' certificates are verified. Without, anybody on the way can be the instance.
        // Who turns it off must know why.
        verify: bool => default(true),
        /// Whether checks by `tcp`, `http` and `grpc` speak TLS, too. A check that names a `port` of its own does not.
        // They should find what requests will find.
        checks: bool => default(true),
    }
}

resolved!(ServiceTls);

impl Resolved for ServiceTls {
    type Keys = ServiceTlsKeys;

    fn resolve(keys: ServiceTlsKeys, node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let identity = match (keys.cert, keys.key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => {
                let hint = "add the other, or leave both out";
                cx.error(node.at, "has one of cert and key", hint);
                return None;
            }
        };
        if !keys.verify {
            let path = format!("{}.verify", cx.path());
            let what = "is off: whoever answers is taken for the instance";
            let hint = "name the authority in ca instead";
            cx.at_key(Severity::Warning, &path, what, hint);
        }
        Some(Self {
            ca: keys.ca,
            server_name: keys.server_name,
            identity,
            verify: keys.verify,
            checks: keys.checks,
        })
    }

    fn keys(&self) -> ServiceTlsKeys {
        ServiceTlsKeys {
            ca: self.ca.clone(),
            server_name: self.server_name.clone(),
            cert: self.identity.as_ref().map(|(cert, _)| cert.clone()),
            key: self.identity.as_ref().map(|(_, key)| key.clone()),
            verify: self.verify,
            checks: self.checks,
        }
    }
}
