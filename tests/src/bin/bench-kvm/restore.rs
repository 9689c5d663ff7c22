//! The return of a suspended machine against a cold start, as a user has them: from `rorqual start` to the first answer
//! to the request of `docker ps`.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rorqual_tests::Series;

use crate::report::Restore;

/// Deadline of every step.
const PATIENCE: Duration = Duration::from_mins(4);

/// The state directory of the machine, created by the script that runs the benchmark.
fn home() -> Result<PathBuf> {
    Ok(std::env::var_os("RORQUAL_HOME").context("RORQUAL_HOME is not set")?.into())
}

/// Measures `runs` times each; the first start does not count.
pub(crate) fn measure(runs: usize) -> Result<Restore> {
    if rorqual(&["suspend", "--help"]).is_err() {
        bail!("this `rorqual` has no `suspend`");
    }
    let (mut cold, mut restored) = (Vec::new(), Vec::new());
    start()?;
    for run in 1..=runs {
        rorqual(&["stop"])?;
        cold.push(start()?);
        rorqual(&["suspend"])?;
        restored.push(start()?);
        eprintln!("bench-kvm: restore {run} of {runs} done");
    }
    rorqual(&["quit", "--stop-machines"])?;
    Ok(Restore { cold: Series::of(cold), restored: Series::of(restored) })
}

fn start() -> Result<f64> {
    let begun = Instant::now();
    rorqual(&["start"])?;
    list_containers()?;
    Ok(begun.elapsed().as_secs_f64())
}

fn rorqual(arguments: &[&str]) -> Result<()> {
    let output =
        Command::new("rorqual").args(arguments).stdin(Stdio::null()).output().context("cannot start rorqual")?;
    ensure!(output.status.success(), "rorqual {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The request of `docker ps`.
fn list_containers() -> Result<()> {
    let mut socket = UnixStream::connect(home()?.join("run/docker.sock")).context("cannot reach docker.sock")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(b"GET /containers/json HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")?;
    let mut status = String::new();
    BufReader::new(socket).read_line(&mut status)?;
    ensure!(status.starts_with("HTTP/1.1 200"), "docker answered {status:?}");
    Ok(())
}
