//! What watchers of a service are sent, encoded once for all of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use model::{Revision, ServiceKey};
use registry::{Change, Event};
use serde_json::json;
use tokio::sync::broadcast::{self, Receiver, Sender};
use tokio::sync::watch;
use tokio::time::{Instant, interval_at};

use super::answer::append;
use super::view::InstanceView;
use crate::Directory;

/// How often a watch without changes says that it is alive: often enough for the middleboxes that forget a connection after
/// half a minute.
const ALIVE: Duration = Duration::from_secs(15);

/// How many batches of changes a slow watcher may be behind before it gets a fresh snapshot instead. They are shared: this bounds
/// what all slow watchers of a service pin together.
const BACKLOG: usize = 64;

/// The feeds of all services that are watched.
pub(crate) struct Feeds {
    directory: Arc<dyn Directory>,
    closing: watch::Receiver<bool>,
    open: Mutex<HashMap<ServiceKey, Arc<Feed>>>,
}

/// What the watchers of one service share.
pub(crate) struct Feed {
    key: ServiceKey,
    directory: Arc<dyn Directory>,
    frames: Sender<Numbered>,
    /// The number of the last frame.
    sent: Arc<AtomicU64>,
    /// The last snapshot that was encoded.
    snapshot: Mutex<Option<Cached>>,
}

/// One thing that all watchers are sent.
#[derive(Clone)]
pub(crate) enum Frame {
    Changes(Chunk),
    Alive,
    /// Changes are missing: go on from a snapshot.
    Lost,
    /// The server shuts down.
    End,
}

/// A frame, and which of its feed it is.
pub(crate) type Numbered = (u64, Frame);

/// Encoded changes, in order.
#[derive(Clone)]
pub(crate) struct Chunk {
    /// Where the changes of each revision begin; never empty.
    starts: Arc<[(Revision, usize)]>,
    bytes: Bytes,
}

struct Cached {
    modified: Revision,
    snapshot: (Revision, Bytes),
}

impl Feeds {
    pub(crate) fn new(directory: Arc<dyn Directory>, closing: watch::Receiver<bool>) -> Arc<Self> {
        Arc::new(Self {
            directory,
            closing,
            open: Mutex::default(),
        })
    }

    /// Everything about a service from now on. What changed before is in the state read after this. `None` if the server is
    /// shutting down.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        key: &ServiceKey,
    ) -> Option<(Arc<Feed>, Receiver<Numbered>)> {
        let mut open = lock(&self.open);
        if *self.closing.borrow() {
            return None;
        }
        if let Some(feed) = open.get(key) {
            return Some((Arc::clone(feed), feed.frames.subscribe()));
        }
        let (frames, receiver) = broadcast::channel(BACKLOG);
        let feed = Arc::new(Feed {
            key: key.clone(),
            directory: Arc::clone(&self.directory),
            frames,
            sent: Arc::default(),
            snapshot: Mutex::default(),
        });
        open.insert(key.clone(), Arc::clone(&feed));
        // The wait first, then the position: see `Changes::changed`.
        let changes = self.directory.watch(key);
        let (position, _) = self.directory.service(key);
        tokio::spawn(Arc::clone(self).run(Arc::clone(&feed), changes, position));
        Some((feed, receiver))
    }

    /// Feeds one service until nobody watches it any more.
    async fn run(
        self: Arc<Self>,
        feed: Arc<Feed>,
        mut changes: Box<dyn crate::Changes>,
        mut position: Revision,
    ) {
        let mut closing = self.closing.clone();
        let mut alive = interval_at(Instant::now() + ALIVE, ALIVE);
        loop {
            tokio::select! {
                changed = changes.changed() => {
                    if changed.is_err() {
                        return self.close(&feed);
                    }
                    feed.advance(&mut position);
                }
                _ = alive.tick() => {
                    // Or the position of a service that never changes would fall out of the history.
                    feed.advance(&mut position);
                    feed.send(Frame::Alive);
                }
                () = feed.frames.closed() => {
                    let mut open = lock(&self.open);
                    if feed.frames.receiver_count() == 0 {
                        open.remove(&feed.key);
                        return;
                    }
                }
                _ = closing.wait_for(|closing| *closing) => return self.close(&feed),
            }
        }
    }

    fn close(&self, feed: &Feed) {
        // Under the lock: whoever subscribes later finds no feed.
        let mut open = lock(&self.open);
        open.remove(&feed.key);
        feed.send(Frame::End);
    }
}

