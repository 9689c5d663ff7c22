//! The machine monitor of Rorqual: runs one virtual machine per process, with its virtio devices.
//!
//! [`monitor`] composes one monitor, as its [`config`] demands, and waits for the machine's end. `machine` keeps the
//! state and the commands that the control socket and the signals give it. A [`guest`] is what an accelerator runs, one
//! folder each; accelerators that run processors themselves use a [`hypervisor`], and describe the machine to its
//! kernel as [`arch`] defines it.
//!
//! A device is split in three: the virtio device (features, configuration space, queues) and its request logic are in
//! [`devices`]; an [`attachment`] carries its queues to the guest. The network card ends in the gateway of [`net`]. A
//! paused machine is written to files and back as a [`snapshot`]. [`confinement`] limits what a guest could do if it
//! took over a thread.

pub mod arch;
pub mod attachment;
pub mod config;
pub mod confinement;
mod console;
mod control;
mod descriptors;
pub mod devices;
#[doc(hidden)]
pub mod fuzzing;
pub mod guest;
pub mod hypervisor;
mod machine;
pub mod monitor;
pub mod net;
mod signals;
pub mod snapshot;
