//! ZooKeeper's clients: nodes of the tree that are compared and set, and an ephemeral node for each session.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use linear::Model;

use crate::caller::CONNECT;
use crate::harness::{ZkClient, zk_create, zk_text};
use crate::histories::{Books, KEYS, Round};
use crate::nodes::Site;

/// A pause between two calls of a client.
const PAUSE: Duration = Duration::from_millis(15);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(3);
/// What sessions ask for, in milliseconds: some outlast most faults, some few.
const TIMEOUTS: [i32; 2] = [10_000, 2_000];

const OK: i32 = 0;
const NO_NODE: i32 = -101;
const BAD_VERSION: i32 = -103;
const NODE_EXISTS: i32 = -110;

const EXISTS: i32 = 3;
const GET: i32 = 4;
const SET: i32 = 5;
const SYNC: i32 = 9;

/// A node: its version, and its data.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell(Option<(i32, u64)>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Read(Option<(i32, u64)>),
    /// Whether it was new, if anybody knows.
    Create(u64, Option<bool>),
    /// To a node of this version: whether it was, if anybody knows.
    Set(i32, u64, Option<bool>),
}

impl Model for Cell {
    type Call = Call;

    fn after(&self, call: &Call) -> Option<Self> {
        let changed = |fits: bool, done: Option<bool>, to: (i32, u64)| {
            let after = if fits { Self(Some(to)) } else { self.clone() };
            done.is_none_or(|done| done == fits).then_some(after)
        };
        match *call {
            Call::Read(seen) => (seen == self.0).then(|| self.clone()),
            Call::Create(value, done) => changed(self.0.is_none(), done, (0, value)),
            Call::Set(version, value, done) => {
                let fits = self.0.is_some_and(|(now, _)| now == version);
                changed(fits, done, (version.wrapping_add(1), value))
            }
        }
    }
}

pub(crate) fn path(round: u64, key: usize) -> String {
    format!("/r{round}-k{key}")
}

/// A session that its client keeps for as long as it may.
struct Session {
    id: i64,
    password: Vec<u8>,
    /// Its ephemeral node, once it was created.
    ephemeral: Option<String>,
}

/// Sessions that were given up, with their ephemeral nodes, which are to go.
pub(crate) type GivenUp = Mutex<BTreeSet<String>>;

