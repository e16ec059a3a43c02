use super::*;

/// What HAProxy 2.6 sent; also seeds of the fuzz target.
macro_rules! capture {
    ($name:literal) => {
        include_bytes!(concat!("../../../../fuzz/seeds/proxy_protocol/", $name))
    };
}

/// `send-proxy`
const V1: &[u8] = capture!("haproxy_v1");
/// `send-proxy-v2`
const V2: &[u8] = capture!("haproxy_v2");
/// `send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,unique-id,crc32c,authority`, without TLS
const V2_OPTIONS: &[u8] = capture!("haproxy_v2_options");
/// The same for a client with TLS, from `openssl s_client -servername db.example.com -alpn h2`
const V2_TLS: &[u8] = capture!("haproxy_v2_tls");
/// `send-proxy-v2 check check-send-proxy`
const V2_LOCAL: &[u8] = capture!("haproxy_v2_local");

fn header(bytes: &[u8]) -> Header {
    let (header, used) = parse(bytes).unwrap().unwrap();
    assert_eq!(used, bytes.len());
    header
}

fn proxied(source: &str, destination: &str) -> Origin {
    Origin::Proxied {
        transport: Transport::Stream,
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

fn plain_header(origin: Origin) -> Header {
    Header {
        origin,
        tlvs: Tlvs::default(),
    }
}

/// A header of version 2 whose length is right.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [v2::SIGNATURE, &[command, family], &length, rest].concat()
}

#[test]
fn what_haproxy_sends_is_understood() {
    assert_eq!(
        header(V1),
        plain_header(proxied("127.0.0.1:46344", "127.0.0.1:46575"))
    );
    assert_eq!(
        header(V2),
        plain_header(proxied("127.0.0.1:57656", "127.0.0.1:38559"))
    );
    assert_eq!(header(V2_LOCAL), plain_header(Origin::Local));
    let options = header(V2_OPTIONS).tlvs;
    assert_eq!(
        options.unique_id.as_deref(),
        Some(&b"85432fe7-4eaf-4f5c-b446-366d935f2331"[..])
    );
    assert_eq!((options.authority, options.ssl), (None, None));
    let tls = header(V2_TLS).tlvs;
    assert_eq!(
        (tls.alpn.as_deref(), tls.authority.as_deref()),
        (Some(&b"h2"[..]), Some("db.example.com"))
    );
    let ssl = tls.ssl.unwrap();
    assert_eq!((ssl.certificate, ssl.verified), (false, false));
    assert_eq!(ssl.version.as_deref(), Some("TLSv1.3"));
    assert_eq!(ssl.cipher.as_deref(), Some("TLS_AES_256_GCM_SHA384"));
}

#[test]
fn cut_at_every_byte_a_header_is_found_when_it_is_whole_and_not_before() {
    let unknown = b"PROXY UNKNOWN 1 2\r\n";
    for whole in [V1, V2, V2_OPTIONS, V2_TLS, V2_LOCAL, unknown] {
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), Ok(None), "{end}");
        }
        let with_more = [whole, b"\r\nPROXY "].concat();
        assert_eq!(parse(&with_more), Ok(Some((header(whole), whole.len()))));
    }
}

#[test]
fn lines_that_are_nearly_right_are_wrong() {
    for bad in [
        "PROXY TCP4 192.0.2.1 192.0.2.2 80\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 80 443 \r\n",
        "PROXY TCP4  192.0.2.1 192.0.2.2 80 443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 080 443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +80 443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 80 65536\r\n",
        "PROXY TCP4 192.0.2.01 192.0.2.2 80 443\r\n",
        "PROXY TCP4 ::1 ::1 80 443\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 80 443\r\n",
        "PROXY TCP6 ::1%lo ::1 80 443\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 80 443\r\n",
        "PROXY \r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 80 443\n\r\n",
    ] {
        assert!(
            matches!(parse(bad.as_bytes()), Err(Fault::Line(_))),
            "{bad:?}"
        );
    }
    let endless = [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat();
    assert_eq!(parse(&endless[..106]), Ok(None));
    assert!(matches!(parse(&endless[..107]), Err(Fault::Line(_))));
}

#[test]
fn what_is_no_header_shows_at_its_first_odd_byte() {
    for (other, at) in [
        (&b"GET"[..], 1),
        (b"PRI * HTTP/2.0", 3),
        (b"PROXYTCP4", 6),
        (b"\r\n\r\n\r", 5),
        (b"\x16\x03", 1),
    ] {
        assert_eq!(parse(&other[..at - 1]), Ok(None));
        assert_eq!(parse(&other[..at]), Err(Fault::NotProxy));
    }
}

#[test]
fn headers_of_version_2_that_are_nearly_right_are_wrong() {
    let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0, 80, 1, 187];
    let with = |rest: &[u8]| v2(0x21, 0x11, &[&v4, rest].concat());
    for bad in [
        v2(0x11, 0x11, &v4),
        v2(0x22, 0x11, &v4),
        v2(0x21, 0x41, &v4),
        v2(0x21, 0x13, &v4),
        v2(0x21, 0x11, &v4[..11]),
        v2(0x21, 0x21, &v4),
        with(b"\x01"),
        with(b"\x01\0\x02h"),
        with(b"\x01\0\x01h\x01\0\x01h"),
        with(b"\x02\0\x01\xff"),
        with(b"\x02\0\x01\n"),
        with(b"\x03\0\x03abc"),
        with(b"\x20\0\x04\x01\0\0\0"),
        with(b"\x20\0\x08\x01\0\0\0\0\x21\0\x01"),
        with(&[&[5, 0, 129][..], &[0; 129]].concat()),
    ] {
        assert!(matches!(parse(&bad), Err(Fault::Binary(_))), "{bad:?}");
    }
    assert_eq!(parse(&with(b"\x03\0\x04abcd")), Err(Fault::Checksum));
    let long = v2(0x21, 0x11, &[0; 0x4000]);
    assert_eq!(parse(&long[..16]), Err(Fault::TooLong(0x4010)));
}

