use std::io;
use std::sync::Arc;

use model::Revision;

use super::frame::{Frame, SEGMENT_HEADER, VERSION, segment_header};
use super::scan::Scan;
use crate::storage::{File, Storage};

/// How many zeros are asked for at a time: few enough that the sync that writes them too is not much later than others, and enough
/// for a thousand small frames.
const RESERVE: u64 = 256 << 10;
/// A frame that is larger is not worth being written twice, as zeros and as itself.
const LARGE: u64 = 64 << 10;

/// The log's files, the last of them open for appending.
///
/// The open one has zeros ahead of its frames, so that a sync need not write a new length to the file system's own
/// log too: measured on a virtio disk with ext4, 150 bytes took 36 instead of 56 µs of CPU, and 0.09 instead of
/// 0.13 ms, for one write after the other.
pub(crate) struct Log {
    storage: Arc<dyn Storage>,
    /// Oldest first; the last is the open one.
    segments: Vec<Segment>,
    file: Box<dyn File>,
    salt: u64,
    /// Where the frames of the open segment end, without what failed to be written.
    len: u64,
    /// How far zeros were asked for.
    reserved: u64,
    next: Revision,
    segment_size: u64,
    /// The open segment is full. Stays so until the next one is there: had a smaller frame found room meanwhile,
    /// a next one that was created in vain would begin with the wrong revision.
    full: bool,
    /// Why nothing may be written any more.
    broken: Option<String>,
    new_salt: Box<dyn FnMut() -> u64 + Send>,
}

/// One file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) first: Revision,
    pub(crate) name: String,
}

/// Where a frame begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The segment, by its first record's place in the log.
    pub(crate) segment: Revision,
    /// What its frames are salted with.
    pub(crate) salt: u64,
    /// The frame's first byte.
    pub(crate) offset: u64,
}

/// Why a frame is not in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AppendError {
    /// It can be tried again: what was written of it is taken back.
    NotWritten(String),
    /// Nothing can be written any more.
    Broken(String),
}

impl Log {
    /// A log with these segments so far, that goes on with a new one at `next`.
    pub(crate) fn create(
        storage: Arc<dyn Storage>,
        segments: Vec<Segment>,
        next: Revision,
        segment_size: u64,
        mut new_salt: Box<dyn FnMut() -> u64 + Send>,
    ) -> io::Result<Self> {
        let salt = new_salt();
        let file = create_segment(&*storage, salt, next)?;
        let mut log = Self {
            storage,
            segments,
            file,
            salt,
            len: SEGMENT_HEADER as u64,
            reserved: 0,
            next,
            segment_size,
            full: false,
            broken: None,
            new_salt,
        };
        log.segments.push(Segment::at(next));
        Ok(log)
    }

    /// A log whose last segment was read, and cut off after what is good of it, and is gone on with.
    pub(crate) fn resume(
        storage: Arc<dyn Storage>,
        segments: Vec<Segment>,
        last: &Scan,
        segment_size: u64,
        new_salt: Box<dyn FnMut() -> u64 + Send>,
    ) -> io::Result<Self> {
        let name = file_name(last.first);
        let file = storage.open(&name, last.end as u64)?;
        Ok(Self {
            storage,
            segments,
            file,
            salt: last.salt,
            len: last.end as u64,
            reserved: 0,
            next: last.next,
            segment_size,
            // What an older program has begun, it can still be told from what this one writes.
            full: last.version < VERSION,
            broken: None,
            new_salt,
        })
    }

    /// Appends a frame and makes it durable: when this succeeds, it survives a power cut.
    pub(crate) fn append(&mut self, frame: &mut Frame) -> Result<Revision, AppendError> {
        if let Some(why) = &self.broken {
            return Err(AppendError::Broken(why.clone()));
        }
        let has_frames = self.len > SEGMENT_HEADER as u64;
        self.full |= has_frames && self.len + frame.len() > self.segment_size;
        if self.full {
            self.rotate()?;
        }
        let first = self.next;
        self.write(frame)?;
        self.next = Revision(first.0 + frame.count());
        Ok(first)
    }

    /// The place of the next record.
    pub(crate) fn next(&self) -> Revision {
        self.next
    }

    /// The open segment: its first record's place, its salt, and where in it the next frame begins.
    pub(crate) fn end(&self) -> Place {
        Place {
            segment: self.segments.last().map_or(self.next, |s| s.first),
            salt: self.salt,
            offset: self.len,
        }
    }

