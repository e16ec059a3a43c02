//! The registry's state as bytes, in pieces small enough to be streamed.

use model::{Incarnation, Revision, Timestamp};

use crate::codec::{DecodeError, Reader, Writer};
use crate::{Record, Registry};

/// A piece is closed once it is this long; one instance more may make it longer by as much as a
/// command can carry.
const PIECE: usize = 256 << 10;

/// Writes the registry's instances, piece by piece: `sink` is called with each.
///
/// # Errors
///
/// The first error of `sink`.
pub fn write<E>(
    registry: &Registry,
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
        while w.len() < PIECE
            && let Some((service, record)) = services.next()
        {
            w.key(&service.key);
            w.number(service.modified.0);
            record.encode(&mut w);
        }
        sink(&piece)?;
    }
    Ok(())
}

/// Rebuilds a registry from the pieces that [`write`] made.
#[derive(Debug, Default)]
pub struct Rebuild {
    registry: Registry,
}

impl Rebuild {
    /// Adds a piece.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn add(&mut self, piece: &[u8]) -> Result<(), DecodeError> {
        let mut r = Reader::new(piece);
        while !r.is_empty() {
            let key = r.key()?;
            let modified = Revision(r.number()?);
            let record = Record::decode(&mut r)?;
            self.registry.restore(&key, modified, record);
        }
        Ok(())
    }

    /// The registry, as it was at `revision`.
    pub fn finish(mut self, revision: Revision) -> Registry {
        self.registry.restored_at(revision);
        self.registry
    }
}

impl Record {
    fn encode(&self, w: &mut Writer<'_>) {
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
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            instance: r.instance()?,
            check_health: r.health()?,
            lease_health: r.health()?,
            reason: r.option(Reader::text)?,
            created: Revision(r.number()?),
            modified: Revision(r.number()?),
            renewed: Revision(r.number()?),
            incarnation: Incarnation(r.number()?),
            registered_at: Timestamp(r.number()?),
        })
    }
}
