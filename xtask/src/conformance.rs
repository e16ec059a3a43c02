//! `cargo xtask conformance NAME`: clients and test suites of others against the program.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::fail;
use crate::project::{Project, cargo};
use crate::tools::{self, Tool};

/// What the comparison with a real ZooKeeper needs. (An absolute path is looked for where it says.)
pub(crate) const ZOOKEEPER: &[Tool] = &[
    Tool {
        program: "java",
        package: "default-jre-headless",
    },
    Tool {
        program: "/usr/share/java/zookeeper.jar",
        package: "zookeeper",
    },
    Tool {
        program: "python3",
        package: "python3-minimal",
    },
];

/// The release of kazoo whose tests are run. Others have other tests, and another list of those that cannot pass.
const KAZOO: &[&str] = &[
    "kazoo==2.11.0",
    "pytest",
    "pytest-timeout",
    "gevent",
    "eventlet",
    "pure-sasl",
    "pyjks",
    "pyopenssl",
    "objgraph",
    "setuptools",
];

const USAGE: &str = "\
cargo xtask conformance h2spec
    h2spec, strict, against listeners with and without TLS (needs Go, or h2spec itself)
cargo xtask conformance grpc
    grpc-go's interoperability client and server on both sides of the program, with TLS and without, and translated for browsers (needs Go)
cargo xtask conformance http [CLIENT...]
    curl, Python's httpx, Node's undici, Go's net/http and Java's HttpClient through listeners with and without TLS
cargo xtask conformance slowhttptest
    slow heads, bodies and readers, while others are to be served (needs slowhttptest)
cargo xtask conformance testssl
    testssl.sh against a listener with TLS (needs testssl.sh)
cargo xtask conformance websocket [--compression]
    Autobahn's fuzzing client through both, its cases compared with those without pointsman (needs wstest)
cargo xtask conformance zookeeper [OPERATIONS [SEED]]
    kazoo's and Curator's own tests against pointsman; a Dubbo provider and consumer; ZooKeeper's shell against both; an import from a real ZooKeeper; then so many random operations (100,000 unless told otherwise) to it and to a
    real ZooKeeper, every answer and every event compared";

/// Runs what the arguments name.
pub(crate) fn run(project: &Project, args: &[&str]) -> ExitCode {
    let more = match args {
        [
            name @ ("grpc" | "h2spec" | "http" | "slowhttptest" | "testssl" | "websocket"),
            more @ ..,
        ] => return ended(suite(project, name, more)),
        ["zookeeper", more @ ..] => more,
        _ => {
            println!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    let operations = more.first().copied().unwrap_or("100000");
    let seed = more.get(1).copied().unwrap_or("1");
    let done = tools::ensure(ZOOKEEPER)
        .and_then(|()| kazoo(project, "1"))
        .and_then(|()| kazoo(project, "3"))
        .and_then(|()| curator(project))
        .and_then(|()| dubbo(project))
        .and_then(|()| script(project, "importing.py", &[]))
        .and_then(|()| script(project, "shell.py", &[]))
        .and_then(|()| script(project, "differential.py", &[operations, seed]));
    ended(done)
}

fn ended(done: Result<(), String>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(&why),
    }
}

/// A suite that has a script of its own.
fn suite(project: &Project, name: &str, args: &[&str]) -> Result<(), String> {
    let binary = build(project)?;
    let script = project.root.join("conformance").join(name).join("run.py");
    let target = project.root.join("target/conformance").join(name);
    let mut python = Command::new("python3");
    python.arg(script).args(args).env("POINTSMAN", binary);
    succeed(python.env("CONFORMANCE_TARGET", target))
}

/// What takes little time: an import, every command of the shell, and some random operations to a real ZooKeeper and to pointsman.
pub(crate) fn briefly(project: &Project) -> Result<(), String> {
    script(project, "importing.py", &[])?;
    script(project, "shell.py", &[])?;
    script(project, "differential.py", &["10000"])
}

fn script(project: &Project, name: &str, args: &[&str]) -> Result<(), String> {
    let binary = build(project)?;
    let script = project.root.join("conformance/zookeeper").join(name);
    let mut python = Command::new("python3");
    succeed(python.arg(script).args(args).env("POINTSMAN", binary))
}

/// kazoo's own tests, against one node or several.
fn kazoo(project: &Project, nodes: &str) -> Result<(), String> {
    let binary = build(project)?;
    let home = project.root.join("target/conformance/zookeeper");
    let python = home.join("venv/bin/python");
    if !python.is_file() {
        succeed(
            Command::new("python3")
                .args(["-m", "venv"])
                .arg(home.join("venv")),
        )?;
    }
    succeed(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet"])
            .args(KAZOO),
    )?;
    let plugins = project.root.join("conformance/zookeeper/kazoo");
    let mut tests = Command::new(&python);
    tests
        .args([
            "-m",
            "pytest",
            "-p",
            "pointsman_cluster",
            "--pyargs",
            "kazoo.tests",
        ])
        .args([
            "--quiet",
            "--timeout",
            "90",
            "-p",
            "no:cacheprovider",
            "--no-header",
        ])
        .current_dir(&home)
        .env("PYTHONPATH", plugins)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("ZOOKEEPER_VERSION", "3.9.0")
        .env("POINTSMAN_NODES", nodes)
        .env("POINTSMAN", binary);
    succeed(&mut tests)
}

/// Curator's own tests; the classes are listed in its project.
fn curator(project: &Project) -> Result<(), String> {
    maven(project, "curator", "test").map(drop)
}

/// A provider and a consumer of Dubbo find each other, and a listener finds the provider.
fn dubbo(project: &Project) -> Result<(), String> {
    let jars = maven(project, "dubbo", "package")?;
    script(project, "rpc.py", &[&jars.display().to_string()])
}

/// Runs a Maven project of `conformance/zookeeper`; returns where it has put everything.
fn maven(project: &Project, name: &str, goal: &str) -> Result<PathBuf, String> {
    tools::ensure(&[Tool {
        program: "mvn",
        package: "maven",
    }])?;
    let binary = build(project)?;
    let home = project.root.join("conformance/zookeeper").join(name);
    let target = project.root.join("target/conformance/zookeeper").join(name);
    let mut run = Command::new("mvn");
    run.args([
        "--batch-mode",
        "--no-transfer-progress",
        "--quiet",
        goal,
        "--file",
    ])
    .arg(home.join("pom.xml"))
    .env("CONFORMANCE_TARGET", &target)
    .env("POINTSMAN", binary);
    succeed(&mut run).map(|()| target)
}

fn build(project: &Project) -> Result<PathBuf, String> {
    let mut build = cargo();
    build.args(["build", "--release", "--package", "pointsman"]);
    succeed(build.current_dir(&project.root))?;
    let target = project.metadata["target_directory"].as_str();
    Ok(Path::new(target.unwrap_or("target")).join("release/pointsman"))
}

fn succeed(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{}: {status}", command.get_program().display())),
        Err(e) => Err(format!(
            "{} does not start: {e}",
            command.get_program().display()
        )),
    }
}
