//! The machine monitor of Rorqual: runs one virtual machine per process, with its virtio devices.
//!
//! A device is split in three: the virtio device (features, configuration space, queues) and its request logic live in
//! [`devices`]; what carries its queues to the guest is an [`attachment`]. [`machine`] runs one machine from start to
//! end as its [`config`] says, its network card ending in the gateway of [`net`], by an accelerator ([`uml`], [`kvm`]), driven over the [`control`] socket. What a [`hypervisor`]
//! runs is described to its guest by [`arch`], and written to files and back as a [`snapshot`]. What a guest could do if it took over a
//! thread is bounded by [`confinement`].

pub mod arch;
pub mod attachment;
pub mod config;
pub mod confinement;
pub mod console;
pub mod console_log;
pub mod control;
mod descriptors;
pub mod devices;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod hypervisor;
pub mod kvm;
pub mod machine;
pub mod net;
pub mod probe;
mod signals;
pub mod snapshot;
pub mod uml;
