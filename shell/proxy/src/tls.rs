//! What TLS needs on this machine: keys and certificates, beside the routing table, which has none.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use model::{ServiceKey, ServiceTable};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use wire::proxy_protocol::Ssl;

use crate::l4::Introduced;
use crate::rt::{Secured, Sock};
use crate::worker::Worker;

/// Everything that TLS needs, immutable and swapped whole. To be published before a routing table that says of a listener
/// or a service that it speaks TLS: without an entry here, it is refused.
#[derive(Clone, Debug, Default)]
pub struct TlsTable {
    /// By the listener's name. Sessions are resumed within one of these, and nowhere else.
    pub listeners: BTreeMap<Arc<str>, Arc<ServerConfig>>,
    /// By the service.
    pub services: BTreeMap<ServiceKey, InstanceTls>,
}

/// TLS towards a service's instances.
#[derive(Clone, Debug)]
pub struct InstanceTls {
    /// Whom to trust and how to show who we are. Another one for every change, [`InstanceTls::server_name`]'s among them:
    /// a pooled connection is used only with the configuration that it was made with.
    pub config: Arc<ClientConfig>,
    /// The same, offering HTTP/2.
    pub many: Arc<ClientConfig>,
    /// The name that certificates must have; without one, the instance's address.
    pub server_name: Option<ServerName<'static>>,
}

/// A client's handshake that failed.
#[derive(Debug)]
pub struct HandshakeFault {
    /// The listener's name.
    pub listener: Arc<str>,
    /// Who it was.
    pub client: SocketAddr,
    /// What was wrong.
    pub why: String,
}

/// Handshakes that failed, one of a listener until somebody takes them away: a flood of them costs no more than a look.
#[derive(Default)]
pub(crate) struct HandshakeFaults(Mutex<Vec<HandshakeFault>>);

/// How many are kept. Whoever takes them comes once a second.
const KEPT: usize = 64;

impl HandshakeFaults {
    /// Waits for nobody: where another worker is at it, that one's will do.
    pub(crate) fn leave(&self, listener: &Arc<str>, client: SocketAddr, why: &io::Error) {
        let Ok(mut kept) = self.0.try_lock() else {
            return;
        };
        if kept.len() < KEPT && kept.iter().all(|other| other.listener != *listener) {
            kept.push(HandshakeFault {
                listener: listener.clone(),
                client,
                why: why.to_string(),
            });
        }
    }

    pub(crate) fn take(&self) -> Vec<HandshakeFault> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl InstanceTls {
    fn name(&self, instance: SocketAddr) -> ServerName<'static> {
        let address = || ServerName::IpAddress(instance.ip().to_canonical().into());
        self.server_name.clone().unwrap_or_else(address)
    }
}

/// Makes the plain connection to an instance what the service wants it to be, within the task's deadline; `many` if it may
/// carry many requests at a time.
pub(crate) async fn to_instance(
    worker: &Worker,
    service: &ServiceTable,
    sock: &mut Sock,
    address: SocketAddr,
    many: bool,
) -> io::Result<()> {
    let tls = worker.tls();
    let Some(tls) = tls.services.get(&service.key) else {
        return Err(io::Error::other("the service's TLS is not set up"));
    };
    let config = if many { &tls.many } else { &tls.config };
    let (config, name) = (config.clone(), tls.name(address));
    sock.connect_tls(config, name).await
}

/// Whether a connection to an instance was made as one would be made now.
pub(crate) fn is_current(worker: &Worker, service: &ServiceTable, sock: &Sock) -> bool {
    if !service.tls {
        return !sock.is_secured();
    }
    let tls = worker.tls();
    let tls = tls.services.get(&service.key);
    let made_with =
        |tls: &InstanceTls| sock.is_secured_with(&tls.config) || sock.is_secured_with(&tls.many);
    tls.is_some_and(made_with)
}

/// What a connection that may carry many requests would be made with now.
pub(crate) fn made_now(worker: &Worker, service: &ServiceTable) -> Option<Arc<ClientConfig>> {
    if !service.tls {
        return None;
    }
    let tls = worker.tls();
    tls.services.get(&service.key).map(|tls| tls.many.clone())
}

/// Ends a client's TLS, within the task's deadline. `ahead` is what was read of it already.
pub(crate) async fn from_client(
    worker: &Worker,
    listener: &str,
    client: &mut Sock,
    ahead: Vec<u8>,
) -> io::Result<Secured> {
    let config = worker.tls().listeners.get(listener).cloned();
    let config = config.ok_or_else(|| io::Error::other("the listener's TLS is not set up"))?;
    client.accept_tls(config, ahead).await?;
    Ok(client.secured().unwrap_or_default())
}

impl Introduced {
    /// Adds what a handshake told of the client, for instances that expect a PROXY header (§2.2). Here TLS ends, so what a
    /// header said of it before is about another connection.
    pub(crate) fn secured(&mut self, secured: &Secured) {
        let tlvs = &mut self.tlvs;
        tlvs.authority.clone_from(&secured.server_name);
        tlvs.alpn.clone_from(&secured.alpn);
        let certificate = secured.certificate.is_some();
        tlvs.ssl = Some(Ssl {
            certificate,
            verified: certificate,
            version: Some(secured.version.into()),
            ..Ssl::default()
        });
        self.certificate = secured.certificate.as_deref().map(|der| {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(der).into()
        });
    }
}
