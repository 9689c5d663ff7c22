//! How long a service rests before it is started again.

use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);
/// A service that ran this long was well: its next end is a new story.
const WELL_AFTER: Duration = Duration::from_mins(1);

/// Doubles the rest with each end in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    ends_in_a_row: u32,
}

impl Backoff {
    /// The service ended after it ran for `ran`; tells how long it rests.
    pub(crate) fn ended_after(&mut self, ran: Duration) -> Duration {
        if ran >= WELL_AFTER {
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
    fn each_end_in_a_row_doubles_the_rest_up_to_a_limit() {
        let mut backoff = Backoff::default();
        let rests: Vec<u128> = (0..10).map(|_| backoff.ended_after(Duration::ZERO).as_millis()).collect();
        assert_eq!(rests, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
    }

    #[test]
    fn a_service_that_was_well_starts_over() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.ended_after(Duration::ZERO);
        }
        assert_eq!(backoff.ended_after(WELL_AFTER), SHORTEST);
        assert_eq!(backoff.ends_in_a_row(), 1);
    }

    #[test]
    fn endless_failure_never_overflows() {
        let mut backoff = Backoff { ends_in_a_row: u32::MAX };
        assert_eq!(backoff.ended_after(Duration::ZERO), LONGEST);
    }
}
