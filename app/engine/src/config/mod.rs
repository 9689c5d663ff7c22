//! Settings: `config.toml` of the state directory, and `machine.toml` of each machine.
//!
//! The files are the manual: each is created on first use, with every key, its meaning and its default as comments.
//! They are read strictly and never overwritten. [`keys`] is the table of all settings, the source of the files, the
//! Settings page and the user guide's table.

mod in_effect;
pub mod keys;
mod load;
mod reader;
mod template;
#[cfg(test)]
mod tests;
mod values;

pub use in_effect::InEffect;
pub use reader::ConfigError;
pub use values::{
    AcceleratorChoice, BindPolicy, CPUS, Config, DISK_GIB, MEMORY_MIB, MachineConfig, NetworkConfig, PORTS,
    RoutesConfig,
};
