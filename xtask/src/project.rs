//! The workspace as cargo and git see it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;

/// The workspace.
pub(crate) struct Project {
    /// Its top directory.
    pub(crate) root: PathBuf,
    /// What `cargo metadata` prints.
    pub(crate) metadata: Json,
}

/// A file that belongs to the project.
pub(crate) struct File {
    /// Its path below the top directory, with slashes.
    pub(crate) path: String,
    /// What it holds.
    pub(crate) bytes: Vec<u8>,
}

impl Project {
    /// The workspace that this program belongs to.
    pub(crate) fn find() -> Result<Self, String> {
        // Set by `cargo run`; the other is where it was built.
        let own = std::env::var("CARGO_MANIFEST_DIR")
            .unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&own)
            .parent()
            .ok_or("xtask has no directory above it")?;
        let output = cargo()
            .args(["metadata", "--format-version", "1"])
            // epoll makes Linux the only platform: what others would link in does not concern us.
            .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
            .current_dir(root)
            .stderr(std::process::Stdio::inherit())
            .output()
            .map_err(|e| format!("cargo metadata does not start: {e}"))?;
        if !output.status.success() {
            return Err("cargo metadata failed; see above".into());
        }
        let metadata = serde_json::from_slice(&output.stdout)
            .map_err(|e| format!("cargo metadata printed what is no JSON: {e}"))?;
        Ok(Self {
            root: root.into(),
            metadata,
        })
    }

    /// The packages of the workspace.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Json> {
        let ids: BTreeSet<&str> = items(&self.metadata["workspace_members"])
            .filter_map(Json::as_str)
            .collect();
        let member = move |p: &&Json| p["id"].as_str().is_some_and(|id| ids.contains(id));
        items(&self.metadata["packages"]).filter(member)
    }

    /// The package of that name, if the workspace has it.
    pub(crate) fn member(&self, name: &str) -> Option<&Json> {
        self.members().find(|package| package["name"] == name)
    }

    /// The directory of a package below the top, with slashes: `logic/config`.
    pub(crate) fn directory(&self, package: &Json) -> String {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
        let directory = manifest.parent().unwrap_or(manifest);
        let below = directory.strip_prefix(&self.root).unwrap_or(directory);
        below.to_string_lossy().replace('\\', "/")
    }

    /// Every file that git tracks or would track; without git, every file outside `target` directories.
    pub(crate) fn files(&self) -> Result<Vec<File>, String> {
        let listed = Command::new("git")
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(&self.root)
            .output();
        let paths: Vec<String> = match listed {
            Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
                .split_terminator('\0')
                .map(Into::into)
                .collect(),
            _ => walk(&self.root, &self.root).map_err(|e| format!("cannot list files: {e}"))?,
        };
        let mut files = Vec::new();
        for path in paths {
            // Deleted but still in the index, or a link to a directory.
            let whole = self.root.join(&path);
            if !whole.is_file() {
                continue;
            }
            let bytes = std::fs::read(&whole).map_err(|e| format!("cannot read {path}: {e}"))?;
            files.push(File { path, bytes });
        }
        Ok(files)
    }
}

impl File {
    /// What it holds, if that is text.
    pub(crate) fn text(&self) -> Option<&str> {
        let text = std::str::from_utf8(&self.bytes).ok()?;
        (!text.contains('\0')).then_some(text)
    }

    /// Whether it is Rust.
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// The cargo that runs this, in the toolchain it belongs to.
pub(crate) fn cargo() -> Command {
    Command::new(
        std::env::var_os("CARGO")
            .as_deref()
            .unwrap_or(OsStr::new("cargo")),
    )
}

/// The items of a JSON array.
pub(crate) fn items(value: &Json) -> impl Iterator<Item = &Json> {
    value.as_array().into_iter().flatten()
}

fn walk(root: &Path, directory: &Path) -> std::io::Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name();
        if entry.file_type()?.is_dir() {
            if name != "target" && name != ".git" {
                paths.extend(walk(root, &path)?);
            }
        } else if let Ok(below) = path.strip_prefix(root) {
            paths.push(below.to_string_lossy().replace('\\', "/"));
        }
    }
    Ok(paths)
}
