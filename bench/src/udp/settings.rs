//! The contenders, each with one worker, and their settings.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::free_address;
use super::load::Case;
use crate::http::{first_line, found, nginx_main};
use crate::pointsman;
use crate::scratch::Scratch;

pub(super) struct Contender {
    pub(super) name: &'static str,
    pub(super) version: String,
    pub(super) address: SocketAddr,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
}

/// Ours first.
pub(super) fn contenders(
    case: &Case,
    origin: SocketAddr,
    scratch: &Scratch,
) -> anyhow::Result<Vec<Contender>> {
    let program = pointsman::binary()?;
    let address = free_address()?;
    let file = scratch.write("udp.toml", &ours(case, address, origin)?)?;
    let mut contenders = vec![Contender {
        name: "pointsman",
        version: pointsman::version(&program),
        address,
        program,
        arguments: vec!["serve".into(), "-c".into(), file.display().to_string()],
    }];
    match found("NGINX_BIN", "nginx") {
        Some(program) => {
            let address = free_address()?;
            let configuration = nginx_main(scratch.path(), &nginx(case, address, origin));
            let file = scratch
                .write("udp.conf", &configuration)?
                .display()
                .to_string();
            contenders.push(Contender {
                name: "nginx",
                version: first_line(&program, "-v"),
                address,
                program,
                arguments: vec!["-c".into(), file, "-e".into(), "stderr".into()],
            });
        }
        None => println!("nginx is not there and is left out (apt install libnginx-mod-stream)"),
    }
    Ok(contenders)
}

fn ours(case: &Case, bind: SocketAddr, origin: SocketAddr) -> std::io::Result<String> {
    let one_shot = if case.one_shot { "responses = 1\n" } else { "" };
    let api = crate::process::free_address()?;
    Ok(format!(
        "[node]\nworkers = 1\ndurability = \"memory\"\n\n[api]\nbind = \"{api}\"\n\n\
         [log.access]\nformat = \"off\"\n\n\
         [listener.echo]\nbind = \"{bind}\"\nprotocol = \"udp\"\nservice = \"echo\"\n\n\
         [listener.echo.udp]\nidle = \"10s\"\nmax_per_source = 100000\n{one_shot}\n\
         [[service.echo.instance]]\naddress = \"{origin}\"\n"
    ))
}

fn nginx(case: &Case, bind: SocketAddr, origin: SocketAddr) -> String {
    let one_shot = match case.one_shot {
        true => "        proxy_responses 1;\n",
        false => "",
    };
    format!(
        "stream {{\n    upstream origin {{\n        server {origin};\n    }}\n    server {{\n        \
         listen {bind} udp rcvbuf=4m;\n        proxy_pass origin;\n        proxy_timeout 10s;\n{one_shot}    }}\n}}\n"
    )
}
