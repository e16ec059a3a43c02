//! The log: segment files of frames, one frame for every group commit.

mod frame;
mod scan;
mod segment;

pub use frame::MAX_FRAME;
pub(crate) use frame::{Frame, SEGMENT_HEADER, VERSION};
pub use scan::{Damage, Scan, ScanError, scan};
pub(crate) use segment::{AppendError, Log, Segment, file_name, first_revision};
