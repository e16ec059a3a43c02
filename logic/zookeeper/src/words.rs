//! The four-letter words: what people and tools ask a server on a connection of its own, without a session.

use std::fmt::Write;
use std::net::SocketAddr;

use model::FourLetterWord as Word;
use registry::Registry;
use registry::tree::SessionId;

use crate::clients::Counters;
use crate::connection::Connection;
use crate::watches::WatchCounts;

/// The word that a connection begins with. No frame does: the shortest of them would be a gigabyte.
pub(crate) fn read(bytes: &[u8]) -> Option<Word> {
    let letters = bytes.get(..4)?;
    let mut all = Word::ALL.into_iter();
    all.find(|w| w.as_str().as_bytes() == letters)
}

/// A connection, for people.
#[derive(Clone, Debug)]
pub struct ConnectionFacts {
    /// Where the client is.
    pub peer: SocketAddr,
    /// Its session, or zero.
    pub session: SessionId,
    /// The session's timeout in milliseconds.
    pub timeout: u32,
    /// Commands on their way.
    pub in_flight: u32,
    /// Requests.
    pub received: u64,
    /// Answers and events.
    pub sent: u64,
}

impl ConnectionFacts {
    pub(crate) fn of(connection: &Connection) -> Self {
        Self {
            peer: SocketAddr::new(connection.peer, connection.port),
            session: connection.session,
            timeout: connection.timeout,
            in_flight: connection.in_flight,
            received: connection.received,
            sent: connection.sent,
        }
    }

    fn line(&self) -> String {
        let Self {
            peer,
            session,
            timeout,
            in_flight,
            received,
            sent,
        } = self;
        let mut line = format!(" /{peer}[1](queued={in_flight},recved={received},sent={sent}");
        if *session != SessionId(0) {
            let _ = write!(line, ",sid=0x{:x},to={timeout}", session.0);
        }
        line.push(')');
        line
    }
}

/// What the answers are made of.
pub struct Facts<'a> {
    /// The program's version.
    pub version: &'a str,
    /// The registry.
    pub registry: &'a Registry,
    /// Where the front listens.
    pub bind: SocketAddr,
    /// Where it listens for clients that speak TLS.
    pub secure: Option<SocketAddr>,
    /// What all threads have counted.
    pub counters: Counters,
    /// Their connections.
    pub connections: Vec<ConnectionFacts>,
    /// Their watches.
    pub watches: WatchCounts,
    /// Watched paths and who watches them; asked for only where it is shown.
    pub watched: &'a dyn Fn() -> Vec<(String, Vec<SessionId>)>,
    /// The shortest and longest timeout of sessions, in milliseconds.
    pub timeouts: (u128, u128),
    /// Bytes of the log on disk.
    pub log_bytes: u64,
    /// The nodes that serve the same tree; none where there is only one.
    pub ensemble: Option<Ensemble>,
}

/// The nodes that serve the same tree, as one of them sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ensemble {
    /// All of them, in an order that is the same on each.
    pub members: Vec<Member>,
    /// Which of them this is.
    pub own: usize,
    /// Whether it leads.
    pub leads: bool,
    /// Whether it hears of what the others do.
    pub in_touch: bool,
    /// Whether it lets clients read if it does not.
    pub readers: bool,
    /// Of those that it leads and that vote, how many have all but a little of the log.
    pub synced: usize,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where the other nodes reach it.
    pub address: String,
    /// Whether it votes, or only follows.
    pub votes: bool,
}

impl Facts<'_> {
    fn outstanding(&self) -> u64 {
        let waiting = self.connections.iter().map(|c| u64::from(c.in_flight));
        waiting.sum()
    }

    /// What ZooKeeper calls a server's mode.
    fn mode(&self) -> &'static str {
        let Some(ensemble) = &self.ensemble else {
            return "standalone";
        };
        let own = ensemble.members.get(ensemble.own);
        match ensemble.leads {
            true => "leader",
            false if own.is_some_and(|own| !own.votes) => "observer",
            false => "follower",
        }
    }

    fn serves(&self) -> bool {
        self.ensemble.as_ref().is_none_or(|e| e.in_touch)
    }
}

