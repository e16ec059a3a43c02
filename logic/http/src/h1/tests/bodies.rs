use super::*;

/// Everything that a body gave: payload, trailers and what was left over.
type Outcome = Result<(Vec<u8>, Vec<u8>, Vec<u8>, bool), Fault>;

/// Decodes the input in pieces that end where told.
fn decode(framing: Framing, input: &[u8], cuts: &[usize]) -> Outcome {
    let mut decoder = BodyDecoder::new(framing);
    let mut data = Vec::new();
    let (mut start, mut used) = (0, 0);
    for &end in cuts.iter().chain([&input.len()]) {
        let mut piece = input[start..end].to_vec();
        start = end;
        let decoded = decoder.decode(&mut piece)?;
        data.extend_from_slice(&piece[..decoded.data]);
        used += decoded.consumed;
        assert!(decoded.data <= decoded.consumed);
        if decoded.done {
            break;
        }
        assert_eq!(
            decoded.consumed,
            piece.len(),
            "all is taken while the body goes on"
        );
    }
    let done = decoder.is_done();
    Ok((
        data,
        decoder.trailers().to_vec(),
        input[used..].to_vec(),
        done,
    ))
}

fn chunked(input: &[u8]) -> Outcome {
    decode(Framing::Chunked, input, &[])
}

fn done(data: &str, trailers: &str, rest: &str) -> Outcome {
    Ok((data.into(), trailers.into(), rest.into(), true))
}

#[test]
fn chunks_are_joined_and_what_follows_is_left() {
    assert_eq!(
        chunked(b"4\r\nWiki\r\n6\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\n\r\nGET / "),
        done("Wikipedia in \r\n\r\nchunks.", "", "GET / ")
    );
    assert_eq!(chunked(b"0\r\n\r\n"), done("", "", ""));
    assert_eq!(
        chunked(b"00a\r\n0123456789\r\n000\r\n\r\n"),
        done("0123456789", "", "")
    );
}

#[test]
fn a_length_is_counted_down_and_what_follows_is_left() {
    assert_eq!(
        decode(Framing::Length(3), b"abcde", &[1]),
        done("abc", "", "de")
    );
    assert_eq!(decode(Framing::Length(0), b"abc", &[]), done("", "", "abc"));
    assert_eq!(decode(Framing::None, b"abc", &[]), done("", "", "abc"));
    let mut decoder = BodyDecoder::new(Framing::Length(10));
    assert_eq!(decoder.remaining(), Some(10));
    decoder.skip(4);
    assert_eq!(decoder.remaining(), Some(6));
    assert_eq!(decoder.finish_at_eof(), Err(Fault::Truncated));
    decoder.skip(6);
    assert!(decoder.is_done() && decoder.finish_at_eof().is_ok());
}

#[test]
fn a_body_until_close_is_complete_when_the_connection_ends() {
    let all = decode(Framing::UntilClose, b"abc", &[1]);
    assert_eq!(all, Ok((b"abc".to_vec(), vec![], vec![], false)));
    assert!(
        BodyDecoder::new(Framing::UntilClose)
            .finish_at_eof()
            .is_ok()
    );
}

#[test]
fn a_chunked_body_cut_off_anywhere_is_truncated() {
    let input = b"4\r\nWiki\r\n0\r\nX: y\r\n\r\n";
    for end in 0..input.len() {
        let mut decoder = BodyDecoder::new(Framing::Chunked);
        decoder.decode(&mut input[..end].to_vec()).unwrap();
        assert_eq!(
            decoder.finish_at_eof(),
            Err(Fault::Truncated),
            "after {end} bytes"
        );
    }
}

#[test]
fn chunk_sizes_out_of_form_are_refused() {
    for bad in [
        "",
        "\r\n",
        " 4\r\n",
        "0x4\r\n",
        "+4\r\n",
        "-4\r\n",
        "g\r\n",
        "4 \r\n",
        "4 ;x\r\n",
        "4\t\r\n",
        "4_0\r\n",
        "00000000000000004\r\n",
        "8000000000000000\r\n",
        "fffffffffffffffff\r\n",
        ";x\r\n",
        "4,4\r\n",
        "\n4\r\n",
    ] {
        let input = format!("{bad}Wiki\r\n0\r\n\r\n");
        assert_eq!(chunked(input.as_bytes()), Err(Fault::ChunkSize), "{bad:?}");
    }
}

