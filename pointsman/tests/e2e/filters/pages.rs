//! Pages in the place of answers' own texts.

use super::{Ask, BOTH, all, before};
use crate::harness::{Directory, Origin, Reply, until};

fn statuses() -> Origin {
    Origin::answering(|heard| Reply {
        status: heard.path()[1..].parse().unwrap_or(200),
        fields: "Content-Type: application/json\r\nX-Of: instance\r\n".into(),
        ..Reply::text("{}")
    })
}

#[test]
fn errors_of_ours_and_of_instances_get_their_pages() {
    let directory = Directory::new();
    let file = directory.write("404.html", "<p>Nothing here: é");
    let mut origin = statuses();
    let node = before(
        &origin,
        &format!(
            "filters.deny = [\"10.0.0.0/8\"]\n\
             [[listener.web.route.filters.error_page]]\nstatus = [\"404\"]\nfile = {file:?}\nintercept = true\n\
             [[listener.web.route.filters.error_page]]\nstatus = [\"500-599\"]\nbody = \"sorry\"\n\
             content_type = \"text/plain\"\n\
             [service.shop.ejection]\nerrors = 0\nerror_rate = \"100%\"\n"
        ),
    );
    for speaks in BOTH {
        let fine = Ask::get("/200").of(&node, speaks);
        assert_eq!((fine.status, fine.text()), (200, "{}"));
        let missing = Ask::get("/404").of(&node, speaks);
        assert_eq!(
            (missing.status, missing.text()),
            (404, "<p>Nothing here: é")
        );
        assert_eq!(all(&missing, "content-type"), ["text/html; charset=utf-8"]);
        assert_eq!(all(&missing, "x-of"), [""; 0]);
        // That page is not for what instances say.
        let failed = Ask::get("/500").of(&node, speaks);
        assert_eq!((failed.status, failed.text()), (500, "{}"));
        let head = Ask {
            method: "HEAD",
            ..Ask::get("/404")
        }
        .of(&node, speaks);
        assert_eq!((head.status, head.body.len()), (404, 0));
        assert_eq!(head.header("content-length"), Some("19"));
    }
    directory.write("404.html", "gone");
    until("the new page", || {
        (Ask::get("/404").of(&node, BOTH[0]).text() == "gone").then_some(())
    });
    origin.stop();
    for speaks in BOTH {
        let failed = Ask::get("/200").of(&node, speaks);
        assert_eq!((failed.status, failed.text()), (502, "sorry"));
        assert_eq!(all(&failed, "content-type"), ["text/plain"]);
    }
    let log = node.logged().until_line("\"status\":404");
    assert!(log.contains("\"instance\":\"127.0.0.1:"), "{log}");
}
