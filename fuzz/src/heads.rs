//! What every written head must look like, checked as naively as can be.

/// The field lines of a head: its names folded as CGI does, and its values. Panics unless every line ends in CR LF, none has
/// a control byte in it, none is folded, and the empty line comes last.
pub fn lines(head: &[u8]) -> Vec<(String, Vec<u8>)> {
    let shown = head.escape_ascii();
    let body = head
        .strip_suffix(b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no empty line: {shown}"));
    let mut lines = body
        .split(|&b| b == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    assert_eq!(
        lines.clone().count(),
        body.windows(2).filter(|w| w == b"\r\n").count() + 1,
        "bare LF: {shown}"
    );
    lines.next();
    lines
        .map(|line| {
            let control = |&b: &u8| (b < 0x20 && b != b'\t') || b == 0x7f;
            assert!(!line.iter().any(control), "control byte: {shown}");
            let colon = line.windows(2).position(|w| w == b": ");
            let colon = colon.unwrap_or_else(|| panic!("no \"name: value\": {shown}"));
            let (name, value) = (&line[..colon], &line[colon + 2..]);
            let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
            assert!(
                !name.is_empty() && name.iter().all(token),
                "odd name: {shown}"
            );
            let blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
            assert!(
                !blank(value.first()) && !blank(value.last()),
                "spaces around a value: {shown}"
            );
            let fold = |b: &u8| {
                if b.is_ascii_alphanumeric() {
                    b.to_ascii_lowercase()
                } else {
                    b'_'
                }
            };
            (
                name.iter().map(|b| char::from(fold(b))).collect(),
                value.to_vec(),
            )
        })
        .collect()
}

/// How many fields have one of these folded names.
pub fn count(lines: &[(String, Vec<u8>)], names: &[&str]) -> usize {
    lines
        .iter()
        .filter(|(name, _)| names.contains(&name.as_str()))
        .count()
}
