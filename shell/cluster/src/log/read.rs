use std::io::{self, Read};

use model::Revision;
use registry::replication::Record;

use super::frame::{self, FRAME_HEADER, MAX_FRAME, RECORD_HEADER, SEGMENT_HEADER};

/// Reads the frames of a segment from a place where one begins: calls `visit` with every record and its place in the
/// log, until that returns false or the good frames end.
pub(crate) fn read_frames(
    mut file: impl Read,
    salt: u64,
    mut visit: impl FnMut(u64, Record<'_>) -> bool,
) -> io::Result<()> {
    let mut records = Vec::new();
    loop {
        let mut header = [0; FRAME_HEADER];
        match file.read_exact(&mut header) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let len = u32::from_le_bytes(std::array::from_fn(|i| header[4 + i]));
        let first = u64::from_le_bytes(std::array::from_fn(|i| header[12 + i]));
        // What is being written meanwhile, or was never written.
        if header[..4] != frame::mark(salt) || len as usize > MAX_FRAME {
            return Ok(());
        }
        records.resize(len as usize, 0);
        match file.read_exact(&mut records) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        if header != frame::header(salt, len, Revision(first), &records) {
            return Ok(());
        }
        let mut rest = &records[..];
        let mut position = first;
        while let Some((len, more)) = rest.split_first_chunk::<RECORD_HEADER>() {
            let len = u32::from_le_bytes(*len) as usize;
            let (record, more) = more
                .split_at_checked(len)
                .ok_or_else(|| io::Error::other("a record of the log is longer than its frame"))?;
            let record = Record::decode(record).map_err(io::Error::other)?;
            if !visit(position, record) {
                return Ok(());
            }
            position += 1;
            rest = more;
        }
    }
}

/// What the frames of a segment are salted with.
pub(crate) fn read_salt(mut file: impl Read) -> io::Result<u64> {
    let mut header = [0; SEGMENT_HEADER];
    file.read_exact(&mut header)?;
    Ok(u64::from_le_bytes(std::array::from_fn(|i| header[12 + i])))
}
