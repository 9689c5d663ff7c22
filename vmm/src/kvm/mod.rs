//! The accelerator `kvm`: whether it works on this host ([`probe`]), and a [`guest`] run by it with its [`board`].

#[cfg(target_arch = "x86_64")]
mod board;
#[cfg(target_arch = "x86_64")]
pub mod guest;
#[cfg(target_arch = "x86_64")]
mod keyboard;
pub mod probe;
#[cfg(target_arch = "x86_64")]
mod processors;
#[cfg(target_arch = "x86_64")]
mod trial;
