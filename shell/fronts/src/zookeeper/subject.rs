//! Who a certificate's owner is, written as Java's `X500Principal.getName()` writes it: that is the id which ZooKeeper's
//! access lists have under the scheme `x509`. The format is RFC 2253's.

use std::fmt::Write;

use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The attributes that RFC 2253 (§2.3) has names for. Others go by their numbers.
const NAMES: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// The subject of a certificate (DER); `None` if it has none, or cannot be read.
pub(super) fn subject(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    written(certificate.subject())
}

fn written(subject: &X509Name<'_>) -> Option<String> {
    let names: Vec<_> = subject.iter().collect();
    // The most particular first (§2.1), which is the last in the certificate.
    let names = names.into_iter().rev().map(|name| {
        let parts: Option<Vec<String>> = name.iter().map(attribute).collect();
        parts.map(|parts| parts.join("+"))
    });
    let names: Option<Vec<String>> = names.collect();
    names.map(|n| n.join(",")).filter(|name| !name.is_empty())
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    let number = attribute.attr_type().to_id_string();
    let value = attribute.attr_value();
    let name = NAMES.iter().find(|(known, _)| *known == number);
    Some(match name {
        Some((_, name)) => match text(value)? {
            Some(text) => format!("{name}={}", escaped(&text)),
            None => format!("{name}={}", hex(value)),
        },
        None => format!("{number}={}", hex(value)),
    })
}

/// The text of a value: of the kinds that have one, in the encodings that they have. The outer `None` is a lie about
/// the encoding.
fn text(value: &Any<'_>) -> Option<Option<String>> {
    let latin = || value.data.iter().map(|b| char::from(*b)).collect();
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String => {
            Some(Some(std::str::from_utf8(value.data).ok()?.to_owned()))
        }
        Tag::T61String | Tag::GeneralString => Some(Some(latin())),
        Tag::BmpString => {
            let pairs = value.data.chunks(2).map(|pair| match pair {
                [high, low] => Some(u16::from_be_bytes([*high, *low])),
                _ => None,
            });
            let units: Vec<u16> = pairs.collect::<Option<_>>()?;
            Some(Some(String::from_utf16(&units).ok()?))
        }
        _ => Some(None),
    }
}

/// §2.4: what would be taken for something else has a backslash in front. (As Java does it: `=` and every `#`, too.)
fn escaped(text: &str) -> String {
    let first = text.len() - text.trim_start_matches(' ').len();
    let last = text.trim_end_matches(' ').len();
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        match c {
            ',' | '=' | '+' | '<' | '>' | '#' | ';' | '"' | '\\' => out.push('\\'),
            ' ' if at < first || at >= last => out.push('\\'),
            '\0' => {
                out.push_str("\\00");
                continue;
            }
            _ => {}
        }
        out.push(c);
    }
    out
}

/// §2.4: the encoding itself.
fn hex(value: &Any<'_>) -> String {
    use x509_parser::asn1_rs::ToDer;
    let der = value.to_der_vec().unwrap_or_default();
    der.iter().fold(String::from("#"), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(der: &str) -> Option<String> {
        let bytes: Vec<u8> = (0..der.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&der[at..at + 2], 16).unwrap())
            .collect();
        let (_, name) = X509Name::from_der(&bytes).unwrap();
        super::written(&name)
    }

    /// What OpenJDK 17 made of the same bytes.
    #[test]
    fn a_subject_is_written_as_java_writes_it() {
        let cases = [
            (
                "3030310b3009060355040613024445310f300d060355040a13062078202079203110300e06035504030c076123623d632c64",
                r"CN=a\#b\=c\,d,O=\ x  y\ ,C=DE",
            ),
            (
                "308192310a3008060355040c130174310a30080603550409130173310b300906035504080c02c3bc310b300906035504051302373731123010060a0992268993f22c6401011302753131133011060a0992268993f22c64011916036f726731123010060a0992268993f22c640119160265783114301206092a864886f70d01090116056540782e79310b300906035504030c022378",
                r"CN=\#x,1.2.840.113549.1.9.1=#16056540782e79,DC=ex,DC=org,UID=u1,2.5.4.5=#13023737,ST=ü,STREET=s,2.5.4.12=#130174",
            ),
        ];
        for (der, wanted) in cases {
            assert_eq!(of(der).as_deref(), Some(wanted));
        }
    }

    #[test]
    fn nobody_has_no_subject() {
        assert_eq!(of("3000"), None);
        assert_eq!(subject(b"no certificate"), None);
    }
}
