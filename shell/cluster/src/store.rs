//! The registry on disk: recovery at the start, then the log and its snapshots.

use std::io::{self, Read};
use std::sync::Arc;

use model::Revision;
use registry::{Command, History, Registry};

use crate::log::{self, AppendError, Frame, Log, Scan, ScanError, Segment};
use crate::node::Recovery;
use crate::snapshot::{self, ReadError};
use crate::storage::Storage;
use crate::{OpenError, Options};

/// How many snapshots are kept: should the newest turn out damaged, the one before and the log since
/// then give the same state.
const SNAPSHOTS_KEPT: usize = 2;
/// The largest segment that is read. Ours are as large as the options say, and one frame larger at most; what is longer
/// was not written by us, and is not taken into memory to find that out.
const MAX_SEGMENT: u64 = 4 << 30;

/// The open log, and which snapshots there are.
pub(crate) struct Store {
    pub(crate) storage: Arc<dyn Storage>,
    log: Log,
    /// Oldest first.
    snapshots: Vec<Revision>,
    snapshot_after: u64,
    /// Bytes of log since the last snapshot was begun.
    logged: u64,
    /// The last snapshot's length.
    snapshot_len: u64,
}

/// A registry as it was found.
pub(crate) struct Recovered {
    pub(crate) registry: Registry,
    pub(crate) history: History,
    pub(crate) store: Option<Store>,
    pub(crate) report: Recovery,
}

impl Store {
    /// See [`Log::append`].
    pub(crate) fn append(&mut self, frame: &mut Frame) -> Result<Revision, AppendError> {
        let revision = self.log.append(frame)?;
        self.logged += frame.len();
        Ok(revision)
    }

    /// Whether it is time for a snapshot. If so, the next time is counted from now on.
    pub(crate) fn snapshot_due(&mut self) -> bool {
        let due = self.logged >= self.snapshot_after.max(self.snapshot_len);
        if due {
            self.logged = 0;
        }
        due
    }

    /// A snapshot is on disk: removes what is no longer needed.
    pub(crate) fn snapshot_written(&mut self, revision: Revision, len: u64) -> io::Result<()> {
        self.snapshots.push(revision);
        self.snapshot_len = len;
        let unneeded = self.snapshots.len().saturating_sub(SNAPSHOTS_KEPT);
        for old in self.snapshots.drain(..unneeded) {
            self.storage.remove(&snapshot::file_name(old))?;
        }
        match self.snapshots.first() {
            Some(oldest) if self.snapshots.len() == SNAPSHOTS_KEPT => self.log.purge(*oldest),
            _ => Ok(()),
        }
    }
}

/// Reads what is on disk.
pub(crate) fn recover(
    storage: Arc<dyn Storage>,
    options: &Options,
    new_salt: Box<dyn FnMut() -> u64 + Send>,
) -> Result<Recovered, OpenError> {
    let mut files = Files::list(&*storage)?;
    let mut report = Recovery::default();
    let registry = files.newest_snapshot(&*storage, &mut report)?;
    report.snapshot = registry.revision();
    let mut replay = Replay {
        history: History::new(registry.revision(), options.history),
        registry,
        report,
        logged: 0,
    };
    let last = replay.segments(&*storage, &mut files.segments)?;
    let next = replay.registry.revision().next();
    let (kept, size) = (files.segments, options.segment_size);
    let log = match &last {
        Some(last) => Log::resume(Arc::clone(&storage), kept, last, size, new_salt),
        None => Log::create(Arc::clone(&storage), kept, next, size, new_salt),
    };
    let log = log.map_err(io_error("write", &log::file_name(next)))?;
    Ok(Recovered {
        registry: replay.registry,
        history: replay.history,
        report: replay.report,
        store: Some(Store {
            storage,
            log,
            snapshots: files.snapshots,
            snapshot_after: options.snapshot_after,
            logged: replay.logged,
            snapshot_len: files.snapshot_len,
        }),
    })
}

/// The files of a data directory.
struct Files {
    /// Oldest first.
    snapshots: Vec<Revision>,
    /// The length of the one that was read.
    snapshot_len: u64,
    /// Oldest first.
    segments: Vec<Segment>,
}

