use super::huffman;
use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Option<Vec<(String, String)>> {
    let mut fields = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let field = |name: &[u8], value: &[u8]| fields.push((text(name), text(value)));
    let read = decoder.decode(block, &mut Vec::new(), field);
    read.is_ok().then_some(fields)
}

fn pairs(fields: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    let owned = |&(n, v): &(&str, &str)| (n.to_owned(), v.to_owned());
    Some(fields.iter().map(owned).collect())
}

#[test]
fn requests_are_decoded_as_in_the_specification_with_and_without_the_code() {
    // RFC 7541 C.3 and C.4: three requests each, that build upon each other.
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [plain, coded] {
        let mut decoder = Decoder::new();
        let host = (":authority", "www.example.com");
        let first = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            host,
        ];
        let second = [&first[..], &[("cache-control", "no-cache")]].concat();
        let third = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            host,
            ("custom-key", "custom-value"),
        ];
        for (block, fields) in blocks.iter().zip([&first[..], &second, &third]) {
            assert_eq!(decoded(&mut decoder, &hex(block)), pairs(fields));
        }
    }
}

#[test]
fn the_code_goes_there_and_back_for_every_byte() {
    let every: Vec<u8> = (0..=255).collect();
    let mut strings: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    strings.push(every.clone());
    strings.push([b"/index.html?q=1".as_slice(), &every, b"aaaaaaaaaaaa"].concat());
    for string in strings {
        let mut coded = Vec::new();
        huffman::encode(&string, &mut coded);
        let mut out = Vec::new();
        assert!(huffman::decode(&coded, 1_000, &mut out), "{string:?}");
        assert_eq!(out, string);
    }
    let mut coded = Vec::new();
    huffman::encode(b"www.example.com", &mut coded);
    assert_eq!(coded, hex("f1e3 c2e5 f23a 6ba0 ab90 f4ff"));
}

#[test]
fn a_code_that_does_not_end_as_it_must_is_refused() {
    for bad in [
        // More than seven bits of padding, padding with a zero in it, and the end itself.
        "ff", "ffff", "1fff", "18", "fffffffc", "ffffffff",
    ] {
        assert!(!huffman::decode(&hex(bad), 100, &mut Vec::new()), "{bad}");
    }
    assert!(
        huffman::decode(&hex("1f"), 100, &mut Vec::new()),
        "a and padding"
    );
    assert!(huffman::decode(&[], 0, &mut Vec::new()), "nothing");
}

#[test]
fn blocks_that_cannot_be_read_are_refused() {
    for bad in [
        "80",                      // Index 0.
        "be",                      // Beyond the tables.
        "ff 80 80 80 80 80 80 01", // A number without end.
        "82 3f e1 1f",             // A new size behind a field.
        "3f e2 1f",                // A size above what was allowed.
        "40 0a 63",                // A name that is cut off.
        "40",                      // A literal without anything.
        "00 01 61 85",             // A value that is cut off.
    ] {
        assert_eq!(decoded(&mut Decoder::new(), &hex(bad)), None, "{bad}");
    }
}

#[test]
fn the_table_drops_the_oldest_and_never_grows_beyond_its_size() {
    let mut decoder = Decoder::new();
    let mut insert = |value: &[u8]| {
        let mut block = vec![0x40, 1, b'n'];
        block.push(0x7f);
        let rest = value.len() - 127;
        block.extend_from_slice(&[rest as u8 | 0x80, (rest >> 7) as u8]);
        block.extend_from_slice(value);
        decoded(&mut decoder, &block).unwrap();
    };
    insert(&[b'a'; 2_000]);
    insert(&[b'b'; 2_000]);
    insert(&[b'c'; 1_000]);
    let at = |decoder: &mut Decoder, index: u8| {
        decoded(decoder, &[0x80 | index]).map(|fields| fields[0].1.clone())
    };
    assert_eq!(at(&mut decoder, 62), Some("c".repeat(1_000)));
    assert_eq!(at(&mut decoder, 63), Some("b".repeat(2_000)));
    assert_eq!(at(&mut decoder, 64), None, "the oldest is gone");
    assert_eq!(decoded(&mut decoder, &[0x20]), pairs(&[]), "size 0");
    assert_eq!(at(&mut decoder, 62), None, "and so is everything");
}

#[test]
fn what_is_written_is_read_back() {
    let mut block = vec![NO_TABLE];
    write_status(200, &mut block);
    write_status(503, &mut block);
    let long = "x".repeat(70);
    let fields = [
        ("Content-Type", "text/html"),
        ("X-Custom", "1"),
        ("Set-Cookie", "a=b"),
        ("WWW-Authenticate", "Basic"),
        (long.as_str(), long.as_str()),
        ("ETag", &"y".repeat(300)),
        ("Content-Nothing1", ""),
        ("Vary", ""),
    ];
    for (name, value) in fields {
        write_field(name.as_bytes(), value.as_bytes(), &mut block);
    }
    let mut expected = vec![
        (":status".to_owned(), "200".to_owned()),
        (":status".to_owned(), "503".to_owned()),
    ];
    expected.extend(
        fields
            .iter()
            .map(|(n, v)| (n.to_lowercase(), (*v).to_owned())),
    );
    assert_eq!(decoded(&mut Decoder::new(), &block), Some(expected));
}

#[test]
fn every_name_that_answers_have_is_found_at_its_index() {
    for (place, (name, _)) in super::fixed::TABLE.iter().enumerate().skip(17) {
        let index = super::fixed::index_of(name.as_bytes());
        assert!(index == 0 || usize::from(index) == place + 1, "{name}");
    }
    for name in [
        "content-type",
        "server",
        "date",
        "set-cookie",
        "content-length",
        "etag",
    ] {
        assert_ne!(super::fixed::index_of(name.as_bytes()), 0, "{name}");
    }
}
