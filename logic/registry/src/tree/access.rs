use std::net::IpAddr;
use std::sync::Arc;

/// What one may want to do to a node, and the bit that allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Read data and children.
    Read = 1,
    /// Set data.
    Write = 2,
    /// Create children.
    Create = 4,
    /// Delete children.
    Delete = 8,
    /// Set the access list.
    Admin = 16,
}

/// Somebody, in the terms of a scheme: `digest` and `user:hash`, `ip` and an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// How it was found out.
    pub scheme: Box<str>,
    /// Who it is.
    pub id: Box<str>,
}

/// One line of an access list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Bits of [`Permission`].
    pub permissions: u8,
    /// Whose they are.
    pub identity: Identity,
}

/// Who may do what. `None`, which nearly all nodes have, allows everything to everybody and takes no memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessList(pub(super) Option<Arc<[Entry]>>);

/// All permissions.
const ALL: u8 = 31;

impl AccessList {
    /// Everybody may do everything.
    pub const OPEN: Self = Self(None);

    /// The list of these entries.
    pub fn new(entries: Vec<Entry>) -> Self {
        match entries.as_slice() {
            [only] if *only == everybody(ALL) => Self::OPEN,
            _ => Self(Some(entries.into())),
        }
    }

    /// Whether everybody may do everything.
    pub fn is_open(&self) -> bool {
        self.0.is_none()
    }

    /// Its entries.
    pub fn entries(&self) -> Vec<Entry> {
        match &self.0 {
            Some(entries) => entries.to_vec(),
            None => vec![everybody(ALL)],
        }
    }

    /// Whether somebody who is all of `who` may do this.
    pub fn allows(&self, permission: Permission, who: &[Identity]) -> bool {
        let Some(entries) = &self.0 else { return true };
        let is_super = || who.iter().any(|identity| &*identity.scheme == "super");
        let granted = entries.iter().any(|entry| {
            let wanted = entry.permissions & permission as u8 != 0;
            wanted && entry.identity.matches(who)
        });
        granted || is_super()
    }
}

impl Identity {
    /// An identity of that scheme.
    pub fn new(scheme: &str, id: &str) -> Self {
        Self {
            scheme: scheme.into(),
            id: id.into(),
        }
    }

    fn matches(&self, who: &[Self]) -> bool {
        match &*self.scheme {
            "world" => &*self.id == "anyone",
            "ip" => {
                let mut addresses = who.iter().filter(|w| &*w.scheme == "ip");
                addresses.any(|address| in_network(&address.id, &self.id))
            }
            _ => who.contains(self),
        }
    }
}

/// Whether `text` is an address, or an address and the length of a prefix.
pub(super) fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
    (bits <= most).then_some((address, bits))
}

fn in_network(address: &str, wanted: &str) -> bool {
    let (Some((address, _)), Some((network, bits))) = (network(address), network(wanted)) else {
        return false;
    };
    let bits = u32::from(bits);
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            (a.to_bits() ^ n.to_bits()) & mask == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            (a.to_bits() ^ n.to_bits()) & mask == 0
        }
        _ => false,
    }
}

fn everybody(permissions: u8) -> Entry {
    Entry {
        permissions,
        identity: Identity::new("world", "anyone"),
    }
}

/// Everybody may read, nobody may do more.
pub(super) fn read_only() -> AccessList {
    AccessList::new(vec![everybody(Permission::Read as u8)])
}

impl Entry {
    /// Whether its identity is one that a scheme knows: world, ip, digest, x509 (a subject's name) or sasl (a user).
    pub fn is_sound(&self) -> bool {
        let id = &*self.identity.id;
        match &*self.identity.scheme {
            "world" => id == "anyone",
            "ip" => network(id).is_some(),
            "digest" => id.split(':').count() == 2,
            "x509" => id.contains('='),
            "sasl" => !id.is_empty() && !id.contains('\0'),
            _ => false,
        }
    }
}
