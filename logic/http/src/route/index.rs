//! Where to look for a request's route: hosts by hash, paths by a tree of segments. A request costs a few lookups, ten
//! routes or ten thousand; only patterns are gone through one by one, and only those of its host.

use hashbrown::HashTable;
use model::{
    HostPattern, HostRoutes, PathEdge, PathNode, PathPattern, PathRoutes, Route, RouteIndex,
};

/// The index of routes that stand in their [`order`](super::order).
pub fn index(routes: &[Route]) -> RouteIndex {
    let mut index = RouteIndex::default();
    for (number, route) in (0..).zip(routes) {
        insert(&mut index, route, number);
    }
    // Now that all are there: the nearest above each.
    let mut parents = vec![None; index.nodes.len()];
    for edge in &index.edges {
        parents[edge.to as usize] = Some(edge.from);
    }
    for node in 0..index.nodes.len() {
        let mut above = parents[node];
        while let Some(at) = above
            && index.nodes[at as usize].prefix.is_empty()
        {
            above = parents[at as usize];
        }
        index.nodes[node].above = above;
    }
    index
}

fn insert(index: &mut RouteIndex, route: &Route, number: u32) {
    let RouteIndex { nodes, edges, .. } = index;
    let paths = match &route.host {
        HostPattern::Any => &mut index.any,
        HostPattern::Exact(host) => of_host(&mut index.exact, host),
        HostPattern::Suffix(suffix) => {
            index.longest_suffix = index.longest_suffix.max(suffix.len());
            of_host(&mut index.suffixes, suffix)
        }
    };
    let (path, exact) = match &route.path {
        PathPattern::Regex(regex) => return paths.regexes.push((regex.clone(), number)),
        PathPattern::Exact(path) => (&**path, true),
        PathPattern::Prefix(path) => (path.strip_suffix('/').unwrap_or(path), false),
    };
    let mut at = *paths.root.get_or_insert_with(|| new_node(nodes));
    for segment in path.split('/').skip(1) {
        let hash = hash(segment.as_bytes(), 0, at);
        let same = |edge: &PathEdge| edge.from == at && *edge.segment == *segment;
        let known = edges.find(hash, same).map(|edge| edge.to);
        at = known.unwrap_or_else(|| {
            let to = new_node(nodes);
            let segment = segment.into();
            let edge = PathEdge {
                from: at,
                to,
                segment,
            };
            let rehash = |edge: &PathEdge| self::hash(edge.segment.as_bytes(), 0, edge.from);
            edges.insert_unique(hash, edge, rehash);
            to
        });
    }
    let node = &mut nodes[at as usize];
    match exact {
        true => node.exact.push(number),
        false => node.prefix.push(number),
    }
}

fn new_node(nodes: &mut Vec<PathNode>) -> u32 {
    nodes.push(PathNode::default());
    nodes.len() as u32 - 1
}

fn of_host<'t>(hosts: &'t mut HashTable<HostRoutes>, host: &str) -> &'t mut PathRoutes {
    let new = || HostRoutes {
        host: host.into(),
        paths: PathRoutes::default(),
    };
    let entry = hosts.entry(
        hash_of_host(host.as_bytes()),
        |known| *known.host == *host,
        |known| hash_of_host(known.host.as_bytes()),
    );
    &mut entry.or_insert_with(new).into_mut().paths
}

/// The number of the first route that serves `host` and the normal path `path`, and `fits`.
pub(super) fn find(
    index: &RouteIndex,
    host: &[u8],
    path: &[u8],
    fits: impl Fn(usize) -> bool,
) -> Option<usize> {
    // A listener with one service, or with routes for any host, has nothing to look up.
    if !index.exact.is_empty()
        && let Some(paths) = host_routes(&index.exact, host)
        && let Some(number) = find_path(index, paths, path, &fits)
    {
        return Some(number);
    }
    if index.longest_suffix > 0 {
        // Longer endings are nobody's; at least one byte stands before an ending.
        let first = host.len().saturating_sub(index.longest_suffix).max(1);
        let tail = host.get(first..).unwrap_or_default();
        for at in memchr::memchr_iter(b'.', tail).map(|dot| first + dot) {
            if let Some(paths) = host_routes(&index.suffixes, &host[at..])
                && let Some(number) = find_path(index, paths, path, &fits)
            {
                return Some(number);
            }
        }
    }
    find_path(index, &index.any, path, &fits)
}

fn host_routes<'t>(hosts: &'t HashTable<HostRoutes>, host: &[u8]) -> Option<&'t PathRoutes> {
    let same = |known: &HostRoutes| known.host.as_bytes().eq_ignore_ascii_case(host);
    hosts
        .find(hash_of_host(host), same)
        .map(|found| &found.paths)
}

fn find_path(
    index: &RouteIndex,
    paths: &PathRoutes,
    path: &[u8],
    fits: &impl Fn(usize) -> bool,
) -> Option<usize> {
    let first_of = |numbers: &[u32]| numbers.iter().map(|&n| n as usize).find(|&n| fits(n));
    let (deepest, whole) = match paths.root {
        Some(root) => {
            let (deepest, whole) = descend(index, root, path);
            (Some(deepest), whole)
        }
        None => (None, false),
    };
    if let Some(at) = deepest.filter(|_| whole)
        && let Some(number) = first_of(&index.nodes[at as usize].exact)
    {
        return Some(number);
    }
    for (regex, number) in &paths.regexes {
        if fits(*number as usize) && regex.is_match(path) {
            return Some(*number as usize);
        }
    }
    let mut next = deepest;
    while let Some(at) = next {
        let node = &index.nodes[at as usize];
        if let Some(number) = first_of(&node.prefix) {
            return Some(number);
        }
        next = node.above;
    }
    None
}

/// The deepest node on the path's way down from `root`, and whether that is all of the path.
fn descend(index: &RouteIndex, root: u32, path: &[u8]) -> (u32, bool) {
    let mut at = root;
    let Some(mut rest) = path.strip_prefix(b"/") else {
        return (at, path.is_empty());
    };
    // Most often nothing hangs below the root, or the first segment leads nowhere: then that is all there is to do.
    while !index.edges.is_empty() {
        let end = memchr::memchr(b'/', rest).unwrap_or(rest.len());
        let segment = &rest[..end];
        let same = |edge: &PathEdge| edge.from == at && edge.segment.as_bytes() == segment;
        match index.edges.find(hash(segment, 0, at), same) {
            Some(edge) => at = edge.to,
            None => return (at, false),
        }
        match rest.get(end + 1..) {
            Some(more) => rest = more,
            None => return (at, true),
        }
    }
    (at, false)
}

/// The same for a host in any letter case: setting bit 5 makes letters small. (What it does to other bytes does not matter:
/// names are compared afterwards.)
fn hash_of_host(host: &[u8]) -> u64 {
    hash(host, 0x2020_2020_2020_2020, 0)
}

/// A hash of up to eight bytes at a time. It is not keyed: what is looked up was put there by the configuration, so that a
/// client that finds names of one hash gains nothing.
fn hash(bytes: &[u8], set: u64, seed: u32) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = (u64::from(seed) + 1).wrapping_mul(ODD) ^ bytes.len() as u64;
    let mut mix = |word: u64| {
        let wide = u128::from(state ^ (word | set)) * u128::from(ODD);
        state = wide as u64 ^ (wide >> 64) as u64;
    };
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().for_each(|word| mix(u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(u64::from_le_bytes(last));
    state
}
