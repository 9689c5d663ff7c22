//! What `rorqual-vmm probe` prints: which accelerators work on this host.

use serde::{Deserialize, Serialize};

/// The findings, one per accelerator.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Findings {
    /// The hypervisor of Linux.
    pub kvm: Finding,
    /// User Mode Linux.
    pub uml: Finding,
}

/// Whether an accelerator works on this host.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// Whether it works.
    pub usable: bool,
    /// How that was seen, or why it does not work, for people.
    pub reason: String,
    /// What would make it work, as an instruction, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    /// An accelerator that works, and how that was seen.
    pub fn usable(reason: impl Into<String>) -> Self {
        Self { usable: true, reason: reason.into(), fix: None }
    }

    /// An accelerator that does not work, and why.
    pub fn unusable(reason: impl Into<String>) -> Self {
        Self { usable: false, reason: reason.into(), fix: None }
    }

    /// The same finding with advice.
    #[must_use]
    pub fn with_fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn findings_have_the_documented_form() {
        let findings =
            Findings { kvm: Finding::unusable("no device").with_fix("load kvm"), uml: Finding::usable("ran") };
        let written = json!({
            "kvm": {"usable": false, "reason": "no device", "fix": "load kvm"},
            "uml": {"usable": true, "reason": "ran"}
        });
        assert_eq!(serde_json::to_value(&findings).unwrap(), written);
        assert_eq!(serde_json::from_value::<Findings>(written).unwrap(), findings);
    }
}
