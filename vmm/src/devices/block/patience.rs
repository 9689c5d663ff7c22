//! When it is worth looking at an empty queue again before sleeping.

use std::time::Duration;

/// Most times in a row that a queue is not looked at again, after looking again has brought nothing.
const MAX_SKIPPED: u8 = 63;

/// How often looking again has brought something. A guest that waits for each request before the next one soon costs
/// next to nothing: only one request in 64 is then followed by a look.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// How many times to skip from here on.
    skip: u8,
    /// How many times were skipped last, plus one, or zero after a success.
    skipped: u8,
}

impl Patience {
    /// For how long to look.
    pub(super) const LENGTH: Duration = Duration::from_micros(32);

    /// Whether to look this time.
    pub(super) fn begin(&mut self) -> bool {
        let look = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        look
    }

    /// Notes whether looking has brought a request.
    pub(super) fn end(&mut self, found: bool) {
        self.skipped = if found { 0 } else { (2 * self.skipped + 1).min(MAX_SKIPPED) };
        self.skip = self.skipped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_in_vain_becomes_rare_and_one_success_makes_it_frequent_again() {
        let mut patience = Patience::default();
        let looks = |patience: &mut Patience, found: bool| {
            let looks = (0..1000).filter(|_| {
                let look = patience.begin();
                if look {
                    patience.end(found);
                }
                look
            });
            looks.count()
        };
        assert!(looks(&mut patience, false) < 24);
        while !patience.begin() {}
        patience.end(true);
        assert_eq!(looks(&mut patience, true), 1000);
    }
}
