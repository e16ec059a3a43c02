//! From files to what rustls works with. Every error names the file, and what to do.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::cluster::PeerTls;
use anyhow::{Context, anyhow, bail};
use config::{ClientAuth, Protocol, ServiceTls, TlsVersion};
use proxy::InstanceTls;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, InconsistentKeys, RootCertStore,
    ServerConfig, SignatureScheme,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Version};

use super::names::ByName;
use super::{Files, ListenerSettings, Made, Shown, ocsp};
use crate::node::unfit::{Unfit, at};

/// The largest file: the bundle of all public authorities is a twentieth of it.
const MAX_FILE: u64 = 4 << 20;

/// What a listener needs. Every one has tickets of its own: a session begun at one listener, or with other
/// certificates or another authority of clients, is not resumed; within a listener rustls resumes only for the same
/// server name.
pub(super) fn listener(settings: &ListenerSettings) -> anyhow::Result<Made<Arc<ServerConfig>>> {
    let ListenerSettings {
        tls,
        protocol,
        http2,
        certificates,
    } = settings;
    let mut by_name = ByName::default();
    let (mut shown, mut missing) = (Vec::new(), Vec::new());
    let mut unfit = Unfit::default();
    for (n, files) in certificates.iter().enumerate() {
        if let Some(name) = files.given.as_ref().filter(|_| !files.cert.exists()) {
            // Not a fault: the node has to serve before anybody can give it one.
            missing.push(name.clone());
            continue;
        }
        match certified(files) {
            Ok((certificate, seen)) => {
                by_name.add(&seen.names, &Arc::new(certificate));
                shown.push(seen);
            }
            Err(fault) => unfit.add(&format!("certificates[{}]", n + 1), fault),
        }
    }
    let versions = match tls.min_version {
        TlsVersion::Tls12 => vec![&TLS13, &TLS12],
        TlsVersion::Tls13 => vec![&TLS13],
    };
    let builder =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(&versions)?;
    let verifier = tls.client_auth.as_ref().map(clients).transpose();
    let verifier = verifier.unwrap_or_else(|fault| {
        unfit.add("client_ca", fault);
        None
    });
    let builder = match unfit.unless_any(verifier)? {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut config = builder.with_cert_resolver(Arc::new(by_name));
    // Keys that change every six hours, and are good for twelve; of all workers.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    // Sessions are kept by the clients: a store would be shared by all workers, behind a lock.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = match protocol {
        Protocol::Https => {
            let offered = ["h2", "http/1.1", "http/1.0"];
            let all = offered.into_iter().filter(|name| *http2 || *name != "h2");
            all.map(|name| name.as_bytes().into()).collect()
        }
        _ => tls.alpn.iter().map(|name| name.as_bytes().into()).collect(),
    };
    let value = Arc::new(config);
    Ok(Made {
        value,
        shown,
        missing,
    })
}

/// Who looks at clients' certificates.
fn clients((auth, ca): &(ClientAuth, PathBuf)) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let roots = Arc::new(authorities(ca)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
    let verifier = match auth {
        ClientAuth::Required => verifier,
        ClientAuth::Optional => verifier.allow_unauthenticated(),
    };
    Ok(verifier.build()?)
}

/// What connections between nodes of a cluster need: both sides show a certificate that the cluster's authority has
/// signed. The others reach this one at `address`.
pub(in crate::node) fn peers(
    [cert, key, ca]: &[PathBuf; 3],
    address: &str,
) -> anyhow::Result<PeerTls> {
    // For the errors that it finds.
    let (own, _) = certified(&Files::of(cert, key)).map_err(at("cert"))?;
    let roots = Arc::new(authorities(ca).map_err(at("ca"))?);
    let doubt = doubt(&own.cert, cert, &roots, address)?;
    let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
    let server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients.build()?)
        .with_single_cert(chain(cert)?, private_key(key)?)?;
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain(cert)?, private_key(key)?)?;
    Ok(PeerTls {
        server: Arc::new(server),
        client: Arc::new(client),
        doubt,
    })
}

