//! The bytes of commands and snapshots: LEB128 numbers, texts with their length in front. Reading trusts
//! nothing: a count or length larger than the bytes left is refused before anything is allocated.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::str::FromStr;
use std::time::Duration;

use model::{
    CheckKind, CheckProtocol, CheckSpec, Exchange, GrpcCheck, Health, Host, HttpCheck, Instance,
    Lease, Namespace, ProtocolCheck, Role, Secret, ServiceKey, StatusRange, Transport, Weight,
};
use thiserror::Error;

use crate::tree::Data;

/// Why bytes are no command, or no part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// They say otherwise at this offset.
    #[error("byte {offset} should begin {expected}")]
    Malformed {
        /// Where, counted from the first byte.
        offset: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// Written by another version.
    #[error(
        "is of encoding version {0}, and this program reads versions 1 to {known}: it was written by a newer one", known = crate::FORMAT
    )]
    Version(u8),
    /// Longer than a command may be.
    #[error("is {0} bytes long, more than a command may have")]
    TooLong(usize),
}

/// Appends values to a buffer.
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// Batches name the same service over and over.
    last_key: Option<ServiceKey>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            last_key: None,
        }
    }

    /// How many bytes the buffer holds.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    pub(crate) fn byte(&mut self, byte: u8) {
        self.out.push(byte);
    }

    pub(crate) fn flag(&mut self, flag: bool) {
        self.byte(flag.into());
    }

    pub(crate) fn number(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.byte(n as u8 | 0x80);
            n >>= 7;
        }
        self.byte(n as u8);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.out.extend_from_slice(text.as_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    /// A node's data: its length and one in front, or zero where there is none.
    pub(crate) fn data(&mut self, data: &Data) {
        match data {
            Some(data) => {
                self.number(data.len() as u64 + 1);
                self.out.extend_from_slice(data);
            }
            None => self.number(0),
        }
    }

    /// A number that is small on either side of zero.
    pub(crate) fn signed(&mut self, n: i32) {
        self.number(((n << 1) ^ (n >> 31)) as u32 as u64);
    }

    pub(crate) fn texts(&mut self, texts: &[Box<str>]) {
        self.number(texts.len() as u64);
        for text in texts {
            self.text(text);
        }
    }

    pub(crate) fn pairs(&mut self, pairs: &BTreeMap<Box<str>, Box<str>>) {
        self.number(pairs.len() as u64);
        for (name, value) in pairs {
            self.text(name);
            self.text(value);
        }
    }

    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(crate) fn health(&mut self, health: Health) {
        self.byte(health as u8);
    }

    pub(crate) fn role(&mut self, role: Role) {
        self.byte(role as u8);
    }

    pub(crate) fn key(&mut self, key: &ServiceKey) {
        if self.last_key.as_ref() == Some(key) {
            return self.byte(0);
        }
        if key.namespace == Namespace::default() {
            self.byte(1);
        } else {
            self.byte(2);
            self.text(key.namespace.as_str());
        }
        self.text(key.service.as_str());
        self.last_key = Some(key.clone());
    }

    /// Seconds and nanoseconds apart, so that every duration comes back as it was.
    fn duration(&mut self, duration: Duration) {
        self.number(duration.as_secs());
        self.number(duration.subsec_nanos().into());
    }

    pub(crate) fn instance(&mut self, instance: &Instance) {
        self.text(instance.id.as_str());
        match &instance.host {
            Host::Ip(IpAddr::V4(ip)) => {
                self.byte(4);
                self.out.extend_from_slice(&ip.octets());
            }
            Host::Ip(IpAddr::V6(ip)) => {
                self.byte(6);
                self.out.extend_from_slice(&ip.octets());
            }
            Host::Name(name) => {
                self.byte(0);
                self.text(name);
            }
        }
        self.number(instance.port.get().into());
        self.number(instance.weight.0.into());
        self.option(instance.zone.as_ref(), |w, zone| w.text(zone));
        self.texts(&instance.tags);
        self.option(instance.metadata.as_deref(), Self::pairs);
        self.option(instance.lease, |w, lease| {
            w.duration(lease.ttl);
            w.duration(lease.grace);
        });
        self.option(instance.check.as_deref(), Self::check);
        // Versions 1 to 3 have only tier 0 and a flag here, which is the same byte.
        self.number(u64::from(instance.enabled) | u64::from(instance.tier) << 1);
        self.flag(instance.drain);
    }

    fn check(&mut self, check: &CheckSpec) {
        match &check.kind {
            CheckKind::Tcp => self.byte(0),
            CheckKind::Http(http) => {
                self.byte(1);
                self.text(&http.method);
                self.text(&http.path);
                self.option(http.host.as_ref(), |w, host| w.text(host));
                self.number(http.headers.len() as u64);
                for (name, value) in &http.headers {
                    self.text(name);
                    self.text(value);
                }
                self.number(http.status.len() as u64);
                for range in &http.status {
                    self.number(range.first.into());
                    self.number(range.last.into());
                }
                self.option(http.body.as_ref(), |w, body| w.text(body));
            }
            CheckKind::Exchange(exchange) => {
                self.byte(2);
                self.flag(exchange.transport == Transport::Udp);
                self.option(exchange.send.as_ref(), |w, send| w.text(send));
                self.option(exchange.expect.as_ref(), |w, expect| w.text(expect));
            }
            CheckKind::Grpc(check) => {
                self.byte(4);
                self.text(&check.service);
            }
            CheckKind::Protocol(check) => {
                self.byte(3);
                // By its word: numbers would be one more thing that must never change.
                self.text(check.protocol.as_str());
                self.option(check.user.as_ref(), |w, user| w.text(user));
                self.option(check.password.as_ref(), |w, Secret(password)| {
                    w.text(password);
                });
                self.option(check.database.as_ref(), |w, database| w.text(database));
            }
        }
        self.option(check.port, |w, port| w.number(port.get().into()));
        self.duration(check.interval);
        self.duration(check.timeout);
        self.number(check.rise.into());
        self.number(check.fall.into());
    }
}

