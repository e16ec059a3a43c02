//! Passwords, as they are kept.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Whose passwords open a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicAuth {
    /// What clients show their users.
    pub realm: Box<str>,
    /// Users and their passwords.
    pub users: Arc<Users>,
}

/// Users and their passwords.
pub type Users = BTreeMap<Box<str>, Hashed>;

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq)]
pub enum Hashed {
    /// `{SHA}` and Base64 of SHA-1: quick, and so no protection for a file that is lost.
    Sha(Box<str>),
    /// `$apr1$salt$…`: MD5 a thousand times, as `htpasswd -m` writes it.
    Md5(Box<str>),
    /// `$2y$cost$…`, as `htpasswd -B` writes it.
    Bcrypt(Box<str>),
    /// `$argon2id$v=19$m=…,t=…,p=…$…`: a PHC text.
    Argon2(Box<str>),
}

impl Hashed {
    /// As it is kept.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Sha(text) | Self::Md5(text) | Self::Bcrypt(text) | Self::Argon2(text) => text,
        }
    }
}

/// The most rounds of bcrypt, as a power of two: some seconds.
const MOST_COST: u8 = 15;
/// The most memory of argon2, in KiB.
const MOST_MEMORY: u32 = 256 << 10;
/// The most passes of argon2, and the most lanes.
const MOST_PASSES: u32 = 16;

impl FromStr for Hashed {
    type Err = String;

    /// Checks what it would cost to verify; whether the rest fits together is found out then.
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.len() <= 512 && text.bytes().all(|b| b.is_ascii_graphic());
        let is = |prefix: &str| text.starts_with(prefix);
        if plain && is("{SHA}") && text.len() == 5 + 28 {
            Ok(Self::Sha(text.into()))
        } else if plain && is("$apr1$") && text.split('$').count() == 4 {
            Ok(Self::Md5(text.into()))
        } else if plain && ["$2a$", "$2b$", "$2x$", "$2y$"].into_iter().any(is) {
            bcrypt(text)
        } else if plain && is("$argon2") {
            argon2(text)
        } else {
            Err(
                "is no password hash of bcrypt ($2y$…), argon2 ($argon2id$…), {SHA} or $apr1$; \
                 `htpasswd -B` makes one"
                    .into(),
            )
        }
    }
}

fn bcrypt(text: &str) -> Result<Hashed, String> {
    let cost = text.get(4..6).and_then(|cost| cost.parse::<u8>().ok());
    match cost {
        Some(4..=MOST_COST) if text.len() == 60 => Ok(Hashed::Bcrypt(text.into())),
        Some(more @ 16..) => Err(format!(
            "is a bcrypt hash of cost {more}, which takes too long to verify; use up to {MOST_COST}"
        )),
        _ => Err("is no whole bcrypt hash, which has 60 characters".into()),
    }
}

fn argon2(text: &str) -> Result<Hashed, String> {
    let parameters = text.split('$').nth(3).unwrap_or_default();
    let number = |name: &str| {
        let mut all = parameters.split(',').filter_map(|p| p.split_once('='));
        all.find(|(n, _)| *n == name)
            .and_then(|(_, value)| value.parse::<u32>().ok())
    };
    match (number("m"), number("t"), number("p")) {
        (Some(m), Some(t), Some(p)) if m <= MOST_MEMORY && t <= MOST_PASSES && p <= MOST_PASSES => {
            Ok(Hashed::Argon2(text.into()))
        }
        (Some(_), Some(_), Some(_)) => Err(format!(
            "is an argon2 hash that costs too much to verify; use m up to {MOST_MEMORY}, t and p up to {MOST_PASSES}"
        )),
        _ => Err("is no whole argon2 hash, $argon2id$v=19$m=…,t=…,p=…$salt$hash".into()),
    }
}

impl fmt::Debug for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hashed(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_told_apart_and_those_that_cost_too_much_are_refused() {
        let bcrypt = format!("$2y$10${}", "a".repeat(53));
        assert!(matches!(bcrypt.parse(), Ok(Hashed::Bcrypt(_))));
        let argon = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA";
        assert!(matches!(argon.parse(), Ok(Hashed::Argon2(_))));
        assert!(matches!(
            "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=".parse(),
            Ok(Hashed::Sha(_))
        ));
        assert!(matches!("$apr1$abc$xyz".parse(), Ok(Hashed::Md5(_))));
        for bad in [
            "",
            "plain",
            "{SHA}short",
            "$2y$10$short",
            &bcrypt.replace("$10$", "$31$"),
            &bcrypt.replace("$10$", "$xx$"),
            "$argon2id$v=19$m=9999999,t=2,p=1$c2FsdHNhbHQ$aGFzaA",
            "$argon2id$v=19$t=2,p=1$c2FsdHNhbHQ$aGFzaA",
            "$2y$é",
        ] {
            assert!(bad.parse::<Hashed>().is_err(), "{bad}");
        }
    }
}
