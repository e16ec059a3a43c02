use model::Revision;
use registry::DecodeError;
use registry::replication::Record;
use thiserror::Error;

use super::frame::{
    self, FRAME_HEADER, MAGIC, MAX_FRAME, RECORD_HEADER, SEGMENT_HEADER, VERSION, segment_header,
};

/// What a segment's bytes hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The revision of the first record.
    pub first: Revision,
    /// The revision after the last record.
    pub next: Revision,
    /// Where the good frames end.
    pub end: usize,
    /// How many bytes a crash left there of its last write. Zeros behind these are room for more.
    pub torn: usize,
    /// Whether the segment is closed, and another one follows.
    pub closed: bool,
    /// The version of the format.
    pub version: u32,
    /// What frames of this segment are salted with.
    pub(super) salt: u64,
}

impl Scan {
    /// What frames of the segment are salted with.
    pub(crate) fn salt(&self) -> u64 {
        self.salt
    }
}

/// Why bytes are no segment.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScanError {
    /// The header was never finished, so nothing was ever written after it: a crash while it was created.
    #[error("its header is unfinished")]
    Unborn,
    /// Written by another version.
    #[error("format version {0}")]
    Version(u32),
    /// Damaged where a crash cannot have damaged it.
    #[error(transparent)]
    Damage(#[from] Damage),
}

/// Where a segment is damaged, and how.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("at byte {offset}: {found}")]
pub struct Damage {
    /// The first byte of the damaged header, frame or record.
    pub offset: usize,
    /// What is there, and what was expected.
    pub found: String,
}

/// Reads a segment: calls `visit` with every record in it, in order. Any bytes at all are safe to pass.
///
/// # Errors
///
/// When it is damaged other than by a crash in the middle of its last write, or `visit` finds a record wrong.
pub fn scan(
    bytes: &[u8],
    mut visit: impl FnMut(Revision, Record<'_>) -> Result<(), String>,
) -> Result<Scan, ScanError> {
    let (version, salt, first) = read_header(bytes)?;
    let mut scan = Scan {
        first,
        next: first,
        end: SEGMENT_HEADER,
        torn: 0,
        closed: false,
        version,
        salt,
    };
    while scan.end < bytes.len() {
        let frame = match scan.closed {
            true => None,
            false => frame_at(bytes, scan.end, salt, scan.next),
        };
        let Some(records) = frame else {
            scan.torn = torn(bytes, &scan)?;
            return Ok(scan);
        };
        let start = scan.end + FRAME_HEADER;
        scan.closed = records.is_empty();
        scan.next = read_records(records, start, scan.next, &mut visit)?;
        scan.end = start + records.len();
    }
    Ok(scan)
}

/// How much there is, behind the good frames, of a write that a crash interrupted.
fn torn(bytes: &[u8], scan: &Scan) -> Result<usize, Damage> {
    let torn = written(&bytes[scan.end..]);
    let damage = match () {
        () if torn == 0 => None,
        () if scan.closed => Some("more bytes, after the frame that closes the segment".into()),
        // Else this was written in full once.
        () => follower(&bytes[..scan.end + torn], scan),
    };
    match damage {
        None => Ok(torn),
        Some(found) => Err(Damage {
            offset: scan.end,
            found,
        }),
    }
}

/// How many of the bytes were written to: those up to the zeros that a segment is given ahead of its frames.
pub(crate) fn written(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1)
}

fn read_header(bytes: &[u8]) -> Result<(u32, u64, Revision), ScanError> {
    // A frame is only ever written after the header is on disk.
    let damaged = |found: &str| match bytes.len() <= SEGMENT_HEADER {
        true => ScanError::Unborn,
        false => ScanError::Damage(Damage {
            offset: 0,
            found: found.into(),
        }),
    };
    let header = bytes
        .get(..SEGMENT_HEADER)
        .ok_or_else(|| damaged("too short for a header"))?;
    if header[..8] != MAGIC {
        return Err(damaged("no segment of the log begins like this"));
    }
    let (version, salt, first) = (
        number32(header, 8),
        number64(header, 12),
        number64(header, 20),
    );
    let crc = crc32c::crc32c(&header[..28]);
    if number32(header, 28) != crc {
        return Err(damaged("the header does not match its checksum"));
    }
    if !(1..=VERSION).contains(&version) {
        return Err(ScanError::Version(version));
    }
    debug_assert_eq!(header, segment_header(version, salt, Revision(first)));
    Ok((version, salt, Revision(first)))
}

/// The records of the good frame at `offset`, if there is one and its first revision is `expected`.
fn frame_at(bytes: &[u8], offset: usize, salt: u64, expected: Revision) -> Option<&[u8]> {
    let header = bytes[offset..].get(..FRAME_HEADER)?;
    let len = number32(header, 4);
    if header[..4] != frame::mark(salt)
        || len as usize > MAX_FRAME
        || number64(header, 12) != expected.0
    {
        return None;
    }
    let records = bytes[offset + FRAME_HEADER..].get(..len as usize)?;
    (header == frame::header(salt, len, expected, records)).then_some(records)
}

/// Why the bad frame at `scan.end` cannot be the last write: what was found behind it.
fn follower(bytes: &[u8], scan: &Scan) -> Option<String> {
    let rest = bytes.len() - scan.end;
    if rest > FRAME_HEADER + MAX_FRAME {
        return Some(format!(
            "no frame that begins with revision {}, and {rest} bytes follow, more than one write has",
            scan.next
        ));
    }
    let mark = frame::mark(scan.salt);
    let mut at = scan.end;
    // The mark is a secret of this file, so that hardly any other place starts with it.
    while let Some(step) = position(&bytes[at..], mark) {
        at += step;
        let revision = bytes[at..]
            .get(..FRAME_HEADER)
            .map(|header| Revision(number64(header, 12)));
        if let Some(revision) = revision
            && (at > scan.end || revision != scan.next)
            && frame_at(bytes, at, scan.salt, revision).is_some()
        {
            return Some(format!(
                "no frame that begins with revision {}, but a good one follows at byte {at}, with revision {revision}",
                scan.next
            ));
        }
        at += 1;
    }
    None
}

fn position(bytes: &[u8], mark: [u8; 4]) -> Option<usize> {
    bytes.windows(4).position(|window| window == mark)
}

fn read_records(
    records: &[u8],
    start: usize,
    mut revision: Revision,
    visit: &mut impl FnMut(Revision, Record<'_>) -> Result<(), String>,
) -> Result<Revision, Damage> {
    let mut at = 0;
    let damage = |at: usize, found: String| Damage {
        offset: start + at,
        found,
    };
    while at < records.len() {
        let record = records[at..]
            .get(..RECORD_HEADER)
            .map(|header| number32(header, 0) as usize)
            .and_then(|len| records[at + RECORD_HEADER..].get(..len))
            .ok_or_else(|| damage(at, "a record that is longer than its frame".into()))?;
        let wrong = |found| damage(at, format!("the record of revision {revision} {found}"));
        let decoded = Record::decode(record).map_err(|e: DecodeError| wrong(e.to_string()))?;
        visit(revision, decoded).map_err(wrong)?;
        // A hostile header may start at the very last revision.
        revision = Revision(
            revision
                .0
                .checked_add(1)
                .ok_or_else(|| damage(at, "more revisions than there are numbers".into()))?,
        );
        at += RECORD_HEADER + record.len();
    }
    Ok(revision)
}

fn number32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn number64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}