/// Whether the check of `instance` is of a kind that version 1 does not know.
pub(crate) fn has_new_check(instance: &Instance) -> bool {
    let kind = instance.check.as_ref().map(|check| &check.kind);
    matches!(kind, Some(CheckKind::Exchange(_) | CheckKind::Protocol(_)))
}

/// Whether it is of a kind that version 4 does not know.
pub(crate) fn has_grpc_check(instance: &Instance) -> bool {
    let kind = instance.check.as_ref().map(|check| &check.kind);
    matches!(kind, Some(CheckKind::Grpc(_)))
}

/// Takes values off the front of bytes.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    last_key: Option<ServiceKey>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            last_key: None,
        }
    }

    pub(crate) fn fault(&self, expected: &'static str) -> DecodeError {
        DecodeError::Malformed {
            offset: self.at,
            expected,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub(crate) fn finish(&self) -> Result<(), DecodeError> {
        match self.is_empty() {
            true => Ok(()),
            false => Err(self.fault("nothing: the end was expected")),
        }
    }

    fn take(&mut self, len: usize, expected: &'static str) -> Result<&'a [u8], DecodeError> {
        let taken = self.bytes[self.at..]
            .get(..len)
            .ok_or_else(|| self.fault(expected))?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, expected: &'static str) -> Result<[u8; N], DecodeError> {
        let fault = self.fault(expected);
        self.take(N, expected)?.try_into().map_err(|_| fault)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>("a byte")?[0])
    }

    pub(crate) fn flag(&mut self) -> Result<bool, DecodeError> {
        let fault = self.fault("a flag");
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(fault),
        }
    }

    pub(crate) fn number(&mut self) -> Result<u64, DecodeError> {
        let fault = self.fault("a number below 2^64");
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            n |= bits << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(fault)
    }

    /// A number of 16 bits.
    pub(crate) fn short(&mut self) -> Result<u16, DecodeError> {
        let fault = self.fault("a number below 65,536");
        self.number()?.try_into().map_err(|_| fault)
    }

    fn port(&mut self) -> Result<NonZeroU16, DecodeError> {
        let fault = self.fault("a port, 1 to 65,535");
        NonZeroU16::new(self.short()?).ok_or(fault)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let fault = self.fault("bytes that are there in full");
        let len = usize::try_from(self.number()?).map_err(|_| fault)?;
        self.take(len, "as many bytes as their length says")
    }

    pub(crate) fn data(&mut self) -> Result<Data, DecodeError> {
        let fault = self.fault("data that is there in full");
        let len = usize::try_from(self.number()?).map_err(|_| fault)?;
        match len.checked_sub(1) {
            Some(len) => self
                .take(len, "as much data as its length says")
                .map(|data| Some(data.into())),
            None => Ok(None),
        }
    }

    pub(crate) fn signed(&mut self) -> Result<i32, DecodeError> {
        let fault = self.fault("a number of 32 bits");
        let n = u32::try_from(self.number()?).map_err(|_| fault)?;
        Ok((n >> 1) as i32 ^ -((n & 1) as i32))
    }

    fn str(&mut self) -> Result<&'a str, DecodeError> {
        let fault = self.fault("a text that is there in full and UTF-8");
        let len = usize::try_from(self.number()?).map_err(|_| fault.clone())?;
        let bytes = self.take(len, "as much text as its length says")?;
        std::str::from_utf8(bytes).map_err(|_| fault)
    }

    pub(crate) fn text(&mut self) -> Result<Box<str>, DecodeError> {
        self.str().map(Into::into)
    }

    pub(crate) fn name<T: FromStr>(&mut self) -> Result<T, DecodeError> {
        let fault = self.fault("a name");
        self.str()?.parse().map_err(|_| fault)
    }

    /// As many items as a number in front says. Grows as items are read: the number alone allocates nothing.
    pub(crate) fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let fault = self.fault("a number of items that fits the bytes left");
        let count = self.number()?;
        if count > (self.bytes.len() - self.at) as u64 {
            return Err(fault);
        }
        (0..count).map(|_| item(self)).collect()
    }

    pub(crate) fn pairs(&mut self) -> Result<BTreeMap<Box<str>, Box<str>>, DecodeError> {
        let pairs = self.list(|r| Ok((r.text()?, r.text()?)))?;
        Ok(pairs.into_iter().collect())
    }

    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.flag()? {
            true => read(self).map(Some),
            false => Ok(None),
        }
    }

    pub(crate) fn health(&mut self) -> Result<Health, DecodeError> {
        let fault = self.fault("a health");
        let number = usize::from(self.byte()?);
        Health::ALL.get(number).copied().ok_or(fault)
    }

    pub(crate) fn role(&mut self) -> Result<Role, DecodeError> {
        let fault = self.fault("a role");
        let number = usize::from(self.byte()?);
        Role::ALL.get(number).copied().ok_or(fault)
    }

    pub(crate) fn key(&mut self) -> Result<ServiceKey, DecodeError> {
        let fault = self.fault("a service's name");
        let namespace = match self.byte()? {
            0 => return self.last_key.clone().ok_or(fault),
            1 => Namespace::default(),
            2 => self.name()?,
            _ => return Err(fault),
        };
        let key = ServiceKey {
            namespace,
            service: self.name()?,
        };
        self.last_key = Some(key.clone());
        Ok(key)
    }

    fn duration(&mut self) -> Result<Duration, DecodeError> {
        let fault = self.fault("a duration");
        let (seconds, nanos) = (self.number()?, self.number()?);
        match u32::try_from(nanos) {
            Ok(nanos) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
            _ => Err(fault),
        }
    }

    pub(crate) fn instance(&mut self) -> Result<Instance, DecodeError> {
        let mut instance = Instance {
            id: self.name()?,
            host: self.host()?,
            port: self.port()?,
            weight: Weight(self.short()?),
            tier: 0,
            zone: self.option(Self::text)?,
            tags: self.list(Self::text)?.into(),
            metadata: self.option(Self::pairs)?.map(Box::new),
            lease: self.option(|r| {
                Ok(Lease {
                    ttl: r.duration()?,
                    grace: r.duration()?,
                })
            })?,
            check: self.option(Self::check)?.map(Box::new),
            enabled: false,
            drain: false,
        };
        let fault = self.fault("a tier and a flag");
        let number = self.number()?;
        instance.enabled = number & 1 == 1;
        instance.tier = match u8::try_from(number >> 1) {
            Ok(tier) if tier <= Instance::LAST_TIER => tier,
            _ => return Err(fault),
        };
        instance.drain = self.flag()?;
        Ok(instance)
    }

    fn host(&mut self) -> Result<Host, DecodeError> {
        let fault = self.fault("a host");
        Ok(match self.byte()? {
            4 => Host::Ip(Ipv4Addr::from(self.array::<4>("an IPv4 address")?).into()),
            6 => Host::Ip(Ipv6Addr::from(self.array::<16>("an IPv6 address")?).into()),
            0 => Host::Name(self.text()?),
            _ => return Err(fault),
        })
    }

    fn check(&mut self) -> Result<CheckSpec, DecodeError> {
        let fault = self.fault("a kind of check");
        let kind = match self.byte()? {
            0 => CheckKind::Tcp,
            1 => CheckKind::Http(HttpCheck {
                method: self.text()?,
                path: self.text()?,
                host: self.option(Self::text)?,
                headers: self.list(|r| Ok((r.text()?, r.text()?)))?,
                status: self.list(|r| {
                    Ok(StatusRange {
                        first: r.short()?,
                        last: r.short()?,
                    })
                })?,
                body: self.option(Self::text)?,
            }),
            2 => CheckKind::Exchange(Exchange {
                transport: match self.flag()? {
                    false => Transport::Tcp,
                    true => Transport::Udp,
                },
                send: self.option(Self::text)?,
                expect: self.option(Self::text)?,
            }),
            3 => CheckKind::Protocol(ProtocolCheck {
                protocol: self.name::<CheckProtocol>()?,
                user: self.option(Self::text)?,
                password: self.option(Self::text)?.map(Secret),
                database: self.option(Self::text)?,
            }),
            4 => CheckKind::Grpc(GrpcCheck {
                service: self.text()?,
            }),
            _ => return Err(fault),
        };
        Ok(CheckSpec {
            kind,
            port: self.option(Self::port)?,
            interval: self.duration()?,
            timeout: self.duration()?,
            rise: self.short()?,
            fall: self.short()?,
        })
    }
}
