//! SCRAM-SHA-256 (RFC 5802, RFC 7677), a client's side, without channel binding.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::{Fault, NONCE};

pub(super) const MECHANISM: &str = "SCRAM-SHA-256";

/// The header of a client that knows no channel binding.
const GS2: &str = "n,,";

/// The most rounds that are computed for a server: ten times PostgreSQL's default are some milliseconds of one
/// core, and a server could ask for four billion.
const MAX_ROUNDS: u32 = 40_960;

const FOREIGN: Fault = Fault::Foreign("SCRAM-SHA-256");

/// A conversation.
pub(super) struct Scram<'a> {
    password: &'a str,
    /// `n=,r=…`: PostgreSQL knows the user from its own startup message.
    first: String,
    /// What the server will prove that it knows the password with.
    server_signature: Option<[u8; 32]>,
}

impl<'a> Scram<'a> {
    pub(super) fn new(password: &'a str, nonce: [u8; NONCE]) -> Self {
        Self {
            password,
            first: format!("n=,r={}", BASE64.encode(nonce)),
            server_signature: None,
        }
    }

    /// The first message.
    pub(super) fn first(&self) -> String {
        format!("{GS2}{}", self.first)
    }

    /// The answer to the server's first message, `r=…,s=…,i=…`.
    pub(super) fn respond(&mut self, server_first: &[u8]) -> Result<String, Fault> {
        let text = std::str::from_utf8(server_first).map_err(|_| FOREIGN)?;
        let mut fields = text.split(',');
        let mut field = |name| {
            fields
                .next()
                .and_then(|f| f.strip_prefix(name))
                .ok_or(FOREIGN)
        };
        let (nonce, salt, rounds) = (field("r=")?, field("s=")?, field("i=")?);
        let (_, ours) = self.first.split_once("r=").ok_or(FOREIGN)?;
        let salt = BASE64.decode(salt).map_err(|_| FOREIGN)?;
        let rounds: u32 = rounds.parse().map_err(|_| FOREIGN)?;
        if !nonce.starts_with(ours) || nonce.len() == ours.len() || rounds == 0 {
            return Err(FOREIGN);
        }
        if rounds > MAX_ROUNDS {
            let what = format!("{rounds} rounds of hashing, more than {MAX_ROUNDS}");
            return Err(Fault::Unsupported(what));
        }
        let salted = salted(self.password.as_bytes(), &salt, rounds);
        let without_proof = format!("c={},r={nonce}", BASE64.encode(GS2));
        let all = format!("{},{text},{without_proof}", self.first);
        let client_key = mac(&salted, b"Client Key");
        let stored_key: [u8; 32] = Sha256::digest(client_key).into();
        let signature = mac(&stored_key, all.as_bytes());
        let proof: [u8; 32] = std::array::from_fn(|i| client_key[i] ^ signature[i]);
        let server_key = mac(&salted, b"Server Key");
        self.server_signature = Some(mac(&server_key, all.as_bytes()));
        Ok(format!("{without_proof},p={}", BASE64.encode(proof)))
    }

    /// Checks the server's last message, `v=…`.
    pub(super) fn finish(&self, server_final: &[u8]) -> Result<(), Fault> {
        let signature = server_final
            .strip_prefix(b"v=")
            .and_then(|v| BASE64.decode(v).ok());
        match (signature, self.server_signature) {
            (Some(found), Some(expected)) if found == expected => Ok(()),
            _ => Err(Fault::Impostor),
        }
    }
}

/// `Hi` of RFC 5802 §2.2: PBKDF2 with one block.
fn salted(password: &[u8], salt: &[u8], rounds: u32) -> [u8; 32] {
    // The key is hashed once, and not in each of thousands of rounds.
    let keyed = keyed(password);
    let mut round = digest(keyed.clone().chain_update(salt).chain_update([0, 0, 0, 1]));
    let mut sum = round;
    for _ in 1..rounds {
        round = digest(keyed.clone().chain_update(round));
        for (sum, byte) in sum.iter_mut().zip(round) {
            *sum ^= byte;
        }
    }
    sum
}

fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    digest(keyed(key).chain_update(text))
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn digest(mac: Hmac<Sha256>) -> [u8; 32] {
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER_FIRST: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    /// The example of RFC 7677 §3.
    fn example() -> Scram<'static> {
        Scram {
            password: "pencil",
            first: "n=user,r=rOprNGfwEbeRWgbNEkqO".into(),
            server_signature: None,
        }
    }

    #[test]
    fn the_example_of_the_rfc_is_computed() {
        let mut scram = example();
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        assert_eq!(
            scram.respond(SERVER_FIRST).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(
            scram.finish(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
            Ok(())
        );
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_found_out() {
        let mut scram = example();
        assert_eq!(scram.finish(b"v="), Err(Fault::Impostor));
        scram.respond(SERVER_FIRST).unwrap();
        for wrong in [
            &b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="[..],
            b"v=",
            b"e=no",
            b"v=!",
        ] {
            assert_eq!(scram.finish(wrong), Err(Fault::Impostor));
        }
    }

    #[test]
    fn a_server_that_breaks_the_rules_or_asks_for_too_much_is_refused() {
        for bad in [
            &b""[..],
            b"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=!,i=4096",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=x",
            b"\xff",
        ] {
            assert_eq!(example().respond(bad), Err(FOREIGN), "{bad:?}");
        }
        let greedy = b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4294967295";
        assert!(matches!(
            example().respond(greedy),
            Err(Fault::Unsupported(_))
        ));
    }
}
