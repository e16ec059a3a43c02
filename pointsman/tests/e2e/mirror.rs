//! Copies of requests for a service that nobody waits for.

use std::time::{Duration, Instant};

use crate::harness::{Answer, Connection, Home, Node, Origin, Reply, free_address, get, until};

fn start(shop: &Origin, shadow: u16, mirror: &str) -> Node {
    let config = format!(
        "[node]\nworkers = 1\n[listener.web]\nbind = \"127.0.0.1:0\"\n[[listener.web.route]]\nname = \"all\"\nservice = \"shop\"\n\
         mirror = {{ service = \"shadow\", {mirror} }}\n[service.shadow]\nretries = 0\n\
         [[service.shop.instance]]\naddress = \"127.0.0.1:{}\"\n[[service.shadow.instance]]\naddress = \"127.0.0.1:{shadow}\"\n",
        shop.port()
    );
    let node = Home::new(&config).start();
    node.until_eligible("/", 1);
    node
}

fn mirrored(node: &Node, outcome: &str) -> f64 {
    node.metric(&format!(
        "pointsman_route_mirrored_total{{listener=\"web\",route=\"all\",service=\"shadow\",outcome=\"{outcome}\"}}"
    ))
}

fn echo() -> Origin {
    Origin::answering(|heard| Reply {
        body: heard.body.clone(),
        ..Reply::text("")
    })
}

/// Sends a request with a body in so many pieces, with a length or in chunks.
fn post(node: &Node, path: &str, pieces: &[&[u8]], chunked: bool) -> Answer {
    let mut client = Connection::open(node.web());
    let length = match chunked {
        true => "Transfer-Encoding: chunked".to_owned(),
        false => format!("Content-Length: {}", pieces.concat().len()),
    };
    client.send(format!(
        "POST {path} HTTP/1.1\r\nHost: shop.example:80\r\n{length}\r\n\r\n"
    ));
    for piece in pieces {
        std::thread::sleep(Duration::from_millis(20));
        if chunked {
            client.send(format!("{:x}\r\n", piece.len()));
        }
        client.send(piece);
        if chunked {
            client.send("\r\n");
        }
    }
    if chunked {
        client.send("0\r\n\r\n");
    }
    client.answer()
}

#[test]
fn the_other_service_gets_each_request_whole_and_marked_and_its_answer_goes_nowhere() {
    let (shop, shadow) = (
        echo(),
        Origin::answering(|_| Reply {
            status: 500,
            ..Reply::text("nobody reads this")
        }),
    );
    let node = start(&shop, shadow.port(), "share = \"100%\"");
    assert_eq!(get(node.web(), "/a?b=c").status, 200);
    for (n, chunked) in [false, true].into_iter().enumerate() {
        let answer = post(
            &node,
            &format!("/post{n}"),
            &[b"hello, ", b"world"],
            chunked,
        );
        assert_eq!((answer.status, answer.text()), (200, "hello, world"));
    }
    until("all copies were answered", || {
        (mirrored(&node, "answered") == 3.0).then_some(())
    });
    let find = |path: &str| {
        let heard = shadow.heard();
        heard
            .into_iter()
            .find(|h| h.path() == path)
            .expect("a copy")
    };
    let copy = find("/a?b=c");
    assert_eq!(copy.header("host"), Some("localhost-shadow"));
    let own = shop
        .heard()
        .into_iter()
        .find(|h| h.path() == "/a?b=c")
        .unwrap();
    assert_eq!(own.header("host"), Some("localhost"));
    assert_eq!(copy.header("x-request-id"), own.header("x-request-id"));
    for path in ["/post0", "/post1"] {
        let copy = find(path);
        assert_eq!(copy.header("host"), Some("shop.example-shadow:80"));
        assert_eq!(copy.body, b"hello, world");
    }
    // Copies share connections, and leave nothing behind.
    let in_flight = format!(
        "pointsman_instance_in_flight{{service=\"shadow\",instance=\"127.0.0.1:{}\"}}",
        shadow.port()
    );
    until("nothing in flight", || {
        (node.metric(&in_flight) == 0.0).then_some(())
    });
}

