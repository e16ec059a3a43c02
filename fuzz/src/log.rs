//! A segment of the log: damage is told from a torn end, and what is accepted once is accepted again.

use cluster::log::{Scan, ScanError, scan};
use model::Revision;
use registry::replication::{Body, Record, commands};

/// Pieces of segments.
pub const TOKENS: &[&str] = &[
    "PMANLOG\n", "\0", "\0\0\0\0", "\0\0\0\0\0\0\0\0", "\u{1}\0\0\0", "\u{2}\0\0\0\0\0\0\0", "\u{1}\0\0\0\0\0\0\0", "\u{14}\0\0\0",
    "\u{40}\0\0\0", "\u{7f}", "\u{1}", "\u{2}", "\u{3}", "\u{4}", "\u{5}", "\u{80}", "\u{81}", "\u{82}", "shop", "default", "a", "127.0.0.1", "\u{e9}", "*/",
];

const SEGMENT_HEADER: usize = 32;
const FRAME_HEADER: usize = 20;

/// Panics if a promise is broken.
pub fn run(data: &[u8]) {
    check(data);
    // Random changes hardly ever survive a checksum; so the same again with the checksums put right.
    check(&sealed(data));
}

fn check(bytes: &[u8]) {
    let mut seen = Vec::new();
    let scanned = scan(bytes, |place, record| {
        let mut encoded = Vec::new();
        record.encode(&mut encoded);
        assert_eq!(Record::decode(&encoded).as_ref(), Ok(&record));
        if let Record::Entry(_, Body::Batch(batch)) = &record {
            commands(batch.commands).map_err(|e| e.to_string())?;
        }
        seen.push(place);
        Ok(())
    });
    for pair in seen.windows(2) {
        assert_eq!(pair[0].next(), pair[1], "places in a row");
    }
    match scanned {
        Ok(found) => accepted(bytes, &found, &seen),
        Err(ScanError::Damage(damage)) => assert!(damage.offset <= bytes.len()),
        Err(ScanError::Unborn) => assert!(bytes.len() <= SEGMENT_HEADER && seen.is_empty()),
        Err(ScanError::Version(_)) => assert!(seen.is_empty()),
    }
}

fn accepted(bytes: &[u8], found: &Scan, seen: &[Revision]) {
    assert!((SEGMENT_HEADER..=bytes.len()).contains(&found.end));
    assert_eq!(found.next.0 - found.first.0, seen.len() as u64);
    assert!(seen.first().is_none_or(|place| *place == found.first));
    assert!(found.end + found.torn <= bytes.len());
    // After the torn end is cut off, there is the same and no torn end; and zeros in its place are none.
    let mut whole = found.clone();
    whole.torn = 0;
    let mut cut = bytes[..found.end].to_vec();
    assert_eq!(scan(&cut, |_, _| Ok(())).as_ref(), Ok(&whole));
    cut.resize(found.end + 100, 0);
    assert_eq!(scan(&cut, |_, _| Ok(())).as_ref(), Ok(&whole));
    // Wherever a crash tears the last write, what is before it stays.
    for cut in [found.end - 1, found.end.midpoint(SEGMENT_HEADER), SEGMENT_HEADER] {
        if cut < SEGMENT_HEADER {
            continue;
        }
        let torn = scan(&bytes[..cut], |_, _| Ok(()));
        let torn = torn.unwrap_or_else(|e| panic!("{e} when cut at {cut} of {}", found.end));
        assert!(torn.end <= cut && torn.next <= found.next);
    }
}

/// The bytes as a segment, its lengths and checksums right.
fn sealed(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    bytes.resize(bytes.len().max(SEGMENT_HEADER), 0);
    bytes[..8].copy_from_slice(b"PMANLOG\n");
    bytes[8..12].copy_from_slice(&2_u32.to_le_bytes());
    let sum = crc32c::crc32c(&bytes[..28]);
    bytes[28..32].copy_from_slice(&sum.to_le_bytes());
    let salt: [u8; 8] = std::array::from_fn(|i| bytes[12 + i]);
    let mark = crc32c::crc32c(&salt).to_le_bytes();
    let mut at = SEGMENT_HEADER;
    while let Some(rest) = bytes.len().checked_sub(at + FRAME_HEADER) {
        let wanted = u32::from_le_bytes(std::array::from_fn(|i| bytes[at + 4 + i]));
        let len = (wanted as usize).min(rest);
        let frame = &mut bytes[at..at + FRAME_HEADER + len];
        frame[..4].copy_from_slice(&mark);
        frame[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        let parts: [&[u8]; 3] = [&salt, &frame[4..8], &frame[12..]];
        let sum = parts.into_iter().fold(0, crc32c::crc32c_append);
        frame[8..12].copy_from_slice(&sum.to_le_bytes());
        at += FRAME_HEADER + len;
    }
    bytes
}
