//! What may happen to nodes.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::ground::{Place, WORLD};
use crate::nodes::Nodes;

/// What happens to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// kill -9.
    Kill,
    /// It is told to end.
    Stop,
    /// SIGSTOP.
    Freeze,
    /// Its wire is pulled.
    Unplug,
    /// The other nodes and it do not hear of each other; clients and instances are reached.
    Isolate,
    /// What it sends to other nodes is lost.
    Mute,
    /// What other nodes send to it is lost.
    Deafen,
    /// Clients and instances are not reached; the other nodes are.
    Blind,
    /// Its disk is full.
    Fill,
}

/// Whom it happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whom {
    Leader,
    Follower,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    One(What, Whom),
    /// The leader and a follower do not hear of each other; all others hear both.
    Part,
    /// So many are killed that no majority is left.
    KillMajority,
    /// All are killed at once.
    KillAll,
    /// One is away until nobody has the log any more that it lacks.
    Absence,
}

/// What was done, to be undone.
pub(crate) struct Done {
    to: Vec<(What, Place)>,
    parted: Option<Place>,
    away: Option<Away>,
}

/// Somebody who is away until the log has been compacted.
struct Away {
    place: Place,
    /// What it had registered, by its revision.
    had: u64,
    /// Its last snapshot.
    snapshot: u64,
}

const WHATS: [What; 9] = [
    What::Kill,
    What::Stop,
    What::Freeze,
    What::Unplug,
    What::Isolate,
    What::Mute,
    What::Deafen,
    What::Blind,
    What::Fill,
];

/// How long a log may take to be compacted.
const COMPACTION: Duration = Duration::from_secs(90);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(what, whom) => {
                let what = match what {
                    What::Kill => "killed",
                    What::Stop => "told to stop",
                    What::Freeze => "frozen",
                    What::Unplug => "unplugged",
                    What::Isolate => "cut off from the nodes",
                    What::Mute => "not heard by the nodes",
                    What::Deafen => "does not hear the nodes",
                    What::Blind => "cut off from clients",
                    What::Fill => "disk full",
                };
                let whom = match whom {
                    Whom::Leader => "leader",
                    Whom::Follower => "follower",
                };
                write!(f, "{whom} {what}")
            }
            Self::Part => f.write_str("leader and a follower parted"),
            Self::KillMajority => f.write_str("a majority killed"),
            Self::KillAll => f.write_str("all killed"),
            Self::Absence => f.write_str("follower away, log compacted"),
        }
    }
}

impl Fault {
    /// All that there are.
    pub(crate) fn all() -> Vec<Self> {
        let each = WHATS.into_iter();
        let one = |what| [Whom::Leader, Whom::Follower].map(|whom| Self::One(what, whom));
        let mut all: Vec<Self> = each.flat_map(one).collect();
        all.extend([Self::Part, Self::KillMajority, Self::KillAll, Self::Absence]);
        all
    }

    /// Whether writing has to go on meanwhile.
    pub(crate) fn leaves_a_majority(self) -> bool {
        !matches!(self, Self::KillMajority | Self::KillAll)
    }

    /// Whether another one may happen to a second node, where the loss of two is survived.
    pub(crate) fn may_be_one_of_two(self) -> bool {
        matches!(self, Self::One(..))
    }

    /// What of it may happen while this other one does: there is one leader.
    pub(crate) fn beside(self, first: Self) -> Self {
        match (first, self) {
            (Self::One(_, Whom::Leader), Self::One(what, _)) => Self::One(what, Whom::Follower),
            _ => self,
        }
    }

    /// Has it happen to nodes that nothing has happened to.
    pub(crate) fn happen(
        self,
        nodes: &mut Nodes,
        leader: Place,
        spared: &BTreeSet<Place>,
        random: &mut fastrand::Rng,
    ) -> Done {
        let mut followers: Vec<Place> = (1..=nodes.count())
            .filter(|place| *place != leader)
            .collect();
        followers.retain(|place| !spared.contains(place));
        random.shuffle(&mut followers);
        let follower = followers[0];
        let (mut to, mut parted, mut away) = (Vec::new(), None, None);
        match self {
            Self::One(what, Whom::Leader) => to.push((what, leader)),
            Self::One(what, Whom::Follower) => to.push((what, follower)),
            Self::KillAll => to.extend((1..=nodes.count()).map(|place| (What::Kill, place))),
            Self::KillMajority => {
                let all = followers.into_iter().chain([leader]);
                to.extend(
                    all.take(nodes.count() / 2 + 1)
                        .map(|place| (What::Kill, place)),
                );
            }
            Self::Part => {
                nodes.ground.lose(leader, follower);
                nodes.ground.lose(follower, leader);
                parted = Some(follower);
            }
            Self::Absence => {
                to.push((What::Kill, follower));
                let had = nodes.site(follower).revision().unwrap_or(u64::MAX);
                away = Some((follower, had));
            }
        }
        for (what, place) in &to {
            begin(*what, *place, nodes);
        }
        let away = away.map(|(place, had)| Away {
            place,
            had,
            snapshot: newest_snapshot(nodes.data(place)),
        });
        Done { to, parted, away }
    }
}

