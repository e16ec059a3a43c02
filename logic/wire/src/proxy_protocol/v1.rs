//! Version 1 (§2.1): `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443`, CR LF.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Fault, Header, MAX_V1, Origin, Tlvs, Transport, of_one_family};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Fault> {
    let window = &bytes[..bytes.len().min(MAX_V1)];
    let Some(end) = window.windows(2).position(|two| two == b"\r\n") else {
        return match bytes.len() < MAX_V1 {
            true => Ok(None),
            false => Err(Fault::Line("does not end within 107 bytes")),
        };
    };
    let line = std::str::from_utf8(&window[SIGNATURE.len()..end]);
    let line = line.map_err(|_| Fault::Line("is no text"))?;
    let header = Header {
        origin: origin(line)?,
        tlvs: Tlvs::default(),
    };
    Ok(Some((header, end + 2)))
}

fn origin(line: &str) -> Result<Origin, Fault> {
    // One space each, nothing else: every reader of the line must see the same words in it.
    let mut words = line.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        // What follows it is to be ignored.
        return Ok(Origin::Unknown);
    }
    let mut word = || words.next().ok_or(Fault::Line("ends too soon"));
    let (source, destination, from, to) = (word()?, word()?, word()?, word()?);
    if words.next().is_some() {
        return Err(Fault::Line("has more words than it should"));
    }
    let (source, destination) = match family {
        "TCP4" => (
            address::<Ipv4Addr>(source, from)?,
            address::<Ipv4Addr>(destination, to)?,
        ),
        "TCP6" => (
            address::<Ipv6Addr>(source, from)?,
            address::<Ipv6Addr>(destination, to)?,
        ),
        _ => return Err(Fault::Line("names neither TCP4, TCP6 nor UNKNOWN")),
    };
    Ok(Origin::Proxied {
        transport: Transport::Stream,
        source,
        destination,
    })
}

fn address<Ip: FromStr + Into<std::net::IpAddr>>(
    ip: &str,
    port: &str,
) -> Result<SocketAddr, Fault> {
    let ip: Ip = ip
        .parse()
        .map_err(|_| Fault::Line("has an address that is none"))?;
    // `parse` would take "+80" and "0080" too, which the protocol does not know.
    let digits =
        port.bytes().all(|b| b.is_ascii_digit()) && (port == "0" || !port.starts_with('0'));
    let number = port.parse().ok().filter(|_| digits);
    let number: u16 = number.ok_or(Fault::Line("has a port that is none"))?;
    Ok((ip.into(), number).into())
}

pub(super) fn write(origin: &Origin, out: &mut Vec<u8>) {
    let Origin::Proxied {
        transport: Transport::Stream,
        source,
        destination,
    } = *origin
    else {
        return out.extend_from_slice(b"PROXY UNKNOWN\r\n");
    };
    let (source, destination) = of_one_family(source, destination);
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.port(), destination.port());
    let (source, destination) = (source.ip(), destination.ip());
    let written = write!(out, "PROXY {family} {source} {destination} {from} {to}\r\n");
    debug_assert!(written.is_ok(), "a Vec takes every byte");
}
