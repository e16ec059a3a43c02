//! Puts a scene on a network, lets it run, and looks at what is left.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use model::{
    Action, Balancing, Ejecting, Endpoint, EndpointStats, Health, HostPattern, Http2Limits,
    Incarnation, ListenerStats, ListenerTable, Moment, PathPattern, Route, RouteStats,
    RoutingTable, ServiceKey, ServiceStats, ServiceTable, Sharded, Speaks, Weight,
};
use proxy::rt::{Listener, Network, Reactor};
use proxy::{Simulated, simulate};
use telemetry::AccessRecord;

use super::check;
use super::client::Visitor;
use super::instance::{Instance, serve};
use super::ledger::Shared;
use super::scene::{CONNECT, MAX_HEAD, RESPONSE, Scene, TIMEOUTS};

/// When a run that has not come to its end is given up.
const LIMIT: Moment = Moment::from_millis(400_000);

/// What came of a run.
pub struct Report {
    /// What went wrong; nothing, if all is well.
    pub violations: Vec<String>,
    /// How often each thing happened.
    pub coverage: BTreeMap<String, u64>,
    /// The same for the same seed.
    pub hash: u64,
    /// The trace, if it was asked for.
    pub lines: Vec<String>,
}

/// A scene at work.
pub(super) struct World {
    pub(super) scene: Scene,
    pub(super) ledger: Shared,
    pub(super) network: Network,
    pub(super) simulated: Simulated,
    pub(super) numbers: Numbers,
    pub(super) records: Vec<AccessRecord>,
}

/// The statistics of everything in the table.
pub(super) struct Numbers {
    pub(super) listeners: Vec<Arc<Sharded<ListenerStats>>>,
    pub(super) routes: Vec<Vec<Arc<Sharded<RouteStats>>>>,
    pub(super) services: Vec<Arc<Sharded<ServiceStats>>>,
    pub(super) endpoints: Vec<Vec<Arc<EndpointStats>>>,
}

/// Runs the scene of `seed`; `keep` keeps the trace.
pub fn run(seed: u64, keep: bool) -> Report {
    let scene = Scene::of(seed);
    let ledger = Shared::new(keep);
    ledger.note(Moment::ZERO, &format!("{scene:?}"));
    let numbers = Numbers::of(&scene);
    let network = Network::new(scene.conditions);
    let table = table(&scene, &numbers, &mut Rng::with_seed(0), false);
    let listeners = [listener_address(0), listener_address(1)];
    let simulated = simulate(network.clone(), seed, table, &listeners);
    let mut world = World {
        scene,
        ledger,
        network,
        simulated,
        numbers,
        records: Vec::new(),
    };
    world.settle_in(seed);
    let world = Rc::new(world);
    let handle = world.simulated.executor.handle();
    handle.spawn(conduct(world.clone(), seed));
    let outcome = world.simulated.executor.run();
    let mut world = Rc::into_inner(world).expect("every task has ended with the executor");
    if let Err(fault) = outcome {
        world
            .ledger
            .violate(world.network.now(), format!("the executor failed: {fault}"));
    }
    world.records = world.simulated.records();
    check::all(&world);
    let hash = world.ledger.with(|l| l.hash);
    Report {
        violations: world.ledger.with(|l| std::mem::take(&mut l.violations)),
        coverage: world.ledger.with(|l| std::mem::take(&mut l.coverage)),
        hash,
        lines: world.ledger.lines(),
    }
}

impl World {
    /// Brings instances and clients to their places.
    fn settle_in(&mut self, seed: u64) {
        let handle = self.simulated.executor.handle();
        for (s, service) in self.scene.services.iter().enumerate() {
            for (i, nature) in service.instances.iter().enumerate() {
                let address = instance_address(s, i);
                if nature.black_hole {
                    self.network.silence(address);
                } else if !nature.refuses {
                    let instance = Rc::new(Instance {
                        number: (s, i),
                        nature: nature.clone(),
                        ledger: self.ledger.clone(),
                        seed: seed ^ ((s as u64) << 32 | (i as u64) << 40),
                    });
                    let listener = Listener::on_network(handle.reactor(), address);
                    handle.spawn(serve(instance, listener, handle.clone()));
                }
            }
        }
        self.ledger.with(|l| l.busy = self.scene.clients.len());
        for (number, client) in self.scene.clients.iter().enumerate() {
            let address = listener_address(client.listener);
            let reactor = handle.reactor().clone();
            let visitor = Visitor::new(
                number,
                client.clone(),
                self.ledger.clone(),
                reactor,
                address,
            );
            handle.spawn(visitor.visit());
        }
    }

    fn is_over(&self) -> bool {
        let drained = self.ledger.with(|l| l.drained.is_some() && l.busy == 0);
        drained && self.network.open_ends() == 0
    }
}

