//! What processes have used, as the kernel tells under `/proc`.

use std::fs;
use std::time::Duration;

/// A process's time on cores, its children's and all their threads' included.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    /// From the scheduler's own accounts, in nanoseconds.
    pub(crate) total: Duration,
    /// Timer ticks that found it in user space: sampled, so only their share of all ticks means something.
    user: u64,
    system: u64,
}

impl Cpu {
    /// What process `pid` has used so far.
    pub(crate) fn of(pid: u32) -> Self {
        let each = tree(pid).into_iter().map(Self::of_one);
        each.fold(Self::default(), |sum, cpu| sum + cpu)
    }

    /// What process `pid` has used without its children.
    pub(crate) fn of_one(pid: u32) -> Self {
        let mut sum = Self::default();
        for thread in entries(&format!("/proc/{pid}/task")) {
            sum.add(&format!("/proc/{pid}/task/{thread}"));
        }
        sum
    }

    /// What was used since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            total: self.total.saturating_sub(before.total),
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }

    /// The share of the time spent in user space.
    pub(crate) fn user_share(self) -> f64 {
        self.user as f64 / (self.user + self.system).max(1) as f64
    }

    fn add(&mut self, thread: &str) {
        let schedule = fs::read_to_string(format!("{thread}/schedstat")).unwrap_or_default();
        let on_cpu = schedule.split(' ').next().and_then(|n| n.parse().ok());
        self.total += Duration::from_nanos(on_cpu.unwrap_or(0));
        let stat = Stat::read(&format!("{thread}/stat"));
        self.user += stat.field(14);
        self.system += stat.field(15);
    }
}

impl std::ops::Add for Cpu {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            user: self.user + other.user,
            system: self.system + other.system,
        }
    }
}

/// Memory of a process and its children, in KiB, user space only: sockets' buffers are the kernel's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Resident; pages that processes share count in each.
    pub(crate) resident: u64,
    /// Resident; pages that processes share count by their part.
    pub(crate) proportional: u64,
}

impl Memory {
    /// What process `pid` has now.
    pub(crate) fn of(pid: u32) -> Self {
        let mut sum = Self::default();
        for process in tree(pid) {
            let path = format!("/proc/{process}/smaps_rollup");
            let text = fs::read_to_string(path).unwrap_or_default();
            let number = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                let number = line.and_then(|line| line.split_whitespace().next());
                number.and_then(|n| n.parse().ok()).unwrap_or(0)
            };
            sum.resident += number("Rss:");
            sum.proportional += number("Pss:");
        }
        sum
    }
}

/// A process and those that descend from it.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = entries("/proc")
        .map(|pid| {
            (
                pid,
                Stat::read(&format!("/proc/{pid}/stat")).field(4) as u32,
            )
        })
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        let children = parents.iter().filter(|(_, p)| *p == parent);
        found.extend(children.map(|(child, _)| *child));
        next += 1;
    }
    found
}

/// A line of `/proc/*/stat`.
struct Stat(String);

impl Stat {
    fn read(path: &str) -> Self {
        Self(fs::read_to_string(path).unwrap_or_default())
    }

    /// A number by its place in proc_pid_stat(5), from the fourth on; 0 if the process has ended.
    fn field(&self, number: usize) -> u64 {
        // The second is a name in parentheses, and may contain anything.
        let rest = self.0.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let text = rest.split(' ').nth(number - 3);
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

/// The entries of a directory whose names are numbers.
fn entries(path: &str) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
