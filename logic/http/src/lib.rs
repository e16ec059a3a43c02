//! HTTP without I/O: bytes in, typed messages out, and back; and which route a request takes.

mod client;
pub mod cookie;
pub mod filter;
pub mod h1;
pub mod h2;
pub mod route;
pub mod ws;

pub use client::client_of;