#[test]
fn a_damaged_byte_shows_in_the_checksum() {
    // Behind the fixed part, whose damage shows otherwise.
    for at in 16..28 {
        let mut damaged = V2_OPTIONS.to_vec();
        damaged[at] ^= 1;
        assert_eq!(parse(&damaged), Err(Fault::Checksum), "{at}");
    }
}

#[test]
fn clients_without_an_ip_address_are_unknown_and_checks_are_local() {
    let unix = v2(0x21, 0x31, &[&[0; 216][..], b"\x05\0\x02id"].concat());
    assert_eq!(header(&unix).origin, Origin::Unknown);
    assert_eq!(header(&unix).tlvs.unique_id.as_deref(), Some(&b"id"[..]));
    assert_eq!(header(&v2(0x21, 0, b"")), plain_header(Origin::Unknown));
    // §2.2: the receiver accepts LOCAL and discards the block, whatever is in it.
    assert_eq!(
        header(&v2(0x20, 0x7f, b"\xff\xff")),
        plain_header(Origin::Local)
    );
    assert_eq!(
        header(b"PROXY UNKNOWN ff::1 ff::2 1 2\r\n"),
        plain_header(Origin::Unknown)
    );
}

#[test]
fn what_is_written_reads_the_same() {
    let tlvs = Tlvs {
        alpn: Some(b"h2"[..].into()),
        authority: Some("db.example.com".into()),
        unique_id: Some(b"\0\xff"[..].into()),
        ssl: Some(Ssl {
            certificate: true,
            verified: true,
            version: Some("TLSv1.3".into()),
            common_name: Some("client".into()),
            cipher: None,
        }),
    };
    for origin in [
        proxied("192.0.2.1:1", "192.0.2.2:65535"),
        proxied("[2001:db8::1]:0", "[::]:443"),
        Origin::Unknown,
    ] {
        let header = Header {
            origin,
            tlvs: tlvs.clone(),
        };
        for checksum in [false, true] {
            let mut out = b"before".to_vec();
            write(&header, Version::V2 { checksum }, &mut out);
            assert_eq!(parse(&out[6..]), Ok(Some((header.clone(), out.len() - 6))));
        }
        let mut line = Vec::new();
        write(&header, Version::V1, &mut line);
        assert_eq!(self::header(&line), plain_header(origin));
    }
}

#[test]
fn what_a_version_cannot_say_is_said_as_well_as_it_can() {
    let write = |origin: Origin, version| {
        let mut out = Vec::new();
        write(&plain_header(origin), version, &mut out);
        out
    };
    assert_eq!(write(Origin::Local, Version::V1), b"PROXY UNKNOWN\r\n");
    let mixed = proxied("192.0.2.1:1", "[2001:db8::1]:2");
    assert_eq!(
        write(mixed, Version::V1),
        b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 1 2\r\n"
    );
    let mapped = proxied("[::ffff:192.0.2.1]:1", "[2001:db8::1]:2");
    assert_eq!(
        header(&write(mixed, Version::V2 { checksum: true })).origin,
        mapped
    );
    let longest = proxied(
        "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
        "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
    );
    assert!(write(longest, Version::V1).len() <= MAX_V1);
    let huge = Header {
        origin: Origin::Unknown,
        tlvs: Tlvs {
            alpn: Some(vec![0; 20_000].into()),
            unique_id: Some(vec![0; 129].into()),
            authority: Some("a".into()),
            ssl: None,
        },
    };
    let mut out = Vec::new();
    super::write(&huge, Version::V2 { checksum: true }, &mut out);
    let kept = header(&out).tlvs;
    assert_eq!(
        (kept.alpn, kept.unique_id, kept.authority.as_deref()),
        (None, None, Some("a"))
    );
}
