//! Requests of other sites' pages.

use super::{Ask, BOTH, all, before, refused};
use crate::harness::{Origin, Reply};

/// An instance with opinions of its own on who may read.
fn opinionated() -> Origin {
    Origin::answering(|_| Reply {
        fields: "Access-Control-Allow-Origin: https://evil.example\r\nVary: Accept\r\n".into(),
        ..Reply::text("read")
    })
}

#[test]
fn pages_of_the_sites_named_may_read_and_browsers_are_told_so_beforehand() {
    let origin = opinionated();
    let node = before(
        &origin,
        r#"filters.cors = { origins = ["https://app.example", "https://*.shop.example"], methods = ["PUT"], headers = ["X-Token"], expose = ["X-Id"], credentials = true }
           filters.basic_auth = { users = { ann = "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=" } }"#,
    );
    let ann = ("authorization", "Basic YW5uOnBhc3N3b3Jk");
    for speaks in BOTH {
        let asked = [
            ("origin", "https://a.shop.example"),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "x-token"),
        ];
        let ask = |fields| Ask {
            method: "OPTIONS",
            ..Ask::get("/").with(fields)
        };
        // Without a password: no browser sends one beforehand.
        let told = ask(&asked).of(&node, speaks);
        assert_eq!((told.status, told.body.len()), (204, 0));
        assert_eq!(
            all(&told, "access-control-allow-origin"),
            ["https://a.shop.example"]
        );
        assert_eq!(all(&told, "access-control-allow-methods"), ["PUT"]);
        assert_eq!(all(&told, "access-control-allow-headers"), ["X-Token"]);
        assert_eq!(all(&told, "access-control-allow-credentials"), ["true"]);
        assert_eq!(all(&told, "access-control-max-age"), ["600"]);
        let refused = [("origin", "https://evil.example"), asked[1]];
        let refused = ask(&refused).of(&node, speaks);
        assert_eq!(
            (refused.status, all(&refused, "access-control-allow-origin")),
            (403, vec![])
        );

        let read = Ask::get("/").with(&[asked[0], ann]).of(&node, speaks);
        assert_eq!((read.status, read.text()), (200, "read"));
        assert_eq!(
            all(&read, "access-control-allow-origin"),
            ["https://a.shop.example"]
        );
        assert_eq!(all(&read, "access-control-expose-headers"), ["X-Id"]);
        assert_eq!(all(&read, "vary"), ["Accept", "Origin"]);
        // What another site asks for is done, and its page cannot read what came of it.
        let other = Ask::get("/")
            .with(&[("origin", "https://evil.example"), ann])
            .of(&node, speaks);
        assert_eq!(
            (other.status, all(&other, "access-control-allow-origin")),
            (200, vec![])
        );
        // A page can read that it is refused.
        let refused = Ask::get("/").with(&asked[..1]).of(&node, speaks);
        assert_eq!(refused.status, 401);
        assert_eq!(
            all(&refused, "access-control-allow-origin"),
            ["https://a.shop.example"]
        );
    }
    assert_eq!(refused(&node, "origin"), 2.0);
}