/// What ZooKeeper says while it has no quorum; monitors know it.
const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// The protocol's version that clients are told, which they choose their requests by.
pub fn release(facts: &Facts<'_>) -> String {
    let version = facts.version;
    format!("3.9.0-pointsman-{version}, built on 2026-01-01 00:00 UTC")
}

/// The answer to a word.
pub fn text(word: Word, facts: &Facts<'_>) -> String {
    match word {
        Word::Ruok => "imok".into(),
        Word::Isro if facts.serves() => "rw".into(),
        Word::Isro if facts.ensemble.as_ref().is_some_and(|e| e.readers) => "ro".into(),
        Word::Isro => "null".into(),
        Word::Conf => configuration(facts),
        Word::Envi => format!(
            "Environment:\nzookeeper.version={}\nos.name=Linux\n",
            release(facts)
        ),
        Word::Gtmk | Word::Stmk => "0".into(),
        _ if !facts.serves() => NOT_SERVING.into(),
        Word::Srvr => server(facts, false),
        Word::Stat => server(facts, true),
        Word::Mntr => figures(facts)
            .iter()
            .fold(String::new(), |mut all, (k, v)| {
                let _ = writeln!(all, "zk_{k}\t{v}");
                all
            }),
        Word::Cons => connections(facts) + "\n",
        Word::Dump => dump(facts),
        Word::Dirs => format!("datadir_size: 0\nlogdir_size: {}\n", facts.log_bytes),
        Word::Wchs => watch_summary(facts),
        Word::Wchc => by_session(facts),
        Word::Wchp => by_path(facts),
        Word::Crst => "Connection stats reset.\n".into(),
        Word::Srst => "Server stats reset.\n".into(),
        Word::Hash => String::new(),
    }
}

/// Names and values for monitoring, without the prefix `zk_`.
pub fn figures(facts: &Facts<'_>) -> Vec<(&'static str, String)> {
    let tree = facts.registry.tree();
    let totals = tree.totals();
    let mut figures = vec![
        ("version", release(facts)),
        ("server_state", facts.mode().into()),
        ("packets_received", facts.counters.received.to_string()),
        ("packets_sent", facts.counters.sent.to_string()),
        ("num_alive_connections", facts.connections.len().to_string()),
        ("outstanding_requests", facts.outstanding().to_string()),
        ("znode_count", totals.nodes.to_string()),
        ("watch_count", facts.watches.watches.to_string()),
        ("ephemerals_count", totals.ephemerals.to_string()),
        ("approximate_data_size", totals.bytes.to_string()),
        ("global_sessions", tree.session_count().to_string()),
        ("events_sent", facts.counters.events.to_string()),
        ("connection_drop_count", facts.counters.dropped.to_string()),
        ("last_zxid", format!("0x{:x}", tree.zxid().0)),
    ];
    let Some(ensemble) = &facts.ensemble else {
        return figures;
    };
    let voters = ensemble.members.iter().filter(|m| m.votes).count();
    figures.push(("quorum_size", voters.to_string()));
    let state = if ensemble.leads {
        "leading"
    } else {
        "following"
    };
    figures.push(("peer_state", format!("{state} - broadcast")));
    if ensemble.leads {
        let learners = ensemble.members.len().saturating_sub(1);
        figures.push(("learners", learners.to_string()));
        figures.push(("synced_followers", ensemble.synced.to_string()));
    }
    figures
}

