//! What stands before a connection's own bytes: TLS hellos that choose the route, PROXY headers in and out.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::harness::{Home, Node, get, until};
use crate::tcp::{Instance, connect, end, ping};

/// A ClientHello of TLS 1.2 with these extensions, in one record.
fn hello(name: Option<&str>, alpn: &[&str]) -> Vec<u8> {
    let sized = |bytes: Vec<u8>| [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat();
    let mut extensions = Vec::new();
    if let Some(name) = name {
        let entry = [&[0][..], &sized(name.into())].concat();
        extensions.extend([0, 0]);
        extensions.extend(sized(sized(entry)));
    }
    if !alpn.is_empty() {
        let names = alpn
            .iter()
            .flat_map(|n| [&[n.len() as u8][..], n.as_bytes()].concat());
        extensions.extend([0, 16]);
        extensions.extend(sized(sized(names.collect())));
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 2, 0x13, 0x01, 1, 0]);
    body.extend(sized(extensions));
    let message = [&[1, 0][..], &sized(body)].concat();
    [&[22, 3, 1][..], &sized(message)].concat()
}

/// An instance that answers with its name and whatever it gets.
fn named(name: &'static str) -> Instance {
    Instance::new(move |mut stream, _| {
        stream.write_all(name.as_bytes()).unwrap();
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
    })
}

fn routed(instances: &[&Instance; 4]) -> Node {
    let services = ["plain", "suffix", "exact", "h2"]
        .iter()
        .zip(instances)
        .map(|(name, i)| format!("[[service.{name}.instance]]\naddress = \"{}\"\n", i.address));
    let routes = [
        ("sni = \"*.example.com\"", "suffix"),
        ("sni = \"a.example.com\"", "exact"),
        ("sni = \"a.example.com\"\nalpn = \"h2\"", "h2"),
    ];
    let routes = routes
        .map(|(keys, service)| format!("[[listener.db.route]]\n{keys}\nservice = \"{service}\"\n"));
    Home::new(&format!(
        "[listener.db]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nservice = \"plain\"\n\
         tcp = {{ hello = \"1s\" }}\n{}{}",
        routes.concat(),
        services.collect::<String>()
    ))
    .start()
}

/// Sends bytes and returns what comes back when the client has ended.
fn converse(node: &Node, parts: &[&[u8]]) -> Vec<u8> {
    let mut stream = connect(node);
    for part in parts {
        stream.write_all(part).unwrap();
        std::thread::yield_now();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    end(&mut stream).unwrap()
}

#[test]
fn the_hello_chooses_the_route_and_arrives_whole() {
    let instances = ["plain", "suffix", "exact", "h2"].map(named);
    let node = routed(&instances.each_ref());
    for (name, alpn, expected) in [
        (Some("a.example.com"), &["http/1.1"][..], "exact"),
        (Some("a.example.com"), &["h2", "http/1.1"], "h2"),
        (Some("B.Example.com"), &[], "suffix"),
        (Some("other.org"), &["h2"], "plain"),
        (None, &[], "plain"),
    ] {
        let hello = hello(name, alpn);
        let whole = [expected.as_bytes(), &hello].concat();
        assert_eq!(converse(&node, &[&hello]), whole, "{name:?} {alpn:?}");
        let pieces: Vec<_> = hello.chunks(7).collect();
        assert_eq!(converse(&node, &pieces), whole, "{name:?} in pieces");
        // And `explain` knows.
        let listener = node.listener("db");
        let host = name.map_or(listener.ip().to_string(), str::to_owned);
        let mut url = format!("/v1/explain?url={host}:{}", listener.port());
        if !alpn.is_empty() {
            url += &format!("&alpn={}", alpn.join(","));
        }
        let service = &node.read(&url)["service"]["service"];
        let service = service.as_str().unwrap().to_owned();
        assert!(service.ends_with(expected), "{url}: {service}");
    }
    // No TLS at all; and a protocol in which the server speaks first.
    assert_eq!(
        converse(&node, &[b"GET / HTTP/1.0\r\n\r\n"]),
        b"plainGET / HTTP/1.0\r\n\r\n"
    );
    let mut silent = connect(&node);
    let mut greeting = [0; 5];
    silent.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"plain");
    let line = node.logged().until_line("\"sni\":\"b.example.com\"");
    assert!(line.contains("\"route\":\"db-1\""), "{line}");
}

#[test]
fn a_broken_hello_is_closed_and_counted() {
    let instances = ["plain", "suffix", "exact", "h2"].map(named);
    let node = routed(&instances.each_ref());
    let mut broken = hello(Some("a.example.com"), &[]);
    // A length that goes beyond its message.
    broken[43] = 255;
    for garbage in [
        &broken[..],
        &[22, 3, 1, 0, 1, 99],
        &[22, 3, 1, 64, 0, 1, 255, 255, 255],
    ] {
        let mut stream = connect(&node);
        stream.write_all(garbage).unwrap();
        assert_eq!(end(&mut stream), Err(ErrorKind::ConnectionReset));
    }
    // One that is never whole is not waited for.
    let mut slow = connect(&node);
    slow.write_all(&hello(Some("a.example.com"), &[])[..20])
        .unwrap();
    assert_eq!(end(&mut slow), Err(ErrorKind::ConnectionReset));
    assert_eq!(
        node.metric("pointsman_listener_refused_total{listener=\"db\"}"),
        3.0
    );
    assert!(instances.iter().all(|i| i.accepted() == 0));
}

