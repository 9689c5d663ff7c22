//! What trying an accelerator found.

use serde::Serialize;

/// Whether an accelerator works on this host, and how that was seen or why it does not.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// It works.
    pub usable: bool,
    /// A sentence for people.
    pub reason: String,
}

impl From<Result<String, String>> for Finding {
    fn from(outcome: Result<String, String>) -> Self {
        let usable = outcome.is_ok();
        let (Ok(reason) | Err(reason)) = outcome;
        Self { usable, reason }
    }
}
