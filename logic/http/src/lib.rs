//! HTTP without I/O: bytes in, typed messages out, and back; and which route a request takes.

pub mod h1;
pub mod h2;
pub mod load_report;
pub mod route;
pub mod ws;
