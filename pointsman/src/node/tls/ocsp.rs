//! Whether a file is an OCSP answer that can be sent along with a certificate.

use anyhow::{Context, bail};
use x509_parser::asn1_rs::{Any, Class, Enumerated, FromDer, OctetString, Oid, Sequence, Tag};

/// Finds what makes an answer useless to everybody (RFC 6960, section 4.2.1): clients end the handshake over one that they cannot
/// read. Whether it is about the certificate, who has signed it and when it was good is for clients to find out: an old one that
/// is replaced while the node runs must not keep it from starting.
pub(super) fn check(answer: &[u8]) -> anyhow::Result<()> {
    let what = "it should be one in DER, as `openssl ocsp -respout` writes it";
    let (behind, answer) = Sequence::from_der(answer).context(what)?;
    if !behind.is_empty() {
        bail!("{} bytes stand behind its end; {what}", behind.len());
    }
    let (rest, status) = Enumerated::from_der(&answer.content).context(what)?;
    if status.0 != 0 {
        bail!(
            "it says that who was asked could not answer (responseStatus {}); ask again",
            status.0
        );
    }
    let (behind, bytes) = Any::from_der(rest).context("it has no responseBytes; ask again")?;
    if (bytes.class(), bytes.tag()) != (Class::ContextSpecific, Tag(0)) || !behind.is_empty() {
        bail!("it has something else in the place of responseBytes; {what}");
    }
    let (_, bytes) = Sequence::from_der(bytes.data).context(what)?;
    let (rest, _) = Oid::from_der(&bytes.content).context(what)?;
    OctetString::from_der(rest).context(what)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    /// DER of one value, shorter than 128 bytes.
    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let len = u8::try_from(content.len()).expect("a short one");
        [&[tag, len], content].concat()
    }

    /// A good answer, of which this is the signed part.
    fn answer(signed: &[u8]) -> Vec<u8> {
        let basic = der(6, &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1]);
        let bytes = der(0x30, &[basic, der(4, signed)].concat());
        der(0x30, &[der(10, &[0]), der(0xa0, &bytes)].concat())
    }

    #[test]
    fn a_whole_and_successful_answer_is_taken() {
        check(&answer(b"signed")).unwrap();
    }

    #[test]
    fn an_answer_that_is_cut_off_anywhere_or_followed_by_something_is_none() {
        let good = answer(b"signed");
        for len in 0..good.len() {
            check(&good[..len]).unwrap_err();
            // Cut off inside, with a length that fits.
            if let Some(content) = good[..len].get(2..) {
                let rest = der(0x30, content);
                check(&rest).unwrap_err();
            }
        }
        check(&[&*good, b"\n"].concat()).unwrap_err();
    }

    #[test]
    fn an_answer_that_says_no_and_one_that_says_nothing_are_none() {
        let later = check(&der(0x30, &der(10, &[3]))).unwrap_err();
        assert!(later.to_string().contains("responseStatus 3"), "{later}");
        let nothing = check(&der(0x30, &der(10, &[0]))).unwrap_err();
        assert!(nothing.to_string().contains("responseBytes"), "{nothing}");
        for garbage in [&b"an answer"[..], b"-----BEGIN OCSP RESPONSE-----"] {
            check(garbage).unwrap_err();
        }
        // A certificate's serial number in the place of the status.
        check(&der(0x30, &der(2, &[0]))).unwrap_err();
    }
}