fn server(facts: &Facts<'_>, with_clients: bool) -> String {
    let tree = facts.registry.tree();
    let mut text = format!("Zookeeper version: {}\n", release(facts));
    if with_clients {
        text.push_str("Clients:\n");
        text.push_str(&connections(facts));
        text.push('\n');
    }
    let _ = write!(
        text,
        "Latency min/avg/max: 0/0.0/0\nReceived: {}\nSent: {}\nConnections: {}\nOutstanding: {}\nZxid: 0x{:x}\nMode: {}\nNode count: {}\n",
        facts.counters.received,
        facts.counters.sent,
        facts.connections.len(),
        facts.outstanding(),
        tree.zxid().0,
        facts.mode(),
        tree.totals().nodes,
    );
    text
}

fn connections(facts: &Facts<'_>) -> String {
    facts.connections.iter().fold(String::new(), |mut all, c| {
        all.push_str(&c.line());
        all.push('\n');
        all
    })
}

fn configuration(facts: &Facts<'_>) -> String {
    let (least, most) = facts.timeouts;
    let secure = facts.secure.map_or_else(String::new, |at| {
        let (port, ip) = (at.port(), at.ip());
        format!("secureClientPort={port}\nsecureClientPortAddress={ip}\n")
    });
    let mut text = format!(
        "clientPort={}\nclientPortAddress={}\n{secure}tickTime={}\nminSessionTimeout={least}\nmaxSessionTimeout={most}\nserverId={}\n",
        facts.bind.port(),
        facts.bind.ip(),
        least / 2,
        facts.ensemble.as_ref().map_or(0, |e| e.own + 1),
    );
    let members = facts.ensemble.iter().flat_map(|e| &e.members);
    for (place, member) in members.enumerate() {
        let role = if member.votes {
            "participant"
        } else {
            "observer"
        };
        let _ = writeln!(text, "server.{}={}:{role}", place + 1, member.address);
    }
    text
}

fn dump(facts: &Facts<'_>) -> String {
    let tree = facts.registry.tree();
    let mut text = format!(
        "SessionTracker dump:\nGlobal Sessions({}):\n",
        tree.session_count()
    );
    for session in tree.sessions() {
        let _ = writeln!(text, "0x{:x}\t{}ms", session.id.0, session.timeout);
    }
    let owners = || tree.sessions().filter(|s| !s.ephemerals.is_empty());
    let _ = writeln!(
        text,
        "ephemeral nodes dump:\nSessions with Ephemerals ({}):",
        owners().count()
    );
    for session in owners() {
        let _ = writeln!(text, "0x{:x}:", session.id.0);
        for path in &session.ephemerals {
            let _ = writeln!(text, "\t{path}");
        }
    }
    text
}

fn watch_summary(facts: &Facts<'_>) -> String {
    let mut sessions: Vec<SessionId> = (facts.watched)()
        .into_iter()
        .flat_map(|(_, sessions)| sessions)
        .collect();
    sessions.sort_unstable();
    sessions.dedup();
    format!(
        "{} connections watching {} paths\nTotal watches:{}\n",
        sessions.len(),
        facts.watches.paths,
        facts.watches.watches
    )
}

fn by_session(facts: &Facts<'_>) -> String {
    let mut pairs: Vec<(SessionId, String)> = (facts.watched)()
        .into_iter()
        .flat_map(|(path, sessions)| sessions.into_iter().map(move |s| (s, path.clone())))
        .collect();
    pairs.sort_unstable();
    let mut text = String::new();
    let mut last = None;
    for (session, path) in pairs {
        if last != Some(session) {
            let _ = writeln!(text, "0x{:x}", session.0);
            last = Some(session);
        }
        let _ = writeln!(text, "\t{path}");
    }
    text
}

fn by_path(facts: &Facts<'_>) -> String {
    let mut watched = (facts.watched)();
    watched.sort_unstable();
    let mut text = String::new();
    for (path, sessions) in watched {
        let _ = writeln!(text, "{path}");
        for session in sessions {
            let _ = writeln!(text, "\t0x{:x}", session.0);
        }
    }
    text
}
