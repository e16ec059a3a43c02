//! Clients of the simulated cluster, and what they may see.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use linear::{History, Model};
use model::{Health, Host, Instance, InstanceId, Lease, ServiceKey, Timestamp, Weight};
use registry::tree::{
    AccessList, Kind, Mode, Op, Outcome, Refusal, SessionId, TreeCommand, TreeReply,
};
use registry::{Command, Committed, Reply};

use crate::node::lock;
use crate::{Node, SubmitError};

/// What is written to and read: each has a history of its own.
pub(super) const KEYS: usize = 3;

/// A node of the tree: its data, and its version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    value: u64,
    version: i32,
}

/// What is asked of one, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// The version afterwards.
    Write {
        value: u64,
        version: Option<i32>,
    },
    /// Only if it has this version; whether it had.
    Swap {
        expected: i32,
        value: u64,
        done: Option<bool>,
    },
    Read(Cell),
}

impl Model for Cell {
    type Call = Call;

    fn after(&self, call: &Call) -> Option<Self> {
        let written = |value| Self {
            value,
            version: self.version + 1,
        };
        match *call {
            Call::Write { value, version } => {
                let after = written(value);
                version.is_none_or(|v| v == after.version).then_some(after)
            }
            Call::Swap {
                expected,
                value,
                done,
            } => {
                let fits = expected == self.version;
                let after = if fits { written(value) } else { *self };
                done.is_none_or(|done| done == fits).then_some(after)
            }
            Call::Read(cell) => (cell == *self).then_some(*self),
        }
    }
}

/// The session of a node: commands in its name are given to that node.
fn session(node: u64) -> SessionId {
    SessionId((node >> 1) as i64 | 1)
}

fn path(key: usize) -> Box<str> {
    format!("/k{key}").into()
}

/// Opens the node's session.
pub(super) fn open(node: u64) -> Command {
    Command::Tree(TreeCommand::Open {
        session: session(node),
        password: [0; 16],
        timeout: 3_600_000,
    })
}

/// Creates what is written to.
pub(super) fn create(node: u64, key: usize) -> Command {
    command(
        node,
        Op::Create {
            path: path(key),
            data: data(0),
            access: AccessList::OPEN,
            mode: Mode {
                sequential: false,
                kind: Kind::Persistent,
            },
        },
    )
}

fn set(node: u64, key: usize, value: u64, version: i32) -> Command {
    command(
        node,
        Op::SetData {
            path: path(key),
            data: data(value),
            version,
        },
    )
}

fn command(node: u64, op: Op) -> Command {
    Command::Tree(TreeCommand::One {
        session: session(node),
        who: Arc::new([]),
        at: Timestamp(0),
        op,
    })
}

fn data(value: u64) -> Option<Arc<[u8]>> {
    Some(value.to_le_bytes().into())
}

/// What a node has there now.
pub(super) fn look(node: &Node, key: usize) -> Option<Cell> {
    node.read(|registry| {
        let found = registry.tree().node(&path(key))?;
        let bytes = found.data.as_deref()?.try_into().ok()?;
        Some(Cell {
            value: u64::from_le_bytes(bytes),
            version: found.stat().version,
        })
    })
}

/// Registers an instance of a service of its own, with a lease.
pub(super) fn lease(name: &str) -> Command {
    let (key, id) = leased(name);
    Command::Register {
        key,
        instance: Box::new(Instance {
            id,
            host: Host::Ip([10, 0, 0, 1].into()),
            port: 80.try_into().expect("a port"),
            weight: Weight(1),
            tier: 0,
            zone: None,
            tags: Box::default(),
            metadata: None,
            lease: Some(Lease {
                ttl: Duration::from_secs(2),
                grace: Duration::from_secs(3_600),
            }),
            check: None,
            enabled: true,
            drain: false,
        }),
        at: Timestamp(0),
    }
}

pub(super) fn leased(name: &str) -> (ServiceKey, InstanceId) {
    let key = ServiceKey::in_default(name.parse().expect("a name"));
    (key, name.parse().expect("an id"))
}

