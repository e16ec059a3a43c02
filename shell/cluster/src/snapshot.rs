//! Snapshot files: the registry's state in blocks with a checksum each, and a trailer that says it is whole.

use std::io::{self, Read};

use model::Revision;
use registry::replication::{EntryId, Origin};
use registry::snapshot::{Rebuild, Version};
use registry::{MAX_COMMAND, Registry};

use crate::storage::{File, Storage};

/// The first bytes of every snapshot.
const MAGIC: [u8; 8] = *b"PMANSNP2";
/// The first bytes of those from before logs were replicated, which do not say where they come from.
const OLD_MAGIC: [u8; 8] = *b"PMANSNAP";
/// The latest version of the format that is known: that of the pieces.
pub(crate) const VERSION: u32 = Version::LATEST as u32;
/// Magic, version, revision, CRC-32C of these.
const HEADER: usize = 8 + 4 + 8 + 4;
/// The most bytes of what follows the header: where the snapshot comes from. Its length and its CRC-32C come first.
const MAX_ORIGIN: usize = 1 << 20;
/// The longest block: a piece of the state with the largest instance at its end.
const MAX_BLOCK: usize = 2 * MAX_COMMAND;
/// Written under this name first, and given its own once it is whole and on disk.
pub(crate) const TEMPORARY: &str = "snapshot.tmp";

/// Why a file is no snapshot.
#[derive(Debug)]
pub(crate) enum ReadError {
    Io(io::Error),
    Version(u32),
    Damaged { offset: u64, found: String },
}

/// Writes a snapshot, durably; returns its length. `stop` is asked now and then.
pub(crate) fn write(
    storage: &dyn Storage,
    registry: &Registry,
    origin: &Origin,
    stop: impl Fn() -> bool,
) -> io::Result<u64> {
    let written = write_temporary(storage, registry, origin, stop);
    if written.is_err() {
        // On a full disk it would be in the way; if it cannot be removed now, the next start will.
        let _ = storage.remove(TEMPORARY);
    }
    let len = written?;
    storage.rename(TEMPORARY, &file_name(registry.revision()))?;
    storage.sync_directory()?;
    Ok(len)
}

fn write_temporary(
    storage: &dyn Storage,
    registry: &Registry,
    origin: &Origin,
    stop: impl Fn() -> bool,
) -> io::Result<u64> {
    let mut file = storage.create(TEMPORARY)?;
    let len = write_into(&mut *file, registry, origin, stop)?;
    file.sync()?;
    Ok(len)
}

/// Writes a snapshot into a file; returns its length.
pub(crate) fn write_into(
    file: &mut dyn File,
    registry: &Registry,
    origin: &Origin,
    stop: impl Fn() -> bool,
) -> io::Result<u64> {
    let mut len = HEADER as u64;
    let mut number = 0;
    let version = Version::needed(registry);
    file.append(&header(version, registry.revision()))?;
    let mut from = Vec::new();
    origin.write(&mut from);
    len += append_origin(file, &from)?;
    registry::snapshot::write(registry, version, |piece| {
        if stop() {
            return Err(io::Error::other("the node is shutting down"));
        }
        len += append_block(file, number, piece)?;
        number += 1;
        Ok(())
    })?;
    let trailer = u64::from(registry.counts().total()).to_le_bytes();
    // A block of no length comes last, with the number of instances behind it.
    len += append_block(file, number, &[])?;
    file.append(&trailer)?;
    file.append(&crc32c::crc32c(&trailer).to_le_bytes())?;
    Ok(len + 12)
}

