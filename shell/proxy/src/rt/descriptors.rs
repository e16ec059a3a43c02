//! How many descriptors may be in use before connections have to wait, so that some are left for what must go on: the
//! API, which an operator needs most when they run out, checks, other nodes, the files of the registry.

use std::os::fd::{AsFd, AsRawFd};

use rustix::process::{Resource, getrlimit};

/// An eighth of all, and not more than this, twice: for the checks that go on at the same time, and for clients of the API.
const MOST: u64 = 512;

/// Bounds on numbers of descriptors. The kernel gives the lowest number that is free, so a new one's says how many are in
/// use, and no counter is shared by workers.
#[derive(Clone, Copy, Debug)]
pub struct Descriptors {
    /// The process's limit.
    pub limit: u64,
    reserve: u64,
}

impl Descriptors {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self::of(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
    }

    fn of(limit: u64) -> Self {
        let reserve = (limit / 8).min(MOST);
        Self { limit, reserve }
    }

    /// So many may be in use until no more clients are accepted. Earlier than instances have to do without: clients that
    /// are there could not be served else.
    pub fn for_clients(self) -> u64 {
        self.limit - 2 * self.reserve
    }

    /// So many may be in use until there are none for connections to instances.
    pub fn for_instances(self) -> u64 {
        self.limit - self.reserve
    }
}

/// How many descriptors of this process's are in use, or more: `open` is any of them.
pub fn in_use(open: impl AsFd) -> u64 {
    let next = rustix::io::fcntl_dupfd_cloexec(open, 0);
    next.map_or(u64::MAX, |next| next.as_raw_fd() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_kept_for_what_must_go_on() {
        let bounds = |limit| {
            let all = Descriptors::of(limit);
            (all.for_clients(), all.for_instances())
        };
        assert_eq!(bounds(1_024), (768, 896));
        assert_eq!(bounds(1 << 20), ((1 << 20) - 1_024, (1 << 20) - 512));
        assert_eq!(bounds(0), (0, 0));
    }

    #[test]
    fn an_open_descriptor_is_counted() {
        let file = std::fs::File::open("/dev/null").unwrap();
        // Others are opened and closed meanwhile, by other tests, but there are always some.
        assert!((1..1 << 20).contains(&in_use(&file)));
    }
}
