//! Who a request comes from.

use std::net::{IpAddr, SocketAddr};

use model::Network;

use crate::h1::{Known, Request};

/// The most addresses looked at. Chains of proxies are short; what is longer was made up.
const MOST: usize = 16;

/// The client of a request that came from `peer`: the peer, unless that is a proxy that is trusted. Then it is the last
/// address in `X-Forwarded-For` that is none of those either: whoever stands before it in the list may have been made
/// up by the client.
pub fn client_of(request: &Request<'_>, peer: IpAddr, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if trusted.is_empty() || !is_trusted(peer) {
        return peer;
    }
    let lists: Vec<&[u8]> = request.fields.all(Known::XForwardedFor).collect();
    let names = lists
        .iter()
        .rev()
        .flat_map(|list| list.rsplit(|&b| b == b','));
    let mut client = peer;
    for name in names.take(MOST) {
        // A name that is no address: who named it is the last one known.
        let Some(address) = address(name.trim_ascii()) else {
            return client;
        };
        client = address;
        if !is_trusted(address) {
            return client;
        }
    }
    client
}

/// `10.0.0.1`, `::1`, and, as some write them, `10.0.0.1:80` and `[::1]:80`.
fn address(name: &[u8]) -> Option<IpAddr> {
    let name = str::from_utf8(name).ok()?;
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    let ip = bare.unwrap_or(name).parse::<IpAddr>();
    let with_port = || name.parse::<SocketAddr>().map(|address| address.ip());
    ip.or_else(|_| with_port()).ok().map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::{Limits, parse_request};

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let lines: String = forwarded
            .iter()
            .map(|f| format!("X-Forwarded-For: {f}\r\n"))
            .collect();
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let limits = Limits {
            head: 4096,
            fields: 100,
        };
        let request = parse_request(text.as_bytes(), &mut 0, &limits)
            .unwrap()
            .unwrap();
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        client_of(&request, peer.parse().unwrap(), &trusted).to_string()
    }

    #[test]
    fn whoever_is_not_trusted_is_the_client_itself() {
        assert_eq!(client("1.2.3.4", &["5.6.7.8"]), "1.2.3.4");
    }

    #[test]
    fn the_last_address_that_is_not_trusted_is_the_client() {
        assert_eq!(
            client("10.0.0.1", &["6.6.6.6, 5.6.7.8, 10.0.0.2"]),
            "5.6.7.8"
        );
        assert_eq!(
            client("10.0.0.1", &["6.6.6.6", "5.6.7.8,10.0.0.2"]),
            "5.6.7.8"
        );
        assert_eq!(client("::1", &["[2001:db8::1]:443"]), "2001:db8::1");
        assert_eq!(client("10.0.0.1", &["5.6.7.8:80"]), "5.6.7.8");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    }

    #[test]
    fn what_is_no_address_ends_the_search() {
        assert_eq!(
            client("10.0.0.1", &["5.6.7.8, unknown, 10.0.0.2"]),
            "10.0.0.2"
        );
        assert_eq!(client("10.0.0.1", &[", ,"]), "10.0.0.1");
    }
}