/// Why the other nodes may not take this node's certificate, as far as that shows here. It is no reason not to start: by what name
/// they call the node may have changed since the cluster began, by which authorities they judge is theirs to say, as the time is, and
/// the node has traffic to serve. But all that it would see of it are connections that end.
fn doubt(
    own: &[CertificateDer<'_>],
    file: &Path,
    roots: &Arc<RootCertStore>,
    address: &str,
) -> anyhow::Result<Option<String>> {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots.clone(), provider()).build()?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let Ok(name) = ServerName::try_from(host.trim_matches(['[', ']'])) else {
        return Ok(None);
    };
    let judged = verifier.verify_server_cert(&own[0], &own[1..], &name, &[], UnixTime::now());
    let Err(Error::InvalidCertificate(fault)) = judged else {
        return Ok(None);
    };
    let what = match fault {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "the others reach this node as {host}; make it anew with that in its subjectAltName, or correct the node's entry in \
                 [cluster] peers, or advertise"
            )
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "no authority in [cluster] ca has signed it".into()
        }
        _ => "make it anew".into(),
    };
    let file = file.display();
    Ok(Some(format!(
        "the other nodes may refuse this node's certificate, {file}: {fault}: {what}"
    )))
}

/// What connections to a collector of traces need.
pub(in crate::node) fn collector(ca: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let roots = match ca {
        Some(ca) => authorities(ca).map_err(at("ca"))?,
        None => system()?,
    };
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// What connections to a service's instances need.
pub(super) fn service(tls: &ServiceTls) -> anyhow::Result<Made<InstanceTls>> {
    let server_name = tls.server_name.as_deref().map(|name| {
        let known = ServerName::try_from(name.to_owned());
        let known = known.with_context(|| {
            format!("{name:?} is neither a host name nor an address: correct server_name")
        });
        known.map_err(at("server_name"))
    });
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(match tls.verify {
            true => {
                let roots = Arc::new(match &tls.ca {
                    Some(ca) => authorities(ca).map_err(at("ca"))?,
                    None => system()?,
                });
                WebPkiServerVerifier::builder_with_provider(roots, provider()).build()?
            }
            false => Arc::new(Anybody(provider())),
        });
    let mut shown = Vec::new();
    let config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            // For the errors that it finds.
            let (_, seen) = certified(&Files::of(cert, key)).map_err(at("cert"))?;
            shown.push(seen);
            builder.with_client_auth_cert(chain(cert)?, private_key(key)?)?
        }
    };
    let mut many = config.clone();
    many.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
    let value = InstanceTls {
        config: Arc::new(config),
        many: Arc::new(many),
        server_name: server_name.transpose()?,
    };
    let missing = Vec::new();
    Ok(Made {
        value,
        shown,
        missing,
    })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A certificate with its key, and what is told of it.
fn certified(files: &Files) -> anyhow::Result<(CertifiedKey, Shown)> {
    let (cert, key) = (read(&files.cert)?, read(&files.key)?);
    let (cert_file, key_file) = (files.cert.display(), files.key.display());
    let (mut certified, shown) = pair(
        (&cert, &cert_file.to_string()),
        (&key, &key_file.to_string()),
        files,
    )?;
    if let Some(ocsp) = &files.ocsp {
        certified.ocsp = Some(answer(ocsp).map_err(at("ocsp"))?);
    }
    Ok((certified, shown))
}

/// An OCSP answer that clients can be sent.
fn answer(path: &Path) -> anyhow::Result<Vec<u8>> {
    let answer = read(path)?;
    ocsp::check(&answer).with_context(|| {
        format!(
            "{} is no OCSP answer that clients could use",
            path.display()
        )
    })?;
    Ok(answer)
}

/// What is told of a certificate that can be used.
pub(super) fn shown(files: &Files) -> anyhow::Result<Shown> {
    certified(files).map(|(_, shown)| shown)
}

