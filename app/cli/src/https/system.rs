//! The system's trust store on Debian and its derivatives: a directory of certificates, and a program that installs
//! them for libraries (update-ca-certificates(8)).

use std::{fs, io, path::PathBuf, process::Command};

use rorqual_engine::error::one_line;
use rustix::fs::{Access, access};

use super::{
    certificate::Certificate,
    outcome::{Outcome, quoted},
};
use crate::{error::CommandError, failure::Failure};

const UPDATE: &str = "update-ca-certificates";
/// Without it the links to a removed certificate remain.
const CLEAN: &str = "--fresh";

pub(super) struct SystemStore {
    directory: PathBuf,
    /// The file with all trusted certificates, which the program writes.
    bundle: PathBuf,
}

impl SystemStore {
    pub(super) fn debian() -> Self {
        Self {
            directory: "/usr/local/share/ca-certificates".into(),
            bundle: "/etc/ssl/certs/ca-certificates.crt".into(),
        }
    }

    /// Whether the system trusts the authority.
    pub(super) fn has(&self, certificate: &Certificate) -> bool {
        fs::read_to_string(&self.bundle).is_ok_and(|bundle| bundle.contains(certificate.pem.trim_end()))
    }

    /// Adds or removes the authority, if this user has the rights.
    pub(super) fn set(&self, certificate: &Certificate, trust: bool) -> Result<Outcome, Failure> {
        let file = self.file(certificate);
        if self.has(certificate) == trust && file.exists() == trust {
            return Ok(Outcome::Done);
        }
        if !self.directory.is_dir() {
            if !trust {
                return Ok(Outcome::Done);
            }
            let (directory, certificate) = (self.directory.clone(), certificate.path.clone());
            return Err(CommandError::StoreUnknown { directory, certificate }.into());
        }
        if access(&self.directory, Access::WRITE_OK).is_err() {
            return Ok(Outcome::Todo(self.command(certificate, trust)));
        }
        let changed = if trust { fs::write(&file, &certificate.pem) } else { fs::remove_file(&file) };
        match changed {
            Err(source) if trust || source.kind() != io::ErrorKind::NotFound => {
                return Err(CommandError::SystemStore { path: file, source }.into());
            }
            _ => {}
        }
        update(trust)?;
        Ok(Outcome::Done)
    }

    fn file(&self, certificate: &Certificate) -> PathBuf {
        self.directory.join(format!("{}.crt", certificate.name.to_lowercase().replace(' ', "-")))
    }

    /// The command for a user with the rights.
    fn command(&self, certificate: &Certificate, trust: bool) -> String {
        let file = self.file(certificate).display().to_string();
        let from = quoted(&certificate.path.display().to_string());
        let steps = if trust {
            format!("install -m 644 {from} {file} && {UPDATE}")
        } else {
            format!("rm -f {file} && {UPDATE} {CLEAN}")
        };
        format!("sudo sh -c {}", quoted(&steps))
    }
}

fn update(trust: bool) -> Result<(), Failure> {
    let output = Command::new(UPDATE)
        .args((!trust).then_some(CLEAN))
        .output()
        .map_err(|source| CommandError::StoreProgram { program: UPDATE, source })?;
    if output.status.success() {
        return Ok(());
    }
    let (status, output) = (output.status.to_string(), one_line(&String::from_utf8_lossy(&output.stderr)));
    Err(CommandError::StoreProgramFailed { program: UPDATE, status, output }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> Certificate {
        Certificate {
            name: "Rorqual local authority 1a2b3c4d".to_owned(),
            fingerprint: String::new(),
            pem: "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n".to_owned(),
            path: "/home/a b/https/ca.pem".into(),
        }
    }

    #[test]
    fn without_rights_there_is_one_command() {
        let store = SystemStore::debian();
        assert_eq!(
            store.command(&certificate(), true),
            "sudo sh -c 'install -m 644 '\\''/home/a b/https/ca.pem'\\'' \
             /usr/local/share/ca-certificates/rorqual-local-authority-1a2b3c4d.crt && update-ca-certificates'"
        );
        assert_eq!(
            store.command(&certificate(), false),
            "sudo sh -c 'rm -f /usr/local/share/ca-certificates/rorqual-local-authority-1a2b3c4d.crt \
             && update-ca-certificates --fresh'"
        );
    }

    #[test]
    fn the_bundle_programs_read_decides_what_is_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let bundle = directory.path().join("bundle");
        let store = SystemStore { directory: directory.path().to_owned(), bundle: bundle.clone() };
        assert!(!store.has(&certificate()));
        fs::write(&bundle, format!("other\n{}", certificate().pem)).unwrap();
        assert!(store.has(&certificate()));
    }
}
