//! The first part of Rorqual's AppImage (type 2): this static program, followed by a SquashFS file system.
//!
//! AppImages usually mount their payload while the program runs. Rorqual's machines outlive its window, and their
//! programs must not vanish. The payload is therefore unpacked once for each build, below the user's cache, and run
//! from there, which also avoids FUSE. Unpacking a newer build removes older ones that nobody runs.

mod payload;
mod unpack;

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Rorqual's AppImage cannot start: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let image = env::current_exe().context("where it lies is not known")?;
    let offset = payload::offset(&File::open(&image)?).context("it is damaged: fetch it again")?;
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    match arguments.first().and_then(|first| first.to_str()) {
        Some("--appimage-offset") => {
            println!("{offset}");
            Ok(())
        }
        Some("--appimage-extract") => unpack::unpack(&image, offset, Path::new("squashfs-root")),
        Some(other) if other.starts_with("--appimage-") => {
            bail!("it has --appimage-extract and --appimage-offset, not {other}")
        }
        _ => {
            let directory = unpacked(&image, offset)?;
            let failure = Command::new(directory.join("AppRun"))
                .args(arguments)
                .env("APPIMAGE", &image)
                .env("APPDIR", &directory)
                .env("ARGV0", name)
                .exec();
            Err(failure).with_context(|| format!("running {}", directory.join("AppRun").display()))
        }
    }
}

/// Returns the directory of this build, and unpacks the build if necessary.
fn unpacked(image: &Path, offset: u64) -> Result<PathBuf> {
    let builds = cache()?.join("rorqual/appimage");
    fs::create_dir_all(&builds).with_context(|| format!("making {}", builds.display()))?;
    let directory = builds.join(payload::build(&File::open(image)?, offset)?);
    // Two concurrent starts unpack only once.
    let lock = File::create(builds.join("lock"))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)?;
    if !directory.is_dir() {
        eprintln!("Rorqual is being unpacked; this happens once.");
        let unfinished = builds.join("unfinished");
        remove(&unfinished)?;
        unpack::unpack(image, offset, &unfinished)?;
        fs::rename(&unfinished, &directory)?;
        remove_unused(&builds, &directory)?;
    }
    Ok(directory)
}

/// Removes other builds, except those that a process still runs from.
fn remove_unused(builds: &Path, ours: &Path) -> Result<()> {
    let used: Vec<PathBuf> = fs::read_dir("/proc")?
        .filter_map(|entry| fs::read_link(entry.ok()?.path().join("exe")).ok())
        .filter(|program| program.starts_with(builds))
        .collect();
    for entry in fs::read_dir(builds)? {
        let path = entry?.path();
        if path.is_dir() && path != ours && !used.iter().any(|program| program.starts_with(&path)) {
            remove(&path)?;
        }
    }
    Ok(())
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn cache() -> Result<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set, so there is no place to unpack it")
}
