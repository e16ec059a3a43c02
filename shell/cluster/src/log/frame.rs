use model::Revision;
use registry::replication::Record;

/// The most bytes of records in a frame: with more, a reader would wait noticeably for one batch of others.
pub const MAX_FRAME: usize = 4 << 20;

/// The first bytes of every segment.
pub(super) const MAGIC: [u8; 8] = *b"PMANLOG\n";
/// The version of the format of segments, frames and records. (Commands carry one of their own.) The first had
/// commands for records, and nothing else.
pub(crate) const VERSION: u32 = 2;
/// Magic, version, salt, first revision, CRC-32C of these.
pub(crate) const SEGMENT_HEADER: usize = 8 + 4 + 8 + 8 + 4;
/// Mark, length of the records, CRC-32C, revision of the first record.
pub(super) const FRAME_HEADER: usize = 4 + 4 + 4 + 8;
/// The length in front of a record.
pub(super) const RECORD_HEADER: usize = 4;

/// A segment's header.
///
/// The salt makes the frames of this file unlike any bytes that a client could have put into a record: after a
/// crash, the reader looks for frames that follow a torn one, and must not be shown any.
pub(super) fn segment_header(version: u32, salt: u64, first: Revision) -> [u8; SEGMENT_HEADER] {
    let mut header = [0; SEGMENT_HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&version.to_le_bytes());
    header[12..20].copy_from_slice(&salt.to_le_bytes());
    header[20..28].copy_from_slice(&first.0.to_le_bytes());
    let crc = crc32c::crc32c(&header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// What is written and synced in one go: records with consecutive revisions, under one checksum.
///
/// One for the whole batch, because a power cut keeps any of its sectors and loses any others: with a checksum for
/// each record, a good one after a bad one would look like damage to the middle of the log, where nothing
/// that was acknowledged is touched. With one for each batch, a good frame after a bad one *is* such damage.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
    count: u64,
}

impl Frame {
    /// Makes it empty, keeping its memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(FRAME_HEADER, 0);
        self.count = 0;
    }

    /// Adds a record.
    pub(crate) fn push(&mut self, record: &Record<'_>) {
        let start = self.bytes.len() + RECORD_HEADER;
        self.bytes.extend_from_slice(&[0; RECORD_HEADER]);
        record.encode(&mut self.bytes);
        let size = (self.bytes.len() - start) as u32;
        self.bytes[start - RECORD_HEADER..start].copy_from_slice(&size.to_le_bytes());
        self.count += 1;
    }

    /// Whether there is room for so many more bytes.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.bytes.len() - FRAME_HEADER + bytes <= MAX_FRAME
    }

    /// Whether it has no records. Such a frame closes a segment, and is not for others to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many records it has.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Its length in the file.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The bytes to write to the segment with this salt.
    pub(super) fn seal(&mut self, salt: u64, first: Revision) -> &[u8] {
        let len = (self.bytes.len() - FRAME_HEADER) as u32;
        let header = header(salt, len, first, &self.bytes[FRAME_HEADER..]);
        self.bytes[..FRAME_HEADER].copy_from_slice(&header);
        &self.bytes
    }
}

/// The four bytes that every frame of a segment starts with.
pub(super) fn mark(salt: u64) -> [u8; 4] {
    crc32c::crc32c(&salt.to_le_bytes()).to_le_bytes()
}

/// The header of a frame with these records.
pub(super) fn header(salt: u64, len: u32, first: Revision, records: &[u8]) -> [u8; FRAME_HEADER] {
    let mut header = [0; FRAME_HEADER];
    header[..4].copy_from_slice(&mark(salt));
    header[4..8].copy_from_slice(&len.to_le_bytes());
    header[12..].copy_from_slice(&first.0.to_le_bytes());
    let crc = [&salt.to_le_bytes(), &header[4..8], &header[12..], records]
        .into_iter()
        .fold(0, crc32c::crc32c_append);
    header[8..12].copy_from_slice(&crc.to_le_bytes());
    header
}
