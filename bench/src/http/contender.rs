//! The proxies that are compared.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Layer;
use super::handshake::Certificate;
use super::settings::{self, Haproxy};
use crate::machine::PROXY_CPU;
use crate::pointsman;
use crate::process::{Running, free_address};
use crate::scratch::Scratch;

/// A proxy with one configuration.
pub(super) struct Contender {
    pub(super) name: &'static str,
    pub(super) version: String,
    pub(super) configuration: String,
    pub(super) address: SocketAddr,
    /// Its settings are for large answers; with small ones it is not run.
    pub(super) only_large: bool,
    /// There are better ways for large answers than to copy them, as it does.
    pub(super) only_small: bool,
    /// It speaks HTTP/2 to its instance.
    pub(super) many: bool,
    /// It is no proxy that anybody would run, but shows what none can go below.
    pub(super) floor: bool,
    program: PathBuf,
    arguments: Vec<String>,
}

impl Contender {
    /// Starts it; it accepts connections when this returns.
    pub(super) fn start(&self, scratch: &Scratch) -> anyhow::Result<Running> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        let mut running = Running::start(self.name, &mut command, &[PROXY_CPU], scratch)?;
        running.wait_for(self.address)?;
        Ok(running)
    }

    /// Whether it is the one that the others are compared with.
    pub(super) fn is_ours(&self) -> bool {
        self.name == OURS
    }
}

const OURS: &str = "pointsman";

/// Where requests go.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) at: SocketAddr,
    /// Whether it speaks HTTP/2.
    pub(super) many: bool,
}

/// Those that are there. Names those that are not.
pub(super) fn find(
    layer: Layer,
    scratch: &Scratch,
    certificate: &Certificate,
    origin: SocketAddr,
    many: Option<SocketAddr>,
) -> anyhow::Result<Vec<Contender>> {
    let both = many.map(|at| Origin { at, many: true });
    let origin = Origin {
        at: origin,
        many: false,
    };
    let place = (scratch, certificate);
    let mut contenders = vec![ours(layer, place, origin)?];
    if layer != Layer::H2 {
        let tls = (layer == Layer::Tls).then_some(certificate);
        contenders.push(relay(origin.at, tls)?);
    }
    // nginx speaks no HTTP/2 to its instances.
    if let Some(both) = both {
        contenders.push(ours(layer, place, both)?);
    }
    match found("NGINX_BIN", "nginx") {
        Some(program) => contenders.push(nginx(layer, program, place, origin)?),
        None => println!("nginx is not there and is left out (apt install nginx, or NGINX_BIN)"),
    }
    match found("HAPROXY_BIN", "haproxy") {
        Some(program) => {
            for variant in Haproxy::variants(layer) {
                let of = [Some(origin), both];
                for origin in of.into_iter().flatten() {
                    contenders.push(haproxy(layer, &program, variant, place, origin)?);
                }
            }
        }
        None => {
            println!("haproxy is not there and is left out (apt install haproxy, or HAPROXY_BIN)");
        }
    }
    Ok(contenders)
}

/// Where contenders have their files, and their certificate.
type Place<'a> = (&'a Scratch, &'a Certificate);

fn ours(
    layer: Layer,
    (scratch, certificate): Place<'_>,
    origin: Origin,
) -> anyhow::Result<Contender> {
    let program = pointsman::binary()?;
    let address = free_address()?;
    let configuration = settings::pointsman(layer, address, free_address()?, certificate, origin);
    let file = scratch.write(
        &format!("pointsman{}.toml", origin.suffix()),
        &configuration,
    )?;
    Ok(Contender {
        name: OURS,
        version: pointsman::version(&program),
        configuration,
        address,
        only_large: false,
        only_small: false,
        floor: false,
        many: origin.many,
        program,
        arguments: vec!["serve".into(), "-c".into(), file.display().to_string()],
    })
}

impl Origin {
    const fn suffix(self) -> &'static str {
        if self.many { "-h2" } else { "" }
    }
}

/// Understands nothing: the kernel's share of the work, and a runtime's; and that of records, if it has a certificate.
fn relay(origin: SocketAddr, tls: Option<&Certificate>) -> anyhow::Result<Contender> {
    let address = free_address()?;
    let (bind, to) = (address.to_string(), origin.to_string());
    let mut arguments = ["relay", "--bind", &bind, "--to", &to]
        .map(String::from)
        .to_vec();
    if let Some(certificate) = tls {
        let file = certificate.both().display().to_string();
        arguments.extend(["--certificate".into(), file]);
    }
    Ok(Contender {
        name: "relay",
        version: "a loop that copies bytes both ways, for comparison".into(),
        configuration: String::new(),
        address,
        only_large: false,
        only_small: tls.is_none(),
        floor: true,
        many: false,
        program: std::env::current_exe()?,
        arguments,
    })
}

fn nginx(
    layer: Layer,
    program: PathBuf,
    (scratch, certificate): Place<'_>,
    origin: Origin,
) -> anyhow::Result<Contender> {
    let address = free_address()?;
    let configuration = settings::nginx(layer, address, scratch.path(), certificate, origin.at);
    let file = scratch.write("nginx.conf", &configuration)?;
    let file = file.display().to_string();
    Ok(Contender {
        name: "nginx",
        version: first_line(&program, "-v"),
        configuration,
        address,
        only_large: false,
        only_small: false,
        floor: false,
        many: origin.many,
        program,
        arguments: vec!["-c".into(), file, "-e".into(), "stderr".into()],
    })
}

fn haproxy(
    layer: Layer,
    program: &Path,
    variant: &Haproxy,
    (scratch, certificate): Place<'_>,
    origin: Origin,
) -> anyhow::Result<Contender> {
    let address = free_address()?;
    let configuration = settings::haproxy(layer, address, variant, certificate, origin);
    let file = scratch.write(
        &format!("{}{}.cfg", variant.name, origin.suffix()),
        &configuration,
    )?;
    Ok(Contender {
        name: variant.name,
        version: first_line(program, "-v"),
        configuration,
        address,
        only_large: variant.only_large,
        only_small: false,
        floor: false,
        many: origin.many,
        program: program.into(),
        arguments: vec!["-db".into(), "-f".into(), file.display().to_string()],
    })
}

/// The program that a variable names, or the system's.
pub(crate) fn found(variable: &str, name: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where Debian has them, and only administrators look.
    let more = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let directories = std::env::split_paths(&path).chain(more);
    directories
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// The first line of what a program prints about its version; nginx does so to standard error.
pub(crate) fn first_line(program: &Path, flag: &str) -> String {
    let Ok(output) = Command::new(program).arg(flag).output() else {
        return "unknown".into();
    };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text)
        .lines()
        .next()
        .unwrap_or("unknown")
        .into()
}
