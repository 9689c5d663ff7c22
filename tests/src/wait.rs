//! Waits for conditions that have no event.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

/// Time a condition may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(90);

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Polls until the answer is `Some`, with growing pauses; fails with `what` after a timeout.
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> Result<T> {
    within(PATIENCE, ask).ok_or_else(|| anyhow!("not within {} s: {what}", PATIENCE.as_secs()))
}

/// Tries until it succeeds, with growing pauses; fails with `what` and the last error after a timeout.
pub fn eventually_ok<T>(what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut last = anyhow!("it was never tried");
    let answer = within(PATIENCE, || attempt().map_err(|error| last = error).ok());
    answer.ok_or_else(|| last.context(format!("not within {} s: {what}", PATIENCE.as_secs())))
}

/// Polls until the answer is `Some` or the time is over.
pub fn within<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let answer = ask();
        if answer.is_some() || begin.elapsed() > patience {
            return answer;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