impl Feed {
    /// The service as an event, and the revision it stands for.
    pub(crate) fn snapshot(&self) -> (Revision, Bytes) {
        // Under the lock, so that a thousand watchers that come at once encode it once.
        let mut cached = lock(&self.snapshot);
        let (revision, service) = self.directory.service(&self.key);
        if let (Some(cached), Some(service)) = (&*cached, &service)
            && cached.modified == service.modified
        {
            return cached.snapshot.clone();
        }
        let (namespace, name) = (self.key.namespace.as_str(), self.key.service.as_str());
        let (namespace, name) = (json!(namespace), json!(name));
        let mut text = format!(
            "event: snapshot\nid: {revision}\ndata: {{\"namespace\":{namespace},\"service\":{name},\
             \"revision\":{revision},\"instances\":["
        )
        .into_bytes();
        let records = service.iter().flat_map(|service| service.instances());
        for (place, record) in records.enumerate() {
            if place > 0 {
                text.push(b',');
            }
            append(&InstanceView::of(&self.key, record), &mut text);
        }
        text.extend_from_slice(b"]}\n\n");
        let snapshot = (revision, Bytes::from(text));
        *cached = service.map(|service| Cached {
            modified: service.modified,
            snapshot: snapshot.clone(),
        });
        snapshot
    }

    /// The changes after `revision`, if all of them are still kept; `None` inside when there are none.
    pub(crate) fn since(&self, revision: Revision) -> Option<Option<Chunk>> {
        let events = self.directory.events_since(revision, &self.key).ok()?;
        Some(Chunk::of(&self.key, &events))
    }

    /// Sends what has changed since `position`.
    fn advance(&self, position: &mut Revision) {
        // Read before the events: later ones are sent next time.
        let (now, _) = self.directory.service(&self.key);
        match self.since(*position) {
            Some(Some(chunk)) => {
                *position = now.max(chunk.last());
                self.send(Frame::Changes(chunk));
            }
            Some(None) => *position = now,
            None => {
                *position = now;
                self.send(Frame::Lost);
            }
        }
    }

    /// The number of the last frame, as it changes.
    pub(crate) fn sent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }

    fn send(&self, frame: Frame) {
        let number = self.sent.fetch_add(1, Relaxed) + 1;
        // An error says that nobody watches just now.
        let _ = self.frames.send((number, frame));
    }
}

impl Chunk {
    fn of(key: &ServiceKey, events: &[Event]) -> Option<Self> {
        let mut starts: Vec<(Revision, usize)> = Vec::new();
        let mut text = Vec::with_capacity(512 * events.len());
        for (place, event) in events.iter().enumerate() {
            let revision = event.revision;
            if starts.last().is_none_or(|(last, _)| *last != revision) {
                starts.push((revision, text.len()));
            }
            text.extend_from_slice(b"event: change\n");
            // Only the last change of a revision has the id: whoever loses the connection in between gets them all again.
            if events
                .get(place + 1)
                .is_none_or(|next| next.revision != revision)
            {
                text.extend_from_slice(format!("id: {revision}\n").as_bytes());
            }
            let change = word(event.change);
            let data =
                format!("data: {{\"revision\":{revision},\"change\":\"{change}\",\"instance\":");
            text.extend_from_slice(data.as_bytes());
            append(&InstanceView::of(key, &event.record), &mut text);
            text.extend_from_slice(b"}\n\n");
        }
        (!starts.is_empty()).then(|| Self {
            starts: starts.into(),
            bytes: text.into(),
        })
    }

