//! Congestion control where nothing can be congested: between two processes of one machine.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::LazyLock;

use rustix::net::sockopt::{set_tcp_congestion, tcp_congestion};
use rustix::net::{AddressFamily, SocketType, socket};

/// An algorithm that sends as soon as the receiver has room. Of those that do, the one that every kernel lets everybody
/// choose (`net.ipv4.tcp_allowed_congestion_control`).
const UNPACED: &str = "reno";

/// Whether what the system chooses spaces out what it sends, as BBR does.
static PACED: LazyLock<bool> = LazyLock::new(|| {
    let fresh = socket(AddressFamily::INET, SocketType::STREAM, None);
    let chosen = fresh.and_then(tcp_congestion);
    chosen.is_ok_and(|name| name.starts_with("bbr"))
});

/// Has connections of a socket, which neither listens nor is connected yet, go unpaced if they never leave this machine.
///
/// Pacing is for links that somebody else's packets are on, too. Loopback has none, nor the `fq` scheduler, and there it
/// is a timer of the kernel's for every 64 KiB: half of what passing on a stream costs. Once a connection is open it is too
/// late, for it is paced from then on, whatever is chosen.
pub(crate) fn send_at_once(fd: &OwnedFd, address: IpAddr) {
    if address.to_canonical().is_loopback() && *PACED {
        // Refused, it is as fast as everything else on the machine.
        let _ = set_tcp_congestion(fd, UNPACED);
    }
}
