//! The pause of a service before its restart.

use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);
/// A service that ran this long had recovered; its next end starts a new row.
const RECOVERED_AFTER: Duration = Duration::from_mins(1);

/// Doubles the pause with each end in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    ends_in_a_row: u32,
}

impl Backoff {
    /// Records that the service ended after running for `ran`, and returns its pause.
    pub(crate) fn ended_after(&mut self, ran: Duration) -> Duration {
        if ran >= RECOVERED_AFTER {
            self.ends_in_a_row = 0;
        }
        let rest = SHORTEST.saturating_mul(1_u32.checked_shl(self.ends_in_a_row).unwrap_or(u32::MAX)).min(LONGEST);
        self.ends_in_a_row = self.ends_in_a_row.saturating_add(1);
        rest
    }

    /// How often it ended in a row.
    pub(crate) fn ends_in_a_row(&self) -> u32 {
        self.ends_in_a_row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_in_a_row_doubles_the_pause_up_to_a_limit() {
        let mut backoff = Backoff::default();
        let rests: Vec<u128> = (0..10).map(|_| backoff.ended_after(Duration::ZERO).as_millis()).collect();
        assert_eq!(rests, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
    }

    #[test]
    fn a_service_that_had_recovered_starts_over() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.ended_after(Duration::ZERO);
        }
        assert_eq!(backoff.ended_after(RECOVERED_AFTER), SHORTEST);
        assert_eq!(backoff.ends_in_a_row(), 1);
    }

    #[test]
    fn endless_failure_never_overflows() {
        let mut backoff = Backoff { ends_in_a_row: u32::MAX };
        assert_eq!(backoff.ended_after(Duration::ZERO), LONGEST);
    }
}
