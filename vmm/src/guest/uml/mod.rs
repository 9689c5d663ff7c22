//! The accelerator `uml`: User Mode Linux, where the guest kernel is a process of the host.
//!
//! Whether it works on this host is [`probe`]d. A [`guest`] is a kernel's [`process`] with the [`supervisor`] around
//! it, its [`memory`] in a file, its devices served over sockets ([`device`]), its output copied to the [`console`],
//! asked to power off through its management console ([`mconsole`]).

mod console;
mod device;
mod guest;
mod mconsole;
mod memory;
mod platform;
pub(super) mod probe;
mod process;
pub mod supervisor;
mod thread;

pub(super) use self::platform::UmlPlatform;
