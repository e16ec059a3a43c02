//! Codecs of protocols other than HTTP: bytes in, typed messages out, and back. No I/O; every parser is
//! incremental and bounded.

pub mod client_hello;
pub mod dialogue;
pub mod proxy_protocol;
pub mod zookeeper;
