//! Waiting for what has no event to wait for.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

/// How long a condition may take to come true before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(90);

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Asks until the answer is `Some`, with growing pauses, and fails with `what` when it never is.
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> Result<T> {
    within(PATIENCE, ask).ok_or_else(|| anyhow!("not within {} s: {what}", PATIENCE.as_secs()))
}

/// Tries until it works, with growing pauses, and fails with `what` and the last error when it never does.
pub fn eventually_ok<T>(what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut last = anyhow!("it was never tried");
    let answer = within(PATIENCE, || attempt().map_err(|error| last = error).ok());
    answer.ok_or_else(|| last.context(format!("not within {} s: {what}", PATIENCE.as_secs())))
}

/// Asks until the answer is `Some` or the time is over.
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
