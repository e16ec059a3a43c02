//! HTTP without I/O: bytes in, typed messages out, and back.

pub mod h1;
