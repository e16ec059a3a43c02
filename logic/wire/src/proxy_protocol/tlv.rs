//! Type-length-values of version 2.

use super::{Fault, MAX_UNIQUE_ID, MAX_V2, Ssl, Tlvs};

const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const UNIQUE_ID: u8 = 0x05;
const SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_CN: u8 = 0x22;
const SSL_CIPHER: u8 = 0x23;

/// Bits of the first byte of `SSL`.
const CLIENT_SSL: u8 = 1;
const CERT_CONN: u8 = 2;
const CERT_SESS: u8 = 4;

/// Reads those that begin at `from` and end with the header; checks the checksum if there is one.
pub(super) fn parse(header: &[u8], from: usize) -> Result<Tlvs, Fault> {
    let mut tlvs = Tlvs::default();
    let mut checked = false;
    let mut at = from;
    while at < header.len() {
        let (kind, value) = next(header, at)?;
        let value_at = at + 3;
        at = value_at + value.len();
        match kind {
            ALPN => once(&mut tlvs.alpn, value.into())?,
            AUTHORITY => once(&mut tlvs.authority, text(value)?)?,
            UNIQUE_ID if value.len() > MAX_UNIQUE_ID => {
                return Err(Fault::Binary("has a unique id of more than 128 bytes"));
            }
            UNIQUE_ID => once(&mut tlvs.unique_id, value.into())?,
            SSL => {
                // HAProxy sends it for clients without TLS too, with no bit set.
                if let Some(ssl) = ssl(value)? {
                    once(&mut tlvs.ssl, ssl)?;
                }
            }
            CRC32C if checked => return Err(TWICE),
            CRC32C => {
                checksum(header, value_at, value)?;
                checked = true;
            }
            _ => {}
        }
    }
    Ok(tlvs)
}

const TWICE: Fault = Fault::Binary("says something twice");

/// Two values for one type would be read differently by different readers.
fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Fault> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(TWICE),
    }
}

/// The type and value that begin at `at`.
fn next(bytes: &[u8], at: usize) -> Result<(u8, &[u8]), Fault> {
    let cut = Fault::Binary("has a value that is cut off");
    let (fixed, rest) = bytes[at..].split_first_chunk::<3>().ok_or(cut)?;
    let len = usize::from(u16::from_be_bytes([fixed[1], fixed[2]]));
    Ok((fixed[0], rest.get(..len).ok_or(cut)?))
}

fn text(value: &[u8]) -> Result<Box<str>, Fault> {
    let text = std::str::from_utf8(value).ok();
    let printable = text.filter(|t| !t.contains(char::is_control));
    printable
        .map(Into::into)
        .ok_or(Fault::Binary("has a text that is none"))
}

fn ssl(value: &[u8]) -> Result<Option<Ssl>, Fault> {
    let cut = Fault::Binary("has a value that is cut off");
    let (fixed, _) = value.split_first_chunk::<5>().ok_or(cut)?;
    let [client, verify @ ..] = *fixed;
    if client & CLIENT_SSL == 0 {
        return Ok(None);
    }
    let certificate = client & (CERT_CONN | CERT_SESS) != 0;
    let mut ssl = Ssl {
        certificate,
        // Without a certificate nothing was there to be verified, and the field is 0 nevertheless.
        verified: certificate && verify == [0; 4],
        ..Ssl::default()
    };
    let mut at = fixed.len();
    while at < value.len() {
        let (kind, inner) = next(value, at)?;
        at += 3 + inner.len();
        match kind {
            SSL_VERSION => once(&mut ssl.version, text(inner)?)?,
            SSL_CN => once(&mut ssl.common_name, text(inner)?)?,
            SSL_CIPHER => once(&mut ssl.cipher, text(inner)?)?,
            _ => {}
        }
    }
    Ok(Some(ssl))
}

/// §2.2.4: over the whole header, with the checksum's own bytes zero.
fn checksum(header: &[u8], at: usize, value: &[u8]) -> Result<(), Fault> {
    let Ok(found) = <[u8; 4]>::try_from(value) else {
        return Err(Fault::Binary("has a checksum that is not of 4 bytes"));
    };
    match u32::from_be_bytes(found) == sum(header, at) {
        true => Ok(()),
        false => Err(Fault::Checksum),
    }
}

fn sum(header: &[u8], at: usize) -> u32 {
    let parts: [&[u8]; 3] = [&header[..at], &[0; 4], &header[at + 4..]];
    parts.into_iter().fold(0, crc32c::crc32c_append)
}

/// Appends the values of the header that begins at `start`, and puts in its length and checksum.
pub(super) fn write(tlvs: &Tlvs, checksum: bool, start: usize, out: &mut Vec<u8>) {
    if let Some(alpn) = &tlvs.alpn {
        put(ALPN, alpn, start, out);
    }
    if let Some(authority) = &tlvs.authority {
        put(AUTHORITY, authority.as_bytes(), start, out);
    }
    if let Some(id) = tlvs
        .unique_id
        .as_ref()
        .filter(|id| id.len() <= MAX_UNIQUE_ID)
    {
        put(UNIQUE_ID, id, start, out);
    }
    if let Some(ssl) = &tlvs.ssl {
        put(SSL, &ssl_value(ssl), start, out);
    }
    let mut at = None;
    if checksum {
        at = Some(out.len() + 3);
        out.extend_from_slice(&[CRC32C, 0, 4, 0, 0, 0, 0]);
    }
    let length = (out.len() - start - 16) as u16;
    out[start + 14..start + 16].copy_from_slice(&length.to_be_bytes());
    if let Some(at) = at {
        let sum = sum(&out[start..], at - start);
        out[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    }
}

fn ssl_value(ssl: &Ssl) -> Vec<u8> {
    let client = match ssl.certificate {
        true => CLIENT_SSL | CERT_CONN | CERT_SESS,
        false => CLIENT_SSL,
    };
    // HAProxy writes the TLS library's verdict; that of a client without certificate is 0, too.
    let good = ssl.verified || !ssl.certificate;
    let mut value = vec![client, 0, 0, 0, u8::from(!good)];
    let texts = [
        (SSL_VERSION, &ssl.version),
        (SSL_CN, &ssl.common_name),
        (SSL_CIPHER, &ssl.cipher),
    ];
    for (kind, text) in texts {
        if let Some(text) = text {
            put(kind, text.as_bytes(), 0, &mut value);
        }
    }
    value
}

/// Appends one value, unless what begins at `start` would become longer than any reader of ours takes.
fn put(kind: u8, value: &[u8], start: usize, out: &mut Vec<u8>) {
    // Room for this one's own head and for the checksum.
    if out.len() - start + value.len() + 3 + 7 > MAX_V2 {
        return;
    }
    out.push(kind);
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
}
