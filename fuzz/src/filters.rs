//! What filters read of messages: credentials, cookies, codings, origins, addresses, files of users. Whatever they make of a
//! message is a message again, with the same framing.

use std::net::IpAddr;
use std::time::Duration;

use http::filter::{self, Scene, compress, cors};
use http::h1::{self, Changed, ForwardRequest, ForwardResponse, Limits, MethodKind, Version};
use http::{client_of, cookie};
use model::{Coding, Compress, Cors, Hashed, OriginPattern, Regex, Rewrite, Template};

/// Fields that filters look at, and pieces of their values.
pub const TOKENS: &[&str] = &[
    "Authorization: Basic QWxhZGRpbjpvcGVu\r\n",
    "Accept-Encoding: gzip;q=0.5, br, *;q=0\r\n",
    "Cookie: a=1; stay=x\r\n",
    "Origin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\n",
    "X-Forwarded-For: 1.2.3.4, [::1]:80\r\n",
    "ETag: \"a\"\r\nContent-Type: text/html\r\n",
    "Transfer-Encoding: chunked\r\n",
    "/api/%2e%2e//x",
    "ann:$apr1$abcdefgh$FBwExRW4dCc8aL.OvjpIE1\n",
    "$2y$10$",
    "$argon2id$v=19$m=64,t=2,p=1$",
];

const LIMITS: Limits = Limits {
    head: 16 << 10,
    fields: 100,
};

/// Panics if a promise is broken.
pub fn run(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        users(text);
        let _ = text.parse::<Template>();
    }
    let _ = filter::credentials(data);
    let _ = cookie::value(data, "stay");
    if let Ok(Some(request)) = h1::parse_request(data, &mut 0, &LIMITS) {
        self::request(&request);
    }
    if let Ok(Some(mut response)) = h1::parse_response(data, &mut 0, &LIMITS, MethodKind::Get) {
        self::response(&mut response);
    }
}

fn users(text: &str) {
    let Ok(users) = filter::users(text) else { return };
    for (name, hashed) in users {
        assert!(!name.is_empty() && !name.contains(':'), "{name:?}");
        match hashed {
            Hashed::Sha(kept) => drop(filter::is_sha(&kept, name.as_bytes())),
            Hashed::Md5(kept) => drop(filter::is_md5(&kept, name.as_bytes())),
            Hashed::Bcrypt(_) | Hashed::Argon2(_) => {}
        }
    }
}

fn request(request: &h1::Request<'_>) {
    let trusted = ["10.0.0.0/8".parse().expect("a network")];
    let peer = [10, 0, 0, 1].into();
    let client = client_of(request, peer, &trusted);
    let among = [Coding::Zstd, Coding::Gzip];
    let preferred = compress::preferred(&request.fields, &among);
    assert!(preferred.is_none_or(|coding| among.contains(&coding)));
    let cors = Cors {
        origins: vec![OriginPattern::Below {
            scheme: "https://".into(),
            suffix: ".example".into(),
        }],
        methods: vec!["PUT".into()],
        headers: vec!["*".into()],
        expose: Vec::new(),
        credentials: true,
        max_age: Duration::from_secs(60),
    };
    let _ = cors::cross(&cors, request);
    let scene = Scene {
        request,
        client,
        scheme: "http",
        id: b"7",
        user: "ann",
    };
    let template: Template = "{client} {host} {authority} {method} {path}{query}".parse().expect("a template");
    let mut fields = b"X-All: ".to_vec();
    filter::render(&template, &scene, &mut fields);
    fields.extend_from_slice(b"\r\n");
    for rewrite in [
        Rewrite::Prefix {
            from: "/api".into(),
            to: "".into(),
        },
        Rewrite::Regex(Regex::part("^/(.*)/").expect("a pattern"), "/$1$1/".into()),
    ] {
        forwarded(request, client, &rewrite, &fields);
    }
}

/// The request as it is sent on is one to whoever reads it, and as long.
fn forwarded(request: &h1::Request<'_>, client: IpAddr, rewrite: &Rewrite, fields: &[u8]) {
    let target = filter::rewritten(rewrite, request);
        let mut changed = request.clone();
        filter::remove_from_request(&mut changed, "x-all");
        let forward = ForwardRequest {
            client,
            trusted: false,
            proto: "http",
            client_cert: None,
            request_id: b"7",
            default_host: b"localhost",
            upgrade: false,
            trace: Default::default(),
            changed: Changed {
                target: (request.kind != MethodKind::Connect).then_some(&target),
                host: None,
                fields,
            },
        };
        let mut out = Vec::new();
        h1::write_request(&changed, &forward, &mut out);
        let large = Limits {
            head: 60 << 10,
            fields: 128,
        };
        match h1::parse_request(&out, &mut 0, &large) {
            Ok(Some(again)) => {
                assert_eq!(again.framing, request.framing);
                assert_eq!(again.head_len, out.len());
                assert_eq!(again.method, request.method);
            }
            // What is added may be too much; anything else would be another message to somebody.
            Err(h1::Fault::TooManyFields | h1::Fault::HeadTooLarge | h1::Fault::TargetTooLong) => {}
            other => panic!("{other:?} of {:?}", String::from_utf8_lossy(&out)),
        }
    }

fn response(response: &mut h1::Response<'_>) {
    if response.is_interim() || response.status == 101 {
        return;
    }
    let compress = Compress {
        codings: Coding::ALL.into(),
        min_size: 10,
        types: vec!["text/*".into(), "*/*+json".into()],
    };
    filter::remove_from_response(response, "server");
    let (fields, coding) = compress::dress(&compress, Some(Coding::Gzip), response);
    assert!(coding.is_none() || response.framing == h1::Framing::Chunked);
    let forward = ForwardResponse {
        version: Version::Http11,
        close: false,
        date: "now",
        fields: &fields,
    };
    let mut out = Vec::new();
    let framing = h1::write_response(response, &forward, &mut out);
    let large = Limits {
        head: 60 << 10,
        fields: 128,
    };
    match h1::parse_response(&out, &mut 0, &large, MethodKind::Get) {
        Ok(Some(again)) => {
            assert_eq!(again.framing, framing);
            assert!(coding.is_none() || again.fields.find("content-encoding") == Some(b"gzip"));
        }
        Err(h1::Fault::TooManyFields | h1::Fault::HeadTooLarge) => {}
        other => panic!("{other:?} of {:?}", String::from_utf8_lossy(&out)),
    }
}
