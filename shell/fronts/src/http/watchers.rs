//! Who watches services here, to be sent to other nodes when they have more room, or are their home.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use model::{Revision, ServiceKey};
use serde_json::json;
use slab::Slab;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Nobody is sent away who has just come.
const SETTLED: Duration = Duration::from_secs(10);
/// Whoever goes on within that time from where its watch was ended knows no other node, and is not sent away again.
const BACK: Duration = Duration::from_secs(30);

/// Where a watcher is sent to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// The node's name.
    pub node: Box<str>,
    /// Where its API is, `host:port`; empty if that is not known.
    pub api: Box<str>,
}

/// All watches that are open.
#[derive(Default)]
pub struct Watchers(Mutex<Open>);

#[derive(Default)]
struct Open {
    watches: Slab<Watch>,
    /// How many watches of a service were ended where, and when the last was.
    ended: HashMap<(ServiceKey, Revision), (u32, Instant)>,
}

struct Watch {
    since: Instant,
    /// The name that it goes by, which has a home.
    name: Option<Box<str>>,
    /// It has come back from where it was sent, or never went.
    stays: bool,
    send: Option<oneshot::Sender<Elsewhere>>,
    lag: Lag,
}

/// How far a watch is behind: the number of what was last sent to all watches of its service, and of what it took last.
#[derive(Clone)]
struct Lag {
    sent: Arc<AtomicU64>,
    taken: Arc<AtomicU64>,
}

/// An open watch, for whoever serves it.
pub(crate) struct Guest {
    watchers: Arc<Watchers>,
    number: usize,
    sent: Option<oneshot::Receiver<Elsewhere>>,
    lag: Lag,
}

