//! Confinement: what a thread of the monitor can still do once a guest has taken it over.
//!
//! Each thread calls [`enter`] in its first lines and takes the restrictions of its kind: it drops its capabilities,
//! and a seccomp filter ([`filters`], one function per kind) leaves it the system calls it needs. Before the first
//! thread starts, the main thread has given up new privileges and, by Landlock ([`paths`]), all files but the machine's
//! own; threads inherit both. The main thread enters its own filter last. A call that is not allowed ends the process
//! and logs its number ([`denied`]).
//!
//! A new system call? Add it to the function of its thread in [`filters`]. To find out which call it is, run the
//! monitor under `strace -f`, or read the last line of its log. `"confinement": "off"` in the configuration turns all
//! of this off, to find out whether confinement is the cause of a problem.
//!
//! What the host lacks (Landlock before Linux 5.13) is left out with a warning; [`status`] reports what holds.

mod capabilities;
mod denied;
pub mod descriptors;
pub mod filters;
pub mod paths;
mod process;
mod rules;
#[cfg(test)]
pub(crate) mod tests;

pub use self::denied::DENIED_STATUS;
pub use self::filters::{GuestKind, Thread};
pub use self::process::{begin, confine_guest_kernel, enter, is_on, restrict_paths, status};
