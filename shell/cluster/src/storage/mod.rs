//! The little of a file system that the registry needs, so that tests can put a failing one in its place.

mod disk;
#[cfg(test)]
pub(crate) mod faulty;

use std::io::{self, Read};

pub(crate) use disk::Disk;

/// A directory of files.
pub(crate) trait Storage: Send + Sync {
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Reads a file from its start.
    fn read(&self, name: &str) -> io::Result<Box<dyn Read + Send>>;
    /// Reads a file from a byte on.
    fn read_from(&self, name: &str, offset: u64) -> io::Result<Box<dyn Read + Send>>;
    /// Makes an empty file, in place of what has that name.
    fn create(&self, name: &str) -> io::Result<Box<dyn File>>;
    /// Opens a file to write from `at` on.
    fn open(&self, name: &str, at: u64) -> io::Result<Box<dyn File>>;
    /// Gives a file another name, in place of what has that one.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renamings and removals durable.
    fn sync_directory(&self) -> io::Result<()>;
}

/// An open file.
pub(crate) trait File: Send {
    /// Writes behind what was written before; when it fails, some of the bytes may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes it at least `len` long, with zeros, if that makes writes to them cheaper. A full disk cannot.
    fn reserve(&mut self, len: u64) -> io::Result<()>;
    /// Cuts off everything from `len` on, and writes on from there.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Makes the content durable.
    fn sync(&mut self) -> io::Result<()>;
}
