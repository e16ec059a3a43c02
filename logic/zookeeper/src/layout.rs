//! Instances in the layouts that clients of ZooKeeper register them in.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use model::tree_pattern::{Element, TreePattern, Writing};
use model::{Host, Instance, InstanceId, ServiceKey, ServiceName, Weight};
use serde_json::Value as Json;

/// Metadata beyond this, in bytes, is left out: it is copied to every reader of the catalog.
const MOST_METADATA: usize = 16 << 10;
/// The weight of Dubbo's providers that say nothing about it.
const DUBBO_WEIGHT: u16 = 100;

/// Whether a path has the form of a pattern; if so, the service's part of it, and the instance's.
pub fn matches<'p>(pattern: &TreePattern, path: &'p str) -> Option<(&'p str, &'p str)> {
    let mut names = path.strip_prefix('/')?.split('/');
    let (mut service, mut leaf) = ("", "");
    for element in pattern.elements() {
        let name = names.next()?;
        match element {
            Element::Name(wanted) if **wanted != *name => return None,
            Element::Name(_) | Element::Any => {}
            Element::Service => service = name,
            Element::Instance(_) => leaf = name,
        }
    }
    names.next().is_none().then_some((service, leaf))
}

/// The instance that a node of a pattern's form stands for.
///
/// # Errors
///
/// What is wrong with it, in words.
pub fn read(
    pattern: &TreePattern,
    path: &str,
    data: &[u8],
) -> Result<(ServiceKey, Instance), String> {
    let (service, leaf) = matches(pattern, path).ok_or("its path is not of that form")?;
    let Some(Element::Instance(writing)) = pattern.elements().last() else {
        return Err("the pattern has no instance".into());
    };
    let mut found = match writing {
        Writing::Dubbo => dubbo(service, leaf)?,
        Writing::Curator => curator(service, leaf, data)?,
        Writing::Address => plain(service, leaf, leaf)?,
        Writing::Data => match serde_json::from_slice::<Json>(data) {
            Ok(json) if json.is_object() => curator(service, leaf, data)?,
            _ => {
                let text = std::str::from_utf8(data).map_err(|_| "its data is no text")?;
                plain(service, leaf, text.trim())?
            }
        },
    };
    let mut size = 0;
    found.metadata.retain(|name, value| {
        size += name.len() + value.len();
        size <= MOST_METADATA
    });
    found
        .metadata
        .insert("pointsman.source".into(), SOURCE.into());
    found.metadata.insert("pointsman.path".into(), path.into());
    let name: ServiceName = found
        .service
        .parse()
        .map_err(|e| format!("the service's name {e}"))?;
    let id: InstanceId = found
        .id
        .parse()
        .map_err(|e| format!("the instance's id {e}"))?;
    let instance = Instance {
        id,
        host: found.host.parse::<Host>()?,
        port: found.port,
        weight: Weight(found.weight),
        tier: 0,
        zone: found.zone,
        tags: Box::default(),
        metadata: Some(Box::new(found.metadata)),
        // It lives as long as its node.
        lease: None,
        check: None,
        enabled: found.enabled,
        drain: false,
    };
    Ok((ServiceKey::in_default(name), instance))
}

/// What marks instances that come from the tree, in their metadata.
pub const SOURCE: &str = "zookeeper";

struct Found {
    service: String,
    id: String,
    host: String,
    port: NonZeroU16,
    weight: u16,
    zone: Option<Box<str>>,
    enabled: bool,
    metadata: BTreeMap<Box<str>, Box<str>>,
}

/// `dubbo://10.0.0.5:20880/com.example.Greeter?version=1.0&weight=50`, encoded.
fn dubbo(service: &str, leaf: &str) -> Result<Found, String> {
    let url = decode(leaf)?;
    let (protocol, rest) = url.split_once("://").ok_or("it is no URL")?;
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = before.split('/').next().unwrap_or_default();
    let address = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = split_address(address)?;
    let mut metadata: BTreeMap<Box<str>, Box<str>> = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        metadata.insert(Box::from(&*name), Box::from(&*value));
    }
    let said = |name: &str| metadata.get(name).map(Box::as_ref);
    let given = |name: &str| said(name).filter(|value| !value.is_empty());
    let version = given("version").filter(|version| *version != "0.0.0");
    // Providers of another version or group are another service.
    let mut name = service.to_owned();
    for part in [version, given("group")].into_iter().flatten() {
        name.push(':');
        name.push_str(part);
    }
    let weight = said("weight").and_then(|weight| weight.parse().ok());
    let off = said("disabled") == Some("true") || said("enabled") == Some("false");
    let zone = given("zone").map(Into::into);
    metadata.insert("protocol".into(), protocol.into());
    Ok(Found {
        service: name,
        id: format!("{protocol}:{}", address.replace(['[', ']'], "")),
        host,
        port,
        weight: weight.unwrap_or(DUBBO_WEIGHT),
        zone,
        enabled: !off,
        metadata,
    })
}

