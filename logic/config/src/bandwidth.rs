//! `[listener.NAME.route.filters.bandwidth]`: how fast bodies move.

use model::{Bandwidth, ByteSize};

use crate::declare::{declare, resolved};
use crate::reader::Reader;
use crate::rule::absent;
use crate::tree::Node;
use crate::value::Resolved;

declare! {
    /// How fast bodies move, each for itself.
    pub(crate) struct BandwidthKeys {
        /// Bytes a second of a request's body.
        request: Option<ByteSize> => absent("as fast as its client and its instance").if_given_within(ByteSize(1 << 10)..=ByteSize(1 << 40)),
        /// Bytes a second of an answer's body.
        response: Option<ByteSize> => absent("as fast as its instance and its client").if_given_within(ByteSize(1 << 10)..=ByteSize(1 << 40)),
    }
}

resolved!(Bandwidth);

impl Resolved for Bandwidth {
    type Keys = BandwidthKeys;

    fn resolve(keys: BandwidthKeys, _: &Node, _: &mut Reader<'_, '_>) -> Option<Self> {
        let bytes = |size: ByteSize| size.0;
        Some(Self {
            request: keys.request.map(bytes),
            response: keys.response.map(bytes),
        })
    }

    fn keys(&self) -> BandwidthKeys {
        BandwidthKeys {
            request: self.request.map(ByteSize),
            response: self.response.map(ByteSize),
        }
    }
}
