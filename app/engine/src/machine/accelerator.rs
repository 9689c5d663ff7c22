//! Which accelerator a machine runs with, and why.

use std::{path::Path, process::Stdio, time::Duration};

use serde::Deserialize;
use thiserror::Error;
use tokio::process::Command;

use crate::{config::AcceleratorChoice, error::Coded, image::Accelerator};

/// Why `auto` does not take a kvm that works: rorqual-vmm's own has only run in an emulated processor so far. The one place that
/// says so.
const KVM_IS_NEW: &str =
    "it works here, but Rorqual's support for it is new; try it with `rorqual start --accelerator kvm`";
/// A probe runs a few guest instructions; one that takes longer than this hangs.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// Why no accelerator can be used.
#[derive(Debug, Error)]
pub enum AcceleratorError {
    /// The one that was asked for does not work.
    #[error("the {name} accelerator cannot be used: {reason}; use \"auto\" to take the best that works")]
    Unusable {
        /// The accelerator.
        name: &'static str,
        /// What the probe found.
        reason: String,
    },
    /// None works.
    #[error("no accelerator works on this computer: kvm: {kvm}; uml: {uml}")]
    None {
        /// Why kvm does not.
        kvm: String,
        /// Why uml does not.
        uml: String,
    },
    /// The probe could not be made.
    #[error("cannot find out which accelerators work: {0}")]
    Probe(String),
}

impl Coded for AcceleratorError {
    fn code(&self) -> &'static str {
        "accelerator-unusable"
    }
}

/// What `rorqual-vmm probe` found.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Probe {
    pub(crate) kvm: Finding,
    pub(crate) uml: Finding,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Finding {
    pub(crate) usable: bool,
    pub(crate) reason: String,
}

/// Tries the accelerators.
pub(crate) async fn probe(vmm: &Path, uml_kernel: Option<&Path>) -> Result<Probe, AcceleratorError> {
    let failed = |what: String| AcceleratorError::Probe(format!("{} probe {what}", vmm.display()));
    let mut command = Command::new(vmm);
    command.arg("probe").stdin(Stdio::null()).kill_on_drop(true);
    if let Some(kernel) = uml_kernel {
        command.arg("--uml-kernel").arg(kernel);
    }
    let output = tokio::time::timeout(PROBE_LIMIT, command.output())
        .await
        .map_err(|_| failed(format!("did not end within {} s", PROBE_LIMIT.as_secs())))?
        .map_err(|error| failed(format!("did not run: {error}")))?;
    serde_json::from_slice(&output.stdout).map_err(|error| {
        let said = String::from_utf8_lossy(&output.stderr);
        failed(format!("gave no answer ({}, {error}): {}", output.status, said.trim()))
    })
}

/// Decides. The reason is for the user: why this one.
pub(crate) fn choose(choice: AcceleratorChoice, probe: &Probe) -> Result<(Accelerator, String), AcceleratorError> {
    let unusable = |name, finding: &Finding| AcceleratorError::Unusable { name, reason: finding.reason.clone() };
    match choice {
        AcceleratorChoice::Kvm if probe.kvm.usable => Ok((Accelerator::Kvm, "it was asked for".to_owned())),
        AcceleratorChoice::Kvm => Err(unusable("kvm", &probe.kvm)),
        AcceleratorChoice::Uml if probe.uml.usable => Ok((Accelerator::Uml, "it was asked for".to_owned())),
        AcceleratorChoice::Uml => Err(unusable("uml", &probe.uml)),
        AcceleratorChoice::Auto if probe.uml.usable => {
            let why_not = if probe.kvm.usable { KVM_IS_NEW } else { &probe.kvm.reason };
            Ok((Accelerator::Uml, format!("no kvm: {why_not}")))
        }
        // Better a new one than none.
        AcceleratorChoice::Auto if probe.kvm.usable => Ok((Accelerator::Kvm, format!("no uml: {}", probe.uml.reason))),
        AcceleratorChoice::Auto => {
            Err(AcceleratorError::None { kvm: probe.kvm.reason.clone(), uml: probe.uml.reason.clone() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(kvm: bool, uml: bool) -> Probe {
        let finding = |usable, reason: &str| Finding { usable, reason: reason.to_owned() };
        Probe { kvm: finding(kvm, "no /dev/kvm"), uml: finding(uml, "no ptrace") }
    }

    #[test]
    fn auto_takes_uml_and_says_why_not_kvm() {
        let (accelerator, reason) = choose(AcceleratorChoice::Auto, &probe(false, true)).unwrap();
        assert_eq!((accelerator, reason.as_str()), (Accelerator::Uml, "no kvm: no /dev/kvm"));
        let (accelerator, reason) = choose(AcceleratorChoice::Auto, &probe(true, true)).unwrap();
        assert_eq!((accelerator, reason), (Accelerator::Uml, format!("no kvm: {KVM_IS_NEW}")));
    }

    #[test]
    fn kvm_is_taken_when_asked_for_or_when_nothing_else_works() {
        let (accelerator, reason) = choose(AcceleratorChoice::Kvm, &probe(true, true)).unwrap();
        assert_eq!((accelerator, reason.as_str()), (Accelerator::Kvm, "it was asked for"));
        let (accelerator, reason) = choose(AcceleratorChoice::Auto, &probe(true, false)).unwrap();
        assert_eq!((accelerator, reason.as_str()), (Accelerator::Kvm, "no uml: no ptrace"));
    }

    #[test]
    fn an_accelerator_asked_for_that_does_not_work_is_an_error() {
        let error = choose(AcceleratorChoice::Kvm, &probe(false, true)).unwrap_err().to_string();
        assert!(error.contains("kvm accelerator cannot be used"), "{error}");
        let error = choose(AcceleratorChoice::Uml, &probe(true, false)).unwrap_err().to_string();
        assert!(error.contains("no ptrace"), "{error}");
        let error = choose(AcceleratorChoice::Auto, &probe(false, false)).unwrap_err().to_string();
        assert!(error.contains("no /dev/kvm") && error.contains("no ptrace"), "{error}");
    }

    #[tokio::test]
    async fn a_probe_that_answers_nonsense_is_an_error_with_its_words() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("vmm");
        std::fs::write(&script, "#!/bin/sh\necho broken >&2; exit 3\n").unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let error = super::probe(&script, None).await.unwrap_err().to_string();
        assert!(error.contains("broken") && error.contains("exit status: 3"), "{error}");
    }
}
