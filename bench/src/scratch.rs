//! A directory for a run's files.

use std::path::{Path, PathBuf};

/// A directory below the system's for temporary files (`TMPDIR`); removed with everything in it when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> std::io::Result<Self> {
        let name = format!("pointsman-bench-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)?;
        crate::guard::scratch(&path);
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The kind of file system it is on: on tmpfs, nothing is ever synced to a disk.
    pub(crate) fn filesystem(&self) -> String {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mount = |line: &str| {
            let mut words = line.split(' ').skip(1);
            let (place, kind) = (words.next()?.to_owned(), words.next()?.to_owned());
            self.0.starts_with(&place).then_some((place, kind))
        };
        // Of those above the directory, the nearest; the last of several on one place.
        let nearest = mounts
            .lines()
            .filter_map(mount)
            .max_by_key(|(place, _)| place.len());
        nearest.map_or("unknown".into(), |(_, kind)| kind)
    }

    /// Writes a file and returns where it is.
    pub(crate) fn write(&self, name: &str, text: &str) -> std::io::Result<PathBuf> {
        let path = self.0.join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind at worst, in a directory that is cleaned anyway.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
