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
cargo xtask conformance zookeeper [PART...]
    All of these parts, or those that are named (needs Java, Maven for two of them, and ZooKeeper itself):
    kazoo, kazoo-ensemble   kazoo's own tests against one node, and against three
    curator                 Curator's own tests; half an hour
    dubbo                   a provider and a consumer find each other, and a listener finds the provider
    import                  what a real ZooKeeper holds, taken over
    shell                   every command of zkCli.sh, against both
    OPERATIONS[@SEED]       so many random operations (100000) to both, every answer and every event compared";

/// The parts of ZooKeeper's conformance, unless some are named.
const PARTS: [&str; 7] = [
    "kazoo",
    "kazoo-ensemble",
    "curator",
    "dubbo",
    "import",
    "shell",
    "100000",
];

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
    match more.iter().find(|part| !is_part(part)) {
        None => ended(zookeeper(project, more)),
        Some(_) => {
            println!("{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn is_part(name: &str) -> bool {
    PARTS.contains(&name) || operations(name).is_some()
}

/// How many operations, and by which seed.
fn operations(part: &str) -> Option<(u64, u64)> {
    let (operations, seed) = part.split_once('@').unwrap_or((part, "1"));
    Some((operations.parse().ok()?, seed.parse().ok()?))
}

/// Runs all parts, whatever becomes of each: they take long, and say different things.
fn zookeeper(project: &Project, parts: &[&str]) -> Result<(), String> {
    tools::ensure(ZOOKEEPER)?;
    let parts = if parts.is_empty() { &PARTS } else { parts };
    let mut failed = Vec::new();
    for part in parts {
        println!("zookeeper: {part}");
        if let Err(why) = zookeeper_part(project, part) {
            println!("zookeeper: {part}: {why}");
            failed.push(*part);
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("not as it should be: {}", failed.join(", "))),
    }
}

fn zookeeper_part(project: &Project, part: &str) -> Result<(), String> {
    match part {
        "kazoo" => kazoo(project, "1"),
        "kazoo-ensemble" => kazoo(project, "3"),
        // Its classes are listed in its project.
        "curator" => maven(project, "curator", "test").map(drop),
        "dubbo" => dubbo(project),
        "import" => script(project, "importing.py", &[]),
        "shell" => script(project, "shell.py", &[]),
        random => {
            let (operations, seed) = operations(random).ok_or("no such part")?;
            let (operations, seed) = (operations.to_string(), seed.to_string());
            script(project, "differential.py", &[&operations, &seed])
        }
    }
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
