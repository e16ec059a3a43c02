//! Listening sockets: one a worker, on the same address.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::sockopt::{
    set_ipv6_v6only, set_socket_recv_buffer_size, set_socket_reuseaddr, set_socket_reuseport,
    set_tcp_nodelay,
};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind as bind_socket, ipproto, socket_with,
};

use crate::rt::send_at_once;

/// Connections that may wait to be accepted, per worker. The kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// An address that cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The kernel's reason.
    pub cause: io::Error,
}

impl std::error::Error for BindError {}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { address, cause } = self;
        write!(f, "cannot listen on {address}: {cause}")?;
        let port = address.port();
        match cause.kind() {
            io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "; another process has the port: see `ss -lntup 'sport = :{port}'`"
                )
            }
            io::ErrorKind::PermissionDenied => write!(
                f,
                "; ports below 1024 need root, CAP_NET_BIND_SERVICE, or net.ipv4.ip_unprivileged_port_start"
            ),
            io::ErrorKind::AddrNotAvailable => {
                write!(f, "; no interface of this machine has the address")
            }
            _ => Ok(()),
        }
    }
}

/// What sockets carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Packets.
    Udp,
}

/// Bytes that may wait in a UDP socket. The kernel cuts it to `net.core.rmem_max`; its own 208 KiB are a hundred
/// packets in its bookkeeping, less than arrive while a worker does something else.
const PACKETS: usize = 4 << 20;

/// Binds `count` sockets to `address`, which share its connections or packets. `own` are the addresses that this process
/// listens at already: one of them may be in the way, for two listeners swap their addresses, or one widens from
/// 127.0.0.1 to 0.0.0.0.
pub(crate) fn bind(
    transport: Transport,
    address: SocketAddr,
    count: usize,
    own: &[SocketAddr],
) -> Result<(SocketAddr, Vec<OwnedFd>), BindError> {
    let failed = |cause: Errno| BindError {
        address,
        cause: cause.into(),
    };
    // SO_REUSEPORT would let two processes of one user share a port without noticing: so first without, unless we
    // would meet ourselves.
    let among_own = own.iter().any(|own| overlap(own, &address));
    let probe = open(transport, address, among_own).map_err(failed)?;
    let address = rustix::net::getsockname(&probe)
        .and_then(SocketAddr::try_from)
        .map_err(failed)?;
    drop(probe);
    let sockets = (0..count)
        .map(|_| {
            let socket = open(transport, address, true)?;
            match transport {
                Transport::Tcp => rustix::net::listen(&socket, BACKLOG)?,
                Transport::Udp => set_socket_recv_buffer_size(&socket, PACKETS)?,
            }
            Ok(socket)
        })
        .collect::<Result<_, Errno>>()
        .map_err(failed)?;
    Ok((address, sockets))
}

fn overlap(a: &SocketAddr, b: &SocketAddr) -> bool {
    let everywhere = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && (a.ip() == b.ip() || everywhere)
}

fn open(transport: Transport, address: SocketAddr, shared: bool) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (kind, protocol) = match transport {
        Transport::Tcp => (SocketType::STREAM, ipproto::TCP),
        Transport::Udp => (SocketType::DGRAM, ipproto::UDP),
    };
    let socket = socket_with(family, kind, flags, Some(protocol))?;
    if transport == Transport::Tcp {
        // Connections of an earlier process in TIME_WAIT must not keep us from starting.
        set_socket_reuseaddr(&socket, true)?;
        // Inherited by every connection accepted, so that none pays a system call for it.
        set_tcp_nodelay(&socket, true)?;
        send_at_once(&socket, address.ip());
    }
    if shared {
        set_socket_reuseport(&socket, true)?;
    }
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    bind_socket(&socket, &address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt::tcp_congestion;

    use super::*;

    fn congestion(address: &str) -> String {
        let address = address.parse().unwrap();
        tcp_congestion(open(Transport::Tcp, address, false).unwrap()).unwrap()
    }

    #[test]
    fn connections_within_the_machine_are_not_paced_and_others_are_as_the_system_has_them() {
        let fresh = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let chosen = tcp_congestion(fresh).unwrap();
        assert_eq!(congestion("0.0.0.0:0"), chosen);
        let local = congestion("127.0.0.1:0");
        assert!(!local.starts_with("bbr"), "{local}");
        assert_eq!(congestion("127.7.7.7:0"), local);
    }
}