#[test]
fn chunks_must_end_in_cr_lf_where_their_size_says() {
    for bad in [
        "4\nWiki\r\n0\r\n\r\n",
        "4\rWiki\r\n0\r\n\r\n",
        "4\r\r\nWiki\r\n0\r\n\r\n",
        "4\r\nWiki\n0\r\n\r\n",
        "4\r\nWiki\r0\r\n\r\n",
        "4\r\nWikiX\r\n0\r\n\r\n",
        "4\r\nWik\r\n0\r\n\r\n",
        "4\r\nWiki0\r\n\r\n",
        "4;a\nWiki\r\n0\r\n\r\n",
        "4;a\rb\r\nWiki\r\n0\r\n\r\n",
        "0\r\n\rX",
        "0\r\r\n\r\n",
        "0\n\r\n",
    ] {
        assert_eq!(chunked(bad.as_bytes()), Err(Fault::ChunkEnd), "{bad:?}");
    }
    assert_eq!(chunked(b"0\r\n\n"), Err(Fault::BareLf));
}

#[test]
fn extensions_are_dropped_and_bounded_in_total() {
    let input = b"4;name=\"va;l ue\"\r\nWiki\r\n0;last\r\n\r\n";
    assert_eq!(chunked(input), done("Wiki", "", ""));
    assert_eq!(chunked(b"4;a\x00\r\n"), Err(Fault::ExtensionByte));
    let body = |chunks: usize| {
        format!(
            "{}0\r\n\r\n",
            format!("1;{}\r\nx\r\n", "e".repeat(64)).repeat(chunks)
        )
    };
    assert_eq!(chunked(body(64).as_bytes()), done(&"x".repeat(64), "", ""));
    assert_eq!(chunked(body(65).as_bytes()), Err(Fault::Extensions));
}

#[test]
fn trailers_are_kept_but_for_those_that_must_not_come_late() {
    let input = b"0\r\nX-Checksum:  abc \r\nContent-Length: 5\r\nHost: evil\r\nTransfer-Encoding: chunked\r\n\
        Set-Cookie: a=b\r\nAuthorization: x\r\nX_Forwarded_For: y\r\nX-Forwarded-For: y\r\nContent-Type: z\r\n\
        Grpc-Status: 0\r\n\r\nnext";
    assert_eq!(
        chunked(input),
        done("", "X-Checksum: abc\r\nGrpc-Status: 0\r\n", "next")
    );
}

#[test]
fn trailers_are_held_to_the_rules_for_fields_and_bounded() {
    for (line, expected) in [
        ("X : a\r\n", Fault::SpaceBeforeColon),
        (" X: a\r\n", Fault::Folded),
        ("X: a\n", Fault::BareLf),
        ("X: a\rb\r\n", Fault::BareCr),
        ("X: \0\r\n", Fault::ValueByte),
        ("X\r\n", Fault::Name),
        (": a\r\n", Fault::Name),
    ] {
        let input = format!("0\r\n{line}\r\n");
        assert_eq!(chunked(input.as_bytes()), Err(expected), "{line:?}");
    }
    let sized = |n: usize| format!("0\r\nX: {}\r\n\r\n", "y".repeat(n - 5));
    assert!(chunked(sized(8192).as_bytes()).is_ok());
    assert_eq!(chunked(sized(8193).as_bytes()), Err(Fault::Trailers));
    // Without a line's end in sight as well.
    let endless = format!("0\r\n{}", "y".repeat(9000));
    assert_eq!(chunked(endless.as_bytes()), Err(Fault::Trailers));
}

#[test]
fn how_the_network_cuts_a_body_never_matters() {
    let inputs: [&[u8]; 6] = [
        b"4;x=y\r\nWiki\r\n10\r\n0123456789abcdef\r\n0\r\nA: b\r\nHost: c\r\nD: e\r\n\r\nrest",
        b"4\r\nWiki\r\n0\r\n\r\n",
        b"4\r\nWikiX\r\n",
        b"4\r\nWiki\r\n0\r\nA : b\r\n\r\n",
        b"00000000000000000\r\n",
        b"1\r\na\r\n1\r\nb\r\n1;\r\nc\r\n0\r\n\r\n\r\n",
    ];
    for input in inputs {
        let whole = chunked(input);
        for a in 0..=input.len() {
            for b in a..=input.len() {
                let cut = decode(Framing::Chunked, input, &[a, b]);
                assert_eq!(cut, whole, "{} at {a}, {b}", String::from_utf8_lossy(input));
            }
        }
        let every: Vec<usize> = (0..input.len()).collect();
        assert_eq!(decode(Framing::Chunked, input, &every), whole);
    }
}

