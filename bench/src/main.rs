//! Benchmarks: pointsman beside what it replaces, in the same run, on the same machine. They print what they
//! measured and how, and assert nothing: see `docs/benchmarks.md`.

mod api;
mod balance;
mod clients;
mod ensemble;
mod guard;
mod http;
mod load;
mod machine;
mod origin;
mod pick;
mod pointsman;
mod process;
mod propagate;
mod registry;
mod relay;
mod report;
mod route;
mod scratch;
mod udp;
mod usage;
mod zookeeper;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(about, disable_help_subcommand = true)]
enum Bench {
    /// Latency by rule of balancing, beside nginx and HAProxy, and beside the simulator
    Balance(balance::Options),
    /// The data plane beside nginx and HAProxy
    Http(http::Options),
    /// The data plane with TLS towards clients, beside nginx and HAProxy
    Tls(http::Options),
    /// The data plane with clients that speak HTTP/2, beside nginx and HAProxy
    H2(http::Options),
    /// TCP passed on, beside nginx and HAProxy
    Tcp(http::Options),
    /// What choosing an instance costs, for each policy
    Pick(pick::Options),
    /// How soon a registration has traffic, and a deregistration has none
    Propagate(propagate::Options),
    /// Registrations, heartbeats, lookups, watchers, memory and cold start
    Registry(registry::Options),
    /// What finding a request's route costs, ten routes or ten thousand
    Route(route::Options),
    /// UDP passed on, beside nginx
    Udp(udp::Options),
    /// ZooKeeper's protocol, beside ZooKeeper
    Zookeeper(zookeeper::Options),
    /// Ends what an interrupted benchmark has left running
    #[command(hide = true)]
    Guard,
    /// The instance behind UDP proxies
    #[command(hide = true)]
    UdpEcho(udp::EchoOptions),
    /// The instance behind the proxies
    #[command(hide = true)]
    Origin(origin::Options),
    /// A proxy that understands nothing
    #[command(hide = true)]
    Relay(relay::Options),
}

fn main() -> anyhow::Result<()> {
    let bench = Bench::parse();
    machine::raise_limits()?;
    match bench {
        Bench::Balance(options) => balance::run(&options),
        Bench::Http(options) => http::run(&options, http::Layer::Http),
        Bench::Tls(options) => http::run(&options, http::Layer::Tls),
        Bench::H2(options) => http::run(&options, http::Layer::H2),
        Bench::Tcp(options) => http::run(&options, http::Layer::Tcp),
        Bench::Pick(options) => pick::run(&options),
        Bench::Propagate(options) => propagate::run(&options),
        Bench::Registry(options) => registry::run(&options),
        Bench::Route(options) => route::run(&options),
        Bench::Udp(options) => udp::run(&options),
        Bench::Zookeeper(options) => zookeeper::run(&options),
        Bench::Guard => {
            guard::stand();
            Ok(())
        }
        Bench::UdpEcho(options) => udp::echo(&options),
        Bench::Origin(options) => origin::run(&options),
        Bench::Relay(options) => relay::run(&options),
    }
}
