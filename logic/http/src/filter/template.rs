use std::io::Write as _;
use std::net::IpAddr;

use model::{Part, Template, Variable};

use crate::h1::Request;
use crate::route::host_of;

/// What the variables of templates stand for.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The request.
    pub request: &'a Request<'a>,
    /// Who it comes from.
    pub client: IpAddr,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Its id.
    pub id: &'a [u8],
    /// Who has proven by a password to be that.
    pub user: &'a str,
}

/// Appends what the template says of a request. Everything in it is fit for a field's value: what comes from the request was
/// looked at when it was parsed.
pub fn render(template: &Template, scene: &Scene<'_>, out: &mut Vec<u8>) {
    for part in &template.parts {
        match part {
            Part::Text(text) => out.extend_from_slice(text.as_bytes()),
            Part::Variable(variable) => write(*variable, scene, out),
        }
    }
}

fn write(variable: Variable, scene: &Scene<'_>, out: &mut Vec<u8>) {
    let request = scene.request;
    match variable {
        Variable::Client => {
            // A vector takes everything.
            let _ = write!(out, "{}", scene.client.to_canonical());
        }
        Variable::Host => out.extend_from_slice(host_of(request.authority)),
        Variable::Authority => out.extend_from_slice(request.authority),
        Variable::Scheme => out.extend_from_slice(scene.scheme.as_bytes()),
        Variable::Method => out.extend_from_slice(request.method),
        Variable::Path => out.extend_from_slice(request.target.path()),
        Variable::Query => {
            if let Some(query) = request.target.query() {
                out.push(b'?');
                out.extend_from_slice(query);
            }
        }
        Variable::Id => out.extend_from_slice(scene.id),
        Variable::User => out.extend_from_slice(scene.user.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::{Limits, parse_request};

    #[test]
    fn variables_stand_for_what_the_request_has() {
        let text = "GET /a%20b?c=d HTTP/1.1\r\nHost: Shop.example.com:8080\r\n\r\n";
        let limits = Limits {
            head: 4096,
            fields: 100,
        };
        let request = parse_request(text.as_bytes(), &mut 0, &limits);
        let request = request.unwrap().unwrap();
        let scene = Scene {
            request: &request,
            client: "::ffff:10.0.0.1".parse().unwrap(),
            scheme: "https",
            id: b"7",
            user: "ann",
        };
        let template = "{client} {host} {authority} {scheme} {method} {path}{query} {id} {user}";
        let mut out = Vec::new();
        render(&template.parse().unwrap(), &scene, &mut out);
        let expected =
            b"10.0.0.1 Shop.example.com Shop.example.com:8080 https GET /a%20b?c=d 7 ann";
        assert_eq!(out, expected);
    }
}
