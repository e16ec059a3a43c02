use super::*;

/// What programs sent to a socket that answered nothing; also seeds of the fuzz target.
macro_rules! capture {
    ($name:literal) => {
        include_bytes!(concat!("../../../../fuzz/seeds/client_hello/", $name))
    };
}

/// `openssl s_client -servername db.example.com -alpn postgresql,h2`
const OPENSSL: &[u8] = capture!("openssl");
/// The same with `-tls1_2 -servername Shop.Example.com`.
const TLS12: &[u8] = capture!("openssl_tls12");
/// The same with `-noservername`.
const NO_NAME: &[u8] = capture!("openssl_nosni");
/// The same with `-max_send_frag 512` and twelve long protocols: two records.
const TWO_RECORDS: &[u8] = capture!("openssl_split");
/// `curl https://www.example.com/`
const CURL: &[u8] = capture!("curl");

fn parse(bytes: &[u8]) -> Result<Option<ClientHello>, Fault> {
    Parser::default().parse(bytes)
}

fn hello(bytes: &[u8]) -> ClientHello {
    parse(bytes).unwrap().unwrap()
}

fn protocols(hello: &ClientHello) -> Vec<&str> {
    hello
        .alpn
        .iter()
        .map(|p| std::str::from_utf8(p).unwrap())
        .collect()
}

/// A hello of one record with these extensions.
fn with_extensions(extensions: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let message = [&[1, 0], &(body.len() as u16).to_be_bytes()[..], &body].concat();
    records(&message, 0x4000)
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    let head = |piece: &[u8]| [&[22, 3, 1][..], &(piece.len() as u16).to_be_bytes()].concat();
    let record = |piece: &[u8]| [head(piece), piece.to_vec()].concat();
    message.chunks(size).flat_map(record).collect()
}

fn extension(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[0, kind], &(value.len() as u16).to_be_bytes()[..], value].concat()
}

fn name(name: &[u8]) -> Vec<u8> {
    let length = name.len() as u8;
    let list = [&[0, length + 3, 0, 0, length][..], name].concat();
    extension(0, &list)
}

#[test]
fn hellos_of_openssl_and_curl_are_understood() {
    let openssl = hello(OPENSSL);
    assert_eq!(openssl.server_name.as_deref(), Some("db.example.com"));
    assert_eq!(protocols(&openssl), ["postgresql", "h2"]);
    let curl = hello(CURL);
    assert_eq!(curl.server_name.as_deref(), Some("www.example.com"));
    assert_eq!(protocols(&curl), ["h2", "http/1.1"]);
}

#[test]
fn names_are_in_lower_case_and_may_be_absent() {
    assert_eq!(
        hello(TLS12).server_name.as_deref(),
        Some("shop.example.com")
    );
    assert_eq!(hello(NO_NAME), ClientHello::default());
    assert_eq!(
        hello(&with_extensions(&name(b"a.test.")))
            .server_name
            .as_deref(),
        Some("a.test")
    );
}

#[test]
fn a_hello_over_two_records_is_put_together() {
    let hello = hello(TWO_RECORDS);
    assert_eq!(hello.server_name.as_deref(), Some("split.example.com"));
    assert_eq!(hello.alpn.len(), 12);
    assert_eq!(hello.alpn[11].len(), 53);
}

#[test]
fn records_may_be_of_any_size() {
    for whole in [OPENSSL, CURL] {
        for size in 1..whole.len() {
            assert_eq!(hello(&records(&whole[5..], size)), hello(whole), "{size}");
        }
    }
}

#[test]
fn cut_at_every_byte_the_hello_is_found_when_it_is_whole_and_not_before() {
    for whole in [OPENSSL, TLS12, NO_NAME, TWO_RECORDS, CURL] {
        let mut parser = Parser::default();
        for end in 0..whole.len() {
            assert_eq!(parser.parse(&whole[..end]), Ok(None), "{end}");
        }
        assert_eq!(parser.parse(whole), Ok(Some(hello(whole))));
        // What the client sends next does no harm.
        assert_eq!(
            hello(&[whole, b"\x14\x03\x03\0\x01\x01"].concat()),
            hello(whole)
        );
    }
}

#[test]
fn what_is_no_tls_shows_at_its_first_byte() {
    for other in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"SSH-2.0-x\r\n",
        b"\0\0\0\x08",
        b"\x80\x2e\x01",
    ] {
        assert_eq!(parse(&other[..1]), Err(Fault::NotTls));
    }
    assert_eq!(parse(b"\x16\x02"), Err(Fault::NotTls));
    assert_eq!(parse(b"\x16\x03\x01\xff\xff"), Err(Fault::NotTls));
    assert_eq!(parse(b"\x15\x03\x01"), Err(Fault::NotTls));
    // A ServerHello.
    assert_eq!(parse(b"\x16\x03\x03\x00\x7a\x02"), Err(Fault::NotHello));
}

#[test]
fn a_hello_that_is_too_long_is_refused_as_soon_as_it_says_so() {
    let message = [&[1, 0, 0x40, 0][..], &[0; 0x4000]].concat();
    assert_eq!(
        parse(&records(&message, 0x4000)[..9]),
        Err(Fault::TooLong(MAX_HELLO + 4))
    );
    // Cut into the smallest records, a shorter one is refused too, before MAX_WIRE bytes are there.
    let message = [&[1, 0, 0x20, 0][..], &[0; 0x2000]].concat();
    let tiny = records(&message, 1);
    assert!(matches!(parse(&tiny[..MAX_WIRE]), Err(Fault::TooLong(n)) if n >= MAX_WIRE));
}

#[test]
fn hellos_that_two_readers_could_read_differently_are_refused() {
    let two_names = b"\x00\x0c\0\0\x03a.b\0\0\x03c.d";
    for bad in [
        [name(b"a.test"), name(b"b.test")].concat(),
        extension(0, two_names),
        name(b""),
        name(b"."),
        name(b"a\0.test"),
        name(b"a test"),
        name("\u{e9}.test".as_bytes()),
        name(&[b'a'; 252])
            .into_iter()
            .chain(extension(16, b"\0\x01\0"))
            .collect(),
        extension(0, b"\0\x01\0"),
        extension(0, b"\0\0\0"),
        extension(16, b"\0\x03\x02h2!"),
        extension(16, b"\0\x03\x03h2"),
        b"\0\0\xff\xff".to_vec(),
        b"\0".to_vec(),
    ] {
        let verdict = parse(&with_extensions(&bad));
        assert!(
            matches!(verdict, Err(Fault::Malformed(_))),
            "{verdict:?}: {bad:?}"
        );
    }
    let mut longer = with_extensions(&name(b"a.test"));
    let end = longer.len();
    longer[end - 16] -= 1;
    assert!(matches!(parse(&longer), Err(Fault::Malformed(_))));
    assert!(matches!(
        parse(b"\x16\x03\x01\0\0"),
        Err(Fault::Malformed(_))
    ));
}

#[test]
fn a_hello_without_extensions_is_one() {
    let mut body = vec![3, 1];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let message = [&[1, 0, 0, body.len() as u8][..], &body].concat();
    assert_eq!(hello(&records(&message, 100)), ClientHello::default());
}
