//! UDP sockets as tasks see them: many packets a system call.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use rustix::net::sockopt::{
    set_ip_mtu_discover, set_ip_recvtos, set_ipv6_mtu_discover, set_ipv6_recvtclass,
};
use rustix::net::{
    AddressFamily, MMsgHdr, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, ipproto,
    sendmmsg, socket_with,
};

use super::reactor::{Reactor, Token};
use super::sock::{TimedOut, wait};

/// A UDP socket of the kernel's. Dropping it closes it.
pub struct UdpSock {
    reactor: Rc<Reactor>,
    token: Token,
    fd: OwnedFd,
}

/// What offloads the kernel gives for UDP. Found out once, on a socket that is bound.
pub struct Offload(UdpSocketState);

/// What several packets are read into.
pub struct Batch {
    memory: Box<[u8]>,
    metas: Vec<RecvMeta>,
}

/// A packet, or several of one length from one sender.
pub struct Packets<'a> {
    /// Who sent them.
    pub from: SocketAddr,
    /// The address of ours that they were sent to, if the kernel said so.
    pub to: Option<IpAddr>,
    /// Their bytes.
    pub bytes: &'a [u8],
    /// The length of each; the last may be shorter.
    pub stride: usize,
}

/// Where packets go that have not been sent yet.
pub struct Outgoing<'a> {
    /// To whom.
    pub to: SocketAddr,
    /// From which address of ours; `None`: that of the socket.
    pub from: Option<IpAddr>,
    /// Their bytes.
    pub bytes: &'a [u8],
    /// The length of each; the last may be shorter.
    pub stride: usize,
}

/// The longest that the kernel makes of packets it puts together.
const LONGEST: usize = 64 * 1024;

impl Packets<'_> {
    /// How many there are.
    pub fn count(&self) -> u32 {
        self.bytes.len().div_ceil(self.stride).max(1) as u32
    }
}

impl Batch {
    /// Room for so many receptions at a time. The memory is the kernel's until it is written to.
    pub fn new(count: usize) -> Self {
        Self {
            memory: vec![0; count * LONGEST].into(),
            metas: vec![RecvMeta::default(); count],
        }
    }

    /// The first `count` receptions.
    pub fn received(&self, count: usize) -> impl Iterator<Item = Packets<'_>> {
        let both = self.metas.iter().zip(self.memory.chunks(LONGEST));
        both.take(count).map(|(meta, bytes)| Packets {
            from: meta.addr,
            to: meta.dst_ip,
            bytes: &bytes[..meta.len],
            stride: meta.stride.max(1),
        })
    }
}

impl Offload {
    /// Asks the kernel to put packets together for `sock`, and to say where each was sent to if it is `everywhere`.
    ///
    /// # Errors
    /// When the kernel does not know what it needs.
    pub fn of(sock: &UdpSock, everywhere: bool) -> io::Result<Self> {
        let state = UdpSocketState::new((&sock.fd).into())?;
        sock.may_fragment();
        // The library asks for congestion marks and addresses with every packet, which cost time with every packet. Of the
        // wrong family, each of these fails, and the other counts.
        let _ = set_ip_recvtos(&sock.fd, false);
        let _ = set_ipv6_recvtclass(&sock.fd, false);
        if !everywhere {
            let _ = setsockopt(&sock.fd, Ipv4PacketInfo, &false);
            let _ = setsockopt(&sock.fd, Ipv6RecvPacketInfo, &false);
        }
        Ok(Self(state))
    }
}

impl UdpSock {
    /// Watches a bound, non-blocking kernel socket.
    ///
    /// # Errors
    /// When the kernel cannot watch it.
    pub fn from_kernel(reactor: &Rc<Reactor>, fd: OwnedFd) -> io::Result<Self> {
        let token = reactor.register_reader(&fd, true)?;
        let reactor = reactor.clone();
        Ok(Self { reactor, token, fd })
    }

