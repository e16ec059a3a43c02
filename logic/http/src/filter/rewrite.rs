use model::Rewrite;

use crate::h1::class::{TARGET, class};
use crate::h1::{Request, Target};
use crate::route::normal_path;

/// The target that an instance gets of a request whose path is rewritten. What is rewritten is the path's normal form, by which
/// routes are found too: a prefix that is to go must not stay because it was written in another way. The query stays.
pub fn rewritten(rewrite: &Rewrite, request: &Request<'_>) -> Vec<u8> {
    // There is no path in `*`.
    if request.target == Target::Asterisk {
        return b"*".to_vec();
    }
    let path = normal_path(request.target.path());
    let mut target = match rewrite {
        Rewrite::Whole(to) => to.as_bytes().to_vec(),
        Rewrite::Prefix { from, to } => match path.strip_prefix(from.as_bytes()) {
            Some(rest) => [to.as_bytes(), rest].concat(),
            None => path.to_vec(),
        },
        Rewrite::Regex(regex, to) => regex.replace(&path, to).into_owned(),
    };
    // Two slashes in front would be another server to a client that is sent there by a redirect.
    let slashes = target.iter().take_while(|&&b| b == b'/').count();
    match slashes {
        0 => target.insert(0, b'/'),
        more => drop(target.drain(1..more)),
    }
    // The configuration has been looked at, and so has the request; a text out of both is looked at again.
    target.retain(|&b| class(b) & TARGET != 0);
    if let Some(query) = request.target.query() {
        target.push(b'?');
        target.extend_from_slice(query);
    }
    target
}

#[cfg(test)]
mod tests {
    use model::Regex;

    use super::*;
    use crate::h1::{Limits, parse_request};

    fn rewrite(rewrite: &Rewrite, target: &str) -> String {
        let text = format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let limits = Limits {
            head: 4096,
            fields: 100,
        };
        let request = parse_request(text.as_bytes(), &mut 0, &limits);
        let target = rewritten(rewrite, &request.unwrap().unwrap());
        String::from_utf8(target).unwrap()
    }

    #[test]
    fn a_prefix_is_replaced_however_it_was_written() {
        let api = |to: &str| Rewrite::Prefix {
            from: "/api".into(),
            to: to.into(),
        };
        for (to, target, expected) in [
            ("", "/api/x?a=b", "/x?a=b"),
            ("", "/api", "/"),
            ("", "/api//x", "/x"),
            ("", "/%61pi/x", "/x"),
            ("", "/y/../api/x", "/x"),
            ("/v2", "/api/x", "/v2/x"),
            ("/v2", "/api", "/v2"),
            ("", "*", "*"),
        ] {
            assert_eq!(rewrite(&api(to), target), expected, "{target}");
        }
    }

    #[test]
    fn a_pattern_is_replaced_with_its_groups() {
        let swap = Rewrite::Regex(Regex::part("^/(a+)/(b+)").unwrap(), "/$2/$1".into());
        assert_eq!(rewrite(&swap, "/aa/bb/c?d"), "/bb/aa/c?d");
        assert_eq!(rewrite(&swap, "/c"), "/c");
        let all = Rewrite::Regex(Regex::part("^/(.*)$").unwrap(), "$1".into());
        assert_eq!(rewrite(&all, "/a%2F"), "/a%2F");
    }

    #[test]
    fn all_of_it_is_replaced_but_the_query() {
        assert_eq!(rewrite(&Rewrite::Whole("/x".into()), "/a/b?c"), "/x?c");
    }
}
