//! KVM, the hypervisor of Linux: [`machine`] and its [`processor`]s, and their [`state`] in snapshots. Interrupt
//! controllers are the kernel's, so halted processors wait there too.

mod machine;
mod processor;
mod state;
#[cfg(test)]
mod tests;

pub use self::machine::KvmMachine;
