//! A machine of 64-bit ARM: so far only where things are ([`layout`]). Its devices and their attachment are those of x86-64; what is
//! missing is a device tree, the boot of an `Image` and a [`hypervisor`](crate::hypervisor) for it.

pub mod layout;
