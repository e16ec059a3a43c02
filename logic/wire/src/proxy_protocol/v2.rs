//! Version 2 (§2.2): twelve bytes that are no other protocol's, version and command, family and transport,
//! length; addresses; type-length-values.

use std::net::{IpAddr, SocketAddr};

use super::{Fault, Header, MAX_V2, Origin, Tlvs, Transport, of_one_family, tlv};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Before the addresses.
const FIXED: usize = 16;

pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Fault> {
    let Some((fixed, _)) = bytes.split_first_chunk::<FIXED>() else {
        return Ok(None);
    };
    let (command, family) = (fixed[12], fixed[13]);
    let end = FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if command >> 4 != 2 {
        return Err(Fault::Binary("is of a version that is not 2"));
    }
    if end > MAX_V2 {
        return Err(Fault::TooLong(end));
    }
    let Some(header) = bytes.get(..end) else {
        return Ok(None);
    };
    let (origin, addresses) = match command & 0xf {
        // Whatever else it holds is to be skipped, the family included.
        0 => (Origin::Local, end - FIXED),
        1 => origin(family, &header[FIXED..])?,
        _ => return Err(Fault::Binary("has a command that there is not")),
    };
    let tlvs = tlv::parse(header, FIXED + addresses)?;
    Ok(Some((Header { origin, tlvs }, end)))
}

/// Who is behind the connection, and how many bytes say so.
fn origin(family: u8, block: &[u8]) -> Result<(Origin, usize), Fault> {
    let transport = match family & 0xf {
        0 => None,
        1 => Some(Transport::Stream),
        2 => Some(Transport::Datagram),
        _ => return Err(Fault::Binary("has a transport that there is not")),
    };
    let size = match family >> 4 {
        0 => 0,
        1 => 12,
        2 => 36,
        // UNIX sockets: two paths of 108 bytes.
        3 => 216,
        _ => return Err(Fault::Binary("has an address family that there is not")),
    };
    let addresses = block
        .get(..size)
        .ok_or(Fault::Binary("has no room for its addresses"))?;
    let (Some(transport), Some((source, destination))) = (transport, pair(addresses)) else {
        return Ok((Origin::Unknown, size));
    };
    let origin = Origin::Proxied {
        transport,
        source,
        destination,
    };
    Ok((origin, size))
}

fn pair(addresses: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let port = |at: usize| {
        Some(u16::from_be_bytes([
            *addresses.get(at)?,
            *addresses.get(at + 1)?,
        ]))
    };
    let (source, destination, ports): (IpAddr, IpAddr, usize) = match addresses.len() {
        12 => {
            let (source, rest) = addresses.split_first_chunk::<4>()?;
            ((*source).into(), (*rest.first_chunk::<4>()?).into(), 8)
        }
        36 => {
            let (source, rest) = addresses.split_first_chunk::<16>()?;
            ((*source).into(), (*rest.first_chunk::<16>()?).into(), 32)
        }
        _ => return None,
    };
    Some((
        (source, port(ports)?).into(),
        (destination, port(ports + 2)?).into(),
    ))
}

pub(super) fn write(header: &Header, checksum: bool, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(SIGNATURE);
    let (command, family) = match header.origin {
        Origin::Local => (0x20, 0),
        Origin::Unknown => (0x21, 0),
        Origin::Proxied {
            transport,
            source,
            destination,
        } => {
            let family = match source.is_ipv4() && destination.is_ipv4() {
                true => 0x10,
                false => 0x20,
            };
            let transport = match transport {
                Transport::Stream => 1,
                Transport::Datagram => 2,
            };
            (0x21, family | transport)
        }
    };
    out.extend_from_slice(&[command, family, 0, 0]);
    if let Origin::Proxied {
        source,
        destination,
        ..
    } = header.origin
    {
        let (source, destination) = of_one_family(source, destination);
        for ip in [source.ip(), destination.ip()] {
            match ip {
                IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
                IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
            }
        }
        out.extend_from_slice(&source.port().to_be_bytes());
        out.extend_from_slice(&destination.port().to_be_bytes());
    }
    // A receiver skips what follows LOCAL.
    let none = Tlvs::default();
    let tlvs = match header.origin {
        Origin::Local => &none,
        _ => &header.tlvs,
    };
    tlv::write(tlvs, checksum, start, out);
}