/// Changes the table and drains when the scene says so, and ends the run when nothing is left to happen.
async fn conduct(world: Rc<World>, seed: u64) {
    let handle = world.simulated.executor.handle();
    let reactor: &Reactor = handle.reactor();
    let rng = &mut Rng::with_seed(seed ^ 0x5a5a);
    let mut swaps = world.scene.swaps.iter().enumerate().peekable();
    while !world.is_over() && reactor.now() < LIMIT {
        reactor.sleep(Duration::from_millis(20)).await;
        let time = reactor.now().since(Moment::ZERO);
        if let Some((n, _)) = swaps.next_if(|(_, at)| **at <= time) {
            let drops = world.scene.drops_listener && n == 0;
            if drops {
                world.ledger.with(|l| l.unlistened = Some(reactor.now()));
                world.simulated.unlisten(1);
            }
            let gone = world.ledger.with(|l| l.unlistened.is_some());
            world.ledger.note(
                reactor.now(),
                &format!("table swap, listener 1 gone: {gone}"),
            );
            world.ledger.cover("table swap");
            world
                .simulated
                .publish(table(&world.scene, &world.numbers, rng, gone));
        }
        let idle = world.ledger.with(|l| l.busy == 0);
        let drained = world.ledger.with(|l| l.drained.is_some());
        if !drained && (idle || world.scene.drain.is_some_and(|at| at <= time)) {
            world.ledger.note(reactor.now(), "drain");
            world.ledger.cover(if idle {
                "drain at rest"
            } else {
                "drain at work"
            });
            world.ledger.with(|l| l.drained = Some(reactor.now()));
            world.simulated.drain();
        }
    }
    handle.stop();
}

fn listener_address(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 80 + number as u16))
}

fn instance_address(service: usize, instance: usize) -> SocketAddr {
    SocketAddr::from(([10, 1, service as u8, instance as u8], 8080))
}

impl Numbers {
    fn of(scene: &Scene) -> Self {
        let per_service = || scene.services.iter();
        Self {
            listeners: (0..2).map(|_| Arc::new(Sharded::new(1))).collect(),
            routes: (0..2)
                .map(|_| per_service().map(|_| Arc::new(Sharded::new(1))).collect())
                .collect(),
            services: per_service().map(|_| Arc::new(Sharded::new(1))).collect(),
            endpoints: per_service()
                .map(|s| s.instances.iter().map(|_| Arc::default()).collect())
                .collect(),
        }
    }
}

/// A table for the scene. Each service's first instance always takes traffic; the others come and go.
fn table(scene: &Scene, numbers: &Numbers, rng: &mut Rng, second_gone: bool) -> RoutingTable {
    let services: Vec<_> = (0..scene.services.len())
        .map(|s| service(scene, numbers, rng, s))
        .collect();
    let listener = |number: usize| {
        let routes = (0..services.len()).map(|s| Route {
            name: format!("route-{s}").into(),
            host: HostPattern::Any,
            path: PathPattern::Prefix(format!("/s{s}").into()),
            conditions: None,
            filters: None,
            priority: model::Priority::Normal,
            action: Action::Service(s),
            aside: None,
            stats: numbers.routes[number][s].clone(),
        });
        let routes: Vec<_> = routes.collect();
        Arc::new(ListenerTable {
            name: format!("listener-{number}").into(),
            index: http::route::index(&routes),
            routes,
            speaks: Speaks::Http,
            tls: false,
            accept_proxy: Vec::new(),
            trusted_peers: Vec::new(),
            timeouts: TIMEOUTS,
            peer_timeout: Duration::from_secs(60),
            max_head: MAX_HEAD,
            max_fields: 100,
            // A client that begins with it is one of the rude: the clients here know HTTP/1.1.
            http2: Http2Limits {
                enabled: false,
                ..Http2Limits::default()
            },
            grpc_web: false,
            tracing: model::Tracing::default(),
            one_host: false,
            deadlines: Default::default(),
            stats: numbers.listeners[number].clone(),
        })
    };
    RoutingTable {
        listeners: vec![Some(listener(0)), (!second_gone).then(|| listener(1))],
        services,
        ..RoutingTable::default()
    }
}

fn service(scene: &Scene, numbers: &Numbers, rng: &mut Rng, s: usize) -> Arc<ServiceTable> {
    let service = &scene.services[s];
    let name = format!("service-{s}").parse().expect("a name");
    let endpoint = |i: usize| Endpoint {
        id: format!("instance-{i}").parse().expect("a name"),
        incarnation: Incarnation(1),
        address: instance_address(s, i),
        weight: Weight(1 + rng.u16(..3)),
        health: Health::Passing,
        drain: i > 0 && rng.u8(..6) == 0,
        enabled: i == 0 || rng.u8(..6) != 0,
        tier: 0,
        since: model::Moment::ZERO,
        connections: Arc::default(),
        stats: numbers.endpoints[s][i].clone(),
    };
    Arc::new(ServiceTable {
        key: ServiceKey::in_default(name),
        role: None,
        persistence: None,
        policy: service.policy,
        endpoints: (0..service.instances.len()).map(endpoint).collect(),
        unresolved: 0,
        connect_timeout: CONNECT,
        peer_timeout: Duration::from_secs(60),
        response_timeout: RESPONSE,
        retries: service.retries,
        retry_budget: 100,
        balancing: Balancing {
            ejecting: Ejecting {
                failures: 3,
                time: Duration::from_millis(300),
                ..Ejecting::default()
            },
            hedging: service.hedges.map(|delay| model::Hedging {
                quantile: 95,
                budget: 100,
                min_delay: Duration::ZERO,
                delay: Some(delay),
            }),
            ..Balancing::default()
        },
        placement: None,
        ejections: Arc::default(),
        least_moves: Arc::default(),
        admission: Arc::new(model::Admission::new(1)),
        keep_alive: Duration::from_millis(700),
        send_proxy: None,
        load_report: None,
        http2: false,
        tls: false,
        connect_from: Vec::new(),
        stats: numbers.services[s].clone(),
    })
}
