//! The registry's state as bytes, in pieces small enough to be streamed.

use model::{Incarnation, Revision, Timestamp};

use crate::codec::{DecodeError, Reader, Writer, has_grpc_check, has_new_check};
use crate::tree::{NOWHERE, snapshot as tree};
use crate::{Record, Registry};

/// A piece is closed once it is this long; one instance more may make it longer by as much as a
/// command can carry.
const PIECE: usize = 256 << 10;

/// The version of the pieces' format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// What there was at first.
    First = 1,
    /// Has roles, and checks by exchange and by protocol.
    WithRoles = 2,
    /// Has the tree; every piece begins with what it holds.
    WithTree = 3,
    /// Instances have tiers.
    WithTiers = 4,
    /// Has checks by gRPC.
    WithGrpc = 5,
    /// Sessions of the tree say which node serves them.
    WithMoves = 6,
}

impl Version {
    /// The latest.
    pub const LATEST: Self = Self::WithMoves;

    /// The oldest that can say all there is in `registry`: going back to an older program works as long as
    /// nothing new was used.
    pub fn needed(registry: &Registry) -> Self {
        if registry.tree().sessions().any(|s| s.node != NOWHERE) {
            return Self::WithMoves;
        }
        let records = || registry.services().flat_map(|service| service.instances());
        if records().any(|r| has_grpc_check(&r.instance)) {
            return Self::WithGrpc;
        }
        if records().any(|r| r.instance.tier != 0) {
            return Self::WithTiers;
        }
        if !registry.tree().is_unused() {
            return Self::WithTree;
        }
        match records().any(|r| r.role.is_some() || has_new_check(&r.instance)) {
            true => Self::WithRoles,
            false => Self::First,
        }
    }

    /// The version of that number.
    pub fn of(number: u32) -> Option<Self> {
        let known = [
            Self::First,
            Self::WithRoles,
            Self::WithTree,
            Self::WithTiers,
            Self::WithGrpc,
            Self::WithMoves,
        ];
        known.into_iter().find(|version| *version as u32 == number)
    }
}

/// Writes the registry's instances, and its tree, piece by piece: `sink` is called with each.
///
/// # Errors
///
/// The first error of `sink`.
pub fn write<E>(
    registry: &Registry,
    version: Version,
    mut sink: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut piece = Vec::with_capacity(2 * PIECE);
    let mut services = registry
        .services()
        .flat_map(|service| service.instances().map(move |record| (service, record)))
        .peekable();
    while services.peek().is_some() {
        piece.clear();
        let mut w = Writer::new(&mut piece);
        if version >= Version::WithTree {
            w.byte(tree::INSTANCES);
        }
        while w.len() < PIECE
            && let Some((service, record)) = services.next()
        {
            w.key(&service.key);
            w.number(service.modified.0);
            record.encode(&mut w, version);
        }
        sink(&piece)?;
    }
    match version >= Version::WithTree {
        true => tree::write(registry.tree(), PIECE, version, &mut sink),
        false => Ok(()),
    }
}

/// Rebuilds a registry from the pieces that [`write`] made.
#[derive(Debug)]
pub struct Rebuild {
    registry: Registry,
    tree: tree::Rebuild,
    version: Version,
}

impl Rebuild {
    /// Without any pieces yet; they are of that version.
    pub fn new(version: Version) -> Self {
        Self {
            registry: Registry::default(),
            tree: tree::Rebuild::default(),
            version,
        }
    }

    /// Adds a piece.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn add(&mut self, piece: &[u8]) -> Result<(), DecodeError> {
        let mut r = Reader::new(piece);
        if self.version >= Version::WithTree {
            let fault = r.fault("a kind of piece");
            match r.byte()? {
                tree::INSTANCES => {}
                tree::SESSIONS => return self.tree.sessions(&mut r, self.version),
                tree::NODES => return self.tree.nodes(&mut r),
                _ => return Err(fault),
            }
        }
        while !r.is_empty() {
            let key = r.key()?;
            let modified = Revision(r.number()?);
            let record = Record::decode(&mut r, self.version)?;
            self.registry.restore(&key, modified, record);
        }
        Ok(())
    }

    /// The registry, as it was at `revision`.
    pub fn finish(mut self, revision: Revision) -> Registry {
        self.registry.restored_at(revision, self.tree.finish());
        self.registry
    }
}

impl Record {
    fn encode(&self, w: &mut Writer<'_>, version: Version) {
        w.instance(&self.instance);
        w.health(self.check_health);
        w.health(self.lease_health);
        w.option(self.reason.as_ref(), |w, reason| w.text(reason));
        for number in [
            self.created.0,
            self.modified.0,
            self.renewed.0,
            self.incarnation.0,
            self.registered_at.0,
        ] {
            w.number(number);
        }
        if version >= Version::WithRoles {
            w.option(self.role, Writer::role);
            w.option(self.promoted, |w, promoted| w.number(promoted.0));
        }
    }

    fn decode(r: &mut Reader<'_>, version: Version) -> Result<Self, DecodeError> {
        let mut record = Self {
            instance: r.instance()?,
            check_health: r.health()?,
            lease_health: r.health()?,
            reason: r.option(Reader::text)?,
            created: Revision(r.number()?),
            modified: Revision(r.number()?),
            renewed: Revision(r.number()?),
            incarnation: Incarnation(r.number()?),
            registered_at: Timestamp(r.number()?),
            role: None,
            promoted: None,
        };
        if version >= Version::WithRoles {
            record.role = r.option(Reader::role)?;
            record.promoted = r.option(Reader::number)?.map(Revision);
        }
        Ok(record)
    }
}
