//! HTTP without I/O: bytes in, typed messages out, and back; which route a request takes; what gRPC adds.

mod client;
pub mod cookie;
pub mod filter;
pub mod grpc;
pub mod h1;
pub mod h2;
pub mod load_report;
pub mod route;
pub mod trace;
pub mod ws;

pub use client::client_of;