    /// A socket that talks to `address` only, from an address of ours or from the one that the kernel chooses.
    ///
    /// # Errors
    /// When there are no ports or descriptors left, or there is no way to the address.
    pub fn connected(
        reactor: &Rc<Reactor>,
        address: SocketAddr,
        from: Option<IpAddr>,
    ) -> io::Result<Self> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))?;
        if let Some(from) = from {
            rustix::net::bind(&fd, &SocketAddr::new(from, 0))?;
        }
        rustix::net::connect(&fd, &address)?;
        let token = reactor.register_reader(&fd, false)?;
        let reactor = reactor.clone();
        Ok(Self { reactor, token, fd })
    }

    /// Whether so many descriptors of the process's are in use: a new one has the lowest number that was free. A flood of
    /// forged packets must not take all of them from connections.
    pub fn is_beyond(&self, descriptors: u64) -> bool {
        self.fd.as_raw_fd() as u64 >= descriptors
    }

    /// Lets long packets be fragmented, as they would be without us in between: QUIC, for which the offload library is
    /// made, forbids that.
    fn may_fragment(&self) {
        // Of the wrong family, each of them fails, and the other counts.
        let _ = set_ip_mtu_discover(&self.fd, Ipv4PathMtuDiscovery::WANT);
        let _ = set_ipv6_mtu_discover(&self.fd, Ipv6PathMtuDiscovery::WANT);
    }

    /// Receives up to `count` times. `None`: nothing yet.
    ///
    /// # Errors
    /// An ICMP error that came back for what was sent ([`io::ErrorKind::ConnectionRefused`], say).
    pub fn try_recv(
        &self,
        offload: &Offload,
        batch: &mut Batch,
        count: usize,
    ) -> io::Result<Option<usize>> {
        if !self.reactor.readable(self.token) {
            return Ok(None);
        }
        let mut chunks = batch.memory.chunks_mut(LONGEST);
        let mut buffers: [IoSliceMut<'_>; quinn_udp::BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        let count = count.min(batch.metas.len()).min(buffers.len());
        let received = offload.0.recv(
            (&self.fd).into(),
            &mut buffers[..count],
            &mut batch.metas[..count],
        );
        match received {
            Ok(n) => {
                if n < count {
                    self.reactor.unreadable(self.token);
                }
                Ok(Some(n))
            }
            Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => {
                self.reactor.unreadable(self.token);
                Ok(None)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Sends packets to the address that the socket is connected to. What the kernel has no room for is lost, as on
    /// any other part of the way. Returns how many packets were.
    ///
    /// # Errors
    /// An ICMP error that came back for what was sent before.
    pub fn try_send(
        &self,
        offload: &Offload,
        packets: &Packets<'_>,
        to: SocketAddr,
    ) -> io::Result<usize> {
        let mut lost = 0;
        if packets.bytes.len() > packets.stride {
            let all = Outgoing {
                to,
                from: None,
                bytes: packets.bytes,
                stride: packets.stride,
            };
            if self.send_together(offload, &all)? {
                return Ok(0);
            }
        }
        let single = |packet: &[u8]| rustix::net::send(&self.fd, packet, SendFlags::NOSIGNAL);
        // A packet may be empty.
        if packets.bytes.is_empty() {
            return lost_of(single(&[]));
        }
        for packet in packets.bytes.chunks(packets.stride) {
            lost += lost_of(single(packet))?;
        }
        Ok(lost)
    }

    /// Sends packets of one length with one call. `false`: the kernel cannot.
    fn send_together(&self, offload: &Offload, packets: &Outgoing<'_>) -> io::Result<bool> {
        let most = offload.0.max_gso_segments();
        if most < 2 {
            return Ok(false);
        }
        let step = packets.stride * most.min(LONGEST / packets.stride.max(1) - 1).max(1);
        for bytes in packets.bytes.chunks(step) {
            let transmit = Transmit {
                destination: packets.to,
                ecn: None,
                contents: bytes,
                segment_size: Some(packets.stride),
                src_ip: packets.from,
            };
            match offload.0.try_send((&self.fd).into(), &transmit) {
                Ok(()) => {}
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => {}
                // It does not fit the way's packet size, or the device cannot.
                Err(fault) if is_unfit(&fault) => return Ok(false),
                Err(fault) => return Err(fault),
            }
        }
        Ok(true)
    }

    /// Sends packets to whom they are for. What the kernel has no room for is lost. Returns how many packets were.
    pub fn send_all(&self, offload: &Offload, packets: &[Outgoing<'_>]) -> usize {
        let mut lost = 0;
        let mut rest = packets;
        while let Some(first) = rest.first() {
            let alone = first.from.is_some() || first.bytes.len() > first.stride;
            if alone {
                lost += self.send_one(offload, first);
                rest = &rest[1..];
                continue;
            }
            let plain = |p: &&Outgoing<'_>| p.from.is_none() && p.bytes.len() <= p.stride;
            let count = rest.iter().take(MOST).take_while(plain).count();
            lost += self.send_many(&rest[..count]);
            rest = &rest[count..];
        }
        lost
    }

    fn send_one(&self, offload: &Offload, packets: &Outgoing<'_>) -> usize {
        if packets.bytes.len() > packets.stride
            && let Ok(true) = self.send_together(offload, packets)
        {
            return 0;
        }
        let send = |packet: &[u8]| {
            let transmit = Transmit {
                destination: packets.to,
                ecn: None,
                contents: packet,
                segment_size: None,
                src_ip: packets.from,
            };
            usize::from(offload.0.try_send((&self.fd).into(), &transmit).is_err())
        };
        match packets.bytes.is_empty() {
            true => send(&[]),
            false => packets.bytes.chunks(packets.stride).map(send).sum(),
        }
    }

    /// Single packets, many with one call.
    fn send_many(&self, packets: &[Outgoing<'_>]) -> usize {
        let addresses: Vec<_> = packets.iter().map(|p| p.to.as_any()).collect();
        let slices: Vec<_> = packets.iter().map(|p| [IoSlice::new(p.bytes)]).collect();
        let mut controls: Vec<_> = packets
            .iter()
            .map(|_| SendAncillaryBuffer::default())
            .collect();
        let mut messages: Vec<_> = addresses
            .iter()
            .zip(&slices)
            .zip(&mut controls)
            .map(|((address, slice), control)| MMsgHdr::new_with_addr(address, slice, control))
            .collect();
        let (mut sent, mut lost) = (0, 0);
        while sent < messages.len() {
            match sendmmsg(&self.fd, &mut messages[sent..], SendFlags::NOSIGNAL) {
                Ok(n) => sent += n.max(1),
                Err(Errno::INTR) => {}
                // The first of them does not go out; the others may.
                Err(_) => {
                    lost += 1;
                    sent += 1;
                }
            }
        }
        lost
    }

    /// Waits until there may be something to receive, or until `stop` holds when the task is woken.
    ///
    /// # Errors
    /// [`TimedOut`] when the task's deadline passes first.
    pub async fn readable_unless(&self, stop: impl Fn() -> bool) -> Result<(), TimedOut> {
        wait(&self.reactor, self.token, |reactor, token| {
            reactor.readable(token) || stop()
        })
        .await
    }

    /// Whether something waits to be received, as far as is known without asking.
    pub fn is_readable(&self) -> bool {
        self.reactor.readable(self.token)
    }
}

/// Messages given to one `sendmmsg`.
const MOST: usize = 64;

fn lost_of(sent: Result<usize, Errno>) -> io::Result<usize> {
    match sent {
        Ok(_) => Ok(0),
        Err(Errno::AGAIN | Errno::NOBUFS | Errno::MSGSIZE | Errno::PERM) => Ok(1),
        Err(fault) => Err(fault.into()),
    }
}

fn is_unfit(fault: &io::Error) -> bool {
    let errno = Errno::from_io_error(fault);
    matches!(errno, Some(Errno::INVAL | Errno::IO | Errno::MSGSIZE))
}

impl Drop for UdpSock {
    fn drop(&mut self) {
        self.reactor.forget(self.token);
    }
}
