//! Long connections through a restart, with the picks that place them when they come back.

use model::{Incarnation, Policy, Respreading};

use super::*;
use crate::lease::Held;
use crate::{Respread, Surplus, Unit};

/// Clients that hold connections, and connect again when they lose one.
struct Clients {
    service: ServiceTable,
    balancer: Balancer,
    held: Vec<Vec<Held>>,
}

impl Clients {
    fn new(policy: Policy, weights: &[u16]) -> Self {
        let mut service = service(policy, weights);
        service.balancing.respreading = Respreading {
            rate: 1,
            rest: Duration::from_secs(1),
            transactions: false,
        };
        Self {
            balancer: Balancer::new(&service, 0, 1),
            held: weights.iter().map(|_| Vec::new()).collect(),
            service,
        }
    }

    fn connect(&mut self, now: Moment) {
        let context = Context {
            unit: Unit::Connection,
            ..Context::default()
        };
        let lease = self.balancer.pick(&self.service, &context, now).unwrap();
        let endpoint = lease.endpoint();
        self.held[endpoint].push(lease.stands(&self.service));
    }

    fn close(&mut self, surplus: Surplus) {
        let held = &mut self.held[surplus.endpoint];
        for _ in 0..surplus.connections {
            held.pop().expect("no more than there are");
            let endpoint = &self.service.endpoints[surplus.endpoint];
            endpoint.connections.moved.add(1);
        }
    }

    /// The endpoint dies, its clients go elsewhere, and it comes back as another.
    fn restart(&mut self, endpoint: usize, now: Moment) {
        self.service.endpoints[endpoint].health = Health::Critical;
        self.balancer.rebuild(&self.service);
        let lost = std::mem::take(&mut self.held[endpoint]).len();
        (0..lost).for_each(|_| self.connect(now));
        let back = &mut self.service.endpoints[endpoint];
        back.health = Health::Passing;
        back.incarnation = Incarnation(back.incarnation.0 + 1);
        self.balancer.rebuild(&self.service);
    }

    fn moved(&self) -> u64 {
        let endpoints = self.service.endpoints.iter();
        endpoints.map(|e| e.connections.moved.value()).sum()
    }

    /// The most an endpoint has, by weight, beside the mean.
    fn worst(&self) -> f64 {
        let all: usize = self.held.iter().map(Vec::len).sum();
        let weight: f64 = self
            .service
            .endpoints
            .iter()
            .map(|e| f64::from(e.weight.0))
            .sum();
        let of = |(held, e): (&Vec<Held>, &Endpoint)| {
            held.len() as f64 / (all as f64 * f64::from(e.weight.0) / weight)
        };
        let ratios = self.held.iter().zip(&self.service.endpoints).map(of);
        ratios.fold(0.0, f64::max)
    }
}

/// Second by second, whoever is closed connecting again at once. Returns the most closed in one of them.
fn run(clients: &mut Clients, respread: &mut Respread, seconds: std::ops::Range<u64>) -> u32 {
    let mut most = 0;
    for second in seconds {
        let now = at(second * 1_000);
        let surplus = respread.handle_timeout(&clients.service, now);
        let closed = surplus.iter().map(|s| s.connections).sum();
        surplus.into_iter().for_each(|s| clients.close(s));
        (0..closed).for_each(|_| clients.connect(now));
        most = most.max(closed);
    }
    most
}

#[test]
fn after_a_restart_no_more_is_moved_than_must_be_and_within_a_minute() {
    for (weights, connections) in [
        (vec![1; 20], 100_000),
        (vec![1; 2], 1_000),
        (vec![3, 1, 2, 2], 8_000),
    ] {
        let mut clients = Clients::new(Policy::LeastConn, &weights);
        let mut respread = Respread::default();
        (0..connections).for_each(|_| clients.connect(at(0)));
        run(&mut clients, &mut respread, 0..20);
        assert_eq!(clients.moved(), 0, "what is even stays");
        clients.restart(0, at(20_000));
        assert!(clients.worst() > 1.05);
        let most = run(&mut clients, &mut respread, 20..80);
        assert!(
            most <= connections / 100,
            "at most 1 % a second, not {most}"
        );
        assert!(clients.worst() <= 1.05, "{}", clients.worst());
        let (moved, least) = (
            clients.moved() as f64,
            clients.service.least_moves.value() as f64,
        );
        assert!(
            least > 0.0 && moved <= 1.1 * least,
            "{moved} moves, {least} would have done"
        );
        run(&mut clients, &mut respread, 80..200);
        assert_eq!(clients.moved() as f64, moved, "and then there is peace");
    }
}

