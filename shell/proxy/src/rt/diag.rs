//! Whether the machine at a connection's other end still gives signs of life.
//!
//! A machine that lost its power, or the way to it, says nothing. While a connection is at rest the kernel's keepalive
//! finds out. While something is on its way nobody does for a quarter of an hour, unless TCP_USER_TIMEOUT is set. But
//! that (RFC 5482; Linux since 5.11) also ends connections whose receiver is well and does not read for a while: a pager,
//! a paused film, a database that is busy. So we ask the kernel what it knows, by sock_diag(7), and seldom.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{
    set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl,
};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::sock::{End, Sock};

/// What the kernel says of a connection's other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It has acknowledged everything. The kernel's keepalive watches over it.
    Quiet,
    /// It has still to acknowledge something, or to make room for it, and gives signs of life.
    Busy,
    /// It has given none for so long, though it was asked.
    Silent,
}

/// Questions that a peer may leave unanswered, each a third of half its time apart.
const PROBES: u32 = 3;

/// A worker's way to ask the kernel; opened when it is first needed.
#[derive(Default)]
pub(super) struct Diag(RefCell<Option<OwnedFd>>);

impl Sock {
    /// Has the kernel ask a peer that has said nothing for half of `timeout` whether it is still there, and break the
    /// connection with [`std::io::ErrorKind::TimedOut`] when it says nothing for the other half either.
    pub fn keep_alive(&self, timeout: Duration) {
        let End::Kernel(fd) = &self.end else { return };
        // Whole seconds are what the kernel takes, and zero is none.
        let idle = Duration::from_secs((timeout / 2).as_secs().max(1));
        let interval = Duration::from_secs((timeout / 2 / PROBES).as_secs().max(1));
        // A connection that is gone already needs none.
        let _ = set_tcp_keepidle(fd, idle)
            .and_then(|()| set_tcp_keepintvl(fd, interval))
            .and_then(|()| set_tcp_keepcnt(fd, PROBES))
            .and_then(|()| set_socket_keepalive(fd, true));
    }

    /// What the kernel knows of the peer. `None` where it does not say: on simulated networks, and in sandboxes
    /// without sock_diag.
    pub fn life(&self, timeout: Duration) -> Option<Life> {
        let End::Kernel(fd) = &self.end else {
            return None;
        };
        let ours = rustix::net::getsockname(fd).ok()?.try_into().ok()?;
        let theirs = rustix::net::getpeername(fd).ok()??.try_into().ok()?;
        let answer = self.reactor.diag.ask(ours, theirs)?;
        read(&answer, timeout)
    }
}

impl Diag {
    fn ask(&self, ours: SocketAddr, theirs: SocketAddr) -> Option<Vec<u8>> {
        let mut socket = self.0.borrow_mut();
        if socket.is_none() {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let family = AddressFamily::NETLINK;
            let made = rustix::net::socket_with(
                family,
                SocketType::DGRAM,
                flags,
                Some(netlink::SOCK_DIAG),
            );
            *socket = made.ok();
        }
        let socket = socket.as_ref()?;
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(socket, &question(ours, theirs), SendFlags::empty(), &kernel).ok()?;
        // The kernel has answered before it returned.
        let mut answer = vec![0; 1_024];
        let (length, _) = rustix::net::recv(socket, &mut answer[..], RecvFlags::empty()).ok()?;
        answer.truncate(length);
        Some(answer)
    }
}

/// `SOCK_DIAG_BY_FAMILY`, and `NLM_F_REQUEST`.
const BY_FAMILY: u16 = 20;
const REQUEST: u16 = 1;
/// `IPPROTO_TCP`, and the bit that asks for `INET_DIAG_INFO`.
const TCP: u8 = 6;
const WITH_INFO: u8 = 1 << 1;

