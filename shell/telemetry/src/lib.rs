//! What pointsman tells the outside about itself: the access log and the text form of metrics.

mod access;
mod connection;
mod exposition;
mod record;

pub use access::{AccessLog, Format, Target};
pub use exposition::{Exposition, Kind};
pub use record::{AccessRecord, Answerer, ConnectionRecord, Record, RequestLine};