#[test]
fn a_change_of_weight_is_followed() {
    let mut clients = Clients::new(Policy::LeastConn, &[1, 1, 1]);
    let mut respread = Respread::default();
    (0..3_000).for_each(|_| clients.connect(at(0)));
    run(&mut clients, &mut respread, 0..10);
    clients.service.endpoints[1].weight = Weight(4);
    clients.balancer.rebuild(&clients.service);
    run(&mut clients, &mut respread, 10..90);
    assert!(clients.worst() < 1.03, "{}", clients.worst());
    assert!((1_960..=2_040).contains(&clients.held[1].len()));
}

#[test]
fn nothing_moves_while_instances_come_and_go() {
    let mut clients = Clients::new(Policy::LeastConn, &[1; 10]);
    let mut respread = Respread::default();
    (0..1_000).for_each(|_| clients.connect(at(0)));
    for restart in 0..10 {
        clients.restart(restart, at(restart as u64 * 4_000));
        let second = restart as u64 * 4;
        assert_eq!(run(&mut clients, &mut respread, second..second + 4), 0);
    }
}

#[test]
fn nothing_moves_while_an_instance_starts_slowly() {
    let mut clients = Clients::new(Policy::LeastConn, &[1; 2]);
    let mut respread = Respread::default();
    clients.service.balancing.slow_start = Duration::from_secs(30);
    (0..100).for_each(|_| clients.connect(at(0)));
    clients.restart(0, at(0));
    clients.service.endpoints[0].since = at(10_000);
    assert_eq!(run(&mut clients, &mut respread, 10..40), 0);
    assert_eq!(run(&mut clients, &mut respread, 40..50), 1);
}

#[test]
fn a_few_connections_are_not_pushed_around() {
    for held in 0..6 {
        let mut clients = Clients::new(Policy::LeastConn, &[1; 3]);
        let mut respread = Respread::default();
        (0..held).for_each(|_| clients.connect(at(0)));
        run(&mut clients, &mut respread, 0..300);
        assert_eq!(clients.moved(), 0, "{held}");
    }
}

#[test]
fn clients_that_do_not_come_back_do_not_make_it_close_more_and_more() {
    let mut clients = Clients::new(Policy::LeastConn, &[1; 2]);
    let mut respread = Respread::default();
    (0..1_000).for_each(|_| clients.connect(at(0)));
    clients.restart(0, at(0));
    for second in 0..60 {
        let surplus = respread.handle_timeout(&clients.service, at(second * 1_000));
        surplus.into_iter().for_each(|s| clients.close(s));
    }
    // 10 a second would have been 550.
    assert!((20..60).contains(&clients.moved()), "{}", clients.moved());
}

#[test]
fn whoever_goes_by_keys_is_left_alone_and_nobody_is_no_reason_to_panic() {
    for (policy, weights) in [
        (Policy::ConsistentHash, &[1, 1][..]),
        (Policy::LeastConn, &[][..]),
        (Policy::LeastConn, &[0, 0][..]),
    ] {
        let clients = Clients::new(policy, weights);
        let mut respread = Respread::default();
        for endpoint in clients.service.endpoints.iter().take(1) {
            (0..100).for_each(|_| endpoint.connections.begin());
        }
        for second in 0..60 {
            let surplus = respread.handle_timeout(&clients.service, at(second * 1_000));
            assert_eq!(surplus, []);
        }
    }
}

#[test]
fn a_clock_that_stepped_back_stops_nothing() {
    let mut clients = Clients::new(Policy::LeastConn, &[1; 2]);
    let mut respread = Respread::default();
    (0..1_000).for_each(|_| clients.connect(at(0)));
    clients.restart(0, at(0));
    run(&mut clients, &mut respread, 1_000_000..1_000_010);
    let moved = clients.moved();
    assert!(moved > 0);
    run(&mut clients, &mut respread, 0..10);
    assert!(clients.moved() > moved);
}
