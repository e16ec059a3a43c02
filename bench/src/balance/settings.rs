//! The proxies that are compared, and which rule of the simulator each follows.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use model::Policy;
use sim::balance::{Kind, Scenario};

use crate::http::{found, nginx_main};
use crate::machine::PROXY_CPU;
use crate::pointsman;
use crate::process::{Running, free_address};
use crate::scratch::Scratch;

/// A proxy with a rule.
pub(super) struct Contender {
    pub(super) name: String,
    /// What the simulator knows its rule as.
    pub(super) kind: Kind,
    program: Program,
    rule: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    Ours,
    Nginx,
    Haproxy,
}

impl Contender {
    fn new(program: Program, rule: &'static str, kind: Kind) -> Self {
        let name = match program {
            Program::Ours => "pointsman",
            Program::Nginx => "nginx",
            Program::Haproxy => "haproxy",
        };
        let name = format!("{name} {rule}");
        Self {
            name,
            kind,
            program,
            rule,
        }
    }

    /// Starts it in front of these instances; it accepts connections when this returns.
    pub(super) fn start(
        &self,
        scenario: &Scenario,
        origins: &[SocketAddr],
        scratch: &Scratch,
    ) -> anyhow::Result<(Running, SocketAddr)> {
        let bind = free_address()?;
        let weights = scenario.servers.iter().map(|build| build.weight);
        let members: Vec<Member> = origins.iter().copied().zip(weights).collect();
        let mut command = match self.program {
            Program::Ours => {
                let text = ours(bind, free_address()?, self.rule, &members);
                let file = scratch.write("balance.toml", &text)?;
                pointsman::serve(&pointsman::binary()?, &file)
            }
            Program::Nginx => {
                let part = nginx(bind, scratch.path(), self.rule, &members);
                let file = scratch.write("balance.nginx", &nginx_main(scratch.path(), &part))?;
                let mut command = Command::new(found("NGINX_BIN", "nginx").unwrap_or_default());
                command.arg("-p").arg(scratch.path()).arg("-c").arg(file);
                command
            }
            Program::Haproxy => {
                let text = haproxy(bind, self.rule, &members);
                let file = scratch.write("balance.haproxy", &text)?;
                let mut command = Command::new(found("HAPROXY_BIN", "haproxy").unwrap_or_default());
                command.arg("-f").arg(file);
                command
            }
        };
        let mut running = Running::start("proxy", &mut command, &[PROXY_CPU], scratch)?;
        running.wait_for(bind)?;
        Ok((running, bind))
    }
}

/// Those that are there. Names those that are not.
pub(super) fn contenders() -> Vec<Contender> {
    let mut all = vec![
        Contender::new(Program::Ours, "least_time", Kind::Ours(Policy::LeastTime)),
        Contender::new(Program::Ours, "least_conn", Kind::Ours(Policy::LeastConn)),
        Contender::new(Program::Ours, "peak_ewma", Kind::Ours(Policy::PeakEwma)),
    ];
    match found("NGINX_BIN", "nginx") {
        Some(_) => all.extend([
            Contender::new(Program::Nginx, "round robin", Kind::SmoothWrr),
            Contender::new(Program::Nginx, "least_conn", Kind::LeastConn),
            Contender::new(Program::Nginx, "random two least_conn", Kind::RandomTwo),
        ]),
        None => println!("nginx is not there and is left out (apt install nginx, or NGINX_BIN)"),
    }
    match found("HAPROXY_BIN", "haproxy") {
        Some(_) => all.extend([
            Contender::new(Program::Haproxy, "leastconn", Kind::Tree),
            Contender::new(Program::Haproxy, "random(2)", Kind::RandomTwo),
        ]),
        None => {
            println!("haproxy is not there and is left out (apt install haproxy, or HAPROXY_BIN)");
        }
    }
    all
}

type Member = (SocketAddr, u16);

fn ours(bind: SocketAddr, api: SocketAddr, rule: &str, members: &[Member]) -> String {
    let mut text = format!(
        "[node]\nworkers = 1\ndurability = \"memory\"\n\n[api]\nbind = \"{api}\"\n\n\
         [log.access]\nformat = \"off\"\n\n\
         [listener.web]\nbind = \"{bind}\"\nservice = \"origin\"\n\n[service.origin]\npolicy = \"{rule}\"\n"
    );
    for (address, weight) in members {
        text +=
            &format!("[[service.origin.instance]]\naddress = \"{address}\"\nweight = {weight}\n");
    }
    text
}

fn nginx(bind: SocketAddr, directory: &Path, rule: &str, members: &[Member]) -> String {
    let rule = match rule {
        "round robin" => String::new(),
        rule => format!("{rule};"),
    };
    let servers: String = members
        .iter()
        .map(|(address, weight)| format!("        server {address} weight={weight};\n"))
        .collect();
    let directory = directory.display();
    format!(
        "\
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {directory}/nginx-body;
    proxy_temp_path {directory}/nginx-proxy;
    fastcgi_temp_path {directory}/nginx-fastcgi;
    uwsgi_temp_path {directory}/nginx-uwsgi;
    scgi_temp_path {directory}/nginx-scgi;
    upstream origin {{
        {rule}
{servers}        keepalive 1024;
        keepalive_requests 1000000;
    }}
    server {{
        listen {bind} backlog=4096;
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
        }}
    }}
}}
"
    )
}

fn haproxy(bind: SocketAddr, rule: &str, members: &[Member]) -> String {
    let servers: String = members
        .iter()
        .enumerate()
        .map(|(n, (address, weight))| format!("    server s{n} {address} weight {weight}\n"))
        .collect();
    format!(
        "\
global
    nbthread 1
    maxconn 12000
    no strict-limits
defaults
    mode http
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    http-reuse always
frontend web
    bind {bind} backlog 4096
    default_backend origin
backend origin
    balance {rule}
{servers}"
    )
}
