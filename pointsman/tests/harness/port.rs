use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// Where the ports begin that Linux gives out by itself (`ip_local_port_range`), unless told otherwise.
const GIVEN_OUT: u16 = 32_768;

/// Below are the ports that servers are known by.
const LOWEST: u16 = 12_000;

/// An address on loopback that nobody listens on, nor will by chance.
///
/// Whoever asks for "any port", and every connection that goes out, gets one of those that the system gives out:
/// one of them that is free now may be somebody's a moment later. These are others, and none is given twice.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = GIVEN_OUT - LOWEST;
    // Test programs that run at once begin at places of their own.
    let begin = (std::process::id() % 300) as u16 * 61;
    (0..span)
        .map(|_| LOWEST + (begin + NEXT.fetch_add(1, Relaxed) % span) % span)
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .find(|&address| TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok())
        .expect("a free port")
}
