//! iperf3, found in `PATH`.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::wait::within;

/// Time within which a server finishes with a client.
const DONE_WITHIN: Duration = Duration::from_secs(20);

/// Starts a server, which listens when this returns.
pub(super) fn serve(at: SocketAddr) -> Result<Child> {
    let mut child = Command::new("iperf3")
        .args(["--server", "--forceflush", "--bind", &at.ip().to_string(), "--port", &at.port().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start iperf3")?;
    let mut lines = BufReader::new(child.stdout.take().context("iperf3 has no output")?).lines();
    for line in lines.by_ref() {
        if line?.contains("Server listening") {
            // Its reports are read so that it never blocks on them.
            thread::spawn(move || lines.for_each(drop));
            return Ok(child);
        }
    }
    bail!("iperf3 does not listen on {at}: {}", child.wait()?)
}

/// Sends for the given time; returns the bits per second the server received. Waits for a server that has not finished
/// with its last client.
pub(super) fn send(to: SocketAddr, streams: u32, seconds: u32) -> Result<f64> {
    let sent = within(DONE_WITHIN, || match attempt(to, streams, seconds) {
        Err(error) if error.to_string().contains("server is busy") => None,
        other => Some(other),
    });
    sent.unwrap_or_else(|| bail!("iperf3 at {to} stays busy"))
}

fn attempt(to: SocketAddr, streams: u32, seconds: u32) -> Result<f64> {
    let output = Command::new("iperf3")
        .args(["--json", "--client", &to.ip().to_string(), "--port", &to.port().to_string()])
        .args(["--parallel", &streams.to_string(), "--time", &seconds.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("cannot start iperf3")?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("iperf3 reported {}", String::from_utf8_lossy(&output.stderr)))?;
    if let Some(error) = report["error"].as_str() {
        bail!("iperf3 to {to}: {error}");
    }
    report["end"]["sum_received"]["bits_per_second"].as_f64().context("iperf3 reports no rate")
}
