//! The images that containers run, created from `target/test-material` of `make test-material`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    Machine,
    command::{Execution, Run},
    machine::program_directory,
};

/// The image of most containers: busybox with a link for each of its programs, and `/peer` (src/bin/peer).
pub const IMAGE: &str = "test";

/// A registry, from Debian's package.
pub const REGISTRY_IMAGE: &str = "registry";

impl Machine {
    /// Creates [`IMAGE`] in the machine.
    pub fn load_image(&self) -> Result<()> {
        let directory = tempfile::tempdir()?;
        let root = directory.path();
        for folder in ["bin", "etc", "tmp", "root", "data"] {
            fs::create_dir(root.join(folder))?;
        }
        install_busybox(root)?;
        install_peer(root)?;
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n")?;
        fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\n")?;
        let tar = pack(root)?;
        let import = ["import", "--change", "CMD [\"/bin/sh\"]", "--change", "ENV PATH=/bin", "-", IMAGE];
        self.docker(import).run_with_input(&tar).and_then(Execution::success)?;
        Ok(())
    }

    /// Creates [`REGISTRY_IMAGE`] in the machine; its configuration is `/etc/registry.yml`.
    pub fn load_registry_image(&self) -> Result<()> {
        let tar = material("registry.tar")?;
        let tar = tar.to_str().context("the path of the material is not text")?;
        let entry = "ENTRYPOINT [\"/usr/bin/docker-registry\"]";
        self.docker(["import", "--change", entry, tar, REGISTRY_IMAGE]).run()?.success()?;
        Ok(())
    }
}

/// The files of Debian's docker-registry unpacked to `directory`, and how it is started there on this computer,
/// whatever C library that has: its loader and the loader's arguments.
pub fn unpack_registry(directory: &Path) -> Result<Command> {
    let tar = material("registry.tar")?;
    Command::new("tar").arg("-xf").arg(tar).arg("-C").arg(directory).run()?.success()?;
    let mut command = Command::new(directory.join("usr/lib64/ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(directory.join("usr/lib/x86_64-linux-gnu"));
    command.arg(directory.join("usr/bin/docker-registry"));
    Ok(command)
}

/// The directory with the docker client of Debian 13, older than the engine, and its plugins.
///
/// # Errors
/// `make test-material` has not been run.
pub fn older_clients() -> Result<PathBuf> {
    let docker = material("clients-26/docker")?;
    Ok(docker.parent().map(Path::to_owned).unwrap_or_default())
}

/// A file of `target/test-material`.
fn material(name: &str) -> Result<PathBuf> {
    let programs = program_directory()?;
    let path = programs.parent().unwrap_or(&programs).join("test-material").join(name);
    if !path.is_file() {
        bail!("{} is missing: make it first (make test-material)", path.display());
    }
    Ok(path)
}

fn install_busybox(root: &Path) -> Result<()> {
    let busybox = root.join("bin/busybox");
    fs::copy(material("busybox")?, &busybox)?;
    let list = Command::new(&busybox).arg("--list").output_text()?;
    for program in list.lines().filter(|program| *program != "busybox") {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(program))?;
    }
    Ok(())
}

/// The test server and client: `src/bin/peer`.
pub fn peer() -> Result<PathBuf> {
    let peer = program_directory()?.join("rorqual-test-peer");
    if peer.is_file() {
        Ok(peer)
    } else {
        bail!("{} is missing: the end-to-end suites are built with it", peer.display())
    }
}

/// Copies the test peer and its libraries, the libraries to the same paths.
fn install_peer(root: &Path) -> Result<()> {
    let peer = peer()?;
    fs::copy(&peer, root.join("peer")).with_context(|| format!("cannot copy {}", peer.display()))?;
    let listing = Command::new("ldd").arg(&peer).output_text()?;
    for library in listing.split_whitespace().filter(|word| word.starts_with('/')) {
        let target = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(target.parent().context("a library has no directory")?)?;
        fs::copy(library, target)?;
    }
    Ok(())
}

/// A directory as a tar.
pub fn pack(root: &Path) -> Result<Vec<u8>> {
    pack_files(root, &["."])
}

/// Some files of a directory as a tar.
pub fn pack_files(directory: &Path, names: &[&str]) -> Result<Vec<u8>> {
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "--numeric-owner", "-cf", "-"]).args(names).current_dir(directory);
    Ok(tar.run()?.success()?.stdout)
}
