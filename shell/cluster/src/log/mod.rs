//! The log: segment files of frames, one frame for every group commit.

mod frame;
mod read;
mod scan;
mod segment;

pub use frame::MAX_FRAME;
pub(crate) use frame::{Frame, SEGMENT_HEADER, VERSION};
pub(crate) use read::{read_frames, read_salt};
pub(crate) use scan::written;
pub use scan::{Damage, Scan, ScanError, scan};
pub(crate) use segment::{AppendError, Log, Place, Segment, file_name, first_revision};
