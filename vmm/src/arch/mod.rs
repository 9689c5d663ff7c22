//! What a machine of each processor architecture looks like to its guest, one folder each.

#[cfg(target_arch = "x86_64")]
pub mod x86_64;