fn header(version: Version, revision: Revision) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&(version as u32).to_le_bytes());
    header[12..20].copy_from_slice(&revision.0.to_le_bytes());
    let crc = crc32c::crc32c(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

fn append_origin(file: &mut dyn File, origin: &[u8]) -> io::Result<u64> {
    file.append(&(origin.len() as u32).to_le_bytes())?;
    file.append(&crc32c::crc32c(origin).to_le_bytes())?;
    file.append(origin)?;
    Ok(8 + origin.len() as u64)
}

fn append_block(file: &mut dyn File, number: u32, piece: &[u8]) -> io::Result<u64> {
    let len = (piece.len() as u32).to_le_bytes();
    file.append(&len)?;
    file.append(&checksum(number, len, piece).to_le_bytes())?;
    file.append(piece)?;
    Ok(8 + piece.len() as u64)
}

/// Covers the block's place in the file, so that one left out, or in another's place, is found.
fn checksum(number: u32, len: [u8; 4], piece: &[u8]) -> u32 {
    [&number.to_le_bytes(), &len, piece]
        .into_iter()
        .fold(0, crc32c::crc32c_append)
}

/// Reads a snapshot, and checks that it is whole; returns where it comes from, and its length.
pub(crate) fn read(file: impl Read) -> Result<(Registry, Origin, u64), ReadError> {
    let mut reader = Reader { file, offset: 0 };
    let (version, revision, origin) = reader.begin()?;
    let mut rebuild = Rebuild::new(version);
    let mut piece = Vec::new();
    for number in 0.. {
        reader.block(number, &mut piece)?;
        if piece.is_empty() {
            break;
        }
        rebuild
            .add(&piece)
            .map_err(|e| reader.damaged(&format!("a block in which {e}")))?;
    }
    let registry = rebuild.finish(revision);
    let count: [u8; 8] = reader.array()?;
    let crc: [u8; 4] = reader.array()?;
    let instances = u64::from(registry.counts().total());
    if crc != crc32c::crc32c(&count).to_le_bytes() || count != instances.to_le_bytes() {
        return Err(reader.damaged("another number of instances than the blocks have"));
    }
    if reader.file.read(&mut [0]).map_err(ReadError::Io)? != 0 {
        return Err(reader.damaged("more than the end"));
    }
    Ok((registry, origin, reader.offset))
}

/// Reads where a snapshot comes from.
pub(crate) fn read_origin(file: impl Read) -> Result<Origin, ReadError> {
    let (_, _, origin) = Reader { file, offset: 0 }.begin()?;
    Ok(origin)
}

struct Reader<R> {
    file: R,
    offset: u64,
}

impl<R: Read> Reader<R> {
    fn begin(&mut self) -> Result<(Version, Revision, Origin), ReadError> {
        let header: [u8; HEADER] = self.array()?;
        let crc = crc32c::crc32c(&header[..20]);
        let old = header[..8] == OLD_MAGIC;
        if (!old && header[..8] != MAGIC) || header[20..] != crc.to_le_bytes() {
            return Err(self.damaged("no snapshot begins like this"));
        }
        let version = u32::from_le_bytes(std::array::from_fn(|i| header[8 + i]));
        let Some(version) = Version::of(version) else {
            return Err(ReadError::Version(version));
        };
        let revision = Revision(u64::from_le_bytes(std::array::from_fn(|i| header[12 + i])));
        let origin = match old {
            // Every command was an entry, and had its revision for an index.
            true => Origin {
                entry: EntryId {
                    term: 0,
                    index: revision.0,
                },
                position: revision.0.saturating_add(1),
                ..Origin::default()
            },
            false => self.origin()?,
        };
        Ok((version, revision, origin))
    }

    fn origin(&mut self) -> Result<Origin, ReadError> {
        let len: [u8; 4] = self.array()?;
        let crc: [u8; 4] = self.array()?;
        let size = u32::from_le_bytes(len) as usize;
        if size > MAX_ORIGIN {
            return Err(self.damaged("a longer account of where it comes from than any"));
        }
        let mut bytes = vec![0; size];
        self.fill(&mut bytes)?;
        if crc != crc32c::crc32c(&bytes).to_le_bytes() {
            return Err(self.damaged("where it comes from, with another checksum"));
        }
        let origin = Origin::read(&bytes);
        origin.map_err(|e| self.damaged(&format!("where it comes from, but {e}")))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn block(&mut self, number: u32, piece: &mut Vec<u8>) -> Result<(), ReadError> {
        let len: [u8; 4] = self.array()?;
        let crc: [u8; 4] = self.array()?;
        let size = u32::from_le_bytes(len) as usize;
        if size > MAX_BLOCK {
            return Err(self.damaged("a block longer than any"));
        }
        piece.resize(size, 0);
        self.fill(piece)?;
        match crc == checksum(number, len, piece).to_le_bytes() {
            true => Ok(()),
            false => Err(self.damaged("a block that does not match its checksum")),
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), ReadError> {
        match self.file.read_exact(bytes) {
            Ok(()) => {
                self.offset += bytes.len() as u64;
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged("the end of the file, too early"))
            }
            Err(e) => Err(ReadError::Io(e)),
        }
    }

    fn damaged(&self, found: &str) -> ReadError {
        ReadError::Damaged {
            offset: self.offset,
            found: found.into(),
        }
    }
}

/// The name of the snapshot taken at this revision; names sort as revisions do.
pub(crate) fn file_name(revision: Revision) -> String {
    format!("snapshot-{:020}", revision.0)
}

/// The revision that the snapshot of this name was taken at.
pub(crate) fn revision(name: &str) -> Option<Revision> {
    let digits = name.strip_prefix("snapshot-").filter(|d| d.len() == 20)?;
    digits.parse().ok().map(Revision)
}
