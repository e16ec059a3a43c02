//! From files to what rustls works with. Every error names the file, and what to do.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::cluster::PeerTls;
use anyhow::{Context, anyhow, bail};
use config::{Certificate, ClientAuth, Protocol, ServiceTls, TlsVersion};
use proxy::InstanceTls;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::names::ByName;
use super::{ListenerSettings, Made, Shown};

/// The largest file: the bundle of all public authorities is a twentieth of it.
const MAX_FILE: u64 = 4 << 20;

/// What a listener needs. Every one has tickets of its own: a session begun at one listener, or with other
/// certificates or another authority of clients, is not resumed; within a listener rustls resumes only for the same
/// server name.
pub(super) fn listener(
    (tls, protocol, http2): &ListenerSettings,
) -> anyhow::Result<Made<Arc<ServerConfig>>> {
    let mut by_name = ByName::default();
    let mut shown = Vec::new();
    for files in &tls.certificates {
        let (certificate, names, seen) = certified(files)?;
        by_name.add(&names, &Arc::new(certificate));
        shown.push(seen);
    }
    let versions = match tls.min_version {
        TlsVersion::Tls12 => vec![&TLS13, &TLS12],
        TlsVersion::Tls13 => vec![&TLS13],
    };
    let builder =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(&versions)?;
    let builder = match &tls.client_auth {
        None => builder.with_no_client_auth(),
        Some((auth, ca)) => {
            let roots = Arc::new(authorities(ca)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            let verifier = match auth {
                ClientAuth::Required => verifier,
                ClientAuth::Optional => verifier.allow_unauthenticated(),
            };
            builder.with_client_cert_verifier(verifier.build()?)
        }
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
    Ok(Made { value, shown })
}

/// What connections between nodes of a cluster need: both sides show a certificate that the cluster's authority has
/// signed.
pub(in crate::node) fn peers([cert, key, ca]: &[PathBuf; 3]) -> anyhow::Result<PeerTls> {
    let files = Certificate {
        cert: cert.clone(),
        key: key.clone(),
        ocsp: None,
    };
    // For the errors that it finds.
    certified(&files)?;
    let roots = Arc::new(authorities(ca)?);
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
    })
}

/// What connections to a collector of traces need.
pub(in crate::node) fn collector(ca: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let roots = match ca {
        Some(ca) => authorities(ca)?,
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
        known.with_context(|| {
            format!("{name:?} is neither a host name nor an address: correct server_name")
        })
    });
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(match tls.verify {
            true => {
                let roots = Arc::new(match &tls.ca {
                    Some(ca) => authorities(ca)?,
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
            let files = Certificate {
                cert: cert.clone(),
                key: key.clone(),
                ocsp: None,
            };
            // For the errors that it finds.
            let (_, _, seen) = certified(&files)?;
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
    Ok(Made { value, shown })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A certificate with its key, the names in it, and what is told of it.
fn certified(files: &Certificate) -> anyhow::Result<(CertifiedKey, Vec<String>, Shown)> {
    let chain = chain(&files.cert)?;
    let file = files.cert.display();
    let (names, not_after) = read_certificate(&chain[0])
        .with_context(|| format!("{file}: the first certificate cannot be read; make it anew"))?;
    let key = private_key(&files.key)?;
    let key_file = files.key.display();
    let key = provider()
        .key_provider
        .load_private_key(key)
        .with_context(|| {
            format!("{key_file}: no key of a kind that is known (RSA, ECDSA, Ed25519)")
        })?;
    let mut certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|_| {
        anyhow!("{key_file} is not the key of the certificate in {file}: the two files must belong together")
    })?;
    if let Some(ocsp) = &files.ocsp {
        certified.ocsp = Some(read(ocsp)?);
    }
    let file = files.cert.clone();
    Ok((certified, names, Shown { file, not_after }))
}

/// The names in a certificate, and the last second at which it is good.
fn read_certificate(der: &[u8]) -> anyhow::Result<(Vec<String>, SystemTime)> {
    let (_, certificate) = X509Certificate::from_der(der)?;
    let names = certificate.subject_alternative_name()?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    let not_after = certificate.validity().not_after.timestamp().max(0);
    let not_after = UNIX_EPOCH + Duration::from_secs(not_after as u64);
    Ok((names.collect(), not_after))
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
    let bytes = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => bail!(
            "{} has no certificate in it: it should be PEM",
            path.display()
        ),
        Err(fault) => bail!("{} is no PEM: {fault}", path.display()),
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
