use hashbrown::HashTable;

use crate::Regex;

/// Where to look for a request's route, made by `http::route::index`: hosts by their hash, then a tree of paths, one edge a
/// segment. What looking costs depends on the host and the path asked for, not on how many routes there are.
#[derive(Clone, Debug, Default)]
pub struct RouteIndex {
    /// Routes of one host each.
    pub exact: HashTable<HostRoutes>,
    /// Routes of all hosts with one ending each, such as `.example.com`.
    pub suffixes: HashTable<HostRoutes>,
    /// The longest of these endings; 0 if there is none.
    pub longest_suffix: usize,
    /// Routes of every host.
    pub any: PathRoutes,
    /// Nodes of all trees of paths.
    pub nodes: Vec<PathNode>,
    /// Edges of all trees of paths.
    pub edges: HashTable<PathEdge>,
}

/// A host, or an ending of hosts, and its routes.
#[derive(Clone, Debug)]
pub struct HostRoutes {
    /// In lower case.
    pub host: Box<str>,
    /// Its routes by path.
    pub paths: PathRoutes,
}

/// The routes of a host by path.
#[derive(Clone, Debug, Default)]
pub struct PathRoutes {
    /// The number of its tree's root; `None` if it has no exact paths and prefixes.
    pub root: Option<u32>,
    /// Patterns and their routes, in the order in which they are tried.
    pub regexes: Vec<(Regex, u32)>,
}

/// A node: a path, with those below it.
#[derive(Clone, Debug, Default)]
pub struct PathNode {
    /// Routes of this path alone, the first that may match first.
    pub exact: Vec<u32>,
    /// Routes of this path and all below.
    pub prefix: Vec<u32>,
    /// The nearest node above that has routes of the latter kind.
    pub above: Option<u32>,
}

/// An edge: a segment.
#[derive(Clone, Debug)]
pub struct PathEdge {
    /// The node where it begins.
    pub from: u32,
    /// The node where it ends.
    pub to: u32,
    /// The segment between two slashes.
    pub segment: Box<str>,
}
