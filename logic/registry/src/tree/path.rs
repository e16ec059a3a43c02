//! Paths of nodes.

/// The deepest path. Coordination needs ten levels; without a bound, whoever may create nodes could make a tree that
/// takes the stack away from whatever walks it.
pub const MAX_DEPTH: usize = 512;

/// Whether it is the path of a node that there could be: absolute, without empty, `.` and `..` elements, and without
/// characters that cannot be displayed (ZooKeeper's rule, with its ranges of UTF-16 units).
pub fn valid(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else {
        return false;
    };
    if rest.is_empty() {
        return true;
    }
    let mut depth = 0;
    for name in rest.split('/') {
        depth += 1;
        if name.is_empty() || name == "." || name == ".." || depth > MAX_DEPTH {
            return false;
        }
        // Most names are ASCII, and then one look at each byte is enough.
        let plain = name.bytes().all(|b| (0x20..0x7f).contains(&b));
        if !plain && !name.chars().all(displayable) {
            return false;
        }
    }
    true
}

fn displayable(c: char) -> bool {
    // Beyond the first plane a character is two surrogates, which Java's check refuses.
    !matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

/// The path of the parent; the root is its own.
pub fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(end) => &path[..end],
    }
}

/// The last element.
pub(super) fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// The elements of an absolute path; none for the root. `None` if it is not absolute.
pub(super) fn names(path: &str) -> Option<impl Iterator<Item = &str>> {
    let rest = path.strip_prefix('/')?;
    let skip = usize::from(rest.is_empty());
    Some(rest.split('/').skip(skip))
}
