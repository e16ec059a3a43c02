use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, fstatfs};

use super::{File, Storage};
use crate::OpenError;

const LOCK: &str = "lock";
/// What is written of zeros at a time.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// File systems that write everything to another place (linux/magic.h, and OpenZFS): btrfs, bcachefs, ZFS.
const COPYING: [u64; 3] = [0x9123_683e, 0xca45_1a4e, 0x2fc1_2fc1];

/// A directory on a disk, locked against other nodes for as long as this lives.
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    /// The directory itself, to be synced.
    directory: fs::File,
    /// Whether what is written again is written where it was.
    in_place: bool,
    _lock: fs::File,
}

/// A file on a disk.
struct Open {
    file: fs::File,
    in_place: bool,
}

impl Disk {
    /// Makes the directory if it is missing, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let io = |action, path: &Path| {
            let path = path.display().to_string();
            move |source| OpenError::Io {
                action,
                path,
                source,
            }
        };
        // The registry may hold what only its owner should see: metadata with passwords is common.
        create_directory(path).map_err(io("create the data directory", path))?;
        let directory = fs::File::open(path).map_err(io("open the data directory", path))?;
        let lock = lock(path)?;
        let kind = fstatfs(&directory).map(|found| found.f_type as u64);
        Ok(Self {
            path: path.to_owned(),
            directory,
            in_place: kind.is_ok_and(|kind| !COPYING.contains(&kind)),
            _lock: lock,
        })
    }
}

/// Creates a directory and those above it, durably: a file is not on disk before its directory is.
fn create_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().filter(|p| !p.as_os_str().is_empty());
    let above = above.unwrap_or(Path::new("."));
    create_directory(above)?;
    DirBuilder::new().mode(0o700).create(path)?;
    fs::File::open(above)?.sync_all()
}

/// Locks the directory. The lock goes with the process, however it ends; the number in the file is for people.
fn lock(path: &Path) -> Result<fs::File, OpenError> {
    let name = path.join(LOCK);
    let io = |action| {
        let path = name.display().to_string();
        move |source| OpenError::Io {
            action,
            path,
            source,
        }
    };
    let mut file = options()
        .read(true)
        .create(true)
        .open(&name)
        .map_err(io("write in the data directory: cannot open"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            // Ten digits; whatever else somebody put there is of no use.
            let _ = (&file).take(10).read_to_string(&mut pid);
            return Err(OpenError::Locked {
                path: path.display().to_string(),
                pid: pid.trim().parse().ok(),
            });
        }
        Err(e) => return Err(io("lock")(e.into())),
    }
    let pid = format!("{}\n", std::process::id());
    file.set_len(0)
        .and_then(|()| file.write_all(pid.as_bytes()))
        .map_err(io("write"))?;
    Ok(file)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

impl Storage for Disk {
    fn list(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(fs::File::open(self.path.join(name))?))
    }

    fn read_from(&self, name: &str, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = fs::File::open(self.path.join(name))?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(io::BufReader::with_capacity(1 << 16, file)))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut options = options();
        options.create(true).truncate(true);
        Ok(Box::new(Open {
            file: options.open(self.path.join(name))?,
            in_place: self.in_place,
        }))
    }

    fn open(&self, name: &str, at: u64) -> io::Result<Box<dyn File>> {
        let mut file = options().open(self.path.join(name))?;
        file.seek(SeekFrom::Start(at))?;
        Ok(Box::new(Open {
            file,
            in_place: self.in_place,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync_all()
    }
}

impl File for Open {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Zeros that are written, for blocks that are only allocated (fallocate) are noted as written once they are: that makes a
    /// sync write the file system's own log as well, whenever there is a new block among what it syncs. Measured (ext4, virtio):
    /// 4,000 bytes took 35 instead of 56 µs of CPU, and 0.10 instead of 0.19 ms.
    fn reserve(&mut self, len: u64) -> io::Result<()> {
        let mut end = self.file.metadata()?.len();
        while end < len && self.in_place {
            let zeros = ZEROS.len().min((len - end) as usize);
            self.file.write_all_at(&ZEROS[..zeros], end)?;
            end += zeros as u64;
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.file.seek(SeekFrom::Start(len)).map(drop)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_is_there_and_behind_it_are_zeros_at_most() {
        let directory = format!("pointsman-disk-{}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        let disk = Disk::open(&directory).unwrap();
        let path = directory.join("log");
        let mut random = fastrand::Rng::with_seed(11);
        let mut file = disk.create("log").unwrap();
        let mut oracle = Vec::new();
        for _ in 0..800 {
            let longest = [100, 5_000, 100_000][random.usize(0..3)];
            let mut bytes = vec![0; random.usize(..longest)];
            random.fill(&mut bytes);
            match random.u8(0..20) {
                0 => file.reserve(oracle.len() as u64 + 50_000).unwrap(),
                1 => {
                    // As after a write that failed.
                    file.append(&bytes).unwrap();
                    file.truncate(oracle.len() as u64).unwrap();
                }
                2 => file = disk.open("log", oracle.len() as u64).unwrap(),
                3 => {
                    oracle.truncate(random.usize(..=oracle.len()) / 2);
                    file.truncate(oracle.len() as u64).unwrap();
                }
                _ => {
                    let middle = bytes.len() / random.usize(1..4);
                    file.append(&bytes[..middle]).unwrap();
                    file.append(&bytes[middle..]).unwrap();
                    file.sync().unwrap();
                    oracle.extend(bytes);
                }
            }
            let there = fs::read(&path).unwrap();
            assert!(there.starts_with(&oracle), "at {}", oracle.len());
            assert!(there[oracle.len()..].iter().all(|byte| *byte == 0));
        }
        fs::remove_dir_all(directory).unwrap();
    }
}