/// A certificate that somebody gives: PEM with the key in it. It must be good now; what is told of it.
pub(super) fn given(pem: &[u8], files: &Files) -> anyhow::Result<Shown> {
    if pem.len() as u64 > MAX_FILE {
        bail!("it is longer than any certificate should be (4 MiB)");
    }
    let (_, shown) = pair((pem, "certificate"), (pem, "key"), files)?;
    let now = SystemTime::now();
    if shown.has_expired(now) {
        bail!("the certificate has expired: clients would refuse it");
    }
    if shown.not_before > now {
        bail!("the certificate is not good yet: clients would refuse it; look at the clocks");
    }
    Ok(shown)
}

/// A certificate and its key as they are read, each with what it is called in errors.
fn pair(
    (cert, cert_name): (&[u8], &str),
    (key, key_name): (&[u8], &str),
    files: &Files,
) -> anyhow::Result<(CertifiedKey, Shown)> {
    let chain = certificates(cert, cert_name)?;
    let shown = read_certificate(&chain[0], files).with_context(|| {
        format!("{cert_name}: the first certificate cannot be used; make it anew")
    })?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|fault| {
        anyhow!("{key_name} has no private key in it that can be used: {fault}; it should be PEM, not encrypted")
    })?;
    let key = provider()
        .key_provider
        .load_private_key(key)
        .with_context(|| {
            format!("{key_name}: no key of a kind that is known (RSA, ECDSA, Ed25519)")
        })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok((certified, shown)),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => bail!(
            "{key_name} is not the key of the certificate in {cert_name}: the two must belong together"
        ),
        Err(fault) => Err(anyhow!(fault).context(format!(
            "{cert_name}: the first certificate cannot be used; make it anew"
        ))),
    }
}

/// What a certificate says of itself.
fn read_certificate(der: &[u8], files: &Files) -> anyhow::Result<Shown> {
    let (_, certificate) = X509Certificate::from_der(der)?;
    if certificate.version() != X509Version::V3 {
        // `openssl x509 -req` makes such a one unless it is given extensions.
        bail!(
            "it is of X.509 version {}, which has no room for the names that clients go by: a certificate of version 3 is needed, with \
             subjectAltName",
            certificate.version().0 + 1
        );
    }
    let names = certificate.subject_alternative_name()?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    let time = |seconds: i64| UNIX_EPOCH + Duration::from_secs(seconds.max(0) as u64);
    let validity = certificate.validity();
    Ok(Shown {
        file: files.cert.clone(),
        given: files.given.clone(),
        names: names.collect(),
        not_before: time(validity.not_before.timestamp()),
        not_after: time(validity.not_after.timestamp()),
    })
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let what = || format!("{} cannot be read", path.display());
    let file = std::fs::File::open(path).with_context(what)?;
    if !file.metadata().with_context(what)?.is_file() {
        bail!("{} is no file", path.display());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .with_context(what)?;
    if bytes.len() as u64 > MAX_FILE {
        bail!(
            "{} is longer than any such file should be (4 MiB)",
            path.display()
        );
    }
    Ok(bytes)
}

fn chain(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    certificates(&read(path)?, &path.display().to_string())
}

fn certificates(pem: &[u8], name: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => bail!("{name} has no certificate in it: it should be PEM"),
        Err(fault) => bail!("{name} is no PEM: {fault}"),
    }
}

fn private_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let key = PrivateKeyDer::from_pem_slice(&read(path)?);
    key.map_err(|fault| {
        let file = path.display();
        anyhow!("{file} has no private key in it that can be used: {fault}; it should be PEM, not encrypted")
    })
}

fn authorities(path: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path)? {
        let added = roots.add(certificate);
        added.with_context(|| {
            format!("{}: one of its authorities cannot be used", path.display())
        })?;
    }
    Ok(roots)
}

/// Whom the system trusts.
fn system() -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match roots.is_empty() {
        true => {
            bail!("the system trusts no authority: install ca-certificates, or name a file in ca")
        }
        false => Ok(roots),
    }
}

/// Takes anybody for the instance, as `verify = false` wants it.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
