//! Certificates that the node is given through its API: one file each, with the key in it, below the data directory. So they are
//! there after a restart, and whoever may read the registry's log may read them, and nobody else.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use fronts::{CertificateRefused, SeenCertificate};
use model::CertificateName;

use super::{Certificates, Files, Shown, load};
use crate::node::Shared;

/// Where they are, below the data directory.
const DIRECTORY: &str = "certificates";

/// The file of the certificate with this name.
pub(super) fn files(data: &Path, name: &CertificateName) -> Files {
    let file = data.join(DIRECTORY).join(format!("{name}.pem"));
    Files {
        given: Some(name.clone()),
        ..Files::of(&file, &file)
    }
}

impl Shared {
    /// What certificates there are, and who uses them.
    pub(in crate::node) fn seen_certificates(&self) -> Vec<SeenCertificate> {
        self.certificates().seen()
    }

    /// Keeps a certificate under a name, and has those use it whose configuration names it. What cannot be used changes nothing.
    pub(in crate::node) fn set_certificate(
        &self,
        name: &CertificateName,
        certificate: &str,
        key: &str,
    ) -> Result<(bool, SeenCertificate), CertificateRefused> {
        let mut certificates = self.certificates();
        let files = files(&certificates.data, name);
        // Looked at as it will be read.
        let pem = format!("{}\n{}\n", certificate.trim_end(), key.trim());
        load::given(pem.as_bytes(), &files)
            .map_err(|fault| CertificateRefused::Unusable(format!("{fault:#}")))?;
        let new = !files.cert.exists();
        write(&files.cert, pem.as_bytes()).map_err(|fault| not_written(&files.cert, &fault))?;
        self.take_over(&mut certificates);
        let seen = certificates.seen_as(name);
        Ok((new, seen))
    }

    /// Forgets the certificate with this name; false if there is none.
    pub(in crate::node) fn remove_certificate(
        &self,
        name: &CertificateName,
    ) -> Result<bool, CertificateRefused> {
        let certificates = self.certificates();
        let users = certificates.seen_as(name).used_by;
        if !users.is_empty() {
            return Err(CertificateRefused::InUse(users));
        }
        let file = files(&certificates.data, name).cert;
        match fs::remove_file(&file) {
            Ok(()) => Ok(true),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(fault) => Err(not_written(&file, &fault)),
        }
    }

    fn take_over(&self, certificates: &mut Certificates) {
        let (changed, notes) = certificates.look();
        if changed {
            self.publish_tls(certificates, None);
        }
        for note in notes {
            eprintln!("pointsman: {note}");
        }
    }
}

impl Certificates {
    /// Those in use, those that the node has been given, and those that it is yet to be given.
    fn seen(&self) -> Vec<SeenCertificate> {
        let mut all: BTreeMap<PathBuf, SeenCertificate> = BTreeMap::new();
        let stored = self.stored();
        for shown in &stored {
            all.entry(shown.file.clone()).or_insert_with(|| seen(shown));
        }
        for (whose, shown) in self.shown() {
            let entry = all.entry(shown.file.clone());
            let entry = entry.or_insert_with(|| seen(shown));
            entry.used_by.push(whose);
        }
        for (whose, name) in self.missing() {
            let entry = all.entry(files(&self.data, name).cert);
            entry.or_insert_with(|| unseen(name)).used_by.push(whose);
        }
        all.into_values().collect()
    }

    /// The one with this name.
    fn seen_as(&self, name: &CertificateName) -> SeenCertificate {
        let named = |seen: &SeenCertificate| seen.name.as_ref() == Some(name);
        self.seen()
            .into_iter()
            .find(named)
            .unwrap_or_else(|| unseen(name))
    }

    /// What is in the directory, as far as it can be used.
    fn stored(&self) -> Vec<Shown> {
        let entries = fs::read_dir(self.data.join(DIRECTORY));
        let entries = entries.into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| {
            let file = entry.file_name().into_string().ok()?;
            file.strip_suffix(".pem")?.parse::<CertificateName>().ok()
        });
        let shown = names.filter_map(|name| load::shown(&files(&self.data, &name)).ok());
        shown.collect()
    }
}

fn seen(shown: &Shown) -> SeenCertificate {
    SeenCertificate {
        name: shown.given.clone(),
        file: match shown.given {
            Some(_) => None,
            None => Some(shown.file.display().to_string()),
        },
        hosts: shown.names.clone(),
        expires: Some(shown.not_after),
        used_by: Vec::new(),
    }
}

fn unseen(name: &CertificateName) -> SeenCertificate {
    SeenCertificate {
        name: Some(name.clone()),
        ..SeenCertificate::default()
    }
}

/// Replaces a file in one step, which is on the disk when this returns. Nobody but the node's own user can read it.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let new = path.with_extension("new");
    // What an attempt left that was cut off.
    let _ = fs::remove_file(&new);
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(directory)?.sync_all()
}

fn not_written(path: &Path, fault: &io::Error) -> CertificateRefused {
    CertificateRefused::NotWritten(format!("{}: {fault}", path.display()))
}
