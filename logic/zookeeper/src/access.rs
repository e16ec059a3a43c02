//! Identities and access lists, as far as they are decided before a command is made.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use registry::tree::{AccessList, Entry, Identity};
use sha1::{Digest, Sha1};

/// The schemes of which something is proven: an address is only seen, and the administrator needs no list.
const PROVEN: [&str; 3] = ["digest", "x509", "sasl"];

/// The id of the scheme `digest` for `user:password`.
pub fn digest(auth: &str) -> String {
    let user = auth.split(':').next().unwrap_or_default();
    let hash = Sha1::digest(auth.as_bytes());
    format!("{user}:{}", STANDARD.encode(hash))
}

/// The access list that a client means: `auth` stands for what the client has proven to be. `None` if it is empty or
/// names identities that there are not.
pub(crate) fn resolve(lines: &[(i32, &str, &str)], who: &[Identity]) -> Option<AccessList> {
    if let [(31, "world", "anyone")] = lines {
        return Some(AccessList::OPEN);
    }
    let mut entries: Vec<Entry> = Vec::with_capacity(lines.len());
    let mut add = |permissions: i32, identity: Identity| {
        let permissions = (permissions & 31) as u8;
        let entry = Entry {
            permissions,
            identity,
        };
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    };
    for &(permissions, scheme, id) in lines {
        if scheme == "auth" {
            let proven = who.iter().filter(|w| PROVEN.contains(&&*w.scheme));
            proven.clone().next()?;
            proven.for_each(|identity| add(permissions, identity.clone()));
            continue;
        }
        let identity = Identity::new(scheme, id);
        let entry = Entry {
            permissions: 0,
            identity,
        };
        if !entry.is_sound() {
            return None;
        }
        add(permissions, entry.identity);
    }
    (!entries.is_empty()).then(|| AccessList::new(entries))
}

/// Whether two secrets are the same, in a time that does not say where they differ.
pub(crate) fn same(ours: &[u8], theirs: &[u8]) -> bool {
    let differing = ours.iter().zip(theirs).fold(0, |all, (a, b)| all | (a ^ b));
    ours.len() == theirs.len() && differing == 0
}
