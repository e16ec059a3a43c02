use std::hash::Hasher;

use model::InstanceId;
use siphasher::sip::SipHasher13;

/// What the hashing policies take for a request: a hash of the part of it they look at. Keyed, because
/// clients choose that part: who does not know the secret cannot find keys that meet at one instance.
pub fn key(secret: [u64; 2], bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(secret[0], secret[1]);
    hasher.write(bytes);
    hasher.finish()
}

/// A number for an instance, made of its id alone: the same on every node and after every restart.
pub fn identity(id: &InstanceId) -> u64 {
    key([0; 2], id.as_str().as_bytes())
}

/// Mixes two numbers into one that looks random (a multiplication folded onto itself).
pub(crate) const fn mix(a: u64, b: u64) -> u64 {
    const A: u64 = 0x9e37_79b9_7f4a_7c15;
    const B: u64 = 0xe703_7ed1_a0b4_28db;
    let wide = (a ^ A) as u128 * (b.wrapping_mul(A) ^ B) as u128;
    let folded = (wide >> 64) as u64 ^ wide as u64;
    // Once more: one fold alone is weak for small neighbouring numbers.
    let wide = (folded ^ B) as u128 * A as u128;
    (wide >> 64) as u64 ^ wide as u64
}
