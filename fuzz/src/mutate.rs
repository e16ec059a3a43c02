//! Inputs made from seeds, each from a number alone, so that a failure can be had again.

use std::io;
use std::path::Path;

/// The longest input made: splices of splices would grow without end.
const LONGEST: usize = 4096;

/// The files of a directory, in the order of their names.
///
/// # Errors
/// The directory or a file in it cannot be read.
pub fn read_seeds(dir: &Path) -> io::Result<Vec<Vec<u8>>> {
    let entries = std::fs::read_dir(dir)?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    paths.iter().map(std::fs::read).collect()
}

/// The input with that number: one of the seeds, changed in one to six places. Empty seeds give inputs from tokens and
/// random bytes.
pub fn input(seeds: &[Vec<u8>], tokens: &[&str], number: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number);
    let mut bytes = random.choice(seeds).cloned().unwrap_or_default();
    for _ in 0..random.usize(1..=6) {
        change(&mut bytes, seeds, tokens, &mut random);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], tokens: &[&str], random: &mut fastrand::Rng) {
    let at = random.usize(..=bytes.len());
    let end = (at + random.usize(1..=16)).min(bytes.len());
    match random.u8(..10) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
        1 if at < bytes.len() => bytes[at] = random.u8(..),
        2 => bytes.insert(at, random.u8(..)),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let copy = bytes[at..end].to_vec();
            let to = random.usize(..=bytes.len());
            bytes.splice(to..to, copy);
        }
        5 => duplicate_line(bytes, at),
        6 => {
            let other = random.choice(seeds).cloned().unwrap_or_default();
            let from = random.usize(..=other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        7 if random.u8(..8) == 0 => bytes.truncate(at),
        8 => {
            let token = random.choice(tokens).copied().unwrap_or_default();
            bytes.splice(at..end, token.bytes());
        }
        _ => {
            let token = random.choice(tokens).copied().unwrap_or_default();
            bytes.splice(at..at, token.bytes());
        }
    }
}

/// Repeats the line that `at` stands in: many a promise is about what comes twice.
fn duplicate_line(bytes: &mut Vec<u8>, at: usize) {
    let start = bytes[..at]
        .iter()
        .rposition(|&b| b == b'\n')
        .map_or(0, |lf| lf + 1);
    let end = bytes[at..]
        .iter()
        .position(|&b| b == b'\n')
        .map_or(bytes.len(), |lf| at + lf + 1);
    let line = bytes[start..end].to_vec();
    bytes.splice(start..start, line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_always_gives_the_same_input_and_another_number_another() {
        let seeds = [b"one\r\ntwo\r\n".to_vec(), b"three".to_vec()];
        let make = |number| input(&seeds, &["\0", "token"], number);
        let made: Vec<_> = (0..100).map(make).collect();
        assert_eq!(made, (0..100).map(make).collect::<Vec<_>>());
        let distinct: std::collections::BTreeSet<_> = made.iter().collect();
        assert!(distinct.len() > 80, "{} of 100", distinct.len());
    }

    #[test]
    fn a_line_is_repeated_before_itself() {
        let mut bytes = b"a\nbc\nd".to_vec();
        duplicate_line(&mut bytes, 3);
        assert_eq!(bytes, b"a\nbc\nbc\nd");
        duplicate_line(&mut bytes, 9);
        assert_eq!(bytes, b"a\nbc\nbc\ndd");
    }
}
