//! TLS clients: a connection for each request, with new keys or those of an earlier session; and connections that wait.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, version};

use crate::scratch::Scratch;

/// The name that is asked for.
const NAME: &str = "bench.example";

/// Clients at a time.
const CLIENTS: usize = 16;

/// A certificate (ECDSA, P-256) in the forms that the contenders read.
#[derive(Clone)]
pub(super) struct Certificate {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    /// Both in one file.
    pub(super) both: PathBuf,
    pem: String,
}

/// What handshakes agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    New,
    OfAnEarlierSession,
}

impl Certificate {
    pub(super) fn make(scratch: &Scratch) -> anyhow::Result<Self> {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([NAME.to_owned()])?;
        let (pem, key) = (cert.pem(), signing_key.serialize_pem());
        Ok(Self {
            cert: scratch.write("bench.crt", &pem)?,
            key: scratch.write("bench.key", &key)?,
            both: scratch.write("bench.pem", &format!("{pem}{key}"))?,
            pem,
        })
    }

    /// Where it is, for HAProxy.
    pub(super) fn both(&self) -> &Path {
        &self.both
    }

    fn client(&self, keys: Keys) -> anyhow::Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes())?)?;
        // One group for all: of several, each server would choose what it likes best, some by another round trip.
        let provider = CryptoProvider {
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        if keys == Keys::New {
            config.resumption = Resumption::disabled();
        }
        Ok(Arc::new(config))
    }

    /// As many connections, each with one request, as one core makes; returns how many there were, and how many went
    /// wrong: one whose keys are not of the kind asked for is one of them.
    pub(super) fn load(
        &self,
        target: SocketAddr,
        keys: Keys,
        request: &[u8],
        seconds: f64,
    ) -> anyhow::Result<(u64, u64)> {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        let (done, wrong) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| -> anyhow::Result<()> {
            for _ in 0..CLIENTS {
                // Each has its own sessions, as clients have.
                let config = self.client(keys)?;
                let (done, wrong) = (&done, &wrong);
                scope.spawn(move || {
                    let mut first = true;
                    while Instant::now() < end {
                        let kind = ask(&config, target, request);
                        let wanted = match keys {
                            Keys::OfAnEarlierSession if !first => HandshakeKind::Resumed,
                            _ => HandshakeKind::Full,
                        };
                        first = false;
                        done.fetch_add(1, Relaxed);
                        if !kind.is_ok_and(|kind| kind == wanted) {
                            wrong.fetch_add(1, Relaxed);
                        }
                    }
                });
            }
            Ok(())
        })?;
        Ok((done.into_inner(), wrong.into_inner()))
    }

    /// Opens connections, each of which has had one answer.
    pub(super) fn hold(
        &self,
        target: SocketAddr,
        request: &[u8],
        count: usize,
    ) -> anyhow::Result<Vec<StreamOwned<ClientConnection, TcpStream>>> {
        let config = self.client(Keys::New)?;
        (0..count)
            .map(|_| {
                let mut stream = connect(&config, target)?;
                stream.write_all(request)?;
                read_answer(&mut stream)?;
                Ok(stream)
            })
            .collect()
    }
}

fn connect(
    config: &Arc<ClientConfig>,
    target: SocketAddr,
) -> anyhow::Result<StreamOwned<ClientConnection, TcpStream>> {
    let stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let session = ClientConnection::new(config.clone(), ServerName::try_from(NAME)?)?;
    Ok(StreamOwned::new(session, stream))
}

/// A request whose answer is the connection's last.
fn ask(
    config: &Arc<ClientConfig>,
    target: SocketAddr,
    request: &[u8],
) -> anyhow::Result<HandshakeKind> {
    let mut stream = connect(config, target)?;
    stream.write_all(request)?;
    read_answer(&mut stream)?;
    stream.conn.handshake_kind().context("no handshake")
}

/// Reads an answer of 128 x.
fn read_answer(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> anyhow::Result<()> {
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    // The body is all x, and heads have none in a row.
    while !answer.ends_with(b"xxxxxxxx") || answer.iter().filter(|b| **b == b'x').count() < 128 {
        let n = stream.read(&mut piece)?;
        ensure!(n > 0, "the connection was closed");
        answer.extend_from_slice(&piece[..n]);
    }
    Ok(())
}