/// Whether its lease has ended.
pub(super) fn has_run_out(node: &Node, name: &str) -> bool {
    let (key, id) = leased(name);
    node.read(|registry| {
        let record = registry.instance(&key, &id);
        record.is_some_and(|record| record.health() == Health::Critical)
    })
}

/// What a client wants.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wish {
    Write(u64),
    Swap(u64),
    Read,
}

/// What is known of a call that has ended.
pub(super) enum Known {
    Answered(Call),
    /// It may have happened, or may still.
    Open(Call),
    /// It has not, and will not.
    Never,
}

/// A call on its way.
pub(super) struct Pending {
    pub(super) node: usize,
    pub(super) key: usize,
    begun: u64,
    /// What it is if nobody knows what came of it.
    open: Option<Call>,
    known: Arc<Mutex<Option<Known>>>,
}

impl Pending {
    /// Begins a call at a node; to be called on its runtime.
    pub(super) fn begin(
        node: &Node,
        (at, key): (usize, usize),
        wish: Wish,
        history: &History<Call>,
    ) -> Self {
        let known = Arc::new(Mutex::new(None));
        let seen = look(node, key).unwrap_or_default().version;
        let open = match wish {
            Wish::Write(value) => Some(Call::Write {
                value,
                version: None,
            }),
            Wish::Swap(value) => Some(Call::Swap {
                expected: seen,
                value,
                done: None,
            }),
            Wish::Read => None,
        };
        let begun = history.now();
        let (node, told, asked) = (node.clone(), Arc::clone(&known), open.clone());
        tokio::spawn(async move {
            let ended = match asked {
                None => read(&node, key).await,
                Some(call) => write(&node, key, call).await,
            };
            *lock(&told) = Some(ended);
        });
        Self {
            node: at,
            key,
            begun,
            open,
            known,
        }
    }

    /// Whether it has ended; then it is part of the history.
    pub(super) fn has_ended(&self, history: &History<Call>) -> bool {
        let Some(known) = lock(&self.known).take() else {
            return false;
        };
        match known {
            Known::Answered(call) => history.answered(self.begun, call),
            Known::Open(call) => history.lost(self.begun, call),
            Known::Never => {}
        }
        true
    }

    /// The node that it was asked of is gone.
    pub(super) fn is_lost(&self, history: &History<Call>) {
        if !self.has_ended(history)
            && let Some(call) = self.open.clone()
        {
            history.lost(self.begun, call);
        }
    }
}

async fn read(node: &Node, key: usize) -> Known {
    match node.catch_up().await {
        Ok(()) => look(node, key).map_or(Known::Never, |cell| Known::Answered(Call::Read(cell))),
        Err(_) => Known::Never,
    }
}

async fn write(node: &Node, key: usize, call: Call) -> Known {
    let me = node.number().expect("one of several");
    let (value, version) = match call {
        Call::Write { value, .. } => (value, -1),
        Call::Swap {
            value, expected, ..
        } => (value, expected),
        Call::Read(_) => unreachable!("a read is no write"),
    };
    let answer = node.submit(set(me, key, value, version)).await;
    match answer {
        Ok(Committed {
            reply: Reply::Tree(_, TreeReply::One(outcome)),
            ..
        }) => Known::Answered(match (call, outcome) {
            (Call::Write { value, .. }, Ok(Outcome::Set(stat))) => Call::Write {
                value,
                version: Some(stat.version),
            },
            (
                Call::Swap {
                    expected, value, ..
                },
                outcome,
            ) => {
                let done = match outcome {
                    Ok(Outcome::Set(_)) => true,
                    Err(Refusal::BadVersion) => false,
                    other => panic!("{other:?}"),
                };
                Call::Swap {
                    expected,
                    value,
                    done: Some(done),
                }
            }
            (_, other) => panic!("{other:?}"),
        }),
        Ok(other) => panic!("{other:?}"),
        // These say that nothing was written, and so nothing may have been.
        Err(SubmitError::NoLeader | SubmitError::Overloaded | SubmitError::NotWritten(_)) => {
            Known::Never
        }
        Err(_) => Known::Open(call),
    }
}
