//! The one line a monitor writes to the descriptor of `--ready-fd`.

use serde::{Deserialize, Serialize};

use crate::Failure;

/// Whether the machine started.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Readiness {
    /// The control socket listens and the guest runs. Always true.
    Ready(bool),
    /// The machine did not start; the monitor exits.
    Error(Failure),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FailureCode;

    #[test]
    fn the_line_has_the_documented_form() {
        let error = Readiness::Error(Failure::new(FailureCode::FileLocked, "in use"));
        for (line, text) in [
            (Readiness::Ready(true), r#"{"ready":true}"#),
            (error, r#"{"error":{"code":"file-locked","message":"in use"}}"#),
        ] {
            assert_eq!(serde_json::to_string(&line).unwrap(), text);
            assert_eq!(serde_json::from_str::<Readiness>(text).unwrap(), line);
        }
    }
}