impl Watchers {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.open().watches.len()
    }

    /// How many have not taken so many batches of changes at least, for their clients read too slowly.
    pub fn behind(&self, batches: u64) -> usize {
        let open = self.open();
        let lags = open.watches.iter().map(|(_, watch)| watch.lag.batches());
        lags.filter(|lag| *lag >= batches).count()
    }

    /// How many go by a name that is at home elsewhere, as `home` says.
    pub fn misplaced(&self, home: &dyn Fn(&str) -> Option<Elsewhere>) -> usize {
        let open = self.open();
        let names = open.watches.iter().filter_map(|(_, w)| w.name.as_deref());
        names.filter(|name| home(name).is_some()).count()
    }

    /// Ends so many watches at most whose names are at home elsewhere; returns how many.
    pub fn send_home(&self, most: usize, home: &dyn Fn(&str) -> Option<Elsewhere>) -> usize {
        let mut open = self.open();
        let watches = open.watches.iter_mut().map(|(_, watch)| watch);
        let mut sent = 0;
        for watch in watches {
            if sent == most {
                break;
            }
            let to = watch.name.as_deref().and_then(home);
            sent += usize::from(to.is_some_and(|to| watch.send(to)));
        }
        sent
    }

    /// Ends a watch for each of these nodes, those that have been there longest; returns how many. Those with names are at home.
    pub fn send_away(&self, to: Vec<Elsewhere>) -> usize {
        let mut open = self.open();
        let watches = open.watches.iter_mut().map(|(_, watch)| watch);
        let may = |w: &&mut Watch| {
            w.name.is_none() && !w.stays && w.send.is_some() && w.since.elapsed() >= SETTLED
        };
        let mut watches: Vec<&mut Watch> = watches.filter(may).collect();
        watches.sort_unstable_by_key(|watch| watch.since);
        let sent = watches.into_iter().zip(to);
        sent.filter_map(|(watch, to)| watch.send(to).then_some(()))
            .count()
    }

    /// A new watch, by that name if it has one, that goes on after `last`. `sent` is the number of what is sent to all of its
    /// service, as it grows.
    pub(crate) fn enter(
        self: &Arc<Self>,
        key: &ServiceKey,
        name: Option<Box<str>>,
        last: Option<Revision>,
        sent: Arc<AtomicU64>,
    ) -> Guest {
        let taken = Arc::new(AtomicU64::new(sent.load(Relaxed)));
        let lag = Lag { sent, taken };
        let mut open = self.open();
        let stays = last.is_some_and(|last| open.comes_back(key, last));
        let (send, sent) = oneshot::channel();
        let number = open.watches.insert(Watch {
            since: Instant::now(),
            name,
            stays,
            send: Some(send),
            lag: lag.clone(),
        });
        Guest {
            watchers: Arc::clone(self),
            number,
            sent: Some(sent),
            lag,
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Every change under the lock is complete in itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn comes_back(&mut self, key: &ServiceKey, last: Revision) -> bool {
        if self.ended.is_empty() {
            return false;
        }
        let place = (key.clone(), last);
        match self.ended.get_mut(&place) {
            Some((count, at)) if *count > 0 && at.elapsed() < BACK => {
                *count -= 1;
                true
            }
            _ => false,
        }
    }
}

impl Watch {
    fn send(&mut self, to: Elsewhere) -> bool {
        self.send.take().is_some_and(|send| send.send(to).is_ok())
    }
}

impl Lag {
    fn batches(&self) -> u64 {
        let sent = self.sent.load(Relaxed);
        sent.saturating_sub(self.taken.load(Relaxed))
    }
}

impl Guest {
    /// Notes the number of what was taken last.
    pub(crate) fn took(&self, number: u64) {
        self.lag.taken.store(number, Relaxed);
    }

    /// Waits until the watch is to be ended.
    pub(crate) async fn sent(&mut self) -> Elsewhere {
        if let Some(sent) = &mut self.sent
            && let Ok(to) = sent.await
        {
            self.sent = None;
            return to;
        }
        // It was sent before.
        std::future::pending().await
    }

    /// Notes where the watch was ended.
    pub(crate) fn ended(&self, key: &ServiceKey, at: Revision) {
        let mut open = self.watchers.open();
        open.ended.retain(|_, (_, at)| at.elapsed() < BACK);
        let place = open.ended.entry((key.clone(), at));
        let (count, last) = place.or_insert((0, Instant::now()));
        (*count, *last) = (*count + 1, Instant::now());
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.watchers.open().watches.try_remove(self.number);
    }
}

impl Elsewhere {
    /// The last event of a watch that is ended: where to go on.
    pub(crate) fn event(&self) -> Bytes {
        let api = (!self.api.is_empty()).then(|| format!("http://{}", self.api));
        let data = json!({ "node": self.node, "api": api });
        format!("event: elsewhere\ndata: {data}\n\n").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ServiceKey {
        ServiceKey::in_default("shop".parse().unwrap())
    }

    fn to(node: &str) -> Elsewhere {
        Elsewhere {
            node: node.into(),
            api: format!("{node}:7070").into(),
        }
    }

    fn enter(watchers: &Arc<Watchers>, name: Option<&str>, last: Option<u64>) -> Guest {
        let name = name.map(Into::into);
        watchers.enter(&key(), name, last.map(Revision), Arc::default())
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_have_watched_longest_are_sent_each_to_its_node() {
        let watchers = Arc::new(Watchers::default());
        let mut guests = Vec::new();
        for _ in 0..3 {
            guests.push(enter(&watchers, None, None));
            pass(1).await;
        }
        // Nobody so soon.
        assert_eq!(watchers.send_away(vec![to("a")]), 0);
        pass(10).await;
        guests.push(enter(&watchers, None, None));
        guests.push(enter(&watchers, Some("by-name"), None));
        assert_eq!(watchers.send_away(vec![to("a"), to("b")]), 2);
        assert_eq!(guests[0].sent().await, to("a"));
        assert_eq!(guests[1].sent().await, to("b"));
        // One is left that may go.
        assert_eq!(watchers.send_away(vec![to("a"), to("b")]), 1);
        assert_eq!(guests[2].sent().await, to("a"));
        assert_eq!(watchers.count(), 5);
        drop(guests);
        assert_eq!(watchers.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_goes_on_here_where_it_was_ended_stays() {
        let watchers = Arc::new(Watchers::default());
        let guest = enter(&watchers, None, None);
        guest.ended(&key(), Revision(7));
        drop(guest);
        let back = enter(&watchers, None, Some(7));
        // One was ended there, and not two.
        let other = enter(&watchers, None, Some(7));
        let elsewhere = enter(&watchers, None, Some(8));
        pass(11).await;
        assert_eq!(watchers.send_away(vec![to("a"), to("b"), to("c")]), 2);
        drop((back, other, elsewhere));
        let guest = enter(&watchers, None, None);
        guest.ended(&key(), Revision(9));
        pass(31).await;
        let _late = enter(&watchers, None, Some(9));
        pass(11).await;
        assert_eq!(watchers.send_away(vec![to("a"), to("b"), to("c")]), 2);
    }

    #[tokio::test]
    async fn a_watch_by_name_goes_home_and_nowhere_else() {
        let watchers = Arc::new(Watchers::default());
        let home = |name: &str| (name != "here").then(|| to("a"));
        let mut guests: Vec<Guest> = ["here", "there", "here", "there"]
            .map(|name| enter(&watchers, Some(name), None))
            .into();
        assert_eq!(watchers.misplaced(&home), 2);
        assert_eq!(watchers.send_home(1, &home), 1);
        assert_eq!(guests[1].sent().await, to("a"));
        guests.remove(1);
        assert_eq!(watchers.send_home(9, &home), 1);
        assert_eq!(guests[2].sent().await, to("a"));
        let event = to("a").event();
        let text = "event: elsewhere\ndata: {\"api\":\"http://a:7070\",\"node\":\"a\"}\n\n";
        assert_eq!(event, text.as_bytes());
    }
}
