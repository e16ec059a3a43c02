//! The catalog's view of the tree: ephemeral nodes in known layouts are instances for as long as they live.
//!
//! Not derived where commands are applied, where it would have to be the same on every node and in every version of
//! the program for ever, but here, by ordinary commands: what should be in the catalog is computed from the tree, what is there is known by
//! its mark, and the difference is made good, of everything at the start and of what has changed from there on. A crash in
//! between leaves nothing behind that the next start does not find.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::tree_pattern::TreePattern;
use model::{Counter, Instance, InstanceId, ServiceKey};
use registry::tree::{Observer, Owner, SessionId, Tree, TreeEvent};
use registry::{Command, Registry};
use tokio::sync::Notify;
use zookeeper::layout::{self, SOURCE};

use super::Shared;
use super::statics::now;

/// Until what could not be stored is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How often a node looks whether it leads.
const LOOK: Duration = Duration::from_millis(100);
/// How often a leader of others looks at everything: once is enough, but for what was on its way when it took over.
const ANEW: Duration = Duration::from_secs(30);
/// Lines about nodes that cannot be read, in all: a fleet that writes them wrongly must not fill the disk with it. The
/// counter goes on.
const MOST_LINES: u64 = 100;
/// The most commands in one write.
const STEP: usize = 500;

/// What has changed in the tree, for the catalog.
pub(crate) struct Projection {
    patterns: Vec<TreePattern>,
    changed: Mutex<BTreeSet<Box<str>>>,
    /// All of the tree may have changed.
    replaced: AtomicBool,
    work: Notify,
    /// Nodes that could not be read as what they should be.
    pub(crate) skipped: Counter,
}

/// An instance's name in the catalog.
type Name = (ServiceKey, InstanceId);

/// Which nodes stand for which instances. Two may stand for one: a provider that has been restarted is there twice until its
/// old session ends.
#[derive(Default)]
struct Known {
    paths: BTreeMap<Box<str>, Name>,
    names: BTreeMap<Name, BTreeSet<Box<str>>>,
}

impl Projection {
    pub(super) fn new(patterns: Vec<TreePattern>) -> Self {
        Self {
            patterns,
            changed: Mutex::default(),
            replaced: AtomicBool::new(false),
            work: Notify::new(),
            skipped: Counter::default(),
        }
    }

    fn is_projected(&self, path: &str) -> bool {
        let mut patterns = self.patterns.iter();
        patterns.any(|pattern| layout::matches(pattern, path).is_some())
    }

    /// The instance that a path stands for at present.
    fn instance(&self, tree: &Tree, path: &str) -> Option<(ServiceKey, Instance)> {
        let node = tree.node(path)?;
        if !matches!(node.owner(), Owner::Session(_)) {
            return None;
        }
        let mut patterns = self.patterns.iter();
        let pattern = patterns.find(|pattern| layout::matches(pattern, path).is_some())?;
        match layout::read(pattern, path, node.data.as_deref().unwrap_or_default()) {
            Ok(found) => Some(found),
            Err(why) => {
                self.skipped.add(1);
                if self.skipped.value() <= MOST_LINES {
                    eprintln!("pointsman: zookeeper: {path:?} is no instance: {why}");
                }
                None
            }
        }
    }

    fn take_changed(&self) -> BTreeSet<Box<str>> {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *changed)
    }
}

impl Observer for Projection {
    fn changed(&self, _: &Tree, events: &[TreeEvent]) {
        let paths = events.iter().filter(|event| self.is_projected(&event.path));
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        changed.extend(paths.map(|event| event.path.clone()));
    }

    fn session_closed(&self, _: SessionId) {}

    fn session_moved(&self, _: SessionId) {}

    fn replaced(&self) {
        self.replaced.store(true, Relaxed);
        self.work.notify_one();
    }

    fn settled(&self) {
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if !changed.is_empty() {
            self.work.notify_one();
        }
    }
}

/// Keeps the catalog true to the tree, wherever this node leads: one of all is enough, and several would be at odds for as
/// long as they see different trees.
pub(super) async fn run(shared: Arc<Shared>, projection: Arc<Projection>) {
    loop {
        while !shared.registry.leads() {
            tokio::time::sleep(LOOK).await;
            projection.take_changed();
        }
        follow(&shared, &projection).await;
    }
}

