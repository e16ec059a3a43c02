//! How the cluster looks from one of its nodes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use model::Revision;
use registry::replication::{Member, Report};

use crate::Node;
use crate::company::CONFIRMED;
use crate::node::{Progress, Shared, lock};

/// That a connection was refused is said for so long. Nodes that are refused try again all the time; whoever found the port by
/// chance does not, and is of no interest to those who wait until all is well.
const REFUSED: Duration = Duration::from_secs(60);

/// How the cluster looks from one of its nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The name of the node that says so.
    pub node: String,
    /// The node that leads, as far as it knows.
    pub leader: Option<String>,
    /// The leader's term.
    pub term: u64,
    /// The last command applied here.
    pub revision: Revision,
    /// The last entry applied here.
    pub applied: u64,
    /// The last entry in the log here.
    pub last: u64,
    /// How many milliseconds ago what is applied here was sure to be all there was; none if it never was.
    pub age_ms: Option<u64>,
    /// The latest format of commands and snapshots that all nodes read, which is written.
    pub format: u8,
    /// All nodes, by name.
    pub nodes: Vec<NodeStatus>,
    /// What is wrong with the disk here, if anything is.
    pub fault: Option<String>,
    /// Why the last connection of another node was refused, if that is no more than a minute ago.
    pub refused: Option<String>,
    /// What keeps this node from taking part, and what to do.
    pub trouble: Option<String>,
    /// In what its configuration differs from the cluster, which is what holds, and what else of it is doubtful.
    pub notes: Vec<String>,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Where the others reach it.
    pub address: String,
    /// Whether it votes; if not, it is an observer.
    pub votes: bool,
    /// How many entries it lacks. Known where the leader is asked, or if it has said how it is.
    pub behind: Option<u64>,
    /// How long ago it last answered the leader, in milliseconds. Known where the leader is asked.
    pub heard_ms: Option<u64>,
    /// What it has said of itself; none if it has not answered, or was not asked.
    pub report: Option<Report>,
}

impl Node {
    /// How the cluster looks from here, without asking anybody.
    pub fn status(&self) -> Status {
        self.status_with(&BTreeMap::new())
    }

    /// How the cluster looks from here, and by what its nodes have said of themselves.
    pub(crate) fn status_with(&self, reports: &BTreeMap<u64, Report>) -> Status {
        let shared = self.shared();
        let (revision, origin) = {
            let state = shared.state();
            (state.registry.revision(), state.origin.clone())
        };
        let progress = shared.progress.get().map(|Progress(ask)| ask());
        let (progress, majority) = progress.filter(|_| shared.leads()).unwrap_or_default();
        let notes = self.notes();
        let known = lock(&shared.known);
        // A leader whom no majority answers leads nobody. The only voter is one by itself, and nobody is asked.
        let members = known.membership.nodes.keys();
        let others = { members }.any(|id| *id != shared.node && known.membership.votes(*id));
        let deposed = others
            && shared.leads()
            && majority.is_none_or(|ms| u128::from(ms) > CONFIRMED.as_millis());
        let name = |id: u64| known.membership.nodes.get(&id).map(|m| m.name.to_string());
        let last = progress.values().map(|(last, _)| *last);
        let last = last.chain(reports.values().map(|report| report.last)).max();
        let last = last.unwrap_or(origin.entry.index).max(origin.entry.index);
        let node = |(id, member): (&u64, &Member)| {
            let report = reports.get(id);
            let applied = report.map(|report| report.applied);
            let at = applied.or(progress.get(id).map(|(at, _)| *at));
            NodeStatus {
                name: member.name.to_string(),
                address: member.address.to_string(),
                votes: known.membership.votes(*id),
                behind: at.map(|at| last.saturating_sub(at)),
                // Of itself, a leader knows when a majority last answered.
                heard_ms: { progress.get(id).filter(|_| *id != shared.node) }
                    .and_then(|(_, heard)| *heard),
                report: report.cloned(),
            }
        };
        let mut nodes: Vec<NodeStatus> = known.membership.nodes.iter().map(node).collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let own = (!shared.alone).then(|| shared.company.name.to_string());
        Status {
            node: own.unwrap_or_default(),
            leader: known.leader.filter(|_| !deposed).and_then(name),
            term: known.term,
            revision,
            applied: origin.entry.index,
            last,
            age_ms: shared.age().map(|age| age.as_millis() as u64),
            format: shared.queue.format(),
            nodes,
            fault: lock(&shared.fault).as_deref().map(Into::into),
            refused: shared.refused_lately(),
            trouble: self.trouble(),
            notes,
        }
    }
}

impl Shared {
    /// Why a connection was refused, as long as that may be of use.
    fn refused_lately(&self) -> Option<String> {
        let refused = lock(&self.peer_refused);
        let (at, why) = refused.as_ref()?;
        (self.now().since(*at) < REFUSED).then(|| why.to_string())
    }

    /// How this node is, but for its last entry.
    pub(crate) fn report(&self) -> Report {
        let (revision, applied) = {
            let state = self.state();
            (state.registry.revision().0, state.origin.entry.index)
        };
        let directory = self.company.directory.as_deref();
        Report {
            version: env!("CARGO_PKG_VERSION").into(),
            revision,
            applied,
            last: applied,
            age: self.age().map(|age| age.as_millis() as u64),
            free: directory.and_then(free),
            used: directory.and_then(used),
            fault: lock(&self.fault).as_deref().map(Into::into),
            trouble: self.company.trouble(),
            format: self.company.format,
        }
    }
}

/// Bytes that a file system has room for.
fn free(directory: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(directory).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Bytes that the files of a directory take. There are a few dozen at most.
fn used(directory: &Path) -> Option<u64> {
    let entries = std::fs::read_dir(directory).ok()?.flatten();
    let files = entries.filter_map(|entry| entry.metadata().ok());
    Some(
        files
            .filter(std::fs::Metadata::is_file)
            .map(|f| f.len())
            .sum(),
    )
}
