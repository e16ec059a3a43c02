//! The settings of each contender: one worker, connections kept on both sides, no logs, X-Forwarded-For set.

use std::net::SocketAddr;
use std::path::Path;

use crate::pointsman;

pub(super) fn pointsman(bind: SocketAddr, api: SocketAddr, origin: SocketAddr) -> String {
    let listener = pointsman::listener(bind, origin, "round_robin");
    format!(
        "[node]\nworkers = 1\ndurability = \"memory\"\n\n[api]\nbind = \"{api}\"\n\n\
         [log.access]\nformat = \"off\"\n\n{listener}"
    )
}

pub(super) fn nginx(bind: SocketAddr, directory: &Path, origin: SocketAddr) -> String {
    let directory = directory.display();
    // Started by root, workers would become somebody who may not use our directory.
    let user = match rustix::process::geteuid().is_root() {
        true => "user root;\n",
        false => "",
    };
    format!(
        "\
{user}worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log stderr error;
events {{
    worker_connections 12000;
}}
http {{
    access_log off;
    keepalive_requests 1000000;
    keepalive_timeout 300s;
    client_body_temp_path {directory}/nginx-body;
    proxy_temp_path {directory}/nginx-proxy;
    fastcgi_temp_path {directory}/nginx-fastcgi;
    uwsgi_temp_path {directory}/nginx-uwsgi;
    scgi_temp_path {directory}/nginx-scgi;
    upstream origin {{
        server {origin};
        keepalive 1024;
        keepalive_requests 1000000;
    }}
    server {{
        listen {bind} backlog=4096;
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_buffer_size 16k;
            proxy_buffers 8 32k;
            proxy_busy_buffers_size 64k;
            proxy_max_temp_file_size 0;
        }}
    }}
}}
"
    )
}

/// A way to set up HAProxy.
pub(super) struct Haproxy {
    pub(super) name: &'static str,
    pub(super) only_large: bool,
    global: &'static str,
    defaults: &'static str,
}

impl Haproxy {
    pub(super) const VARIANTS: [Self; 4] = [
        Self {
            name: "haproxy",
            only_large: false,
            global: "",
            defaults: "",
        },
        Self {
            name: "haproxy-64k-buffers",
            only_large: true,
            global: "    tune.bufsize 65536\n",
            defaults: "",
        },
        Self {
            name: "haproxy-splice-auto",
            only_large: true,
            global: "",
            defaults: "    option splice-auto\n",
        },
        Self {
            name: "haproxy-splice-response",
            only_large: true,
            global: "",
            defaults: "    option splice-response\n",
        },
    ];
}

/// `no strict-limits`: it wants two descriptors for each of `maxconn`, and would not start in a container that has fewer;
/// idle clients need one.
pub(super) fn haproxy(bind: SocketAddr, variant: &Haproxy, origin: SocketAddr) -> String {
    let Haproxy {
        global, defaults, ..
    } = variant;
    format!(
        "\
global
    nbthread 1
    maxconn 12000
    no strict-limits
{global}
defaults
    mode http
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    timeout http-keep-alive 300s
    option http-keep-alive
    option forwardfor
    http-reuse always
{defaults}
frontend web
    bind {bind} backlog 4096
    default_backend origin

backend origin
    server origin {origin}
"
    )
}
