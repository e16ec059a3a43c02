//! The settings of each contender: one worker, no logs; for HTTP connections kept on both sides, X-Forwarded-For set.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use super::Layer;
use super::contender::Origin;
use super::handshake::Certificate;
use crate::pointsman;

pub(super) fn pointsman(
    layer: Layer,
    bind: SocketAddr,
    api: SocketAddr,
    certificate: &Certificate,
    origin: Origin,
) -> String {
    let mut listener = pointsman::listener(bind, origin.at, "round_robin");
    if origin.many {
        listener = listener.replacen("policy =", "protocol = \"h2\"\npolicy =", 1);
    }
    if layer == Layer::Tcp {
        listener = listener.replacen("bind =", "protocol = \"tcp\"\nbind =", 1);
    }
    if layer == Layer::Tls {
        let (cert, key) = (certificate.cert.display(), certificate.key.display());
        listener = listener.replacen("bind =", "protocol = \"https\"\nbind =", 1);
        listener += &format!(
            "\n[listener.web.tls]\ncertificates = [{{ cert = \"{cert}\", key = \"{key}\" }}]\n"
        );
    }
    format!(
        "[node]\nworkers = 1\ndurability = \"memory\"\n\n[api]\nbind = \"{api}\"\n\n\
         [log.access]\nformat = \"off\"\n\n{listener}"
    )
}

/// An instance that speaks HTTP/2: answers of our own, of the sizes that are asked for.
pub(super) fn origin(bind: SocketAddr, api: SocketAddr, sizes: &BTreeSet<usize>) -> String {
    let routes: String = sizes
        .iter()
        .map(|size| {
            let body = "x".repeat(*size);
            let answer = format!("{{ status = 200, body = \"{body}\" }}");
            format!("[[listener.web.route]]\npath = \"/{size}\"\nanswer = {answer}\n")
        })
        .collect();
    format!(
        "[node]\nworkers = 1\ndurability = \"memory\"\n[api]\nbind = \"{api}\"\n\
         [log.access]\nformat = \"off\"\n[listener.web]\nbind = \"{bind}\"\n{routes}"
    )
}

pub(super) fn nginx(
    layer: Layer,
    bind: SocketAddr,
    directory: &Path,
    certificate: &Certificate,
    origin: SocketAddr,
) -> String {
    let part = match layer {
        Layer::Http => nginx_http(bind, directory, origin),
        Layer::H2 => {
            let plain = format!("listen {bind} backlog=4096;");
            let http2 = format!("listen {bind} http2 backlog=4096;");
            nginx_http(bind, directory, origin).replacen(&plain, &http2, 1)
        }
        Layer::Tls => {
            let (cert, key) = (certificate.cert.display(), certificate.key.display());
            // Tickets alone: what TLS 1.3 uses, and one lock less than a shared cache.
            let tls = format!(
                "listen {bind} ssl backlog=4096;\n        ssl_certificate {cert};\n        \
                 ssl_certificate_key {key};\n        ssl_protocols TLSv1.2 TLSv1.3;\n        \
                 ssl_session_cache off;\n        ssl_session_tickets on;"
            );
            let plain = format!("listen {bind} backlog=4096;");
            nginx_http(bind, directory, origin).replacen(&plain, &tls, 1)
        }
        Layer::Tcp => nginx_stream(bind, origin),
    };
    nginx_main(directory, &part)
}

/// What every configuration of nginx begins with. Debian has the stream module as a file of its own.
pub(crate) fn nginx_main(directory: &Path, part: &str) -> String {
    let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
    let load = match part.starts_with("stream") && module.exists() {
        true => format!("load_module {};\n", module.display()),
        false => String::new(),
    };
    let directory = directory.display();
    // Started by root, workers would become somebody who may not use our directory.
    let user = match rustix::process::geteuid().is_root() {
        true => "user root;\n",
        false => "",
    };
    format!(
        "\
{load}{user}worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log stderr error;
events {{
    worker_connections 60000;
}}
{part}"
    )
}

fn nginx_stream(bind: SocketAddr, origin: SocketAddr) -> String {
    format!(
        "\
stream {{
    upstream origin {{
        server {origin};
    }}
    server {{
        listen {bind} backlog=4096;
        proxy_pass origin;
        proxy_timeout 300s;
    }}
}}
"
    )
}

fn nginx_http(bind: SocketAddr, directory: &Path, origin: SocketAddr) -> String {
    let directory = directory.display();
    format!(
        "\
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
    /// What is worth comparing.
    pub(super) fn variants(layer: Layer) -> impl Iterator<Item = &'static Self> {
        // In TCP mode each direction is spliced or not; forcing both is the most it can do.
        let tcp = [&Self::VARIANTS[0], &Self::TCP_SPLICE];
        let (http, tcp) = match layer {
            Layer::Http => (Some(Self::VARIANTS.iter()), None),
            // Nothing is spliced, and large buffers are all there is to choose.
            Layer::Tls | Layer::H2 => (Some(Self::VARIANTS[..2].iter()), None),
            Layer::Tcp => (None, Some(tcp)),
        };
        http.into_iter().flatten().chain(tcp.into_iter().flatten())
    }

    const TCP_SPLICE: Self = Self {
        name: "haproxy-splice",
        only_large: true,
        global: "    tune.pipesize 524288\n",
        defaults: "    option splice-request\n    option splice-response\n",
    };

    const VARIANTS: [Self; 4] = [
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
pub(super) fn haproxy(
    layer: Layer,
    bind: SocketAddr,
    variant: &Haproxy,
    certificate: &Certificate,
    origin: Origin,
) -> String {
    let many = if origin.many { " proto h2" } else { "" };
    let origin = origin.at;
    let Haproxy {
        global, defaults, ..
    } = variant;
    let mode = match layer {
        Layer::Http | Layer::Tls | Layer::H2 => {
            "\
    mode http
    timeout http-keep-alive 300s
    option http-keep-alive
    option forwardfor
    http-reuse always
"
        }
        Layer::Tcp => "    mode tcp\n",
    };
    let tls = match layer {
        Layer::Tls => format!(
            " ssl crt {} alpn http/1.1 ssl-min-ver TLSv1.2",
            certificate.both().display()
        ),
        Layer::H2 => " proto h2".into(),
        Layer::Http | Layer::Tcp => String::new(),
    };
    format!(
        "\
global
    nbthread 1
    maxconn 12000
    no strict-limits
{global}
defaults
{mode}    timeout connect 5s
    timeout client 300s
    timeout server 300s
{defaults}
frontend web
    bind {bind} backlog 4096{tls}
    default_backend origin

backend origin
    server origin {origin}{many}
"
    )
}
