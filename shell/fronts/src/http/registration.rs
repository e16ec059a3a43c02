//! What a registration says.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{Instance, InstanceId, Lease};

use super::check;
use super::fault::{Faults, segment};
use super::fields::Fields;
use super::json::Node;
use super::values::{flag, line, parsed, period, port, tier, weight};

/// As many as the largest in the field (Consul allows 64 metadata, and its users as many tags), and readers get them
/// all with every instance.
pub(crate) const MAX_TAGS: usize = 64;
/// Nobody has ever needed more, and every reader of the service gets them.
pub(crate) const MAX_METADATA: usize = 128;
/// Zones, tags and the names of metadata, in bytes.
const MAX_WORD: usize = 255;
/// A value of metadata, in bytes: Dubbo's lists of methods reach some 2 KiB.
const MAX_VALUE: usize = 4 << 10;
/// All metadata together, in bytes. Thousands of instances with this much still fit in one answer.
const MAX_METADATA_BYTES: usize = 32 << 10;

const DAY: Duration = Duration::from_secs(86_400);
/// Below a second a lost packet's retransmission would cost an instance its place; for faster detection there
/// are checks. Beyond a day it is no lease; there is `persistent`.
const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=DAY;

pub(crate) type Metadata = BTreeMap<Box<str>, Box<str>>;

/// Reads a registration of the instance `id`, which may be there `before`. `None`, and faults, if something is wrong.
///
/// Whether it is enabled, and drained, is kept where it is not named: an operator has decided that, and a program that registers
/// again, be it as a heartbeat, knows nothing of it.
pub(crate) fn read(
    body: &Node<'_>,
    id: Option<InstanceId>,
    (default_lease, before): (Lease, Option<&Instance>),
    faults: &mut Faults,
) -> Option<Instance> {
    let mut fields = Fields::of(body, String::new(), faults)?;
    let host = fields.required("address", faults, parsed);
    let port = fields.required("port", faults, port);
    let weight = fields.optional("weight", faults, weight);
    let tier = fields.optional("tier", faults, tier);
    let zone = fields.optional("zone", faults, |node| line(node, MAX_WORD));
    let tags = fields.optional("tags", faults, tags);
    let metadata = fields
        .nested("metadata", faults)
        .map(|fields| metadata(&fields, faults));
    let persistent = fields.optional("persistent", faults, flag);
    let lease = fields
        .nested("lease", faults)
        .map(|fields| lease(fields, default_lease, faults));
    let check = fields
        .nested("check", faults)
        .and_then(|fields| check::read(fields, faults));
    let enabled = fields.optional("enabled", faults, flag);
    let drain = fields.optional("drain", faults, flag);
    let persistent = persistent == Some(true);
    if persistent && lease.is_some() {
        let detail = "cannot be had together with persistent; leave out one of the two";
        fields.fault("lease", detail, faults);
    }
    fields.finish(faults);
    Some(Instance {
        id: id?,
        host: host?,
        port: port?,
        weight: weight.unwrap_or_default(),
        tier: tier.unwrap_or_default(),
        zone,
        tags: tags.unwrap_or_default(),
        metadata: metadata.filter(|m| !m.is_empty()).map(Box::new),
        lease: (!persistent).then(|| lease.unwrap_or(default_lease)),
        check: check.map(Box::new),
        enabled: enabled.unwrap_or_else(|| before.is_none_or(|before| before.enabled)),
        drain: drain.unwrap_or_else(|| before.is_some_and(|before| before.drain)),
    })
}

/// Reads tags, and sorts them.
pub(crate) fn tags(node: &Node<'_>) -> Result<Box<[Box<str>]>, String> {
    let Node::List(list) = node else {
        return Err(format!("must be a list of texts, and is {}", node.found()));
    };
    if list.len() > MAX_TAGS {
        let count = list.len();
        return Err(format!("are {count}; {MAX_TAGS} are possible"));
    }
    let word = |(place, node)| {
        line(node, MAX_WORD)
            .map_err(|detail| format!("have something wrong at {place}: it {detail}"))
    };
    let mut tags = list
        .iter()
        .enumerate()
        .map(word)
        .collect::<Result<Vec<_>, _>>()?;
    tags.sort_unstable();
    tags.dedup();
    Ok(tags.into())
}

/// Reads metadata: texts by name.
fn metadata(fields: &Fields<'_, '_>, faults: &mut Faults) -> Metadata {
    let mut metadata = Metadata::new();
    for (name, value) in fields.entries().iter().take(MAX_METADATA + 1) {
        match pair(name, value) {
            Ok((name, value)) => _ = metadata.insert(name, value),
            Err(detail) => fields.fault(name, detail, faults),
        }
    }
    if let Err(detail) = fits(&metadata) {
        fields.whole(detail, faults);
    }
    metadata
}

/// Reads one piece of metadata.
pub(crate) fn pair(name: &str, value: &Node<'_>) -> Result<(Box<str>, Box<str>), String> {
    if name.is_empty() || name.len() > MAX_WORD || name.contains(char::is_control) {
        return Err(format!(
            "must be named by 1 to {MAX_WORD} bytes without control characters"
        ));
    }
    let value = super::values::text(value)?;
    match value.len() {
        ..=MAX_VALUE => Ok((name.into(), value.into())),
        length => Err(format!("is {length} bytes long; {MAX_VALUE} are possible")),
    }
}

/// Whether there is not too much of it.
pub(crate) fn fits(metadata: &Metadata) -> Result<(), String> {
    if metadata.len() > MAX_METADATA {
        return Err(format!(
            "has more entries than the {MAX_METADATA} that are possible"
        ));
    }
    let bytes: usize = metadata.iter().map(|(n, v)| n.len() + v.len()).sum();
    match bytes {
        ..=MAX_METADATA_BYTES => Ok(()),
        _ => Err(format!(
            "takes {bytes} bytes in all; {MAX_METADATA_BYTES} are possible"
        )),
    }
}

fn lease(mut fields: Fields<'_, '_>, default: Lease, faults: &mut Faults) -> Lease {
    let ttl = fields.optional("ttl", faults, |node| period(node, TTL));
    let grace = fields.optional("grace", faults, |node| period(node, Duration::ZERO..=DAY));
    fields.finish(faults);
    Lease {
        ttl: ttl.unwrap_or(default.ttl),
        grace: grace.unwrap_or(default.grace),
    }
}

/// The path of a piece of metadata.
pub(crate) fn metadata_path(name: &str) -> String {
    format!("/metadata/{}", segment(name))
}