/// Keeps the catalog true to the tree, until everything should be looked at anew, or by another node.
async fn follow(shared: &Shared, projection: &Projection) {
    projection.replaced.store(false, Relaxed);
    let mut known = Known::default();
    let mut paths: BTreeSet<Box<str>> = projection.take_changed();
    let registry = shared.registry.read(Registry::clone);
    let sessions = registry.tree().sessions();
    let ephemerals = sessions.flat_map(|session| session.ephemerals.iter().cloned());
    paths.extend(ephemerals.filter(|path| projection.is_projected(path)));
    // What former runs put there: nodes that are gone by now are told from those that are not by their paths.
    for (name, path) in marked(&registry) {
        paths.insert(path.clone());
        known.insert(path, name);
    }
    drop(registry);
    // What another node that led before has sent late is found then.
    let anew = tokio::time::sleep(ANEW);
    tokio::pin!(anew);
    loop {
        while !paths.is_empty() {
            let registry = shared.registry.read(Registry::clone);
            let commands = known.follow(projection, &registry, &paths);
            match store(shared, commands).await {
                Ok(()) => paths = projection.take_changed(),
                Err(why) => {
                    eprintln!("pointsman: zookeeper: instances were not stored: {why}");
                    tokio::time::sleep(RETRY).await;
                    paths.extend(projection.take_changed());
                }
            }
            if !shared.registry.leads() {
                return;
            }
        }
        tokio::select! {
            () = projection.work.notified() => {}
            () = &mut anew, if shared.registry.number().is_some() => return,
        }
        if projection.replaced.load(Relaxed) || !shared.registry.leads() {
            return;
        }
        paths = projection.take_changed();
    }
}

async fn store(shared: &Shared, mut commands: Vec<Command>) -> Result<(), ::cluster::SubmitError> {
    for command in &mut commands {
        if let Command::Register { key, instance, .. } = command {
            instance.check = shared.tables().settings(key).check.clone().map(Box::new);
        }
    }
    while !commands.is_empty() {
        let rest = commands.split_off(commands.len().min(STEP));
        shared.registry.submit_batch(commands).await?;
        commands = rest;
    }
    Ok(())
}

/// Instances that come from the tree, and the nodes that they came from.
fn marked(registry: &Registry) -> Vec<(Name, Box<str>)> {
    let services = registry.services();
    let all = services.flat_map(|s| s.instances().map(move |r| (&s.key, &r.instance)));
    all.filter_map(|(key, instance)| {
        let path = origin(instance)?;
        Some((((**key).clone(), instance.id.clone()), path.into()))
    })
    .collect()
}

/// The node that an instance comes from, if it comes from the tree.
fn origin(instance: &Instance) -> Option<&str> {
    let metadata = instance.metadata.as_ref()?;
    let ours = metadata.get("pointsman.source")?;
    (**ours == *SOURCE).then(|| metadata.get("pointsman.path").map(|path| &**path))?
}

impl Known {
    fn insert(&mut self, path: Box<str>, name: Name) {
        self.names
            .entry(name.clone())
            .or_default()
            .insert(path.clone());
        self.paths.insert(path, name);
    }

    fn remove(&mut self, path: &str) -> Option<Name> {
        let name = self.paths.remove(path)?;
        if let Some(paths) = self.names.get_mut(&name) {
            paths.remove(path);
            if paths.is_empty() {
                self.names.remove(&name);
            }
        }
        Some(name)
    }

    /// What must be done for the catalog to show these paths as they are.
    fn follow(
        &mut self,
        projection: &Projection,
        registry: &Registry,
        paths: &BTreeSet<Box<str>>,
    ) -> Vec<Command> {
        let mut touched = BTreeSet::new();
        for path in paths {
            touched.extend(self.remove(path));
            if let Some((key, instance)) = projection.instance(registry.tree(), path) {
                let name = (key, instance.id);
                touched.insert(name.clone());
                self.insert(path.clone(), name);
            }
        }
        let commands = touched.into_iter();
        commands
            .filter_map(|name| self.command(projection, registry, name))
            .collect()
    }

    fn command(
        &self,
        projection: &Projection,
        registry: &Registry,
        (key, id): Name,
    ) -> Option<Command> {
        let present = registry.instance(&key, &id).map(|record| &record.instance);
        // Somebody else's instance of that name is theirs.
        if present.is_some_and(|instance| origin(instance).is_none()) {
            return None;
        }
        let name = (key.clone(), id.clone());
        // Of several the youngest: that is the one whose process is there.
        let paths = self.names.get(&name).into_iter().flatten();
        let tree = registry.tree();
        let youngest = paths.max_by_key(|path| tree.node(path).map(|node| node.stat().czxid));
        match youngest.and_then(|path| projection.instance(tree, path)) {
            Some((key, instance)) => Some(Command::Register {
                key,
                instance: Box::new(instance),
                at: now(),
            }),
            None => present.map(|_| Command::Deregister { key, id }),
        }
    }
}
