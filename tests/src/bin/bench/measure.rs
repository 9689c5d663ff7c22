//! The times of one engine: start, run, exec, build.

use std::time::Instant;

use anyhow::Result;
use rorqual_tests::{Run, Series};
use serde::Serialize;

use crate::{
    engine::{BootStep, Engine},
    material::{self, IMAGE},
};

/// The times of an engine, in seconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Times {
    /// Short name of the engine.
    pub(crate) name: String,
    /// Its description.
    pub(crate) description: String,
    /// From nothing running to `docker version` answered.
    pub(crate) start: Series,
    /// `docker run --rm bench true`.
    pub(crate) run: Series,
    /// `docker exec` of `true`.
    pub(crate) exec: Series,
    /// `docker build --no-cache` of five steps.
    pub(crate) build: Series,
    /// The boot of the median start, or the one next to it.
    pub(crate) boot: Vec<BootStep>,
}

/// Measures a stopped engine, `runs` times each, and stops it again. Neither the first start, which formats its disk
/// and fills the host's page cache, nor the first of each command counts.
pub(crate) fn times(engine: &mut dyn Engine, image: &[u8], runs: usize) -> Result<Times> {
    let name = engine.name();
    eprintln!("bench: {name}: first start, not counted");
    engine.start()?;
    material::import(engine, image)?;
    let mut starts = Vec::new();
    let mut boots = Vec::new();
    for run in 1..=runs {
        engine.stop()?;
        let begin = Instant::now();
        engine.start()?;
        engine.docker(&["version"]).run()?.success()?;
        starts.push(begin.elapsed().as_secs_f64());
        boots.push(engine.boot_steps()?);
        eprintln!("bench: {name}: start {run} of {runs}: {:.2} s", begin.elapsed().as_secs_f64());
    }
    let start = Series::of(starts);
    let run = repeat(engine, "run", runs, &["run", "--rm", IMAGE, "true"])?;
    engine.docker(&["run", "-d", "--name", "sleeper", IMAGE, "sleep", "1000000"]).run()?.success()?;
    let exec = repeat(engine, "exec", runs, &["exec", "sleeper", "true"])?;
    engine.docker(&["rm", "-f", "sleeper"]).run()?.success()?;
    let context = tempfile::tempdir()?;
    material::build_context(context.path())?;
    let context = context.path().to_string_lossy();
    let build = repeat(engine, "build", runs, &["build", "--no-cache", "-q", "-t", "built", &context])?;
    let boot = boots.into_iter().nth(nearest(&start)).unwrap_or_default();
    let description = engine.description();
    engine.stop()?;
    Ok(Times { name: name.to_owned(), description, start, run, exec, build, boot })
}

/// The times of a docker command, after one that does not count.
fn repeat(engine: &dyn Engine, what: &str, runs: usize, arguments: &[&str]) -> Result<Series> {
    let mut all = Vec::new();
    for counted in (0..=runs).map(|number| number > 0) {
        let begin = Instant::now();
        engine.docker(arguments).env("DOCKER_BUILDKIT", "1").run()?.success()?;
        if counted {
            all.push(begin.elapsed().as_secs_f64());
        }
    }
    let series = Series::of(all);
    eprintln!("bench: {}: {what}: {:.2} s", engine.name(), series.median);
    Ok(series)
}

/// Index of the measurement nearest to the median.
fn nearest(series: &Series) -> usize {
    let distance = |value: f64| (value - series.median).abs();
    let places = series.all.iter().enumerate();
    places.min_by(|(_, a), (_, b)| distance(**a).total_cmp(&distance(**b))).map_or(0, |(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_that_is_shown_is_that_of_the_median_start() {
        assert_eq!(nearest(&Series::of(vec![9.0, 1.0, 2.0])), 2);
    }
}