impl Files {
    fn list(storage: &dyn Storage) -> Result<Self, OpenError> {
        let mut names = storage
            .list()
            .map_err(io_error("list", "the data directory"))?;
        names.sort_unstable();
        if names.iter().any(|name| name == snapshot::TEMPORARY) {
            storage
                .remove(snapshot::TEMPORARY)
                .map_err(io_error("remove", snapshot::TEMPORARY))?;
        }
        let snapshots = names.iter().filter_map(|n| snapshot::revision(n));
        let segments = names.iter().filter_map(|n| log::first_revision(n));
        Ok(Self {
            snapshots: snapshots.collect(),
            snapshot_len: 0,
            segments: segments.map(Segment::at).collect(),
        })
    }

    /// The registry of the newest snapshot that is whole; an empty one if there is no snapshot. Forgets the
    /// snapshots that are not.
    fn newest_snapshot(
        &mut self,
        storage: &dyn Storage,
        report: &mut Recovery,
    ) -> Result<Registry, OpenError> {
        while let Some(revision) = self.snapshots.last() {
            let name = snapshot::file_name(*revision);
            let file = storage.read(&name).map_err(io_error("read", &name))?;
            match snapshot::read(io::BufReader::with_capacity(1 << 16, file)) {
                Ok((registry, len)) if registry.revision() == *revision => {
                    self.snapshot_len = len;
                    return Ok(registry);
                }
                Ok((registry, _)) => report.notes.push(format!(
                    "{name} is passed over: it holds revision {}",
                    registry.revision()
                )),
                Err(ReadError::Io(source)) => return Err(io_error("read", &name)(source)),
                Err(ReadError::Version(found)) => {
                    return Err(OpenError::Version {
                        file: name,
                        found,
                        known: snapshot::VERSION,
                    });
                }
                // The log since the one before is still there, and is checked to be: nothing is lost.
                Err(ReadError::Damaged { offset, found }) => report.notes.push(format!(
                    "{name} is passed over for an older one and the log: at byte {offset} there is {found}"
                )),
            }
            self.snapshots.pop();
        }
        Ok(Registry::default())
    }
}

/// The log being applied to a registry.
struct Replay {
    registry: Registry,
    history: History,
    report: Recovery,
    /// Bytes of log after the snapshot.
    logged: u64,
}

impl Replay {
    /// Applies the segments. Returns what the last one holds, if there is one to go on with.
    fn segments(
        &mut self,
        storage: &dyn Storage,
        segments: &mut Vec<Segment>,
    ) -> Result<Option<Scan>, OpenError> {
        let wanted = self.registry.revision().next();
        // The first one needed is the last that begins at or before the first revision wanted.
        let mut needed = segments.partition_point(|s| s.first <= wanted).max(1) - 1;
        // If nothing was written to the last segment yet, a crash may have torn the one before.
        let begun = match segments.last() {
            Some(last) => log::written(&read_segment(storage, &last.name)?) > log::SEGMENT_HEADER,
            None => true,
        };
        if !begun && needed + 1 == segments.len() {
            needed = needed.saturating_sub(1);
        }
        let mut last: Option<Scan> = None;
        let mut end = None;
        for at in needed..segments.len() {
            let segment = segments[at].clone();
            let expected = end.unwrap_or(wanted.min(segment.first));
            if segment.first != expected {
                return Err(gap(&segment, expected));
            }
            let last_written = at + 1 == segments.len() || !begun && at + 2 == segments.len();
            match self.segment(storage, &segment, last_written)? {
                Some(scan) => {
                    if scan.closed && at + 1 == segments.len() {
                        return Err(missing_next(&segment, &scan));
                    }
                    end = Some(scan.next);
                    last = Some(scan);
                }
                // A segment is only followed by another once frames were written to it.
                None if at + 1 < segments.len() => {
                    return Err(damaged(&segment.name, 0, "no finished header"));
                }
                None => {
                    // Removed, or else it would be passed over again at every start.
                    storage
                        .remove(&segment.name)
                        .map_err(io_error("remove", &segment.name))?;
                    segments.pop();
                    last = None;
                }
            }
        }
        // What a snapshot shows was in the log, and synced, before.
        match end.unwrap_or(Revision(1)) {
            end if end < wanted => Err(lost(end, wanted)),
            _ => Ok(last),
        }
    }

