//! Connections among the workers.

use crate::harness::{Connection, Home, until};

#[test]
fn a_hundred_long_connections_spread_over_two_workers() {
    let config = "[node]\nworkers = 2\n[listener.web]\nbind = \"127.0.0.1:0\"\n\
        [[listener.web.route]]\n[listener.web.route.answer]\nbody = \"x\"\n";
    let node = Home::new(config).start();
    let mut connections: Vec<_> = (0..100).map(|_| Connection::open(node.web())).collect();
    for connection in &mut connections {
        assert_eq!(connection.get("/").status, 200);
    }
    let load = |worker: usize| {
        node.metric(&format!(
            "pointsman_worker_connections{{worker=\"{worker}\"}}"
        ))
    };
    let loads = until("all connections counted", || {
        let loads = [load(0), load(1)];
        (loads[0] + loads[1] == 100.0).then_some(loads)
    });
    // What may remain, and one connection for each worker that was placed while another was.
    let least = loads[0].min(loads[1]);
    let slack = (least / 8.0).max(8.0) + 2.0;
    println!("connections of the workers: {loads:?}");
    assert!((loads[0] - loads[1]).abs() <= slack, "{loads:?}");
    drop(connections);
    until("all closed", || (load(0) + load(1) == 0.0).then_some(()));
}
