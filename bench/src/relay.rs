//! A proxy that understands nothing: bytes of a connection go to the origin and back, on the product's own runtime. What it
//! costs is the kernel's work for two connections, and no proxy in user space goes below. With TLS towards clients, that and
//! what the library takes for the records.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use clap::Args;
use proxy::rt::{Accepted, Executor, Handle, Listener, Reactor, Sock, race};
use rustix::net::sockopt::set_tcp_nodelay;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where to listen
    #[arg(long)]
    bind: SocketAddr,
    /// Where everything goes
    #[arg(long)]
    to: SocketAddr,
    /// A file with a certificate and its key, for clients with TLS
    #[arg(long)]
    certificate: Option<PathBuf>,
}

type Tls = Option<Arc<ServerConfig>>;

/// As much as the proxy reads at a time.
const READ: usize = 64 << 10;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let tls = options.certificate.as_deref().map(config).transpose()?;
    let listener = TcpListener::bind(options.bind)?;
    listener.set_nonblocking(true)?;
    set_tcp_nodelay(&listener, true)?;
    let reactor = Reactor::on_kernel()?;
    let executor = Executor::new(reactor.clone());
    let listener = Listener::from_kernel(&reactor, listener.into())?;
    let handle = executor.handle();
    handle.spawn(accept(handle.clone(), listener, options.to, tls));
    Ok(executor.run()?)
}

fn config(file: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = vec![CertificateDer::from_pem_file(file)?];
    let key = PrivateKeyDer::from_pem_file(file)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_no_client_auth();
    Ok(Arc::new(config.with_single_cert(chain, key)?))
}

async fn accept(handle: Handle, listener: Listener, to: SocketAddr, tls: Tls) {
    let scratch = Rc::new(RefCell::new(vec![0; READ]));
    loop {
        listener.acceptable_unless(|| false).await;
        if let Ok(Some((Accepted::Fd(fd), _))) = listener.try_accept() {
            let client = Sock::from_accepted(handle.reactor(), fd);
            handle.spawn(relay(client, to, tls.clone(), scratch.clone()));
        }
    }
}

async fn relay(mut client: Sock, to: SocketAddr, tls: Tls, scratch: Rc<RefCell<Vec<u8>>>) {
    if let Some(config) = tls
        && client.accept_tls(config, Vec::new()).await.is_err()
    {
        return;
    }
    let Ok(origin) = Sock::connect(client.reactor(), to).await else {
        return;
    };
    race(
        pass(&client, &origin, &scratch),
        pass(&origin, &client, &scratch),
    )
    .await;
}

/// Passes on what comes, as it comes, until it ends or breaks.
async fn pass(from: &Sock, to: &Sock, scratch: &RefCell<Vec<u8>>) -> Option<()> {
    loop {
        from.readable().await.ok()?;
        let read = from.try_recv(&mut scratch.borrow_mut());
        let Some(n) = read.ok()? else { continue };
        let sent = to.try_send(&scratch.borrow()[..n]).ok()?;
        let rest = scratch.borrow()[sent..n].to_vec();
        send(to, &rest).await.filter(|()| n > 0)?;
    }
}

async fn send(to: &Sock, mut rest: &[u8]) -> Option<()> {
    while !rest.is_empty() {
        to.writable().await.ok()?;
        rest = &rest[to.try_send(rest).ok()?..];
    }
    Some(())
}
