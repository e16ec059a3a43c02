//! Quotas: nodes under `/zookeeper/quota` that say how much there may be below a path, and, kept by the tree itself,
//! how much there is. The format is that of ZooKeeper's shell, which sets and shows them.

use std::sync::Arc;

use super::{Refusal, Tree, path};

const QUOTAS: &str = "/zookeeper/quota";
const LIMITS: &str = "zookeeper_limits";
const STATS: &str = "zookeeper_stats";

impl Tree {
    /// Whether so many more bytes and nodes may be at `path`, as far as hard limits go. (What exceeds a soft limit is
    /// allowed, and can be seen by comparing the two nodes.)
    pub(super) fn check_quota(&self, path: &str, bytes: i64, nodes: i64) -> Result<(), Refusal> {
        let Some(folder) = self.quota_of(path) else {
            return Ok(());
        };
        let (limits, stats) = (self.track(&folder, LIMITS), self.track(&folder, STATS));
        let (Some(limits), Some(stats)) = (limits, stats) else {
            return Ok(());
        };
        let exceeded = |limit: Option<i64>, used: i64, more: i64| {
            more > 0 && limit.is_some_and(|limit| limit > -1 && used + more > limit)
        };
        let nodes = exceeded(limits.value("countHardLimit"), stats.count, nodes);
        let bytes = exceeded(limits.value("byteHardLimit"), stats.bytes, bytes);
        match nodes || bytes {
            true => Err(Refusal::QuotaExceeded),
            false => Ok(()),
        }
    }

    /// Counts what has changed at `path`.
    pub(super) fn count_for_quota(&mut self, path: &str, bytes: i64, nodes: i64) {
        if (bytes, nodes) == (0, 0) {
            return;
        }
        let Some(folder) = self.quota_of(path) else {
            return;
        };
        if let Some(mut stats) = self.track(&folder, STATS) {
            stats.bytes = stats.bytes.saturating_add(bytes);
            stats.count = stats.count.saturating_add(nodes);
            self.write_stats(&folder, &stats);
        }
    }

    /// If `created` is where a quota's use is kept: counts what there is already.
    pub(super) fn measure_for_quota(&mut self, created: &str) {
        let Some(folder) = created
            .strip_suffix(STATS)
            .and_then(|f| f.strip_suffix('/'))
        else {
            return;
        };
        let Some(measured) = folder.strip_prefix(QUOTAS).filter(|p| p.starts_with('/')) else {
            return;
        };
        let mut stats = Track::default();
        (stats.count, stats.bytes) = (0, 0);
        self.walk(measured, &mut |_, node| {
            stats.count += 1;
            stats.bytes += node.data_length() as i64;
        });
        self.write_stats(folder, &stats);
    }

    /// The folder of the longest path, at or above `path`, that has a quota.
    fn quota_of(&self, path: &str) -> Option<String> {
        let mut node = self.node(QUOTAS).filter(|n| n.child_count() > 0)?;
        let mut folder = String::from(QUOTAS);
        let mut found = None;
        for name in path::names(path)? {
            let Some(child) = node.child(name) else { break };
            node = child;
            folder.push('/');
            folder.push_str(name);
            if node.child(LIMITS).is_some() {
                found = Some(folder.len());
            }
        }
        folder.truncate(found?);
        Some(folder)
    }

    fn track(&self, folder: &str, name: &str) -> Option<Track> {
        let node = self.node(folder)?.child(name)?;
        Track::parse(node.data.as_deref().unwrap_or_default())
    }

    fn write_stats(&mut self, folder: &str, stats: &Track) {
        if let Some(node) = self.node_mut(&format!("{folder}/{STATS}")) {
            node.data = Some(Arc::from(stats.text().as_bytes()));
        }
    }
}

/// `count=5,bytes=120;byteHardLimit=1000`.
struct Track {
    count: i64,
    bytes: i64,
    more: Vec<(Box<str>, i64)>,
}

impl Default for Track {
    fn default() -> Self {
        Self {
            count: -1,
            bytes: -1,
            more: Vec::new(),
        }
    }
}

impl Track {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut track = Self::default();
        let text = std::str::from_utf8(bytes).ok()?;
        for pair in text.split([',', ';']).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=')?;
            // Older shells wrote one sign too many.
            let value = value.trim_end_matches('=').parse().ok()?;
            match name {
                "count" => track.count = value,
                "bytes" => track.bytes = value,
                _ => track.more.push((name.into(), value)),
            }
        }
        Some(track)
    }

    fn value(&self, name: &str) -> Option<i64> {
        let found = self.more.iter().find(|(n, _)| **n == *name);
        found.map(|(_, value)| *value)
    }

    fn text(&self) -> String {
        let mut text = format!("count={},bytes={}", self.count, self.bytes);
        for (name, value) in &self.more {
            text.push_str(&format!(";{name}={value}"));
        }
        text
    }
}