/// Bodies built at random from known chunks come out as built; the same bodies with one byte changed come out as the
/// slow and obvious decoder below has it.
#[test]
fn the_decoder_agrees_with_a_naive_one() {
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..20_000 {
        let mut wire = Vec::new();
        let mut payload = Vec::new();
        for _ in 0..random.usize(0..5) {
            let chunk: Vec<u8> = (0..random.usize(1..40)).map(|_| random.u8(..)).collect();
            let extension = ["", ";a", ";a=\"b\""][random.usize(0..3)];
            wire.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
            wire.extend_from_slice(&chunk);
            wire.extend_from_slice(b"\r\n");
            payload.extend_from_slice(&chunk);
        }
        wire.extend_from_slice(b"0\r\n\r\nrest");
        let (data, _, rest, complete) = chunked(&wire).unwrap();
        assert_eq!(
            (data, rest.as_slice(), complete),
            (payload, b"rest".as_slice(), true),
            "{round}"
        );

        let at = random.usize(..wire.len());
        wire[at] = *random
            .choice(b"0123456789abcdefAF\r\n; \tx\x00\xff")
            .unwrap();
        let ours = chunked(&wire).map(|(data, _, rest, done)| (data, rest, done));
        assert_eq!(ours.ok(), naive(&wire), "{round}: {}", wire.escape_ascii());
    }
}

/// Payload, rest and whether it is complete; `None` if malformed. Trailers are not looked into: none above has any.
fn naive(wire: &[u8]) -> Option<(Vec<u8>, Vec<u8>, bool)> {
    let mut data = Vec::new();
    let mut rest = wire;
    loop {
        let lf = rest.iter().position(|&b| b == b'\n');
        let line = &rest[..lf.unwrap_or(rest.len())];
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let number = std::str::from_utf8(&line[..digits]).unwrap();
        let torn = match &line[digits..] {
            [] => lf.is_none(),
            [b'\r'] => digits == 0,
            [b';', extension @ ..] => {
                let text = extension.strip_suffix(b"\r");
                let bytes = text.unwrap_or(extension);
                let odd = bytes.iter().any(|&b| (b < 0x20 && b != b'\t') || b == 0x7f);
                if digits == 0 || odd || (text.is_none() && lf.is_some()) {
                    return None;
                }
                false
            }
            _ => return None,
        };
        if digits > 16 || (digits == 0 && !line.is_empty()) || (line.is_empty() && lf.is_some()) {
            return None;
        }
        if !torn && digits > 0 && lf.is_some() && line.last() != Some(&b'\r') {
            return None;
        }
        let size = if digits == 0 {
            0
        } else {
            u64::from_str_radix(number, 16).ok()?
        };
        if size > i64::MAX as u64 {
            return None;
        }
        let Some(lf) = lf else {
            return Some((data, vec![], false));
        };
        rest = &rest[lf + 1..];
        if size == 0 {
            return match rest {
                [b'\r', b'\n', left @ ..] => Some((data, left.to_vec(), true)),
                [] | [b'\r'] => Some((data, vec![], false)),
                // What follows is a trailer line; in the bodies above it never has a colon and always lacks its end
                // or is malformed.
                [b'\r', ..] => None,
                _ if !rest.contains(&b'\n') => Some((data, vec![], false)),
                _ => None,
            };
        }
        let here = usize::try_from(size).ok()?.min(rest.len());
        data.extend_from_slice(&rest[..here]);
        rest = &rest[here..];
        match rest {
            [] | [b'\r'] => return Some((data, vec![], false)),
            [b'\r', b'\n', left @ ..] => rest = left,
            _ => return None,
        }
    }
}

#[test]
fn what_has_no_framing_in_it_passes_without_being_looked_at() {
    let mut body = BodyDecoder::new(Framing::Length(10));
    assert_eq!(body.plain(), 10);
    assert_eq!(body.pass(4), Ok(false));
    assert_eq!(body.plain(), 6);
    assert_eq!(body.pass(6), Ok(true));
    assert_eq!(body.plain(), 0);

    let mut body = BodyDecoder::new(Framing::UntilClose);
    body.limit(100);
    assert_eq!(body.plain(), u64::MAX);
    assert_eq!(body.pass(100), Ok(false));
    assert_eq!(body.pass(1), Err(Fault::BodyTooLong));

    assert_eq!(BodyDecoder::new(Framing::Chunked).plain(), 0);
}
