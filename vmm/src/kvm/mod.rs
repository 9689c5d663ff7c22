//! KVM: for now the probe that tells whether it works on this host.

pub mod probe;
#[cfg(target_arch = "x86_64")]
mod trial;
