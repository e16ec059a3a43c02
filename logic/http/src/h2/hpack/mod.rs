//! Field compression (RFC 7541).

mod decode;
mod dynamic;
mod encode;
mod fixed;
mod huffman;

#[cfg(test)]
mod tests;

pub(in crate::h2) use decode::Decoder;
pub(in crate::h2) use encode::{NO_TABLE, write_field, write_status, write_target};