#[test]
fn a_mirror_that_is_dead_or_silent_is_nobodys_business_and_takes_no_more_than_its_share() {
    let shop = echo();
    let silent = Origin::raw(|mut connection, _| while connection.line().is_ok() {});
    for shadow in [free_address().port(), silent.port()] {
        let node = start(&shop, shadow, "max_in_flight = 3");
        let began = Instant::now();
        let mut client = Connection::open(node.web());
        (0..50).for_each(|_| assert_eq!(client.get("/").status, 200));
        assert!(began.elapsed() < Duration::from_secs(10));
        let counted = || mirrored(&node, "failed") + mirrored(&node, "skipped");
        until("copies came to nothing", || {
            (counted() >= 47.0).then_some(())
        });
        assert_eq!(mirrored(&node, "answered"), 0.0);
    }
}

#[test]
fn some_are_copied_where_some_are_wanted_and_none_that_is_too_long() {
    let (shop, shadow) = (echo(), echo());
    let node = start(&shop, shadow.port(), "share = \"30%\", mark_host = false");
    let mut client = Connection::open(node.web());
    (0..200).for_each(|_| assert_eq!(client.get("/").status, 200));
    until("some were copied", || {
        let some = mirrored(&node, "answered");
        (30.0..=95.0).contains(&some).then_some(())
    });
    assert_eq!(
        shadow.heard()[0].header("host"),
        shop.heard()[0].header("host")
    );
    let node = start(&shop, shadow.port(), "max_body = \"1KiB\"");
    let heard = shadow.heard().len();
    let piece = vec![b'x'; 700];
    for chunked in [false, true] {
        let answer = post(&node, "/long", &[&piece, &piece], chunked);
        assert_eq!((answer.status, answer.body.len()), (200, 1_400));
    }
    let once = vec![b'x'; 5_000];
    assert_eq!(post(&node, "/long", &[&once], false).body.len(), 5_000);
    assert_eq!(mirrored(&node, "skipped"), 3.0);
    assert_eq!(post(&node, "/short", &[b"short"], false).text(), "short");
    until("the short one", || {
        (mirrored(&node, "answered") == 1.0).then_some(())
    });
    assert_eq!(shadow.heard().len(), heard + 1);
}

#[test]
fn a_mirror_that_speaks_http2_gets_its_copies_on_streams() {
    let shop = echo();
    let shadow = crate::shared::serving(
        |_| (),
        |request: http_types::Request<h2::RecvStream>,
         mut respond: h2::server::SendResponse<bytes::Bytes>| async move {
            let mut body = request.into_body();
            let mut len = 0;
            while let Some(Ok(part)) = body.data().await {
                let _ = body.flow_control().release_capacity(part.len());
                len += part.len();
            }
            let status = if len == 12 { 200 } else { 400 };
            let response = http_types::Response::builder().status(status);
            let mut stream = respond
                .send_response(response.body(()).unwrap(), false)
                .unwrap();
            let _ = stream.send_data(vec![b'x'; 100_000].into(), true);
        },
    );
    let config = format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\n[[listener.web.route]]\nname = \"all\"\nservice = \"shop\"\nmirror = {{ service = \"shadow\" }}\n\
         [service.shadow]\nprotocol = \"h2\"\n[[service.shop.instance]]\naddress = \"127.0.0.1:{}\"\n\
         [[service.shadow.instance]]\naddress = \"127.0.0.1:{}\"\n",
        shop.port(),
        shadow.port()
    );
    let node = Home::new(&config).start();
    node.until_eligible("/", 1);
    for chunked in [false, true] {
        assert_eq!(
            post(&node, "/", &[b"hello, ", b"world"], chunked).status,
            200
        );
    }
    until("both were answered", || {
        (mirrored(&node, "answered") == 2.0).then_some(())
    });
    let heard = shadow.heard();
    assert!(
        heard[0]
            .head
            .starts_with("POST http://shop.example-shadow:80/"),
        "{:?}",
        heard[0]
    );
}
