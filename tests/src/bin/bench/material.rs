//! Material for the engines: one small image, one build context.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use rorqual_tests::{Execution, Machine, Run, machine::program_directory, material::pack};

use crate::engine::Engine;

/// busybox with a link for each of its programs, and `/bench-client`.
pub(crate) const IMAGE: &str = "bench";

/// The five steps of the build.
const DOCKERFILE: &str = "FROM bench\n\
    COPY file /work/file\n\
    RUN sha256sum /work/file > /work/sum\n\
    RUN mkdir -p /work/many && for n in $(seq 100); do echo $n > /work/many/$n; done\n\
    RUN tar -cf /work/many.tar /work/many && rm -r /work/many\n";

/// The static client, beside the guest's programs.
pub(crate) fn client() -> Result<PathBuf> {
    let programs = program_directory()?;
    let target = programs.parent().unwrap_or(&programs);
    let client = target.join("x86_64-unknown-linux-gnu/release/bench-client");
    if client.is_file() { Ok(client) } else { bail!("{} is missing: `make bench` builds it", client.display()) }
}

/// The image as a tar for `docker import`.
pub(crate) fn image(machine: &Machine) -> Result<Vec<u8>> {
    let programs = machine.programs();
    let busybox = programs.parent().unwrap_or(programs).join("test-material/busybox");
    let directory = tempfile::tempdir()?;
    let root = directory.path();
    for folder in ["bin", "tmp"] {
        fs::create_dir(root.join(folder))?;
    }
    let inside = root.join("bin/busybox");
    fs::copy(&busybox, &inside)
        .with_context(|| format!("{} is missing: make it first (make test-material)", busybox.display()))?;
    let list = std::process::Command::new(&inside).arg("--list").output_text()?;
    for program in list.lines().filter(|program| *program != "busybox") {
        symlink("busybox", root.join("bin").join(program))?;
    }
    fs::copy(client()?, root.join("bench-client"))?;
    pack(root)
}

/// Creates [`IMAGE`] in an engine.
pub(crate) fn import(engine: &dyn Engine, image: &[u8]) -> Result<()> {
    let import = ["import", "--change", "CMD [\"/bin/sh\"]", "--change", "ENV PATH=/bin", "-", IMAGE];
    engine.docker(&import).run_with_input(image).and_then(Execution::success)?;
    Ok(())
}

/// Writes the build's context: a Dockerfile of five steps and a file of 1 MiB.
pub(crate) fn build_context(directory: &Path) -> Result<()> {
    fs::write(directory.join("Dockerfile"), DOCKERFILE)?;
    fs::write(directory.join("file"), vec![b'r'; 1 << 20])?;
    Ok(())
}