    /// Removes segments that hold nothing after `revision`.
    pub(crate) fn purge(&mut self, revision: Revision) -> io::Result<()> {
        let unneeded = self
            .segments
            .windows(2)
            .take_while(|pair| pair[1].first <= revision.next())
            .count();
        for segment in self.segments.drain(..unneeded) {
            self.storage.remove(&segment.name)?;
        }
        match unneeded {
            0 => Ok(()),
            _ => self.storage.sync_directory(),
        }
    }

    /// Goes on with a new segment, once that is on disk, and closes the old one.
    fn rotate(&mut self) -> Result<(), AppendError> {
        let salt = (self.new_salt)();
        let file = match create_segment(&*self.storage, salt, self.next) {
            Ok(file) => file,
            // Nothing of the old segment is touched, and the next try writes the new one from its start.
            Err(e) => {
                let why = format!("creating {} failed: {e}", file_name(self.next));
                return Err(AppendError::NotWritten(why));
            }
        };
        // A frame without records says that there is a next segment, should that one ever go missing.
        let mut last = Frame::default();
        last.clear();
        self.write(&mut last)?;
        self.file = file;
        self.salt = salt;
        self.len = SEGMENT_HEADER as u64;
        self.reserved = 0;
        self.full = false;
        self.segments.push(Segment::at(self.next));
        Ok(())
    }

    /// Writes a frame to the open segment, and syncs it.
    fn write(&mut self, frame: &mut Frame) -> Result<(), AppendError> {
        self.reserve(frame.len());
        if let Err(e) = self.file.append(frame.seal(self.salt, self.next)) {
            return Err(self.take_back(&e));
        }
        if let Err(e) = self.file.sync() {
            // What failed to be written is marked clean in the page cache, so that a second sync would
            // succeed without writing it, and a read would show what is not on the disk ("fsyncgate", 2018;
            // Linux ext4, XFS). Cutting it off drops those pages; trusting the file after that is not for us.
            let _ = self.file.truncate(self.len);
            return Err(self.give_up(format!("syncing {} failed: {e}", self.name())));
        }
        self.len += frame.len();
        Ok(())
    }

    /// Sees to zeros for so many bytes and more. They are a help, and nothing depends on them: where there are
    /// none, the file grows as it is written, and a disk that is full says so when it is.
    fn reserve(&mut self, bytes: u64) {
        let needed = self.len + bytes;
        if needed > self.reserved && bytes <= LARGE {
            self.reserved = (needed + RESERVE).min(self.segment_size).max(needed);
            let _ = self.file.reserve(self.reserved);
        }
    }

    /// A write failed: the disk is full, most likely. What it left behind must go, or the next frame would
    /// stand behind garbage.
    fn take_back(&mut self, e: &io::Error) -> AppendError {
        let failed = format!("writing {} failed: {e}", self.name());
        self.reserved = 0;
        match self.file.truncate(self.len) {
            Ok(()) => AppendError::NotWritten(failed),
            Err(e) => self.give_up(format!(
                "{failed}; and taking back what was written failed: {e}"
            )),
        }
    }

    fn give_up(&mut self, why: String) -> AppendError {
        self.broken = Some(why.clone());
        AppendError::Broken(why)
    }

    fn name(&self) -> &str {
        self.segments.last().map_or("the log", |s| &s.name)
    }
}

impl Segment {
    pub(crate) fn at(first: Revision) -> Self {
        Self {
            first,
            name: file_name(first),
        }
    }
}

/// Creates a segment, durably. One of that name can only be left over from a try that failed: whatever is in
/// it was never acknowledged.
fn create_segment(storage: &dyn Storage, salt: u64, first: Revision) -> io::Result<Box<dyn File>> {
    let mut file = storage.create(&file_name(first))?;
    file.append(&segment_header(VERSION, salt, first))?;
    file.sync()?;
    storage.sync_directory()?;
    Ok(file)
}

/// The name of the segment that begins with this revision; names sort as revisions do.
pub(crate) fn file_name(first: Revision) -> String {
    format!("log-{:020}", first.0)
}

/// The revision that the segment of this name begins with.
pub(crate) fn first_revision(name: &str) -> Option<Revision> {
    let digits = name.strip_prefix("log-").filter(|d| d.len() == 20)?;
    digits.parse().ok().map(Revision)
}
