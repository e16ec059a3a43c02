//! Who reaches the API: by which names, and from where.

use std::net::SocketAddr;

use config::Config;
use fronts::Names;
use model::{Host, HostPattern};

use super::spread;

/// The names that an HTTP front goes by that is bound to `bind`.
pub(super) fn names(config: &Config, bind: SocketAddr) -> Names {
    let mut names = match &config.api.names {
        Some(names) => names.clone(),
        None if is_loopback(bind) => Vec::new(),
        None => vec![HostPattern::Any],
    };
    // Other nodes send clients there.
    let advertised = spread::advertised(config);
    let host = advertised
        .as_deref()
        .and_then(|at| Some(at.rsplit_once(':')?.0));
    if let Some(Ok(Host::Name(name))) = host.map(str::parse) {
        names.push(HostPattern::Exact(name));
    }
    names.into()
}

/// What is said at the start if others than this machine's users reach the API.
pub(crate) fn warning(api: SocketAddr) -> Option<String> {
    (!is_loopback(api)).then(|| {
        format!(
            "everybody who reaches {api} can change what is registered, and so direct traffic: the API asks nobody who they are. \
             Bind it to loopback or to a private network, or let a firewall keep others out \
             (docs/operating.md#who-may-reach-the-api)"
        )
    })
}

fn is_loopback(bind: SocketAddr) -> bool {
    bind.ip().to_canonical().is_loopback()
}
