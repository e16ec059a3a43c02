use std::sync::Arc;

use model::{Action, Conditions, Expected, PartCondition, Priority, Regex, Sharded};

use super::*;
use crate::h1::{Limits, parse_request};

fn route(host: HostPattern, path: PathPattern, conditions: Conditions) -> Route {
    Route {
        name: format!("{host:?} {path:?} {conditions:?}").into(),
        host,
        path,
        conditions: (!conditions.is_empty()).then(|| Box::new(conditions)),
        filters: None,
        priority: Priority::Normal,
        action: Action::Service(0),
        aside: None,
        stats: Arc::new(Sharded::new(1)),
    }
}

fn with_request<T>(text: &str, f: impl FnOnce(&Request<'_>) -> T) -> T {
    let limits = Limits {
        head: 64 << 10,
        fields: 100,
    };
    let parsed = parse_request(text.as_bytes(), &mut 0, &limits);
    f(&parsed.unwrap().unwrap())
}

fn look(routes: &[Route], host: &str, path: &str) -> Option<usize> {
    let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let client = "10.0.0.1".parse().unwrap();
    with_request(&text, |request| {
        let first = |route: &Route| passed_over(route, request, client).is_none();
        let one_by_one = routes.iter().position(first);
        let index = index(routes);
        let path = normal_path(path_of(request));
        let found = index::find(&index, host_of(request.authority), &path, |number| {
            let wanted = routes[number].conditions.as_deref();
            wanted.is_none_or(|w| conditions::unmet(w, request, client).is_none())
        });
        assert_eq!(found, one_by_one, "{host} {path:?}");
        found
    })
}

/// Hosts and paths of few letters, so that they meet.
fn draw(rng: &mut fastrand::Rng, letters: &str, most: usize) -> String {
    let letters: Vec<char> = letters.chars().collect();
    (0..rng.usize(..=most))
        .map(|_| letters[rng.usize(..letters.len())])
        .collect()
}

#[test]
fn what_is_looked_up_is_what_one_by_one_comes_first() {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut taken = 0;
    for _ in 0..300 {
        let mut routes: Vec<Route> = (0..rng.usize(1..30))
            .map(|_| {
                let name = format!("x{}", draw(&mut rng, "a.b", 4));
                let host = match rng.u8(..4) {
                    0 => HostPattern::Any,
                    1 => HostPattern::Suffix(format!(".{}", name.replace("..", ".")).into()),
                    _ => HostPattern::Exact(name.into()),
                };
                let path = format!("/{}", draw(&mut rng, "ab/", 5));
                let path = match rng.u8(..6) {
                    0 => PathPattern::Regex(Regex::whole(&format!("{path}.*")).unwrap()),
                    1 | 2 => PathPattern::Exact(path.into()),
                    _ => PathPattern::Prefix(path.into()),
                };
                let methods = match rng.bool() {
                    true => vec![["GET", "PUT"][rng.usize(..2)].into()],
                    false => vec![],
                };
                let conditions = Conditions {
                    methods,
                    ..Conditions::default()
                };
                route(host, path, conditions)
            })
            .collect();
        order(&mut routes);
        for _ in 0..100 {
            let host = format!(
                "X{}.{}",
                draw(&mut rng, "aB.", 3),
                draw(&mut rng, "xab.", 4)
            );
            let path = format!("/{}", draw(&mut rng, "ab/", 7));
            taken += usize::from(look(&routes, &host, &path).is_some());
        }
    }
    assert!(taken > 5_000, "{taken}");
}

#[test]
fn whoever_wants_more_of_a_request_comes_first() {
    let wants = |value| PartCondition {
        name: "x-canary".into(),
        value,
    };
    let any = || PathPattern::Prefix("/".into());
    let source = |network: &str| Conditions {
        source: vec![network.parse().unwrap()],
        ..Conditions::default()
    };
    let headers = |values: Vec<Expected>| Conditions {
        headers: values.into_iter().map(wants).collect(),
        ..Conditions::default()
    };
    let mut routes = vec![
        route(HostPattern::Any, any(), Conditions::default()),
        route(HostPattern::Any, any(), source("10.0.0.0/8")),
        route(HostPattern::Any, any(), source("10.0.0.0/24")),
        route(HostPattern::Any, any(), headers(vec![Expected::Present])),
        route(
            HostPattern::Any,
            any(),
            headers(vec![
                Expected::Exact("yes".into()),
                Expected::Regex(Regex::whole("y.*").unwrap()),
            ]),
        ),
    ];
    let names: Vec<_> = routes.iter().map(|route| route.name.clone()).collect();
    order(&mut routes);
    let place = |n: usize| routes.iter().position(|r| r.name == names[n]).unwrap();
    assert_eq!([4, 3, 2, 1, 0].map(place), [0, 1, 2, 3, 4]);
    let ask = |fields: &str, client: &str| {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        with_request(&text, |request| {
            let client = client.parse().unwrap();
            routes
                .iter()
                .position(|r| passed_over(r, request, client).is_none())
        })
    };
    assert_eq!(ask("X-Canary: yes\r\n", "1.1.1.1"), Some(0));
    assert_eq!(ask("X-Canary: no\r\nX-Canary: yes\r\n", "1.1.1.1"), Some(0));
    assert_eq!(ask("X-Canary: no\r\n", "1.1.1.1"), Some(1));
    assert_eq!(ask("", "10.0.0.1"), Some(2));
    assert_eq!(ask("", "10.0.1.1"), Some(3));
    assert_eq!(ask("", "11.0.0.1"), Some(4));
}

#[test]
fn parameters_are_compared_by_their_whole_name_and_may_have_to_be_absent() {
    let wants = |name: &str, value| Conditions {
        query: vec![PartCondition {
            name: name.into(),
            value,
        }],
        ..Conditions::default()
    };
    let fits = |conditions: Conditions, target: &str| {
        let route = route(
            HostPattern::Any,
            PathPattern::Prefix("/".into()),
            conditions,
        );
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let client = "10.0.0.1".parse().unwrap();
        with_request(&text, |request| {
            passed_over(&route, request, client).is_none()
        })
    };
    assert!(fits(wants("v", Expected::Exact("2".into())), "/?vv=3&v=2"));
    assert!(!fits(wants("v", Expected::Exact("2".into())), "/?v=3"));
    assert!(fits(wants("v", Expected::Present), "/?v"));
    assert!(!fits(wants("v", Expected::Present), "/?vv=1"));
    assert!(fits(wants("v", Expected::Absent), "/?vv=1"));
    assert!(!fits(wants("v", Expected::Absent), "/?v=1"));
}

#[test]
fn ports_and_trailing_dots_are_no_part_of_the_host() {
    for (authority, host) in [
        ("a.example", "a.example"),
        ("a.example:80", "a.example"),
        ("a.example.:80", "a.example"),
        ("[::1]:8080", "[::1]"),
        ("[::1]", "[::1]"),
        ("", ""),
    ] {
        assert_eq!(host_of(authority.as_bytes()), host.as_bytes());
    }
}

#[test]
fn a_wildcard_serves_subdomains_and_not_the_domain_itself() {
    let pattern = HostPattern::Suffix(".example.com".into());
    assert!(host_matches(&pattern, "a.Example.com".as_bytes()));
    assert!(host_matches(&pattern, "a.b.example.com".as_bytes()));
    assert!(!host_matches(&pattern, "example.com".as_bytes()));
    assert!(!host_matches(&pattern, ".example.com".as_bytes()));
    assert!(!host_matches(&pattern, "badexample.com".as_bytes()));
    assert!(!host_matches(&pattern, "é.org".as_bytes()));
}

#[test]
fn a_prefix_ends_at_a_segment() {
    for prefix in ["/api", "/api/"] {
        let pattern = PathPattern::Prefix(prefix.into());
        assert!(path_matches(&pattern, "/api".as_bytes()));
        assert!(path_matches(&pattern, "/api/x".as_bytes()));
        assert!(!path_matches(&pattern, "/apis".as_bytes()));
    }
    assert!(path_matches(&PathPattern::Prefix("/".into()), b"/anything"));
}

#[test]
fn a_cookie_is_looked_at_by_itself_and_comes_before_parameters() {
    let wants = |value| Conditions {
        cookies: vec![PartCondition {
            name: "canary".into(),
            value,
        }],
        ..Conditions::default()
    };
    let any = || PathPattern::Prefix("/".into());
    let parameter = Conditions {
        query: wants(Expected::Present).cookies,
        ..Conditions::default()
    };
    let mut routes = [
        route(HostPattern::Any, any(), parameter),
        route(HostPattern::Any, any(), wants(Expected::Present)),
    ];
    order(&mut routes);
    assert!(!routes[0].conditions.as_ref().unwrap().cookies.is_empty());
    let fits = |value: Expected, fields: &str| {
        let route = route(HostPattern::Any, any(), wants(value));
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let client = "10.0.0.1".parse().unwrap();
        with_request(&text, |request| {
            passed_over(&route, request, client).is_none()
        })
    };
    let exact = || Expected::Exact("1".into());
    assert!(fits(exact(), "Cookie: a=2; canary=1; b=3\r\n"));
    assert!(fits(exact(), "Cookie: a=2\r\nCookie: canary=1\r\n"));
    assert!(!fits(exact(), "Cookie: xcanary=1; canary=12\r\n"));
    assert!(fits(Expected::Absent, "Cookie: xcanary=1\r\n"));
    assert!(!fits(Expected::Absent, "Cookie: canary=\r\n"));
    let regex = Expected::Regex(Regex::whole("[a-f]+").unwrap());
    assert!(fits(regex, "Cookie: canary=abc\r\n"));
}
