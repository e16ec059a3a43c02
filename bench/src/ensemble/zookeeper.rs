//! ZooKeeper (Debian: `zookeeper`), with the settings of its example.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use super::{Node, first_line, setting};
use crate::process::lasting_address;

fn jar() -> String {
    setting("ZOOKEEPER_JAR", "/usr/share/java/zookeeper.jar")
}

fn java() -> String {
    setting("JAVA_BIN", "java")
}

pub(super) fn missing() -> Option<String> {
    let (jar, java) = (jar(), java());
    if !Path::new(&jar).exists() {
        return Some(format!(
            "there is no {jar}: install zookeeper, or name its jar in ZOOKEEPER_JAR"
        ));
    }
    first_line(Path::new(&java), "-version")
        .is_none()
        .then(|| format!("{java} does not start: install a Java runtime, or name it in JAVA_BIN"))
}

pub(super) fn settings() -> String {
    let jar = std::fs::canonicalize(jar()).unwrap_or_default();
    let jar = jar
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let java = first_line(Path::new(&java()), "-version").unwrap_or_default();
    format!(
        "{jar}, {java}, its default heap; tickTime=2000 initLimit=10 syncLimit=5, each write synced"
    )
}

pub(super) fn nodes(count: usize, directory: &Path) -> anyhow::Result<Vec<Node>> {
    let mut servers = String::new();
    for number in (1..=count).filter(|_| count > 1) {
        let (peers, votes) = (lasting_address()?.port(), lasting_address()?.port());
        writeln!(servers, "server.{number}=127.0.0.1:{peers}:{votes}")?;
    }
    std::fs::write(directory.join("log4j.properties"), "log4j.rootLogger=OFF\n")?;
    let mut nodes = Vec::new();
    for number in 1..=count {
        let data = directory.join(number.to_string());
        std::fs::create_dir_all(&data)?;
        std::fs::write(data.join("myid"), number.to_string())?;
        let address = lasting_address()?;
        let text = format!(
            "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir={}\nclientPortAddress=127.0.0.1\n\
             clientPort={}\nmaxClientCnxns=0\nadmin.enableServer=false\n{servers}",
            data.display(),
            address.port()
        );
        let file = directory.join(format!("{number}.cfg"));
        std::fs::write(&file, text)?;
        let mut command = Command::new(java());
        let jar = jar();
        let others = Path::new(&jar).parent().unwrap_or(Path::new("/"));
        let path = format!("{}:{jar}:{}/*", directory.display(), others.display());
        command.args([
            "-cp",
            &path,
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
        ]);
        command.arg(file);
        nodes.push(Node {
            name: format!("zookeeper-{count}-{number}"),
            command,
            http: None,
            sessions: Some(address),
            process: None,
        });
    }
    Ok(nodes)
}
