//! Who a request says it is from (Basic, RFC 7617), and files of users with their passwords.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use md5::{Digest as _, Md5};
use model::{Hashed, Users};
use sha1::Sha1;

/// The longest credentials. More than any person types, and less than a head may have.
const LONGEST: usize = 1_024;

/// The most users of a file, and the longest line.
const MOST_USERS: usize = 100_000;

/// Some clients leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name: no control characters.
    pub user: Box<str>,
    /// The password, as it came.
    pub password: Box<[u8]>,
}

/// The credentials in the value of an `Authorization` field; `None` if it is of another scheme, or is none.
pub fn credentials(field: &[u8]) -> Option<Credentials> {
    let (scheme, rest) = field.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") || rest.len() > LONGEST {
        return None;
    }
    let decoded = BASE64.decode(rest.trim_ascii()).ok()?;
    // The password may have colons, and the name cannot.
    let colon = memchr::memchr(b':', &decoded)?;
    let user = str::from_utf8(&decoded[..colon]).ok()?;
    if user.chars().any(char::is_control) {
        return None;
    }
    Some(Credentials {
        user: user.into(),
        password: decoded[colon + 1..].into(),
    })
}

/// Reads a file of users as Apache's `htpasswd` writes it: `name:hash`, a line each; `#` begins a comment.
///
/// # Errors
/// The line, and what is wrong with it.
pub fn users(text: &str) -> Result<Users, String> {
    let mut users = Users::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fault = |what: &str| Err(format!("line {number} {what}"));
        let Some((user, hash)) = line.split_once(':') else {
            return fault("is not \"name:hash\"");
        };
        if user.is_empty() || user.len() > 255 || user.chars().any(char::is_control) {
            return fault("has no name of 1 to 255 characters before its colon");
        }
        let hashed = match hash.parse::<Hashed>() {
            Ok(hashed) => hashed,
            Err(what) => return fault(&what),
        };
        if users.insert(user.into(), hashed).is_some() {
            return fault("has a name that another line has, too");
        }
        if users.len() > MOST_USERS {
            return fault("is one too many: there may be 100000 users");
        }
    }
    Ok(users)
}

/// Whether the password is the one that is kept as SHA-1.
pub fn is_sha(kept: &str, password: &[u8]) -> bool {
    let hash = BASE64.encode(Sha1::digest(password));
    kept.strip_prefix("{SHA}")
        .is_some_and(|kept| same(kept.as_bytes(), hash.as_bytes()))
}

/// Whether the password is the one that is kept as Apache's variant of MD5-crypt. Takes a fraction of a millisecond.
pub fn is_md5(kept: &str, password: &[u8]) -> bool {
    let Some((salt, hash)) = kept
        .strip_prefix("$apr1$")
        .and_then(|rest| rest.split_once('$'))
    else {
        return false;
    };
    let salt = &salt.as_bytes()[..salt.len().min(8)];
    same(hash.as_bytes(), &apr1(password, salt))
}

fn apr1(password: &[u8], salt: &[u8]) -> [u8; 22] {
    let twice = Md5::digest([password, salt, password].concat());
    let mut first = Md5::new();
    first.update(password);
    first.update(b"$apr1$");
    first.update(salt);
    for at in (0..password.len()).step_by(16) {
        first.update(&twice[..16.min(password.len() - at)]);
    }
    let mut bits = password.len();
    while bits > 0 {
        let byte = if bits & 1 == 1 { 0 } else { password[0] };
        first.update([byte]);
        bits >>= 1;
    }
    let mut sum = first.finalize();
    for round in 0..1_000 {
        let mut next = Md5::new();
        let parts: [&[u8]; 2] = match round % 2 {
            1 => [password, &sum],
            _ => [&sum, password],
        };
        next.update(parts[0]);
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(parts[1]);
        sum = next.finalize();
    }
    let mut out = [0; 22];
    let triples = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    for (chars, [a, b, c]) in out.chunks_mut(4).zip(triples) {
        let bits = u32::from(sum[a]) << 16 | u32::from(sum[b]) << 8 | u32::from(sum[c]);
        chars
            .iter_mut()
            .enumerate()
            .for_each(|(n, char)| *char = itoa64(bits >> (6 * n)));
    }
    out[20] = itoa64(u32::from(sum[11]));
    out[21] = itoa64(u32::from(sum[11]) >> 6);
    out
}

fn itoa64(bits: u32) -> u8 {
    b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[bits as usize & 63]
}

/// Whether both are the same, in a time that does not say where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differs = a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b));
    a.len() == b.len() && differs == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_a_name_and_a_password_that_may_have_colons() {
        let parsed = credentials(b"Basic QWxhZGRpbjpvcGVuOnNlc2FtZQ==").unwrap();
        assert_eq!(
            (&*parsed.user, &*parsed.password),
            ("Aladdin", &b"open:sesame"[..])
        );
        assert!(credentials(b"bAsIc QWxhZGRpbjpvcGVu").is_some());
        for none in [
            &b""[..],
            b"Basic",
            b"Basic ",
            b"Bearer QWxhZGRpbjpvcGVu",
            b"Basic !!!!",
            b"Basic QWxhZGRpbg==",
            b"Basic AQM6YQ==",
        ] {
            assert!(credentials(none).is_none(), "{none:?}");
        }
        let long = [&b"Basic "[..], &b"QUFB".repeat(400)].concat();
        assert!(credentials(&long).is_none());
    }

    #[test]
    fn files_of_users_are_read_and_faults_have_their_line() {
        let text = "# users\nann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n\nbob:$apr1$x$y\r\n";
        let names: Vec<_> = users(text).unwrap().into_keys().collect();
        assert_eq!(names, ["ann".into(), "bob".into()]);
        for (text, line) in [
            ("ann", "line 1"),
            ("\n:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "line 2"),
            ("ann:secret", "line 1"),
            ("a:$apr1$x$y\na:$apr1$x$y", "line 2"),
        ] {
            assert!(users(text).unwrap_err().starts_with(line), "{text}");
        }
    }

    #[test]
    fn passwords_are_verified_as_others_do() {
        // Made with `openssl passwd -apr1` and `htpasswd -s`.
        assert!(is_sha("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", b"password"));
        assert!(!is_sha("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", b"Password"));
        for (kept, password) in APR1 {
            assert!(is_md5(kept, password.as_bytes()), "{kept}");
            assert!(!is_md5(kept, b"other"), "{kept}");
        }
        assert!(!is_md5("$apr1$x", b""));
    }

    const APR1: &[(&str, &str)] = &[
        ("$apr1$abcdefgh$FBwExRW4dCc8aL.OvjpIE1", "password"),
        ("$apr1$x1$stmoARC9jbu3Ca6NFsTal/", "a"),
        (
            "$apr1$saltsalt$zK3f72v44bv/ujc9gKjlD/",
            "a rather long password, longer than one block of sixteen",
        ),
        ("$apr1$zz$j2/RZcZLBHtY4Hv3/anFc1", ""),
    ];
}
