//! Published ports of Rorqual against the container's own loopback: the same client on both sides.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};
use rorqual_tests::{Run, Series, eventually, host_port};
use serde::{Deserialize, Serialize};

use crate::{
    engine::Engine,
    material::{self, IMAGE},
};

/// Total bytes of one measurement.
const DOWNLOAD: u64 = 256 << 20;

/// Connections of the parallel measurement.
const MANY: u64 = 50;

/// Parallel connections that send HTTP requests, and for how many seconds.
const ASKING: u64 = 8;
const ASKING_SECONDS: u64 = 5;

/// The unit of a measurement.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// 2^20 bytes per second.
    MebibytesPerSecond,
    /// Requests per second.
    RequestsPerSecond,
}

/// One load through a published port, and inside the container.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PortTimes {
    /// The load.
    pub(crate) what: String,
    /// Its unit.
    pub(crate) unit: Unit,
    /// From the host, through the published port.
    pub(crate) published: Series,
    /// From inside the container, over its loopback.
    pub(crate) loopback: Series,
}

/// The client's output.
#[derive(Deserialize)]
struct Answer {
    seconds: f64,
    count: f64,
}

/// Measures a running engine that has the image.
pub(crate) fn measure(engine: &dyn Engine, runs: usize) -> Result<Vec<PortTimes>> {
    let client = material::client()?;
    let (bulk_port, hello_port) = (host_port::free()?, host_port::free()?);
    let publish = format!("127.0.0.1:{bulk_port}:9000");
    engine
        .docker(&["run", "-d", "--name", "bulk", "-p", &publish, IMAGE, "/bench-client", "serve", "9000"])
        .run()?
        .success()?;
    let publish = format!("127.0.0.1:{hello_port}:80");
    engine.docker(&["run", "-d", "--name", "hello", "-p", &publish, "rorqual/hello"]).run()?.success()?;
    engine.docker(&["cp", &client.to_string_lossy(), "hello:/bench-client"]).run()?.success()?;

    let bulk = Sides { engine, client: &client, container: "bulk", host_port: bulk_port, container_port: 9000 };
    let hello = Sides { engine, client: &client, container: "hello", host_port: hello_port, container_port: 80 };
    // The servers have only just started.
    eventually("the containers serve", || bulk.published(&["download"], &["1", "1"]).ok())?;
    eventually("hello serves", || hello.published(&["requests"], &["1", "0", "close"]).ok())?;

    let (bytes, many) = (DOWNLOAD.to_string(), MANY.to_string());
    let (asking, seconds) = (ASKING.to_string(), ASKING_SECONDS.to_string());
    let requests = |connection| [asking.as_str(), seconds.as_str(), connection];
    let times = vec![
        bulk.compare("download, one stream", Unit::MebibytesPerSecond, runs, "download", &["1", &bytes])?,
        bulk.compare("download, 50 streams at once", Unit::MebibytesPerSecond, runs, "download", &[&many, &bytes])?,
        hello.compare(
            "`rorqual/hello`, 8 connections kept alive",
            Unit::RequestsPerSecond,
            runs,
            "requests",
            &requests("keep-alive"),
        )?,
        hello.compare(
            "`rorqual/hello`, 8 at once, a connection each request",
            Unit::RequestsPerSecond,
            runs,
            "requests",
            &requests("close"),
        )?,
    ];
    engine.docker(&["rm", "-f", "bulk", "hello"]).run()?.success()?;
    Ok(times)
}

/// A server in a container, and the two paths to it.
struct Sides<'a> {
    engine: &'a dyn Engine,
    client: &'a Path,
    container: &'a str,
    host_port: u16,
    container_port: u16,
}

impl Sides<'_> {
    fn published(&self, verb: &[&str], rest: &[&str]) -> Result<Answer> {
        let address = format!("127.0.0.1:{}", self.host_port);
        answer(Command::new(self.client).args(verb).arg(address).args(rest))
    }

    fn loopback(&self, verb: &str, rest: &[&str]) -> Result<Answer> {
        let address = format!("127.0.0.1:{}", self.container_port);
        let mut words = vec!["exec", self.container, "/bench-client", verb, &address];
        words.extend(rest);
        answer(&mut self.engine.docker(&words))
    }

    fn compare(&self, what: &str, unit: Unit, runs: usize, verb: &str, rest: &[&str]) -> Result<PortTimes> {
        let rate = |answer: Answer| {
            let divisor = match unit {
                Unit::MebibytesPerSecond => 1024.0 * 1024.0,
                Unit::RequestsPerSecond => 1.0,
            };
            answer.count / divisor / answer.seconds
        };
        let published = (0..runs).map(|_| self.published(&[verb], rest).map(rate)).collect::<Result<_>>()?;
        let loopback = (0..runs).map(|_| self.loopback(verb, rest).map(rate)).collect::<Result<_>>()?;
        let times =
            PortTimes { what: what.to_owned(), unit, published: Series::of(published), loopback: Series::of(loopback) };
        eprintln!("bench: port: {what}: {:.0} against {:.0}", times.published.median, times.loopback.median);
        Ok(times)
    }
}

fn answer(command: &mut Command) -> Result<Answer> {
    let execution = command.run()?.success()?;
    serde_json::from_slice(&execution.stdout).with_context(|| format!("the client answered otherwise: {execution}"))
}