    /// Applies one segment; `None` if it was never finished being created. Only in the last one written to can
    /// a crash have torn anything.
    fn segment(
        &mut self,
        storage: &dyn Storage,
        segment: &Segment,
        last_written: bool,
    ) -> Result<Option<Scan>, OpenError> {
        let name = &segment.name;
        let bytes = read_segment(storage, name)?;
        let before = self.registry.revision();
        let scanned = log::scan(&bytes, |revision, command| self.apply(revision, &command));
        let scan = match scanned {
            Ok(scan) => scan,
            Err(ScanError::Unborn) if last_written => {
                self.report.notes.push(format!(
                    "{name} is removed: a crash interrupted its creation, and nothing was written to it"
                ));
                return Ok(None);
            }
            Err(ScanError::Version(found)) => {
                return Err(OpenError::Version {
                    file: name.clone(),
                    found,
                    known: log::VERSION,
                });
            }
            Err(ScanError::Unborn) => {
                return Err(damaged(
                    name,
                    0,
                    "no finished header, and there are later segments",
                ));
            }
            Err(ScanError::Damage(damage)) => {
                return Err(damaged(name, damage.offset as u64, &damage.found));
            }
        };
        if scan.first != segment.first {
            let found = format!("a header for revision {}", scan.first);
            return Err(damaged(name, 0, &found));
        }
        if scan.torn > 0 {
            let rest = scan.torn;
            if !last_written {
                let found = format!(
                    "no frame that begins with revision {}, and there are later segments",
                    scan.next
                );
                return Err(damaged(name, scan.end as u64, &found));
            }
            // Now, or what is written to a later segment would make it damage in the middle.
            cut_off(storage, name, scan.end as u64)?;
            self.report.notes.push(format!(
                "the last {rest} bytes of {name}, from byte {}, are cut off: a write that a crash interrupted, and that was never acknowledged",
                scan.end
            ));
        }
        if self.registry.revision() > before {
            self.logged += scan.end as u64;
        }
        Ok(Some(scan))
    }

    fn apply(&mut self, revision: Revision, command: &Command) {
        // A segment may begin before the snapshot. Gaps are found by the scan, and between segments by the names.
        if revision == self.registry.revision().next() {
            let applied = self.registry.apply(revision, command);
            self.history.extend(applied.events);
            self.report.records += 1;
        }
    }
}

const MISSING: &str =
    "Put the missing file back, or move the data directory aside, and start anew or from a backup";
const RESTORE: &str = "Move the data directory aside, and start anew or from a backup; instances that heartbeat register themselves again";

fn damaged(file: &str, offset: u64, found: &str) -> OpenError {
    OpenError::Damaged {
        file: file.into(),
        offset,
        found: found.into(),
        advice: RESTORE,
    }
}

fn gap(segment: &Segment, expected: Revision) -> OpenError {
    let found = format!(
        "it begins with revision {}, and revision {expected} is expected: a segment before it is missing",
        segment.first
    );
    OpenError::Damaged {
        file: segment.name.clone(),
        offset: 0,
        found,
        advice: MISSING,
    }
}

fn missing_next(segment: &Segment, scan: &Scan) -> OpenError {
    let next = log::file_name(scan.next);
    OpenError::Damaged {
        file: segment.name.clone(),
        offset: scan.end as u64,
        found: format!("it is closed, but the next segment, {next}, is missing"),
        advice: MISSING,
    }
}

fn read_segment(storage: &dyn Storage, name: &str) -> Result<Vec<u8>, OpenError> {
    let file = storage.read(name).map_err(io_error("read", name))?;
    let mut bytes = Vec::new();
    Read::take(file, MAX_SEGMENT + 1)
        .read_to_end(&mut bytes)
        .map_err(io_error("read", name))?;
    match bytes.len() as u64 > MAX_SEGMENT {
        true => Err(damaged(
            name,
            MAX_SEGMENT,
            "more bytes than any segment has",
        )),
        false => Ok(bytes),
    }
}

fn cut_off(storage: &dyn Storage, name: &str, len: u64) -> Result<(), OpenError> {
    storage
        .open(name, len)
        .and_then(|mut file| {
            file.truncate(len)?;
            file.sync()
        })
        .map_err(io_error("cut off the end of", name))
}

/// The log ends before the snapshot was taken.
fn lost(end: Revision, wanted: Revision) -> OpenError {
    OpenError::Damaged {
        file: log::file_name(end),
        offset: 0,
        found: format!(
            "the log ends before revision {end}, or is missing, but a snapshot shows that it went on to {wanted} at least"
        ),
        advice: RESTORE,
    }
}

fn io_error(action: &'static str, path: &str) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io {
        action,
        path,
        source,
    }
}
