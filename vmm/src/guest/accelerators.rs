//! The one list of accelerators: which platform implements which.

use std::path::Path;

use rorqual_vmm_protocol::{Accelerator, Failure, FailureCode, Finding, Findings};

use super::{Platform, uml};

/// A platform and its probe.
type Implementation = (&'static dyn Platform, fn() -> Finding);

/// KVM, where it is implemented for the processor architecture.
#[cfg(target_arch = "x86_64")]
const KVM: Option<Implementation> = Some((&super::kvm::KvmPlatform, super::kvm::probe::probe));
#[cfg(not(target_arch = "x86_64"))]
const KVM: Option<Implementation> = None;
/// Why [`KVM`] is absent elsewhere.
const NO_KVM: &str = "the accelerator kvm does not support this processor architecture yet";

/// The platform of an accelerator.
pub(crate) fn platform(accelerator: Accelerator) -> Result<&'static dyn Platform, Failure> {
    match accelerator {
        Accelerator::Uml => Ok(&uml::UmlPlatform),
        Accelerator::Kvm => {
            let (platform, _) = KVM.ok_or_else(|| Failure::new(FailureCode::AcceleratorUnusable, NO_KVM))?;
            Ok(platform)
        }
    }
}

/// Tries every accelerator on this host, and the kernel `uml_kernel` for `uml` if one is given.
pub fn probe(uml_kernel: Option<&Path>) -> Findings {
    Findings {
        kvm: KVM.map_or_else(|| Finding::unusable(NO_KVM), |(_, probe)| probe()),
        uml: uml::probe::probe(uml_kernel),
    }
}