impl Done {
    /// Whom something has happened to.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        self.to.iter().map(|(_, place)| *place).chain(self.parted)
    }

    /// Waits until what it is to last for has come, if that is not just a time.
    pub(crate) fn last(&self, nodes: &Nodes) -> Result<(), String> {
        let Some(Away {
            place, snapshot, ..
        }) = self.away
        else {
            return Ok(());
        };
        let others = (1..=nodes.count()).filter(|other| *other != place);
        // The log goes back to the older of the two snapshots that are kept; its own newest snapshot is older than what it
        // has, but by less than another one's worth of the log. So the older one is to be two further on.
        let mut seen: Vec<(Place, BTreeSet<u64>)> =
            others.map(|other| (other, BTreeSet::new())).collect();
        let began = Instant::now();
        while seen.iter().any(|(_, taken)| taken.len() < 4) {
            for (other, taken) in &mut seen {
                taken.extend(
                    snapshots(nodes.data(*other))
                        .into_iter()
                        .filter(|taken| *taken > snapshot),
                );
            }
            if began.elapsed() > COMPACTION {
                return Err(format!(
                    "within {COMPACTION:?} the log was not compacted so far that n{place} could not follow it"
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Whoever was away came back by a snapshot: it has applied fewer commands than it lacked.
    pub(crate) fn verify(&self, nodes: &Nodes) -> Result<(), String> {
        let Some(Away { place, had, .. }) = self.away else {
            return Ok(());
        };
        let site = nodes.site(place);
        let (revision, applied) = (
            site.revision(),
            site.metric("pointsman_registry_commands_total"),
        );
        match (revision, applied) {
            (Some(revision), Some(applied)) if applied < revision.saturating_sub(had) => Ok(()),
            found => Err(format!(
                "n{place} was away from revision {had} on, and has come back by the log, command by command: {found:?}"
            )),
        }
    }

    /// Undoes it.
    pub(crate) fn mend(&self, nodes: &mut Nodes) {
        for (what, place) in &self.to {
            end(*what, *place, nodes);
        }
        if let Some(place) = self.parted {
            nodes.ground.mend(place);
        }
    }
}

fn begin(what: What, place: Place, nodes: &mut Nodes) {
    let others: Vec<Place> = (1..=nodes.count())
        .filter(|other| *other != place)
        .collect();
    match what {
        What::Kill => nodes.kill(place),
        What::Stop => nodes.stop(place),
        What::Freeze => {
            nodes.close(place);
            nodes.signal(place, Signal::STOP);
        }
        What::Unplug => {
            nodes.close(place);
            nodes.ground.plug(place, false);
        }
        What::Isolate => {
            for other in others {
                nodes.ground.lose(place, other);
                nodes.ground.lose(other, place);
            }
        }
        What::Mute => others
            .into_iter()
            .for_each(|other| nodes.ground.lose(place, other)),
        What::Deafen => others
            .into_iter()
            .for_each(|other| nodes.ground.lose(other, place)),
        What::Blind => {
            nodes.close(place);
            nodes.ground.lose(place, WORLD);
            nodes.ground.lose(WORLD, place);
        }
        What::Fill => fill(nodes.data(place)),
    }
}

fn end(what: What, place: Place, nodes: &mut Nodes) {
    match what {
        What::Kill | What::Stop => nodes.start(place),
        What::Freeze => {
            nodes.signal(place, Signal::CONT);
            nodes.open(place);
        }
        What::Unplug => {
            nodes.ground.plug(place, true);
            nodes.open(place);
        }
        What::Isolate | What::Mute | What::Deafen => nodes.ground.mend(place),
        What::Blind => {
            nodes.ground.mend(place);
            nodes.open(place);
        }
        What::Fill => {
            std::fs::remove_file(filler(nodes.data(place))).expect("it is there");
        }
    }
}

fn filler(data: &Path) -> std::path::PathBuf {
    data.with_file_name("filler")
}

/// Takes all the room that the disk has.
fn fill(data: &Path) {
    let mut filler = File::create(filler(data)).expect("a file");
    for size in [1 << 20, 4 << 10, 1] {
        while filler.write_all(&vec![0; size]).is_ok() {}
    }
}

/// The revisions of the snapshots in a data directory.
fn snapshots(data: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(data).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter_map(|name| name.strip_prefix("snapshot-")?.parse().ok())
        .collect()
}

fn newest_snapshot(data: &Path) -> u64 {
    snapshots(data).into_iter().max().unwrap_or(0)
}
