//! Finds `rorqual`, whose `daemon` command is the daemon.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

const PROGRAM: &str = "rorqual";

/// Path of the command line.
pub(crate) fn program() -> PathBuf {
    let beside = env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned));
    let path = env::var_os("PATH").unwrap_or_default();
    find(beside, env::split_paths(&path))
}

/// The command that runs the daemon in the foreground.
pub(crate) fn daemon_command() -> Command {
    let mut command = Command::new(program());
    command.arg("daemon");
    command
}

/// Finds `rorqual` beside this program, else in `PATH`. Otherwise returns its bare name, so that starting it fails with
/// the reason.
fn find(beside: Option<PathBuf>, path: impl Iterator<Item = PathBuf>) -> PathBuf {
    let mut places = beside.into_iter().chain(path).map(|place| place.join(PROGRAM));
    let is_program =
        |file: &PathBuf| fs::metadata(file).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    places.find(is_program).unwrap_or_else(|| PROGRAM.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(program_mode: Option<u32>) -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        if let Some(mode) = program_mode {
            let program = place.path().join(PROGRAM);
            fs::write(&program, "").unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        }
        place
    }

    #[test]
    fn the_program_beside_this_one_comes_before_those_in_the_path() {
        let (beside, path) = (place(Some(0o755)), place(Some(0o755)));
        let found = find(Some(beside.path().to_owned()), [path.path().to_owned()].into_iter());
        assert_eq!(found, beside.path().join(PROGRAM));
    }

    #[test]
    fn what_cannot_be_run_is_passed_over() {
        let (beside, path) = (place(Some(0o644)), place(Some(0o755)));
        let found = find(Some(beside.path().to_owned()), [path.path().to_owned()].into_iter());
        assert_eq!(found, path.path().join(PROGRAM));
        assert_eq!(find(Some(place(None).path().to_owned()), [].into_iter()), Path::new(PROGRAM));
    }
}
