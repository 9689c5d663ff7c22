//! The goals, and whether the figures meet them.

use serde::Serialize;

use crate::{idle::Idle, measure::Times};

/// A goal and its figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Goal {
    /// The goal.
    pub(crate) what: String,
    /// The figure.
    pub(crate) figure: String,
    /// Whether the goal is met; `None` if it was not measured.
    pub(crate) met: Option<bool>,
}

/// Most wakeups per minute of an idle daemon. The goal is "no wakeups it does not need", without a number.
const WAKEUPS_PER_MINUTE: f64 = 12.0;

/// Most memory of the daemon, in units of 10^6 bytes.
const DAEMON_MEGABYTES: f64 = 15.0;

/// All goals, including those that were not measured.
pub(crate) fn judge(times: &[Times], idle: Option<&Idle>) -> Vec<Goal> {
    let of = |name: &str| times.iter().find(|times| times.name == name);
    let pair = |a: &str, b: &str, pick: fn(&Times) -> f64| Some((pick(of(a)?), pick(of(b)?)));
    let mut goals = vec![
        at_least("start at least 5 times as fast as TCG", 5.0, pair("uml", "tcg", |times| times.start.median)),
        at_least("`docker run --rm` at least 6 times as fast as TCG", 6.0, pair("uml", "tcg", |t| t.run.median)),
    ];
    let within = pair("uml", "native", |times| times.run.median).map(|(uml, native)| uml / native);
    goals.push(goal(
        "`docker run --rm` within 4 times of native",
        within.map(|ratio| (format!("{ratio:.1} times native"), ratio <= 4.0)),
    ));
    let exec = of("uml").map(|times| times.exec.median);
    goals.push(goal("`docker exec` within 0.3 s", exec.map(|seconds| (format!("{seconds:.2} s"), seconds <= 0.3))));
    let daemon = idle.and_then(|idle| idle.parts.iter().find(|cost| cost.part == "daemon"));
    let megabytes = daemon.map(|cost| precise(cost.own_memory) / 1e6);
    goals.push(goal("daemon below 15 MB", megabytes.map(|size| (format!("{size:.1} MB"), size < DAEMON_MEGABYTES))));
    let wakeups = idle.zip(daemon).map(|(idle, cost)| precise(cost.wakeups) * 60.0 / precise(idle.seconds));
    goals.push(goal(
        "no wakeups the daemon does not need (no number is set: met at 12 a minute or fewer)",
        wakeups.map(|count| (format!("{count:.0} a minute"), count <= WAKEUPS_PER_MINUTE)),
    ));
    goals
}

fn at_least(name: &str, ratio: f64, pair: Option<(f64, f64)>) -> Goal {
    goal(name, pair.map(|(ours, theirs)| (format!("{:.1} times as fast", theirs / ours), theirs / ours >= ratio)))
}

fn goal(name: &str, figure: Option<(String, bool)>) -> Goal {
    let (figure, met) = figure.map_or(("not measured".to_owned(), None), |(figure, met)| (figure, Some(met)));
    Goal { what: name.to_owned(), figure, met }
}

/// A count as a number with a fraction; counts here are far below 2^52.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn precise(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use rorqual_tests::Series;

    fn times(name: &str, seconds: f64) -> Times {
        let series = || Series::of(vec![seconds]);
        Times {
            name: name.to_owned(),
            description: String::new(),
            start: series(),
            run: series(),
            exec: series(),
            build: series(),
            boot: Vec::new(),
        }
    }

    #[test]
    fn a_ratio_just_short_of_its_goal_is_not_met() {
        let goals = judge(&[times("uml", 1.0), times("tcg", 5.5), times("native", 0.2)], None);
        let met: Vec<_> = goals.iter().map(|goal| goal.met).collect();
        assert_eq!(met, [Some(true), Some(false), Some(false), Some(false), None, None]);
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        assert!(judge(&[], None).iter().all(|goal| goal.met.is_none() && goal.figure == "not measured"));
    }
}
