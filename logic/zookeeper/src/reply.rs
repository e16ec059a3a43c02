use registry::tree::{Outcome, Refusal, Stat, TreeReply, Znode};
use registry::{Committed, Registry, Reply};
use wire::zookeeper::{ErrorCode, MultiResult, OpCode, Out, StatFields};

use crate::clients::{Clients, Key};
use crate::connection::Phase;
use crate::requests::Ticket;

impl Clients {
    /// Tells a client what became of its command.
    pub(crate) fn answer(
        &mut self,
        key: Key,
        ticket: &Ticket,
        registry: &Registry,
        committed: &Committed,
    ) {
        let Reply::Tree(zxid, reply) = &committed.reply else {
            return;
        };
        let zxid = zxid.0;
        let Some(connection) = self.connection(key) else {
            return;
        };
        let bytes = &mut connection.output;
        match (ticket, reply) {
            (Ticket::Open | Ticket::Move, TreeReply::Session) => self.opened(key, registry),
            // It has ended meanwhile.
            (Ticket::Move, _) => self.turn_away(key),
            (Ticket::Close(number), _) => {
                Out::empty(bytes, *number, zxid, None);
                self.end(key);
            }
            (Ticket::One(number, op), TreeReply::One(Ok(outcome))) => {
                let mut out = Out::reply(bytes, *number, zxid, 0);
                match outcome {
                    Outcome::Created(path, stat) => {
                        out.text(path);
                        if *op != OpCode::Create {
                            out.stat(&fields(stat));
                        }
                    }
                    Outcome::Set(stat) => out.stat(&fields(stat)),
                    Outcome::Deleted | Outcome::Checked => {}
                }
                out.finish();
            }
            (Ticket::One(number, _), TreeReply::One(Err(refusal))) => {
                Out::empty(bytes, *number, zxid, Some(code(*refusal)));
            }
            (
                Ticket::Many(number, _),
                TreeReply::Many(Err((
                    _,
                    refusal @ (Refusal::SessionExpired | Refusal::SessionMoved),
                ))),
            ) => {
                Out::empty(bytes, *number, zxid, Some(code(*refusal)));
            }
            (Ticket::Many(number, ops), TreeReply::Many(result)) => {
                let mut out = Out::reply(bytes, *number, zxid, 0);
                write_results(&mut out, ops, result);
                out.finish();
            }
            _ => self.end(key),
        }
    }

    /// The session is open; that its connection may be gone by now is for its timeout to find out.
    fn opened(&mut self, key: Key, registry: &Registry) {
        let Some(connection) = self.peek(key) else {
            return;
        };
        let session = registry.tree().session(connection.session);
        // Another session of that number was there first.
        let ours = session.is_some_and(|s| s.password == connection.password);
        match ours && connection.phase == Phase::Opening {
            true => {
                self.welcome(key);
                self.serve(key);
            }
            false => self.end(key),
        }
    }
}

fn write_results(
    out: &mut Out<'_>,
    lasting: &[bool],
    result: &Result<Vec<Outcome>, (usize, Refusal)>,
) {
    match result {
        Ok(outcomes) => {
            for (lasting, outcome) in lasting.iter().zip(outcomes) {
                write_result(out, *lasting, outcome);
            }
        }
        Err((failed, refusal)) => {
            for index in 0..lasting.len() {
                let code = result_code(index, *failed, code(*refusal));
                out.result(&MultiResult::Failed(code));
            }
        }
    }
    out.results_end();
}

/// `lasting` says of a creation that it was of a container or a node with a time to live: within transactions,
/// ZooKeeper answers only those with their statistics, whatever operation asked for it.
fn write_result(out: &mut Out<'_>, lasting: bool, outcome: &Outcome) {
    match outcome {
        Outcome::Created(path, stat) if lasting => {
            out.result(&MultiResult::Created(
                OpCode::Create2,
                path,
                Some(&fields(stat)),
            ));
        }
        Outcome::Created(path, _) => {
            out.result(&MultiResult::Created(OpCode::Create, path, None));
        }
        Outcome::Set(stat) => out.result(&MultiResult::Set(&fields(stat))),
        Outcome::Deleted => out.result(&MultiResult::Deleted),
        Outcome::Checked => out.result(&MultiResult::Checked),
    }
}

/// What is said of each operation of a transaction of which one failed.
fn result_code(index: usize, failed: usize, code: ErrorCode) -> i32 {
    match index.cmp(&failed) {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Equal => code.code(),
        std::cmp::Ordering::Greater => ErrorCode::RuntimeInconsistency.code(),
    }
}

/// A node's statistics for the wire.
pub(crate) fn stat_fields(node: &Znode) -> StatFields {
    fields(&node.stat())
}

fn fields(stat: &Stat) -> StatFields {
    StatFields {
        czxid: stat.czxid.0,
        mzxid: stat.mzxid.0,
        ctime: stat.ctime as i64,
        mtime: stat.mtime as i64,
        version: stat.version,
        cversion: stat.cversion,
        aversion: stat.aversion,
        ephemeral_owner: stat.owner.0,
        data_length: stat.data_length,
        num_children: stat.children,
        pzxid: stat.pzxid.0,
    }
}

fn code(refusal: Refusal) -> ErrorCode {
    match refusal {
        Refusal::BadArguments => ErrorCode::BadArguments,
        Refusal::NoNode => ErrorCode::NoNode,
        Refusal::NoAuth => ErrorCode::NoAuth,
        Refusal::BadVersion => ErrorCode::BadVersion,
        Refusal::NodeExists => ErrorCode::NodeExists,
        Refusal::NotEmpty => ErrorCode::NotEmpty,
        Refusal::NoChildrenForEphemerals => ErrorCode::NoChildrenForEphemerals,
        Refusal::SessionExpired => ErrorCode::SessionExpired,
        Refusal::SessionMoved => ErrorCode::SessionMoved,
        Refusal::QuotaExceeded => ErrorCode::QuotaExceeded,
        Refusal::InvalidAccess => ErrorCode::InvalidAcl,
    }
}