/// A listener that accepts PROXY headers from `peers`, and an instance that gets one.
fn proxied(peers: &str, version: &str, instance: &Instance) -> Node {
    Home::new(&format!(
        "[listener.db]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nservice = \"db\"\n\
         accept_proxy = [{peers}]\ntcp = {{ hello = \"1s\" }}\n\
         [service.db]\n{version}\n[[service.db.instance]]\naddress = \"{}\"\n",
        instance.address
    ))
    .start()
}

#[test]
fn a_trusted_peers_client_is_passed_on() {
    let instance = Instance::echo();
    let node = proxied("\"127.0.0.0/8\"", "send_proxy = \"v1\"", &instance);
    let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
    let sent = [&line[..], b"hello"].concat();
    // One byte at a time, too.
    assert_eq!(converse(&node, &[&sent]), sent);
    let bytes: Vec<_> = sent.chunks(1).collect();
    assert_eq!(converse(&node, &bytes), sent);
    let logged = node.logged().until_line("\"protocol\":\"tcp\"");
    assert!(logged.contains("\"client\":\"192.0.2.7:4711\""), "{logged}");
}

#[test]
fn without_a_trusted_peer_the_header_tells_of_the_connection_itself() {
    let instance = Instance::echo();
    let node = proxied("", "send_proxy = \"v1\"", &instance);
    let mut stream = connect(&node);
    let (own, listener) = (stream.local_addr().unwrap(), node.listener("db"));
    stream.write_all(b"hello").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let heard = String::from_utf8(end(&mut stream).unwrap()).unwrap();
    let expected = format!(
        "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nhello",
        own.port(),
        listener.port()
    );
    assert_eq!(heard, expected);
}

#[test]
fn version_2_says_the_same_and_names_the_connection() {
    let instance = Instance::echo();
    let node = proxied("\"127.0.0.1\"", "send_proxy = \"v2\"", &instance);
    let heard = converse(
        &node,
        &[b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", b"hello"],
    );
    assert_eq!(heard[..12], *b"\r\n\r\n\0\r\nQUIT\n");
    assert_eq!(heard[12..14], [0x21, 0x21], "a client's, by TCP over IPv6");
    let length = usize::from(u16::from_be_bytes([heard[14], heard[15]]));
    assert_eq!(heard[16 + length..], *b"hello");
    let tlvs = &heard[16 + 36..16 + length];
    assert!(
        tlvs.windows(3).any(|w| w == [0x05, 0, 16]),
        "a unique id: {tlvs:?}"
    );
}

#[test]
fn garbage_in_place_of_a_header_is_closed_and_counted() {
    let instance = Instance::echo();
    let node = proxied("\"127.0.0.1\"", "", &instance);
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"PROXY TCP4 1.2.3.4\r\n",
        b"PROXY TCP4 999.2.3.4 1.2.3.4 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\xff\xff\xff\xff",
    ] {
        let mut stream = connect(&node);
        stream.write_all(garbage).unwrap();
        assert_eq!(
            end(&mut stream),
            Err(ErrorKind::ConnectionReset),
            "{garbage:?}"
        );
    }
    // Nor is silence a header.
    let mut silent = connect(&node);
    assert_eq!(end(&mut silent), Err(ErrorKind::ConnectionReset));
    assert_eq!(
        node.metric("pointsman_listener_refused_total{listener=\"db\"}"),
        4.0
    );
    assert_eq!(instance.accepted(), 0);
}

#[test]
fn one_source_behind_a_trusted_peer_is_limited_by_its_own_address() {
    let instance = Instance::echo();
    let node = Home::new(&format!(
        "[listener.db]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nservice = \"db\"\n\
         accept_proxy = [\"127.0.0.1\"]\ntcp = {{ max_per_source = 1 }}\n\
         [[service.db.instance]]\naddress = \"{}\"\n",
        instance.address
    ))
    .start();
    let from = |source: &str| {
        let mut stream = connect(&node);
        let line = format!("PROXY TCP4 {source} 192.0.2.99 1 2\r\n");
        stream.write_all(line.as_bytes()).unwrap();
        stream
    };
    let mut first = from("192.0.2.1");
    ping(&mut first, b"hello");
    assert_eq!(end(&mut from("192.0.2.1")), Err(ErrorKind::ConnectionReset));
    ping(&mut from("192.0.2.2"), b"hello");
}

#[test]
fn http_takes_and_sends_the_header_too() {
    let instance = Instance::new(|mut stream: TcpStream, _| {
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            heard.push(byte[0]);
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", heard.len());
        stream
            .write_all(&[head.as_bytes(), &heard].concat())
            .unwrap();
        let _ = stream.read(&mut [0]);
    });
    let node = Home::new(&format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\nservice = \"web\"\naccept_proxy = [\"127.0.0.2\"]\n\
         [service.web]\nsend_proxy = \"v1\"\n[[service.web.instance]]\naddress = \"{0}\"\n\
         [listener.db]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nservice = \"self\"\n\
         [service.self]\nsend_proxy = \"v2\"\nconnect_from = [\"127.0.0.2\"]\n",
        instance.address
    ));
    let node = node.start();
    // By way of our own TCP listener, which introduces the client to the HTTP listener.
    node.register(
        "self",
        "x",
        &serde_json::json!({ "address": "127.0.0.1", "port": node.web().port(), "persistent": true }),
    );
    node.until_instances("db", 1);
    for _ in 0..3 {
        let answer = get(node.listener("db"), "/x");
        let text = answer.text().to_owned();
        assert!(
            text.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "),
            "{text}"
        );
        assert!(
            text.contains("GET /x HTTP/1.1") && text.contains("127.0.0.1"),
            "{text}"
        );
    }
    // A peer that is not trusted sends requests at once.
    assert!(get(node.web(), "/y").text().contains("GET /y HTTP/1.1"));
    until("a connection for each request", || {
        (instance.accepted() == 4).then_some(())
    });
}