/// Calls until it is over, now at one node, then at another, with one session for as long as it lasts.
pub(crate) fn run(books: &Books, sites: &[Arc<Site>], gone: &GivenUp, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let timeout = TIMEOUTS[seed as usize % 2];
    let mut session: Option<Session> = None;
    while !books.is_over() {
        let site = &sites[random.usize(..sites.len())];
        let Some(mut client) = come(site, timeout, &mut session, gone) else {
            std::thread::sleep(PAUSE);
            continue;
        };
        let Some(session) = &mut session else {
            continue;
        };
        for _ in 0..random.u8(20..60) {
            if books.is_over() || !step(books, &mut client, session, &mut random) {
                break;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Comes back to its session, or to a new one if that is over.
fn come(
    site: &Site,
    timeout: i32,
    session: &mut Option<Session>,
    gone: &GivenUp,
) -> Option<ZkClient> {
    let stream = TcpStream::connect_timeout(&site.zookeeper, CONNECT).ok()?;
    stream.set_read_timeout(Some(ANSWER)).ok()?;
    stream.set_write_timeout(Some(ANSWER)).ok()?;
    stream.set_nodelay(true).ok()?;
    let (id, password) = match session {
        Some(session) => (session.id, session.password.clone()),
        None => (0, vec![0; 16]),
    };
    let Some(client) = ZkClient::over(stream, timeout, id, &password).ok()? else {
        // It is over, and what it owned is to be gone.
        let ephemeral = session.take().and_then(|session| session.ephemeral);
        gone.lock().expect("sessions").extend(ephemeral);
        return None;
    };
    if session.is_none() {
        *session = Some(Session {
            id: client.session,
            password: client.password.clone(),
            ephemeral: None,
        });
    }
    Some(client)
}

/// One call; whether it was answered.
fn step(
    books: &Books,
    client: &mut ZkClient,
    session: &mut Session,
    random: &mut fastrand::Rng,
) -> bool {
    let done = match random.u8(..12) {
        0 => own(books, client, session),
        kind => on_cell(&books.current(), books, client, kind, random),
    };
    done.is_some()
}

/// Sees to its ephemeral node: as long as its session lives, it is there.
fn own(books: &Books, client: &mut ZkClient, session: &mut Session) -> Option<()> {
    let path = format!("/e-{:x}", session.id);
    let Some(path) = &session.ephemeral else {
        let error = ask(client, 1, &zk_create(&path, b"", 1))?.0;
        if error == OK || error == NODE_EXISTS {
            session.ephemeral = Some(path);
        }
        return Some(());
    };
    sync(client, path)?;
    let (error, _) = ask(
        client,
        EXISTS,
        &[&zk_text(path.as_bytes())[..], &[0]].concat(),
    )?;
    if error == NO_NODE {
        // The answer to this says whether the session lives.
        ask(client, EXISTS, &[&zk_text(b"/")[..], &[0]].concat())?;
        books.violated(format!(
            "the session {:x} lives, and its ephemeral node {path} is gone",
            session.id
        ));
        session.ephemeral = None;
    }
    Some(())
}

fn on_cell(
    round: &Round,
    books: &Books,
    client: &mut ZkClient,
    kind: u8,
    random: &mut fastrand::Rng,
) -> Option<()> {
    let key = random.usize(..KEYS);
    let (history, path) = (&round.cells[key], path(round.number, key));
    let name = zk_text(path.as_bytes());
    let begun = history.now();
    // Written only when it is as it was seen: what it is, is read first.
    sync(client, &path)?;
    let seen = match ask(client, GET, &[&name[..], &[0]].concat())? {
        (OK, body) => Some(parse(&body)?),
        (NO_NODE, _) => None,
        (error, _) => return odd(books, "a read", error),
    };
    history.answered(begun, Call::Read(seen));
    if kind < 5 {
        return Some(());
    }
    let value = books.value();
    let data = value.to_string();
    let begun = history.now();
    let (sent, call): (_, Box<dyn Fn(Option<bool>) -> Call>) = match seen {
        None => {
            let record = zk_create(&path, data.as_bytes(), 0);
            (
                client.send(1, &record),
                Box::new(move |done| Call::Create(value, done)),
            )
        }
        Some((version, _)) => {
            // Now and then a version that is out of date.
            let version = version - i32::from(random.u8(..8) == 0);
            let version = version.max(0);
            let record = [
                name,
                zk_text(data.as_bytes()),
                version.to_be_bytes().to_vec(),
            ]
            .concat();
            (
                client.send(SET, &record),
                Box::new(move |done| Call::Set(version, value, done)),
            )
        }
    };
    let answer = client.answer().filter(|(number, _)| *number == sent);
    let Some((_, (error, _))) = answer else {
        history.lost(begun, call(None));
        return None;
    };
    match error {
        OK => history.answered(begun, call(Some(true))),
        BAD_VERSION | NODE_EXISTS => history.answered(begun, call(Some(false))),
        error => {
            history.lost(begun, call(None));
            return odd(books, "a write", error);
        }
    }
    Some(())
}

/// An error that says that the connection, or the session, is over; others are none that there may be.
fn odd(books: &Books, what: &str, error: i32) -> Option<()> {
    // Connection lost, operation timed out, session expired, session moved.
    if ![-4, -7, -112, -118].contains(&error) {
        books.violated(format!(
            "ZooKeeper's front has answered {what} with error {error}"
        ));
    }
    None
}

fn sync(client: &mut ZkClient, path: &str) -> Option<()> {
    let (error, _) = ask(client, SYNC, &zk_text(path.as_bytes()))?;
    (error == OK).then_some(())
}

fn ask(client: &mut ZkClient, op: i32, record: &[u8]) -> Option<(i32, Vec<u8>)> {
    let sent = client.send(op, record);
    let (number, answer) = client.answer()?;
    (number == sent).then_some(answer)
}

/// A node's version and the number in its data.
fn parse(body: &[u8]) -> Option<(i32, u64)> {
    let (data, stat) = body.split_at_checked(body.len().checked_sub(68)?)?;
    let version = i32::from_be_bytes(stat[32..36].try_into().ok()?);
    let value = std::str::from_utf8(data.get(4..)?).ok()?.parse().ok()?;
    Some((version, value))
}

/// Whether a node is there, as of now; none if nobody knows.
pub(crate) fn is_there(site: &Site, path: &str) -> Option<bool> {
    let mut client = come(site, TIMEOUTS[0], &mut None, &GivenUp::default())?;
    sync(&mut client, path)?;
    match ask(
        &mut client,
        EXISTS,
        &[&zk_text(path.as_bytes())[..], &[0]].concat(),
    )? {
        (OK, _) => Some(true),
        (NO_NODE, _) => Some(false),
        _ => None,
    }
}
