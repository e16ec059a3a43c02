//! One client, one or two instances, and the proxy between: each side is a script.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use model::{
    Action, Balancing, Ejecting, Endpoint, EndpointStats, Health, HostPattern, Incarnation,
    ListenerStats, ListenerTable, Moment, PathPattern, Policy, Route, RouteStats, RoutingTable,
    ServiceKey, ServiceStats, ServiceTable, Sharded, Speaks, Stream, StreamMatch, StreamRoute,
    StreamStats, TcpLimits, Timeouts, Weight,
};
use proxy::rt::{Accepted, Handle, Listener, Memory, Network, Sock};
use proxy::{Simulated, simulate};
use sim::peer::{Gone, Peer, Woken};

/// The limits in time of every stage.
pub(crate) const TIMEOUTS: Timeouts = Timeouts {
    request_head: Duration::from_secs(2),
    idle: Duration::from_secs(5),
    stall: Duration::from_secs(1),
    tunnel: Duration::from_secs(20),
    tunnel_lifetime: Duration::ZERO,
    tunnel_drain: Duration::from_secs(30),
    min_rate: 1_000,
};

/// The proxy with its surroundings.
pub(crate) struct Stage {
    pub simulated: Rc<Simulated>,
    pub handle: Handle,
    pub stats: Vec<Arc<EndpointStats>>,
    pub listener_stats: Arc<Sharded<ListenerStats>>,
    pub route_stats: Arc<Sharded<RouteStats>>,
    retries: u8,
    tcp: Option<TcpLimits>,
    pub stream_stats: Arc<Sharded<StreamStats>>,
}

impl Stage {
    /// A stage with `instances` endpoints, taken in turn, the first first.
    pub(crate) fn new(instances: usize) -> Self {
        let conditions = Memory {
            seed: 1,
            window: 64 * 1024,
            segment: 64 * 1024,
            delay: Duration::from_micros(10),
        };
        Self::in_conditions(instances, conditions)
    }

    /// The same on a network of another kind.
    pub(crate) fn in_conditions(instances: usize, conditions: Memory) -> Self {
        let network = Network::new(conditions);
        let table = RoutingTable::default();
        let simulated = Rc::new(simulate(network, 1, table, &[address(0)]));
        let stage = Self {
            handle: simulated.executor.handle(),
            simulated,
            stats: (0..instances).map(|_| Arc::default()).collect(),
            listener_stats: Arc::new(Sharded::new(1)),
            route_stats: Arc::new(Sharded::new(1)),
            retries: 3,
            tcp: None,
            stream_stats: Arc::new(Sharded::new(1)),
        };
        stage.publish(true);
        stage
    }

    /// The same with a listener that speaks TCP, and these limits.
    pub(crate) fn of_tcp(instances: usize, conditions: Memory, limits: TcpLimits) -> Self {
        let mut stage = Self::in_conditions(instances, conditions);
        stage.tcp = Some(limits);
        stage.publish(true);
        stage
    }

    fn speaks(&self) -> Speaks {
        let Some(limits) = self.tcp else {
            return Speaks::Http;
        };
        let route = StreamRoute {
            name: "r".into(),
            matches: StreamMatch::ANYTHING,
            service: 0,
            stats: self.stream_stats.clone(),
        };
        Speaks::Tcp(Stream {
            routes: vec![route],
            limits,
        })
    }

    /// Publishes the table anew, with or without its listener.
    pub(crate) fn publish(&self, listens: bool) {
        self.simulated.publish(self.table(listens, &self.stats));
    }

    /// The table with the given endpoints.
    pub(crate) fn table(&self, listens: bool, stats: &[Arc<EndpointStats>]) -> RoutingTable {
        let endpoint = |(n, stats): (usize, &Arc<EndpointStats>)| Endpoint {
            incarnation: Incarnation(1),
            id: format!("i{n}").parse().unwrap(),
            address: address(n + 1),
            // The first is so heavy that it has the first turn.
            weight: Weight(if n == 0 { 60_000 } else { 1 }),
            health: Health::Passing,
            drain: false,
            enabled: true,
            tier: 0,
            since: model::Moment::ZERO,
            connections: Arc::default(),
            stats: stats.clone(),
        };
        let service = ServiceTable {
            key: ServiceKey::in_default("s".parse().unwrap()),
            role: None,
            persistence: None,
            policy: Policy::RoundRobin,
            endpoints: stats.iter().enumerate().map(endpoint).collect(),
            unresolved: 0,
            connect_timeout: Duration::from_secs(1),
            peer_timeout: Duration::from_secs(60),
            response_timeout: Duration::from_secs(3),
            retry_budget: 100,
            retries: self.retries,
            balancing: Balancing {
                ejecting: Ejecting {
                    failures: 3,
                    time: Duration::from_secs(10),
                    ..Ejecting::default()
                },
                ..Balancing::default()
            },
            placement: None,
            ejections: Arc::default(),
            least_moves: Arc::default(),
            admission: Arc::new(model::Admission::new(1)),
            keep_alive: Duration::from_secs(30),
            send_proxy: None,
            load_report: None,
            http2: false,
            tls: false,
            connect_from: Vec::new(),
            stats: Arc::new(Sharded::<ServiceStats>::new(1)),
        };
        let route = Route {
            name: "r".into(),
            host: HostPattern::Any,
            path: PathPattern::Prefix("/".into()),
            conditions: None,
            filters: None,
            priority: model::Priority::Normal,
            action: Action::Service(0),
            aside: None,
            stats: self.route_stats.clone(),
        };
        let listener = ListenerTable {
            name: "l".into(),
            index: http::route::index(std::slice::from_ref(&route)),
            routes: vec![route],
            speaks: self.speaks(),
            tls: false,
            accept_proxy: Vec::new(),
            trusted_peers: Vec::new(),
            timeouts: TIMEOUTS,
            peer_timeout: Duration::from_secs(60),
            max_head: 16 * 1024,
            max_fields: 100,
            http2: Default::default(),
            grpc_web: false,
            tracing: model::Tracing::default(),
            one_host: false,
            deadlines: Default::default(),
            stats: self.listener_stats.clone(),
        };
        RoutingTable {
            listeners: vec![listens.then(|| Arc::new(listener))],
            services: vec![Arc::new(service)],
            ..RoutingTable::default()
        }
    }

