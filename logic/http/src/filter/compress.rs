//! Which answers are compressed, how, and what their heads say then (RFC 9110 §8.4, §12.5.3).

use model::{Coding, Compress};

use crate::h1::{Fields, Framing, Response};

/// The coding that a client likes best among those there are. Of those it likes equally, the first of `among`.
pub fn preferred(fields: &Fields<'_>, among: &[Coding]) -> Option<Coding> {
    let lists = fields
        .iter()
        .filter(|f| f.name.eq_ignore_ascii_case("accept-encoding"));
    let items = lists.flat_map(|field| field.value.split(|&b| b == b','));
    let mut any = 0;
    let mut liked = [None; 3];
    for item in items {
        let mut parts = item.split(|&b| b == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let quality = parts.find_map(quality).unwrap_or(1_000);
        if name == b"*" {
            any = quality;
        } else if let Some(coding) = Coding::ALL.into_iter().find(|c| is(*c, name)) {
            liked[coding as usize] = Some(quality);
        }
    }
    let quality = |coding: Coding| liked[coding as usize].unwrap_or(any);
    // The first of the greatest, where `max_by_key` has the last.
    among
        .iter()
        .rev()
        .copied()
        .filter(|c| quality(*c) > 0)
        .max_by_key(|c| quality(*c))
}

fn is(coding: Coding, name: &[u8]) -> bool {
    let old = coding == Coding::Gzip && name.eq_ignore_ascii_case(b"x-gzip");
    old || name.eq_ignore_ascii_case(coding.as_str().as_bytes())
}

/// `q=0.5` in thousandths; what is no number is nothing.
fn quality(parameter: &[u8]) -> Option<u16> {
    let (name, value) = parameter.split_at_checked(2)?;
    if !name.eq_ignore_ascii_case(b"q=") {
        return None;
    }
    let value = str::from_utf8(value).ok().filter(|v| v.len() <= 5);
    let value = value
        .and_then(|v| v.parse::<f32>().ok())
        .unwrap_or_default();
    Some((value.clamp(0.0, 1.0) * 1_000.0) as u16)
}

/// What an answer's head gets.
pub type Dress = Vec<(Box<str>, Box<str>)>;

/// Changes the head of an answer that is to be compressed, if it is; `wanted` is what its client likes. The second says whether
/// its body is: the head of an answer to HEAD says what that to GET would. The framing is then that of what leaves here.
pub fn dress(
    compress: &Compress,
    wanted: Option<Coding>,
    response: &mut Response<'_>,
) -> (Dress, Option<Coding>) {
    let mut dress = Dress::new();
    if !is_compressible(compress, response) {
        return (dress, None);
    }
    // It would have been another answer for another client.
    dress.push(("vary".into(), "Accept-Encoding".into()));
    let Some(coding) = wanted else {
        return (dress, None);
    };
    dress.push(("content-encoding".into(), coding.as_str().into()));
    // The bytes are others now, and the meaning is the same (§8.8.3.3).
    if let Some(etag) = response
        .fields
        .find("etag")
        .filter(|etag| !etag.starts_with(b"W/"))
    {
        let etag = String::from_utf8_lossy(etag);
        dress.push(("etag".into(), format!("W/{etag}").into()));
        response
            .fields
            .drop_if(|name| name.eq_ignore_ascii_case("etag"));
    }
    // Ranges of the compressed form are nobody's to give; of a digest it is the same.
    const GONE: [&str; 4] = ["accept-ranges", "content-encoding", "content-md5", "digest"];
    response
        .fields
        .drop_if(|name| GONE.iter().any(|gone| name.eq_ignore_ascii_case(gone)));
    response.length = None;
    let body = response.framing != Framing::None;
    if body {
        response.framing = Framing::Chunked;
    }
    (dress, body.then_some(coding))
}

fn is_compressible(compress: &Compress, response: &Response<'_>) -> bool {
    let field = |name| response.fields.find(name).unwrap_or_default();
    let whole = (200..300).contains(&response.status) && !matches!(response.status, 204..=206);
    let encoding = field("content-encoding");
    let plain = encoding.is_empty() || encoding.eq_ignore_ascii_case(b"identity");
    let no_transform = response.fields.iter().any(|f| {
        let mut words = f.value.split(|&b| b == b',');
        f.name.eq_ignore_ascii_case("cache-control")
            && words.any(|w| w.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
    });
    let worth = response
        .length
        .is_none_or(|length| length >= compress.min_size);
    whole
        && plain
        && !no_transform
        && worth
        && response.fields.find("content-range").is_none()
        && is_of(&compress.types, field("content-type"))
}

/// Whether a `Content-Type` is one of these: `text/html`, `text/*`, or `*/*+json` for all that end so.
fn is_of(types: &[Box<str>], content_type: &[u8]) -> bool {
    let essence = content_type
        .split(|&b| b == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    types.iter().any(|wanted| match wanted.split_once('*') {
        None => essence.eq_ignore_ascii_case(wanted.as_bytes()),
        Some((start, end)) => {
            let end = end.trim_start_matches("/*");
            let fits = essence.len() >= start.len() + end.len();
            fits && essence[..start.len()].eq_ignore_ascii_case(start.as_bytes())
                && essence[essence.len() - end.len()..].eq_ignore_ascii_case(end.as_bytes())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::{Limits, MethodKind, parse_request, parse_response};

    const LIMITS: Limits = Limits {
        head: 4096,
        fields: 100,
    };

    fn likes(accept: &str) -> Option<Coding> {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {accept}\r\n\r\n");
        let request = parse_request(text.as_bytes(), &mut 0, &LIMITS)
            .unwrap()
            .unwrap();
        preferred(
            &request.fields,
            &[Coding::Zstd, Coding::Brotli, Coding::Gzip],
        )
    }

    #[test]
    fn the_coding_that_the_client_likes_best_is_taken() {
        for (accept, coding) in [
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip, deflate, br", Some(Coding::Brotli)),
            ("gzip;q=1.0, br;q=0.5, zstd;q=0.1", Some(Coding::Gzip)),
            ("GZIP ; Q=0.3", Some(Coding::Gzip)),
            ("x-gzip", Some(Coding::Gzip)),
            ("*", Some(Coding::Zstd)),
            ("*;q=0.5, zstd;q=0", Some(Coding::Brotli)),
            ("gzip;q=0", None),
            ("gzip;q=x", None),
            ("identity", None),
            ("", None),
            (",;,=;q=", None),
        ] {
            assert_eq!(likes(accept), coding, "{accept}");
        }
    }

    fn dressed(head: &str, to: MethodKind) -> (Vec<String>, Option<Coding>) {
        let text = format!("HTTP/1.1 {head}\r\n\r\n");
        let mut response = parse_response(text.as_bytes(), &mut 0, &LIMITS, to)
            .unwrap()
            .unwrap();
        let compress = Compress {
            codings: Coding::ALL.into(),
            min_size: 100,
            types: vec![
                "text/*".into(),
                "application/json".into(),
                "*/*+json".into(),
            ],
        };
        let (dress, coding) = dress(&compress, Some(Coding::Gzip), &mut response);
        let left = response
            .fields
            .iter()
            .map(|f| format!("{}: {}", f.name, String::from_utf8_lossy(f.value)));
        let added = dress.into_iter().map(|(n, v)| format!("{n}: {v}"));
        (left.chain(added).collect(), coding)
    }

    #[test]
    fn what_is_compressed_says_so() {
        let head = "200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 1000\r\nETag: \"a\"\r\nAccept-Ranges: bytes";
        let (fields, coding) = dressed(head, MethodKind::Get);
        assert_eq!(coding, Some(Coding::Gzip));
        assert!(fields.contains(&"etag: W/\"a\"".into()), "{fields:?}");
        assert!(
            fields.contains(&"vary: Accept-Encoding".into()),
            "{fields:?}"
        );
        assert!(
            fields.contains(&"content-encoding: gzip".into()),
            "{fields:?}"
        );
        assert!(
            !fields
                .iter()
                .any(|f| f.starts_with("Accept-Ranges") || f.starts_with("ETag"))
        );
        let (fields, coding) = dressed(head, MethodKind::Head);
        assert_eq!(coding, None);
        assert!(
            fields.contains(&"content-encoding: gzip".into()),
            "{fields:?}"
        );
    }

    #[test]
    fn what_must_not_be_changed_is_not() {
        for head in [
            "200 OK\r\nContent-Type: image/png\r\nContent-Length: 1000",
            "200 OK\r\nContent-Length: 1000",
            "200 OK\r\nContent-Type: text/plain\r\nContent-Length: 99",
            "206 Partial\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\nContent-Range: bytes 0-999/2000",
            "200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\nContent-Encoding: br",
            "200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\nCache-Control: public, No-Transform",
            "404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 1000",
            "204 No Content\r\nContent-Type: text/plain",
        ] {
            let (fields, coding) = dressed(head, MethodKind::Get);
            assert_eq!(coding, None, "{head}");
            assert!(!fields.iter().any(|f| f.starts_with("vary")), "{head}");
        }
        for fine in [
            "application/json",
            "APPLICATION/problem+json",
            "text/event-stream;x",
        ] {
            let head = format!("200 OK\r\nContent-Type: {fine}\r\nTransfer-Encoding: chunked");
            assert_eq!(
                dressed(&head, MethodKind::Get).1,
                Some(Coding::Gzip),
                "{fine}"
            );
        }
    }
}