/// A `nlmsghdr` and an `inet_diag_req_v2` for one connection (linux/inet_diag.h).
fn question(ours: SocketAddr, theirs: SocketAddr) -> Vec<u8> {
    let family = match ours {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let mut asked = Vec::with_capacity(72);
    asked.extend(72_u32.to_ne_bytes());
    asked.extend(BY_FAMILY.to_ne_bytes());
    asked.extend(REQUEST.to_ne_bytes());
    // Neither numbers of ours are needed: one question is asked at a time.
    asked.extend([0; 8]);
    asked.extend([family.as_raw() as u8, TCP, WITH_INFO, 0]);
    // In whatever state.
    asked.extend([0xff; 4]);
    asked.extend(ours.port().to_be_bytes());
    asked.extend(theirs.port().to_be_bytes());
    asked.extend(address(ours.ip()));
    asked.extend(address(theirs.ip()));
    asked.extend(scope(theirs).to_ne_bytes());
    // Whichever socket it is (`INET_DIAG_NOCOOKIE`).
    asked.extend([0xff; 8]);
    asked
}

fn address(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&ip.octets());
            octets
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The interface of a link-local address.
fn scope(address: SocketAddr) -> u32 {
    match address {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(v6) => v6.scope_id(),
    }
}

/// Where things stand in the answer: a `nlmsghdr` (16 bytes), an `inet_diag_msg` (72), attributes.
const UNACKNOWLEDGED: usize = 16 + 60;
const ATTRIBUTES: usize = 16 + 72;
/// `INET_DIAG_INFO`: a `tcp_info` (linux/tcp.h), of which only ever the end has changed.
const INFO: u16 = 2;
const RETRANSMITS: usize = 2;
const UNANSWERED: usize = 3;
const LAST_ACK: usize = 56;

fn read(answer: &[u8], timeout: Duration) -> Option<Life> {
    let u16_at = |at: usize| Some(u16::from_ne_bytes(*answer.get(at..)?.first_chunk()?));
    let u32_at = |at: usize| Some(u32::from_ne_bytes(*answer.get(at..)?.first_chunk()?));
    if u16_at(4)? != BY_FAMILY {
        return None;
    }
    if u32_at(UNACKNOWLEDGED)? == 0 {
        return Some(Life::Quiet);
    }
    let mut at = ATTRIBUTES;
    loop {
        let length = usize::from(u16_at(at)?).max(4);
        if u16_at(at + 2)? == INFO {
            break;
        }
        at += length.next_multiple_of(4);
    }
    let info = at + 4;
    let asked = *answer.get(info + RETRANSMITS)? > 0 || *answer.get(info + UNANSWERED)? > 0;
    let silent = Duration::from_millis(u32_at(info + LAST_ACK)?.into());
    Some(match asked && silent >= timeout {
        true => Life::Silent,
        false => Life::Busy,
    })
}

#[cfg(test)]
mod tests {
    use super::super::kernel_tests::{pair, with_reactor};
    use super::*;

    /// An answer of the kernel's with these figures.
    fn answer(unacknowledged: u32, retransmits: u8, unanswered: u8, last_ack: u32) -> Vec<u8> {
        let mut bytes = vec![0; ATTRIBUTES];
        bytes[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        bytes[UNACKNOWLEDGED..][..4].copy_from_slice(&unacknowledged.to_ne_bytes());
        // Another attribute first, whose length needs padding.
        bytes.extend([5_u16, 8].map(u16::to_ne_bytes).concat());
        bytes.extend([1, 0, 0, 0]);
        bytes.extend([4 + 60, INFO].map(u16::to_ne_bytes).concat());
        let info = bytes.len();
        bytes.resize(info + 60, 0);
        bytes[info + RETRANSMITS] = retransmits;
        bytes[info + UNANSWERED] = unanswered;
        bytes[info + LAST_ACK..][..4].copy_from_slice(&last_ack.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_peer_is_silent_only_if_it_was_asked_and_said_nothing_for_so_long() {
        let life = |a, b, c, d| read(&answer(a, b, c, d), Duration::from_secs(2)).unwrap();
        assert_eq!(life(0, 0, 0, 9_000), Life::Quiet);
        assert_eq!(life(5, 0, 0, 9_000), Life::Busy, "sent a moment ago");
        assert_eq!(life(5, 3, 0, 1_999), Life::Busy);
        assert_eq!(life(5, 3, 0, 2_000), Life::Silent, "sent again and again");
        assert_eq!(life(5, 0, 1, 2_000), Life::Silent, "asked for room");
    }

    #[test]
    fn answers_that_are_cut_off_or_say_something_else_say_nothing() {
        let whole = answer(5, 3, 0, 9_000);
        for end in 0..whole.len() - 1 {
            assert_eq!(read(&whole[..end], Duration::ZERO), None, "{end}");
        }
        let mut error = whole.clone();
        error[4..6].copy_from_slice(&2_u16.to_ne_bytes());
        assert_eq!(read(&error, Duration::ZERO), None);
        let mut endless = whole;
        endless[ATTRIBUTES..][..2].copy_from_slice(&[0; 2]);
        read(&endless, Duration::ZERO);
    }

    #[test]
    fn the_kernel_knows_whether_everything_was_acknowledged() {
        with_reactor(async |reactor| {
            let (sock, peer) = pair(&reactor);
            sock.keep_alive(Duration::from_secs(60));
            // Sandboxes know no sock_diag.
            let Some(life) = sock.life(Duration::ZERO) else {
                return;
            };
            assert_eq!(life, Life::Quiet);
            // Nobody reads: what does not fit there waits here.
            while sock.try_send(&[0; 65_536]).unwrap() == 65_536 {}
            assert_eq!(sock.life(Duration::from_secs(3_600)), Some(Life::Busy));
            drop(peer);
        });
    }
}