    /// The last revision in it.
    pub(crate) fn last(&self) -> Revision {
        self.starts
            .last()
            .map_or(Revision::default(), |(revision, _)| *revision)
    }

    /// The changes after `revision`, if there are any.
    pub(crate) fn after(&self, revision: Revision) -> Option<Bytes> {
        let place = self.starts.partition_point(|(r, _)| *r <= revision);
        let (_, start) = self.starts.get(place)?;
        Some(self.bytes.slice(start..))
    }
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Registered => "registered",
        Change::Changed => "changed",
        Change::Health => "health",
        Change::Removed => "removed",
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is complete in itself.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::num::NonZeroU16;

    use model::{Host, Instance, Timestamp, Weight};
    use registry::Command;

    use super::*;
    use crate::http::tests::memory::Memory;

    fn feeds() -> (Arc<Feeds>, watch::Sender<bool>) {
        let (closing, closed) = watch::channel(false);
        (Feeds::new(Memory::new(10), closed), closing)
    }

    fn key() -> ServiceKey {
        ServiceKey::in_default("shop".parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_without_changes_says_that_it_is_alive() {
        let (feeds, _closing) = feeds();
        let (_, mut frames) = feeds.subscribe(&key()).unwrap();
        let begun = Instant::now();
        for n in 1..=2 {
            assert!(matches!(frames.recv().await, Ok((_, Frame::Alive))));
            assert_eq!(begun.elapsed(), n * ALIVE);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_feed_ends_with_its_last_watcher() {
        let (feeds, _closing) = feeds();
        let (feed, first) = feeds.subscribe(&key()).unwrap();
        let (same, second) = feeds.subscribe(&key()).unwrap();
        assert!(Arc::ptr_eq(&feed, &same));
        drop(first);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(lock(&feeds.open).len(), 1);
        drop(second);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(lock(&feeds.open).len(), 0);
    }

    #[tokio::test]
    async fn nobody_can_subscribe_once_the_server_shuts_down() {
        let (feeds, closing) = feeds();
        let (_, mut frames) = feeds.subscribe(&key()).unwrap();
        closing.send_replace(true);
        assert!(matches!(frames.recv().await, Ok((_, Frame::End))));
        assert!(feeds.subscribe(&key()).is_none());
    }

    fn registration() -> Command {
        Command::Register {
            key: key(),
            instance: Box::new(Instance {
                id: "a".parse().unwrap(),
                host: Host::Ip([10, 0, 0, 1].into()),
                port: NonZeroU16::MIN,
                weight: Weight::default(),
                zone: None,
                tags: Box::default(),
                metadata: None,
                lease: None,
                check: None,
                enabled: true,
                drain: false,
                tier: 0,
            }),
            at: Timestamp(1),
        }
    }

    #[tokio::test]
    async fn a_change_is_encoded_once_however_many_watch() {
        let (closing, closed) = watch::channel(false);
        let memory = Memory::new(10);
        let feeds = Feeds::new(memory.clone(), closed);
        let mut watchers: Vec<_> = (0..100).map(|_| feeds.subscribe(&key()).unwrap()).collect();
        memory.apply(&registration());
        let mut places = BTreeSet::new();
        for (feed, frames) in &mut watchers {
            let Ok((_, Frame::Changes(chunk))) = frames.recv().await else {
                panic!("no change");
            };
            places.insert(chunk.after(Revision(0)).unwrap().as_ptr());
            places.insert(feed.snapshot().1.as_ptr());
        }
        // The change, and the snapshot.
        assert_eq!(places.len(), 2);
        drop(closing);
    }

    #[test]
    fn a_chunk_gives_only_what_comes_after() {
        let chunk = Chunk {
            starts: [(Revision(3), 0), (Revision(5), 2)].into(),
            bytes: Bytes::from_static(b"aabb"),
        };
        let after = |n| chunk.after(Revision(n));
        assert_eq!(after(2).unwrap(), "aabb");
        assert_eq!(after(3).unwrap(), "bb");
        assert_eq!(after(4).unwrap(), "bb");
        assert_eq!(after(5), None);
    }
}
