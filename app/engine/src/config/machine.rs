//! What one machine gets: `machine.toml`.

use std::path::Path;

use super::{
    CPUS, ConfigError, DISK_GIB, MEMORY_MIB,
    reader::{self, Section, Settings},
};
use crate::home::MachinePaths;

/// CPUs, memory and disk of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineConfig {
    /// Virtual CPUs, 1 to 64.
    pub cpus: u32,
    /// Memory in MiB, 512 to 1,048,576.
    pub memory_mib: u32,
    /// Size of the data disk in GiB, 1 to 16,384.
    pub disk_gib: u32,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self { cpus: 2, memory_mib: 2048, disk_gib: 64 }
    }
}

impl MachineConfig {
    /// Reads a machine's `machine.toml`; writes it from `defaults` first when there is none.
    ///
    /// # Errors
    ///
    /// As [`super::Config::load`].
    pub fn load(paths: &MachinePaths, defaults: &Self) -> Result<Self, ConfigError> {
        let file = paths.settings();
        let text = reader::read_or_create(&file, &defaults.template())?;
        Self::parse(&file, &text, defaults)
    }

    /// Reads `text`, which is or would be in `file`.
    pub fn parse(file: &Path, text: &str, defaults: &Self) -> Result<Self, ConfigError> {
        let settings = Settings::parse(file, text)?;
        Self::read(&settings.root(&["cpus", "memory_mib", "disk_gib"])?, defaults)
    }

    pub(super) fn read(section: &Section<'_>, default: &Self) -> Result<Self, ConfigError> {
        Ok(Self {
            cpus: section.integer("cpus", &CPUS, "CPUs", default.cpus)?,
            memory_mib: section.integer("memory_mib", &MEMORY_MIB, "MiB", default.memory_mib)?,
            disk_gib: section.integer("disk_gib", &DISK_GIB, "GiB", default.disk_gib)?,
        })
    }

    fn template(&self) -> String {
        format!(
            "# This machine's own settings; a change takes effect at its next start.\n\
             \n\
             # Virtual CPUs. The uml accelerator has one whatever this says.\n\
             cpus = {}\n\
             memory_mib = {}\n\
             # The largest the disk can become. It grows when this grows; it never shrinks.\n\
             disk_gib = {}\n",
            self.cpus, self.memory_mib, self.disk_gib
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::{Home, MachineName};

    #[test]
    fn a_new_machine_keeps_what_it_was_made_with() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::at(parent.path().join("h")).unwrap();
        let paths = home.create_machine(&MachineName::default()).unwrap();
        let made = MachineConfig { cpus: 4, memory_mib: 4096, disk_gib: 10 };
        assert_eq!(MachineConfig::load(&paths, &made).unwrap(), made);
        assert_eq!(MachineConfig::load(&paths, &MachineConfig::default()).unwrap(), made);
    }

    #[test]
    fn an_unknown_key_in_machine_toml_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::at(parent.path().join("h")).unwrap();
        let paths = home.create_machine(&MachineName::default()).unwrap();
        std::fs::write(paths.settings(), "cpus = 1\ndisk_gb = 3\n").unwrap();
        let error = MachineConfig::load(&paths, &MachineConfig::default()).unwrap_err().to_string();
        assert!(
            error.ends_with("machine.toml:2: unknown key \"disk_gb\"; write \"disk_gib\" instead, or remove it"),
            "{error}"
        );
    }
}
