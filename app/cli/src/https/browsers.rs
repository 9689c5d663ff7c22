//! The trust stores of browsers: NSS databases in the user's home directory. Chromium-based browsers share one; each
//! Firefox profile has its own. `certutil` (package libnss3-tools) changes them.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use super::{certificate::Certificate, outcome::Outcome};
use crate::{error::CommandError, failure::Failure};

/// The file that identifies a directory as a database.
const DATABASE: &str = "cert9.db";

pub(super) struct Browsers {
    databases: Vec<PathBuf>,
}

impl Browsers {
    /// Finds the user's databases.
    pub(super) fn of_user() -> Self {
        let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        Self { databases: databases(&home) }
    }

    /// Each store, and whether it trusts the authority; `None` if certutil is missing.
    pub(super) fn which_have(&self, certificate: &Certificate) -> Vec<(PathBuf, Option<bool>)> {
        let has = |database: &PathBuf| has(database, certificate).ok();
        self.databases.iter().map(|database| (database.clone(), has(database))).collect()
    }

    pub(super) fn set(&self, certificate: &Certificate, trust: bool) -> Result<Outcome, Failure> {
        for database in &self.databases {
            match set(database, certificate, trust) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let again = if trust { "trust" } else { "untrust" };
                    return Ok(Outcome::Todo(format!("sudo apt-get install libnss3-tools && rorqual https {again}")));
                }
                Err(source) => {
                    return Err(CommandError::BrowserStore { database: database.clone(), source }.into());
                }
                Ok(()) => {}
            }
        }
        Ok(Outcome::Done)
    }
}

fn databases(home: &Path) -> Vec<PathBuf> {
    let mut found = vec![home.join(".pki/nssdb")];
    for profiles in [".mozilla/firefox", "snap/firefox/common/.mozilla/firefox"] {
        let entries = fs::read_dir(home.join(profiles)).into_iter().flatten();
        found.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    found.retain(|directory| directory.join(DATABASE).is_file());
    found.sort();
    found
}

fn certutil(database: &Path) -> Command {
    let mut command = Command::new("certutil");
    command.arg("-d").arg(format!("sql:{}", database.display()));
    command
}

/// Fails only if certutil cannot be run.
fn has(database: &Path, certificate: &Certificate) -> io::Result<bool> {
    Ok(certutil(database).args(["-L", "-n", &certificate.name]).output()?.status.success())
}

fn set(database: &Path, certificate: &Certificate, trust: bool) -> io::Result<()> {
    if has(database, certificate)? == trust {
        return Ok(());
    }
    let mut command = certutil(database);
    if trust {
        command.args(["-A", "-t", "C,,", "-n", &certificate.name, "-i"]).arg(&certificate.path);
    } else {
        command.args(["-D", "-n", &certificate.name]);
    }
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_databases_of_every_profile_are_found() {
        let home = tempfile::tempdir().unwrap();
        for (directory, file) in
            [(".pki/nssdb", DATABASE), (".mozilla/firefox/a.default", DATABASE), (".mozilla/firefox/b", "prefs.js")]
        {
            fs::create_dir_all(home.path().join(directory)).unwrap();
            fs::write(home.path().join(directory).join(file), "").unwrap();
        }
        assert_eq!(
            databases(home.path()),
            [home.path().join(".mozilla/firefox/a.default"), home.path().join(".pki/nssdb")]
        );
    }
}
