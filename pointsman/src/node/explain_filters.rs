//! What a route's filters do, in words, in the order in which they do it.

use std::fmt::Display;

use model::{ByteSize, Excess, Filters, HeaderEdits, LimitKey, Period, Rate, Rewrite};

pub(super) fn described(filters: &Filters) -> Vec<String> {
    let mut all = Vec::new();
    who_may(filters, &mut all);
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
    answers(filters, &mut all);
    all
}

fn who_may(filters: &Filters, all: &mut Vec<String>) {
    let access = &filters.access;
    if !access.allow.is_empty() {
        all.push(format!("403 for clients not in {}", list(&access.allow)));
    }
    if !access.deny.is_empty() {
        all.push(format!("403 for clients in {}", list(&access.deny)));
    }
    if filters.cors.is_some() {
        all.push("browsers that ask beforehand (CORS) are answered here".into());
    }
    all.extend(filters.rate_limits.iter().map(|limit| rate(&limit.rate)));
    all.extend(
        filters
            .max_body
            .map(|most| format!("413 for bodies of more than {}", ByteSize(most))),
    );
    all.extend(filters.basic_auth.as_ref().map(|auth| {
        format!(
            "401 for all but {} users with their passwords",
            auth.users.len()
        )
    }));
    all.extend(filters.concurrency.iter().map(|limit| {
        let (max, key) = (limit.limit.max, key(&limit.limit.key));
        format!("429 for more than {max} requests at a time {key}")
    }));
}

fn answers(filters: &Filters, all: &mut Vec<String>) {
    all.extend(filters.compress.as_ref().map(|compress| {
        let codings: Vec<_> = compress
            .codings
            .iter()
            .map(|coding| coding.as_str())
            .collect();
        format!(
            "answers are compressed by {}, as the client likes",
            codings.join(", ")
        )
    }));
    let bandwidth = [
        ("request", filters.bandwidth.request),
        ("answer", filters.bandwidth.response),
    ];
    let limited = bandwidth
        .into_iter()
        .filter_map(|(whose, rate)| Some((whose, rate?)));
    all.extend(
        limited
            .map(|(whose, rate)| format!("the {whose}'s body moves {} a second", ByteSize(rate))),
    );
    all.extend(filters.error_pages.iter().map(|page| {
        let whose = if page.intercept {
            "answers"
        } else {
            "answers of our own"
        };
        format!("{whose} with {} get a page", list(&page.status))
    }));
    edits(&filters.response_headers, "answer", all);
}

fn rate(rate: &Rate) -> String {
    let each = Period(rate.interval);
    let (key, burst) = (key(&rate.key), rate.burst);
    match rate.excess {
        Excess::Reject => {
            format!("429 for more than one request each {each} {key}, {burst} at once")
        }
        Excess::Delay => {
            format!("one request each {each} {key}, {burst} waiting, and 429 for more")
        }
    }
}

fn key(key: &LimitKey) -> String {
    match key {
        LimitKey::Source => "from one address".into(),
        LimitKey::Header(name) => format!("with one {name}"),
        LimitKey::Path => "for one path".into(),
        LimitKey::Route => "altogether".into(),
    }
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
