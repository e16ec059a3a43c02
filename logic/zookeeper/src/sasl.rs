//! DIGEST-MD5 (RFC 2831), the one mechanism of SASL that ZooKeeper's clients speak with nothing but a password. MD5 is
//! weak, and whoever sees the exchange can try passwords on it: it says who somebody is where TLS keeps others from listening.

use md5::{Digest, Md5};

/// What ZooKeeper's clients take for the server's name, whatever it is called, and so the realm.
const REALM: &str = "zk-sasl-md5";
/// The service and the server, as clients write them.
const URI: &str = "zookeeper/zk-sasl-md5";
/// The longest answer that is looked at, in bytes (RFC 2831 §2.1.2 allows so much).
const LONGEST: usize = 4_096;

/// The first thing the server says. `nonce` must not be known to anybody before.
pub(crate) fn challenge(nonce: &str) -> String {
    format!("realm=\"{REALM}\",nonce=\"{nonce}\",qop=\"auth\",charset=utf-8,algorithm=md5-sess")
}

/// Looks at a client's answer to a challenge: the user, and what the server proves itself with. `password` knows the
/// passwords of users. `None`: it is wrong.
pub(crate) fn verify<'p>(
    answer: &[u8],
    nonce: &str,
    password: impl FnOnce(&str) -> Option<&'p str>,
) -> Option<(String, String)> {
    if answer.len() > LONGEST {
        return None;
    }
    let fields = Fields::parse(std::str::from_utf8(answer).ok()?)?;
    let user = fields.value("username")?;
    let wanted = [("nonce", nonce), ("nc", "00000001"), ("digest-uri", URI)];
    let sound = wanted.iter().all(|(k, v)| fields.value(k) == Some(*v))
        && fields.value("realm").is_none_or(|realm| realm == REALM)
        && fields.value("qop").is_none_or(|qop| qop == "auth")
        // Nobody acts for anybody else.
        && fields.value("authzid").is_none_or(|other| other == user);
    let password = password(user).filter(|_| sound)?;
    let proof = |prefix: &str| fields.proof(user, password, nonce, &format!("{prefix}:{URI}"));
    let given = fields.value("response")?;
    let right = crate::access::same(proof("AUTHENTICATE")?.as_bytes(), given.as_bytes());
    right.then_some(())?;
    Some((user.to_owned(), format!("rspauth={}", proof("")?)))
}

/// Names and values.
struct Fields(Vec<(String, String)>);

impl Fields {
    /// `name=value` and `name="value"`, with commas between (§7.1). No name may come twice.
    fn parse(mut text: &str) -> Option<Self> {
        let mut fields: Vec<(String, String)> = Vec::new();
        loop {
            text = text.trim_start_matches([',', ' ', '\t', '\r', '\n']);
            if text.is_empty() {
                return Some(Self(fields));
            }
            let (name, rest) = text.split_once('=')?;
            let name = name.trim().to_ascii_lowercase();
            let (value, rest) = match rest.strip_prefix('"') {
                Some(quoted) => unquoted(quoted)?,
                None => {
                    let end = rest.find(',').unwrap_or(rest.len());
                    (rest[..end].trim().to_owned(), &rest[end..])
                }
            };
            if fields.iter().any(|(known, _)| *known == name) {
                return None;
            }
            fields.push((name, value));
            text = rest;
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| &**value)
    }

    /// §2.1.2.1, with `md5-sess`.
    fn proof(&self, user: &str, password: &str, nonce: &str, a2: &str) -> Option<String> {
        let cnonce = self.value("cnonce")?;
        let realm = self.value("realm").unwrap_or_default();
        let secret = Md5::digest(format!("{user}:{realm}:{password}"));
        let mut a1 = Md5::new();
        a1.update(secret);
        a1.update(format!(":{nonce}:{cnonce}"));
        if let Some(other) = self.value("authzid") {
            a1.update(format!(":{other}"));
        }
        let (a1, a2) = (hex(&a1.finalize()), hex(&Md5::digest(a2)));
        let whole = format!("{a1}:{nonce}:00000001:{cnonce}:auth:{a2}");
        Some(hex(&Md5::digest(whole)))
    }
}

/// What a quoted text says, and what comes behind it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    loop {
        match chars.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(chars.next()?.1),
            (_, c) => value.push(c),
        }
    }
}

/// Bytes as lower-case digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from_digit(n.into(), 16).unwrap_or('0');
    let digits = bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]);
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with OpenJDK 17's client for the user `ann`, whose password is `se"cret`, and this challenge.
    const NONCE: &str = "0123456789abcdef0123456789abcdef";
    const ANSWER: &str = r#"charset=utf-8,username="ann",realm="zk-sasl-md5",nonce="0123456789abcdef0123456789abcdef",nc=00000001,cnonce="5l4FVUETVPlUufCwF6snL4Iv3quQgSV3Q2UqYANT",digest-uri="zookeeper/zk-sasl-md5",maxbuf=65536,response=75a4e47e5f02734308744adf061c7d77,qop=auth,authzid="ann""#;

    fn password(user: &str) -> Option<&'static str> {
        (user == "ann").then_some("se\"cret")
    }

    #[test]
    fn javas_client_and_we_understand_each_other() {
        let proven = verify(ANSWER.as_bytes(), NONCE, password);
        let (user, proof) = proven.expect("a good answer");
        assert_eq!(user, "ann");
        assert_eq!(proof, "rspauth=180b61c4c7e47c43c899e7010ad9e8c7");
    }

    #[test]
    fn whatever_is_changed_about_an_answer_makes_it_a_wrong_one() {
        for at in 0..ANSWER.len() {
            let mut changed = ANSWER.as_bytes().to_vec();
            changed[at] ^= 1;
            let Some((user, _)) = verify(&changed, NONCE, password) else {
                continue;
            };
            // What is in no proof: the names of fields that need not be there, and how they are written.
            let text = String::from_utf8_lossy(&changed).into_owned();
            let same = |name: &str| {
                let (a, b) = (Fields::parse(ANSWER), Fields::parse(&text));
                let value = |f: Option<Fields>| f.and_then(|f| f.value(name).map(str::to_owned));
                value(a) == value(b)
            };
            assert!(
                user == "ann" && ["response", "nonce", "cnonce"].iter().all(|n| same(n)),
                "{text}"
            );
        }
        assert!(verify(ANSWER.as_bytes(), "another", password).is_none());
        assert!(verify(ANSWER.as_bytes(), NONCE, |_| Some("other")).is_none());
        assert!(verify(ANSWER.as_bytes(), NONCE, |_| None).is_none());
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for answer in [
            "",
            ",",
            "=",
            "a",
            "a=\"",
            "a=\"\\",
            "username=ann,username=ann",
            "nonce=\u{fc}",
        ] {
            assert!(
                verify(answer.as_bytes(), NONCE, password).is_none(),
                "{answer}"
            );
        }
        assert!(verify(&[b'a'; LONGEST + 1], NONCE, password).is_none());
        assert!(verify(&[0xff], NONCE, password).is_none());
    }
}
