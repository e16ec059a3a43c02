//! Text that is meant to hurt.

use super::{FULL, env, parse_one, source};
use crate::{MAX_SOURCE, parse};

#[test]
fn deep_nesting_is_refused() {
    for text in [
        "[".repeat(100_000),
        format!("x = {}", "[".repeat(100_000)),
        format!("x = {}", "{a=".repeat(100_000)),
        format!("{}x = 1", "a.".repeat(100_000)),
        format!("[{}a]", "a.".repeat(100_000)),
        format!("x = {}1{}", "[".repeat(70), "]".repeat(70)),
        format!("x = {}1", "{a=]".repeat(70)),
        // Thousands of levels, which the parser would free by recursion.
        product(70),
        format!("x = 1\n{}", product(70)),
    ] {
        let faults = parse_one(&text).unwrap_err();
        assert!(!faults.0.is_empty());
    }
}

/// Inline tables within each other, each by a key of many dots.
fn product(n: usize) -> String {
    let open = format!("{{{}a=", "a.".repeat(n));
    format!("x = {}1{}", open.repeat(n), "}".repeat(n))
}

#[test]
fn nesting_that_is_just_parsed_is_not_just_read() {
    let faults = parse_one(&product(15)).unwrap_err().0;
    assert!(
        faults.iter().any(|f| f.what.contains("levels deep")),
        "{faults:?}"
    );
}

#[test]
fn a_large_source_names_its_first_syntax_error_only() {
    let large = format!("{}=\n=\n", "# comment\n".repeat(110_000));
    assert_eq!(parse_one(&large).unwrap_err().0.len(), 1);
    assert_eq!(parse_one("=\n=\n").unwrap_err().0.len(), 2);
}

#[test]
fn a_source_beyond_the_limit_is_refused_unread() {
    let faults = parse_one(&"#".repeat(MAX_SOURCE + 1)).unwrap_err();
    assert_eq!(faults.0[0].what, "is longer than 16 MiB");
    assert!(parse_one(&"#".repeat(MAX_SOURCE)).is_ok());
}

#[test]
fn a_thousand_faults_are_enough() {
    let text: String = (0..5_000).map(|n| format!("k{n} = 1\n")).collect();
    assert_eq!(parse_one(&text).unwrap_err().0.len(), 1_000);
}

#[test]
fn errors_behind_a_thousand_warnings_still_count() {
    let mut text: String = (0..1_500)
        .map(|n| format!("[service.s{n}]\ncheck = {{ tcp = true, timeout = \"5s\" }}\n"))
        .collect();
    assert!(parse_one(&text).is_ok());
    text += "[service.zzz]\nretries = 99\n";
    assert!(parse_one(&text).is_err());
}

#[test]
fn no_source_at_all_is_every_default() {
    assert_eq!(
        parse(&[], &env).unwrap().config,
        parse_one("").unwrap().config
    );
}

#[test]
fn mangled_configurations_are_refused_or_read_but_never_panic() {
    let bytes = FULL.as_bytes();
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let spice = b"[]{}=\"'\\.,#\n$ 0-_\t\xC3\xA9aT:";
    for _ in 0..1_500 {
        let mut mangled = bytes.to_vec();
        for _ in 0..=next(8) {
            let (at, c) = (next(mangled.len()), spice[next(spice.len())]);
            match next(4) {
                0 => mangled[at] = c,
                1 => mangled.insert(at, c),
                2 => drop(mangled.drain(at..(at + next(40)).min(mangled.len()))),
                _ => {
                    let end = (at + next(60)).min(mangled.len());
                    let piece = mangled[at..end].to_vec();
                    let to = next(mangled.len());
                    mangled.splice(to..to, piece);
                }
            }
        }
        let text = String::from_utf8_lossy(&mangled);
        if let Ok(parsed) = parse(&[source("m", &text)], &env) {
            let written = parsed.config.to_toml();
            let again = parse(&[source("w", &written)], &env).unwrap().config;
            assert_eq!(again, parsed.config, "{written}");
        }
    }
}
