//! What a route's filters do, in words, in the order in which they do it.

use std::fmt::Display;

use model::{Filters, HeaderEdits, Rewrite};

pub(super) fn described(filters: &Filters) -> Vec<String> {
    let mut all = Vec::new();
    let access = &filters.access;
    if !access.allow.is_empty() {
        all.push(format!("403 for clients not in {}", list(&access.allow)));
    }
    if !access.deny.is_empty() {
        all.push(format!("403 for clients in {}", list(&access.deny)));
    }
    all.extend(filters.rewrite.as_ref().map(|rewrite| match rewrite {
        Rewrite::Prefix { from, to } => format!("the path's prefix {from:?} becomes {to:?}"),
        Rewrite::Regex(regex, to) => {
            format!(
                "what {:?} matches in the path becomes {to:?}",
                regex.as_str()
            )
        }
        Rewrite::Whole(path) => format!("the path becomes {path:?}"),
    }));
    all.extend(
        filters
            .host
            .as_ref()
            .map(|host| format!("the host becomes {host}")),
    );
    edits(&filters.request_headers, "request", &mut all);
    edits(&filters.response_headers, "answer", &mut all);
    all
}

fn edits(edits: &HeaderEdits, whose: &str, all: &mut Vec<String>) {
    let removed = edits
        .remove
        .iter()
        .map(|name| format!("the {whose} loses {name}"));
    let set = edits
        .set
        .iter()
        .map(|(name, value)| format!("the {whose}'s {name} is {value}"));
    let added = edits
        .add
        .iter()
        .map(|(name, value)| format!("the {whose} gets {name}: {value}"));
    all.extend(removed.chain(set).chain(added));
}

fn list(items: &[impl Display]) -> String {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    items.join(", ")
}