/// `{"name": …, "id": …, "address": …, "port": …, "payload": {"metadata": {…}}}`.
fn curator(service: &str, leaf: &str, data: &[u8]) -> Result<Found, String> {
    let json: Json = serde_json::from_slice(data).map_err(|_| "its data is no JSON")?;
    let text = |names: &[&str]| {
        let found = names.iter().find_map(|name| json.get(name)?.as_str());
        found.map(str::to_owned)
    };
    let host = text(&["address", "host", "ip"]).ok_or("it has no address")?;
    let port = [&json["port"], &json["sslPort"]]
        .into_iter()
        .find_map(Json::as_u64)
        .ok_or("it has no port")?;
    let mut metadata: BTreeMap<Box<str>, Box<str>> = BTreeMap::new();
    for source in [&json["payload"]["metadata"], &json["metadata"]] {
        for (name, value) in source.as_object().into_iter().flatten() {
            let value = match value {
                Json::String(text) => text.clone(),
                other => other.to_string(),
            };
            metadata.insert(name.as_str().into(), value.into());
        }
    }
    let said = |name: &str| metadata.get(name).map(Box::as_ref);
    let weight = said("weight").and_then(|weight| weight.parse().ok());
    let weight = weight.or_else(|| json["weight"].as_u64()?.try_into().ok());
    let status = said("instance_status").unwrap_or("UP");
    let enabled = json["enabled"].as_bool().unwrap_or(true) && status == "UP";
    let zone = said("zone").map(Into::into);
    Ok(Found {
        service: service.to_owned(),
        id: text(&["id"]).unwrap_or_else(|| leaf.to_owned()),
        host,
        port: port_of(port)?,
        weight: weight.unwrap_or(1),
        zone,
        enabled,
        metadata,
    })
}

fn plain(service: &str, leaf: &str, address: &str) -> Result<Found, String> {
    let (host, port) = split_address(address)?;
    Ok(Found {
        service: service.to_owned(),
        id: leaf.to_owned(),
        host,
        port,
        weight: 1,
        zone: None,
        enabled: true,
        metadata: BTreeMap::new(),
    })
}

fn split_address(address: &str) -> Result<(String, NonZeroU16), String> {
    let (host, port) = address.rsplit_once(':').ok_or("it has no port")?;
    let port: u64 = port.parse().map_err(|_| "its port is no number")?;
    Ok((host.to_owned(), port_of(port)?))
}

fn port_of(port: u64) -> Result<NonZeroU16, String> {
    let port = u16::try_from(port).ok().and_then(NonZeroU16::new);
    port.ok_or_else(|| "its port is not between 1 and 65,535".into())
}

/// Percent-decoding, of which `form_urlencoded` does that of one name.
fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = |b: &u8| char::from(*b).to_digit(16);
        match after {
            [a, b, after @ ..] if *first == b'%' => {
                let (Some(a), Some(b)) = (hex(a), hex(b)) else {
                    return Err("it is not encoded as URLs are".into());
                };
                bytes.push((a * 16 + b) as u8);
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| "it is no text".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &str, path: &str, data: &str) -> Result<(String, Instance), String> {
        let (key, instance) = read(&pattern.parse().unwrap(), path, data.as_bytes())?;
        Ok((key.service.to_string(), instance))
    }

    #[test]
    fn a_dubbo_provider_is_an_instance_of_its_interface() {
        let url = "dubbo%3A%2F%2F10.0.0.5%3A20880%2Fcom.example.Greeter%3Fversion%3D1.2%26group%3Dblue%26weight%3D50%26application%3Ddemo";
        let path = format!("/dubbo/com.example.Greeter/providers/{url}");
        let pattern = "/dubbo/{service}/providers/{dubbo}";
        let (service, instance) = found(pattern, &path, "").unwrap();
        assert_eq!(service, "com.example.Greeter:1.2:blue");
        assert_eq!(instance.id.as_str(), "dubbo:10.0.0.5:20880");
        assert_eq!((instance.port.get(), instance.weight), (20_880, Weight(50)));
        let metadata = instance.metadata.unwrap();
        assert_eq!(&*metadata["application"], "demo");
        assert_eq!(*metadata["pointsman.path"], *path);
        assert!(found(pattern, "/dubbo/a/consumers/x", "").is_err());
        for malformed in [
            "dubbo",
            "dubbo%3A%2F%2Fhost",
            "dubbo%3A%2F%2Fh%3A0",
            "%zz",
            "%ff%fe",
        ] {
            let path = format!("/dubbo/a/providers/{malformed}");
            assert!(found(pattern, &path, "").is_err(), "{malformed}");
        }
    }

    #[test]
    fn what_curator_and_spring_register_is_an_instance() {
        let json = r#"{"name":"shop","id":"a1","address":"shop-1.internal","port":8080,"sslPort":null,
            "payload":{"@class":"x","id":"app","name":"shop","metadata":{"instance_status":"UP","weight":"3","zone":"b"}},
            "registrationTimeUTC":1,"serviceType":"DYNAMIC","uriSpec":null}"#;
        let pattern = "/services/{service}/{curator}";
        let (service, instance) = found(pattern, "/services/shop/a1", json).unwrap();
        assert_eq!((&*service, instance.id.as_str()), ("shop", "a1"));
        assert_eq!(instance.host, "shop-1.internal".parse().unwrap());
        assert_eq!(
            (instance.weight, instance.zone.as_deref()),
            (Weight(3), Some("b"))
        );
        assert!(instance.enabled);
        for malformed in [
            "",
            "[]",
            "{}",
            r#"{"address":"h"}"#,
            r#"{"address":"h","port":70000}"#,
            r#"{"address":"h h","port":1}"#,
        ] {
            assert!(
                found(pattern, "/services/shop/a1", malformed).is_err(),
                "{malformed}"
            );
        }
    }

    #[test]
    fn other_layouts_have_patterns_of_their_own() {
        let (service, one) =
            found("/apps/*/{service}/{address}", "/apps/x/web/[::1]:80", "").unwrap();
        assert_eq!((&*service, one.host), ("web", "::1".parse().unwrap()));
        let pattern = "/live/{service}/{id}";
        let (_, two) = found(pattern, "/live/web/n-0000000001", "10.0.0.1:81\n").unwrap();
        assert_eq!((two.id.as_str(), two.port.get()), ("n-0000000001", 81));
        let (_, three) = found(pattern, "/live/web/n", r#"{"host":"10.0.0.1","port":82}"#).unwrap();
        assert_eq!(three.port.get(), 82);
    }
}
