//! What a listener says for all of its routes.

use super::{Ask, BOTH, all, mirror};
use crate::harness::{Home, Origin};

fn config(origin: &Origin, max_body: &str) -> String {
    format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\nservice = \"shop\"\n\
         [listener.web.filters]\nmax_body = {max_body:?}\nresponse_headers = {{ set = {{ X-All = \"1\" }}, remove = [\"Server\"] }}\n\
         [[listener.web.route]]\npath = \"/own\"\nservice = \"shop\"\n\
         filters = {{ max_body = \"1KiB\" }}\n\
         [[listener.web.route]]\npath = \"/other\"\nservice = \"shop\"\n\
         filters = {{ response_headers = {{ set = {{ X-Own = \"2\" }} }} }}\n\
         [[listener.web.route]]\npath = \"/none\"\nservice = \"shop\"\nfilters = {{ inherit = false }}\n\
         [[listener.web.route]]\npath = \"/here\"\nanswer = {{ body = \"here\" }}\n\
         [[service.shop.instance]]\naddress = \"127.0.0.1:{}\"\n",
        origin.port()
    )
}

#[test]
fn what_a_listener_says_holds_for_routes_that_do_not_say_otherwise_key_by_key() {
    let origin = mirror();
    let node = Home::new(&config(&origin, "100B")).start();
    node.until_eligible("/", 1);
    let body = [b'x'; 500];
    for speaks in BOTH {
        for (target, status, x_all, x_own, server) in [
            ("/anywhere", 413, 1, 0, 0),
            ("/own", 200, 1, 0, 0),
            ("/other", 413, 0, 1, 0),
            ("/none", 200, 0, 0, 1),
        ] {
            let ask = Ask {
                method: "POST",
                body: &body,
                ..Ask::get(target)
            };
            let answer = ask.of(&node, speaks);
            let seen = (
                answer.status,
                all(&answer, "x-all").len(),
                all(&answer, "x-own").len(),
                all(&answer, "server").len(),
            );
            assert_eq!(seen, (status, x_all, x_own, server), "{target} {speaks:?}");
        }
        let here = Ask::get("/here").of(&node, speaks);
        assert_eq!(all(&here, "x-all"), ["1"]);
    }
    let explained = node.read(&format!("/v1/explain?url=http://{}/anywhere", node.web()));
    let filters = explained["filters"].to_string();
    assert!(filters.contains("100B"), "{filters}");
    // A change of it is one of every route that has it.
    node.reload(&config(&origin, "1KiB"));
    let ask = Ask {
        method: "POST",
        body: &body,
        ..Ask::get("/anywhere")
    };
    assert_eq!(ask.of(&node, BOTH[0]).status, 200);
}
