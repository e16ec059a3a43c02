//! A service that fails most of its requests is left alone for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::harness::{Home, Node, Origin, Reply, get, until};

struct Sick {
    origin: Origin,
    well: Arc<AtomicBool>,
}

impl Sick {
    fn new() -> Self {
        let well = Arc::new(AtomicBool::new(true));
        let is = well.clone();
        let origin = Origin::answering(move |_| Reply {
            status: if is.load(SeqCst) { 200 } else { 500 },
            ..Reply::text("shop")
        });
        Self { origin, well }
    }

    fn start(&self, route: &str) -> Node {
        let config = format!(
            "[listener.web]\nbind = \"127.0.0.1:0\"\n[[listener.web.route]]\nservice = \"shop\"\n{route}\n\
             [service.shop.ejection]\nerrors = 0\n\
             [service.shop.circuit_breaker]\nmin_requests = 10\nopen_for = \"300ms\"\nprobes = 2\n\
             [[service.shop.instance]]\naddress = \"127.0.0.1:{}\"\n",
            self.origin.port()
        );
        let node = Home::new(&config).start();
        node.until_eligible("/", 1);
        node
    }
}

fn state(node: &Node, state: &str) -> f64 {
    node.metric(&format!(
        "pointsman_service_circuit_state{{service=\"shop\",state=\"{state}\"}}"
    ))
}

#[test]
fn it_is_left_alone_while_it_fails_and_has_its_requests_back_when_it_is_well() {
    let sick = Sick::new();
    let node = sick.start("");
    (0..5).for_each(|_| assert_eq!(get(node.web(), "/").status, 200));
    sick.well.store(false, SeqCst);
    // Five of ten.
    (0..5).for_each(|_| assert_eq!(get(node.web(), "/").status, 500));
    let heard = sick.origin.heard().len();
    let refused = get(node.web(), "/");
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1"))
    );
    assert!(
        refused
            .text()
            .contains("the circuit of service shop is open")
    );
    assert_eq!(sick.origin.heard().len(), heard, "nothing was sent");
    assert_eq!((state(&node, "open"), state(&node, "closed")), (1.0, 0.0));
    let explained = node.read(&format!("/v1/explain?url=http://{}/", node.web()));
    assert!(
        explained["filters"].to_string().contains("circuit is open"),
        "{explained}"
    );
    node.said().until_line("service shop: its circuit opened");
    // It stays so as long as those that try it fail.
    until("it was tried, and opened again", || {
        get(node.web(), "/");
        let opened = "pointsman_service_circuit_opened_total{service=\"shop\"}";
        (node.metric(opened) >= 2.0).then_some(())
    });
    sick.well.store(true, SeqCst);
    until("it is closed", || {
        get(node.web(), "/");
        (state(&node, "closed") == 1.0).then_some(())
    });
    (0..20).for_each(|_| assert_eq!(get(node.web(), "/").status, 200));
    node.said().until_line("service shop: its circuit closed");
    assert!(node.metric("pointsman_service_circuit_refused_total{service=\"shop\"}") >= 1.0);
}

#[test]
fn while_it_is_left_alone_another_stands_in() {
    let sick = Sick::new();
    let spare = Origin::named("spare");
    let node = sick.start("fallback = \"spare\"\nfallback_on = [\"circuit_open\"]");
    node.register("spare", "a", &crate::lasting(&spare));
    sick.well.store(false, SeqCst);
    until("another answers", || {
        (get(node.web(), "/").text() == "spare").then_some(())
    });
    let explained = node.read(&format!("/v1/explain?url=http://{}/", node.web()));
    let verdict = explained["verdict"].as_str().unwrap();
    assert!(
        verdict.contains("goes to instance a of service spare"),
        "{verdict}"
    );
}
