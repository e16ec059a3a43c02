use super::*;

pub(crate) fn source(name: &str, text: &str) -> Source {
    Source {
        name: name.into(),
        text: text.into(),
    }
}

pub(crate) fn parse_one(text: &str) -> Result<Parsed, Faults> {
    parse(&[source("a.toml", text)], &|_| None)
}

#[track_caller]
pub(crate) fn config(text: &str) -> Config {
    parse_one(text).unwrap_or_else(|f| panic!("{f}")).config
}

#[test]
fn show() {
    let c = config(
        r#"
[listener.web]
bind = "0.0.0.0:8080"
service = "x"
[[listener.web.route]]
host = "*.example.com"
redirect = { location = "/${H:-x}" }
[service.shop.check]
http = "/healthz"
[[service.shop.instance]]
address = "10.0.0.1:80"
metadata = { a = "b" }
"#,
    );
    println!("{}", c.to_toml());
    let again = config(&c.to_toml());
    assert_eq!(c, again);
    let bad = parse_one(
        r#"
[nod]
[node]
name = 5
worker = 3
workers = 5000
data_dir = 0.5
[listener.web]
protocol = "tcp"
bind = 0.0.0.0:80
[listener.x]
bind = "127.0.0.1:7070"
[[listener.x.route]]
path = "/a"
service = "a"
[[listener.x.route]]
path = "/a"
answer = {}
"#,
    )
    .unwrap_err();
    println!("{bad}");
}