    /// Lets instance `number` (from 0) play `script` on each of its connections.
    pub(crate) fn instance(&self, number: usize, script: impl AsyncFn(Actor) + 'static) {
        let listener = Listener::on_network(self.handle.reactor(), address(number + 1));
        let (script, handle) = (Rc::new(script), self.handle.clone());
        self.handle.spawn(async move {
            loop {
                match listener.try_accept() {
                    Ok(Some((Accepted::Sock(sock), _))) => {
                        let script = script.clone();
                        handle.spawn(async move { script(Actor::new(sock)).await });
                    }
                    _ => listener.acceptable_unless(|| false).await,
                }
            }
        });
    }

    /// Plays `client` and returns what it returned; everything else ends with it.
    pub(crate) fn play<R: 'static>(&self, client: impl AsyncFnOnce(Actor) -> R + 'static) -> R {
        let result = Rc::new(RefCell::new(None));
        let (to, handle) = (result.clone(), self.handle.clone());
        self.handle.spawn(async move {
            handle.reactor().set_timeout(Duration::from_secs(5));
            let sock = Sock::connect(handle.reactor(), address(0)).await.unwrap();
            let answer = client(Actor::new(sock)).await;
            *to.borrow_mut() = Some(answer);
            // What the proxy writes down when a connection ends is still to come.
            handle.reactor().sleep(Duration::from_secs(3)).await;
            handle.stop();
        });
        self.simulated.executor.run().unwrap();
        result
            .borrow_mut()
            .take()
            .expect("the client has played to its end")
    }
}

fn address(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number as u8], 80))
}

/// One side of a connection, playing its part.
pub(crate) struct Actor(pub Peer);

impl Actor {
    fn new(sock: Sock) -> Self {
        Self(Peer::new(sock))
    }

    fn patience(&self) -> Moment {
        self.0.now() + Duration::from_secs(60)
    }

    /// Says `bytes`; they go out while the script waits for something.
    pub(crate) async fn say(&mut self, bytes: impl Into<Vec<u8>>) {
        self.0.say(bytes);
        let patience = self.patience();
        self.0.until(patience, |p| p.has_said()).await;
    }

    /// Waits until what came in ends with `end`, and takes it.
    pub(crate) async fn hear(&mut self, end: &str) -> String {
        let patience = self.patience();
        let ends = |p: &mut Peer| p.inbox.ends_with(end.as_bytes());
        let woken = self.0.until(patience, ends).await;
        let heard = self.take();
        assert_eq!(
            woken,
            Woken::Enough,
            "waited for {end:?} and heard {heard:?}"
        );
        heard
    }

    /// Waits until the other side leaves: what it said, and how it left.
    pub(crate) async fn hear_all(&mut self) -> (String, Option<Gone>) {
        let patience = self.patience();
        self.0.until(patience, |_| false).await;
        (self.take(), self.0.gone)
    }

    /// What is there so far.
    pub(crate) fn take(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.0.inbox)).into_owned()
    }

    /// Lets `millis` pass.
    pub(crate) async fn wait(&mut self, millis: u64) {
        self.0.linger(Duration::from_millis(millis)).await;
    }

    /// Waits for a request's head and answers it, as often as one comes.
    pub(crate) async fn answer_all(mut self, answer: &str) {
        loop {
            let patience = self.patience();
            let head = |p: &mut Peer| p.inbox.ends_with(b"\r\n\r\n");
            if self.0.until(patience, head).await != Woken::Enough {
                return;
            }
            self.take();
            self.say(answer).await;
        }
    }
}
