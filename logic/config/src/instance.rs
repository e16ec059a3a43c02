//! `[[service.NAME.instance]]`: an instance that needs no registration.

use std::collections::BTreeMap;

use model::{Instance, InstanceId, Weight};

use crate::declare::{declare, resolved};
use crate::reader::Reader;
use crate::rule::{absent, default, required};
use crate::text::Address;
use crate::tree::Node;
use crate::value::{Resolved, Text};

declare! {
    /// An instance that needs no registration.
    pub(crate) struct InstanceKeys {
        /// Where it is: `"10.0.0.5:8080"`, `"[fd00::5]:8080"` or `"db-1.internal:5432"`.
        address: Address => required(),
        /// Its name within the service.
        id: Option<InstanceId> => absent("its address"),
        /// Its share of the traffic relative to the others; 0 drains it.
        weight: u16 => default(1u16),
        /// 0 gets the traffic, 1 what 0 has no room for, and so on, to 127. A spare one has 1.
        tier: u16 => default(0u16).within(0..=u16::from(Instance::LAST_TIER)),
        /// The failure domain it runs in.
        zone: Option<Box<str>> => absent("none"),
        /// Words to select it by.
        tags: Vec<Box<str>> => default(Vec::new()),
        /// Anything that readers should know, as texts by name.
        metadata: BTreeMap<Box<str>, Box<str>> => default(BTreeMap::new()),
        /// `true` sends it no new work; existing work finishes.
        drain: bool => default(false),
    }
}

resolved!(Instance);

impl Resolved for Instance {
    type Keys = InstanceKeys;

    fn resolve(keys: InstanceKeys, node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let id = match keys.id {
            Some(id) => Ok(id),
            None => InstanceId::parse(&keys.address.text()),
        };
        if let Err(what) = &id {
            cx.error(node.at, what.as_str(), "give it an id");
        }
        let mut tags = keys.tags;
        tags.sort();
        tags.dedup();
        let metadata = keys.metadata;
        Some(Self {
            id: id.ok()?,
            host: keys.address.host,
            port: keys.address.port,
            weight: Weight(keys.weight),
            // Within bounds, which are those of the type.
            tier: keys.tier as u8,
            zone: keys.zone,
            tags: tags.into(),
            metadata: (!metadata.is_empty()).then(|| Box::new(metadata)),
            lease: None,
            check: None,
            enabled: true,
            drain: keys.drain,
        })
    }

    fn keys(&self) -> InstanceKeys {
        InstanceKeys {
            address: Address {
                host: self.host.clone(),
                port: self.port,
            },
            id: Some(self.id.clone()),
            weight: self.weight.0,
            tier: self.tier.into(),
            zone: self.zone.clone(),
            tags: self.tags.to_vec(),
            metadata: self.metadata.as_deref().cloned().unwrap_or_default(),
            drain: self.drain,
        }
    }
}
