//! What pointsman tells the outside about itself: the access log, traces and the text form of metrics.

mod access;
mod connection;
mod exposition;
mod record;
mod sink;
mod traces;

pub use access::{AccessLog, Format, Target};
pub use exposition::{Exposition, Kind};
pub use record::{AccessRecord, Answerer, ConnectionRecord, Record, RequestLine, Trace, Try};
pub use traces::{TraceCounts, TraceExport, TraceOptions};
