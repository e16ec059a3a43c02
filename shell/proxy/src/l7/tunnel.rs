//! After an upgrade (RFC 9110 §7.8): bytes both ways until both sides have ended, or one has broken.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use model::{Closed, LongConnections, Moment};

use super::session::{Cut, Session};
use crate::l4::{End, Limits, Pair, Standing, Upstream};
use crate::rt::Sock;

/// What a tunnel needs to know of the request that asked for it.
pub(super) struct Upgraded {
    pub(super) upstream: Rc<Upstream>,
    pub(super) websocket: bool,
    /// How long the instance's machine may be silent.
    pub(super) silence: Duration,
}

/// A tunnel is counted as long as this lives.
struct Counted(Arc<LongConnections>);

impl Counted {
    fn new(connections: &Arc<LongConnections>) -> Self {
        connections.begin();
        Self(connections.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Session {
    /// Carries bytes both ways. `unsent` is what the client has still to get.
    pub(super) async fn tunnel(&self, instance: &Sock, unsent: Vec<u8>) -> Result<(), Cut> {
        // What the client sent ahead belongs to the new protocol.
        let ahead = std::mem::take(&mut *self.held.borrow_mut());
        self.unseen.set(false);
        // It may last for days, and is no request any more.
        self.admitted.take();
        self.deadline.set(Moment::NEVER);
        let Some(upgraded) = self.upgraded.take() else {
            return Err(Cut::InstanceMalformed);
        };
        let Upgraded {
            upstream,
            websocket,
            silence,
        } = *upgraded;
        let connections = &upstream.connections;
        let counted = Cell::new(Some(Counted::new(connections)));
        let (worker, limits) = (&self.worker, self.timeouts());
        let task = worker.reactor().current();
        let grounds = [
            upstream.stand(task),
            Standing::on(&worker.lasting.listener(self.listener), task),
        ];
        let pair = Pair {
            client: &self.client,
            instance,
            buffers: &worker.buffers,
            pipes: &worker.pipes,
            // The session counts what its sockets carry.
            counts: [&[], &[]],
            limits: Limits {
                idle: limits.tunnel,
                silence: [self.table.borrow().peer_timeout, silence],
                ends: match limits.tunnel_lifetime.is_zero() {
                    true => Moment::NEVER,
                    false => worker.now() + limits.tunnel_lifetime,
                },
                drain: limits.tunnel_drain,
                grounds: &grounds,
                stopping: worker.stopping(),
            },
            websocket,
            parts: &|why| {
                counted.take();
                if why == Closed::Moved {
                    connections.moved.add(1);
                }
            },
        };
        let End { why, told } = pair.carry([ahead, unsent]).await;
        match told {
            // A stream has no other end than one that is said.
            true => self.client.end_message(&[]),
            // One side broke: the other must not take it for an end in order.
            false => instance.abort_on_close(),
        }
        match why {
            Closed::Done => Ok(()),
            Closed::ClientReset => Err(Cut::Left),
            Closed::InstanceReset => Err(Cut::InstanceLeft),
            Closed::Idle => Err(Cut::Slow),
            why => Err(Cut::Ended { why, told }),
        }
    }
}
