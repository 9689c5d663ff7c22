//! The choice of a machine's accelerator, with its reason.

use std::{path::Path, process::Stdio, time::Duration};

use rorqual_vmm_protocol::{Accelerator, Finding, Findings};
use thiserror::Error;
use tokio::process::Command;

use crate::{
    config::AcceleratorChoice,
    error::{Coded, one_line},
};

/// A probe runs a few guest instructions; one that takes longer than this hangs.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// Why no accelerator can be used.
#[derive(Debug, Error)]
pub enum AcceleratorError {
    /// The requested one does not work.
    #[error("the {name} accelerator cannot be used: {reason}")]
    Unusable {
        /// The accelerator.
        name: &'static str,
        /// The finding of the probe.
        reason: String,
        /// What would make it work, if the probe knows.
        advice: Option<String>,
    },
    /// None works.
    #[error("no accelerator works on this computer: kvm does not ({kvm}), and neither does uml ({uml})")]
    None {
        /// Why kvm does not.
        kvm: String,
        /// Why uml does not.
        uml: String,
    },
    /// The probe failed.
    #[error("cannot find out which accelerators work: {0}")]
    Probe(String),
}

impl Coded for AcceleratorError {
    fn code(&self) -> &'static str {
        "accelerator-unusable"
    }

    fn fix(&self) -> Option<String> {
        Some(match self {
            Self::Unusable { advice: Some(advice), .. } => format!("{advice}, or choose the accelerator \"auto\""),
            Self::Unusable { advice: None, .. } => {
                "choose the accelerator \"auto\", which takes the best that works".to_owned()
            }
            Self::None { .. } => "run `rorqual doctor` to find out what each of them needs".to_owned(),
            Self::Probe(_) => "install Rorqual again".to_owned(),
        })
    }
}

#[cfg(test)]
crate::error::tests::samples!(AcceleratorError {
    Unusable => Self::Unusable { name: "kvm", reason: "there is no /dev/kvm".to_owned(), advice: None },
    Unusable => Self::Unusable {
        name: "kvm",
        reason: "/dev/kvm cannot be opened".to_owned(),
        advice: Some("join the group kvm".to_owned()),
    },
    None => Self::None { kvm: "there is no /dev/kvm".to_owned(), uml: "ptrace is forbidden".to_owned() },
    Probe => Self::Probe("rorqual-vmm probe did not end within 20 s".to_owned()),
});

/// Probes the accelerators.
pub(crate) async fn probe(vmm: &Path, uml_kernel: Option<&Path>) -> Result<Findings, AcceleratorError> {
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
        failed(format!("gave no answer ({}, {error}): {}", output.status, one_line(&said)))
    })
}

/// Which accelerators the guest image has a kernel for. A published image has all; one made on this computer may have
/// only the kernel this computer uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernels {
    pub(crate) kvm: bool,
    pub(crate) uml: bool,
}

impl Kernels {
    /// The findings, with the accelerators that lack a kernel unusable.
    pub(crate) fn limit(self, findings: Findings) -> Findings {
        let missing = || Finding::unusable("the guest image has no kernel for it").with_fix("install Rorqual again");
        let limit = |has: bool, finding: Finding| if has { finding } else { missing() };
        Findings { kvm: limit(self.kvm, findings.kvm), uml: limit(self.uml, findings.uml) }
    }
}

/// Chooses an accelerator. The text is the reason, for the user.
pub(crate) fn choose(choice: AcceleratorChoice, probe: &Findings) -> Result<(Accelerator, String), AcceleratorError> {
    let unusable = |name, finding: &Finding| {
        let Finding { reason, fix, .. } = finding.clone();
        AcceleratorError::Unusable { name, reason, advice: fix }
    };
    match choice {
        AcceleratorChoice::Kvm if probe.kvm.usable => Ok((Accelerator::Kvm, "it was asked for".to_owned())),
        AcceleratorChoice::Kvm => Err(unusable("kvm", &probe.kvm)),
        AcceleratorChoice::Uml if probe.uml.usable => Ok((Accelerator::Uml, "it was asked for".to_owned())),
        AcceleratorChoice::Uml => Err(unusable("uml", &probe.uml)),
        AcceleratorChoice::Auto if probe.kvm.usable => {
            Ok((Accelerator::Kvm, format!("the best of this computer: {}", probe.kvm.reason)))
        }
        AcceleratorChoice::Auto if probe.uml.usable => Ok((Accelerator::Uml, format!("no kvm: {}", probe.kvm.reason))),
        AcceleratorChoice::Auto => {
            Err(AcceleratorError::None { kvm: probe.kvm.reason.clone(), uml: probe.uml.reason.clone() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(kvm: bool, uml: bool) -> Findings {
        let finding = |usable, reason: &str| if usable { Finding::usable("it ran") } else { Finding::unusable(reason) };
        Findings { kvm: finding(kvm, "no /dev/kvm"), uml: finding(uml, "no ptrace") }
    }

    #[test]
    fn auto_takes_kvm_where_it_works_else_uml_and_says_why() {
        for uml in [true, false] {
            let (accelerator, reason) = choose(AcceleratorChoice::Auto, &probe(true, uml)).unwrap();
            assert_eq!((accelerator, reason.as_str()), (Accelerator::Kvm, "the best of this computer: it ran"));
        }
        let (accelerator, reason) = choose(AcceleratorChoice::Auto, &probe(false, true)).unwrap();
        assert_eq!((accelerator, reason.as_str()), (Accelerator::Uml, "no kvm: no /dev/kvm"));
    }

    #[test]
    fn an_accelerator_without_a_kernel_is_not_taken() {
        let only_uml = Kernels { kvm: false, uml: true }.limit(probe(true, true));
        let (accelerator, reason) = choose(AcceleratorChoice::Auto, &only_uml).unwrap();
        assert_eq!(accelerator, Accelerator::Uml);
        assert!(reason.contains("no kernel"), "{reason}");
        assert!(choose(AcceleratorChoice::Kvm, &only_uml).is_err());
        let both = Kernels { kvm: true, uml: true }.limit(probe(true, true));
        assert_eq!(choose(AcceleratorChoice::Auto, &both).unwrap().0, Accelerator::Kvm);
    }

    #[test]
    fn each_is_taken_when_it_is_asked_for() {
        for (choice, expected) in
            [(AcceleratorChoice::Kvm, Accelerator::Kvm), (AcceleratorChoice::Uml, Accelerator::Uml)]
        {
            let (accelerator, reason) = choose(choice, &probe(true, true)).unwrap();
            assert_eq!((accelerator, reason.as_str()), (expected, "it was asked for"));
        }
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
