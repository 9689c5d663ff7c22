//! What a guest's first process must do before it can measure anything.

use std::{
    fs::{self, File},
    path::Path,
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    kmod::{ModuleInitFlags, finit_module},
    mount::{MsFlags, mount},
};

/// Mounts a virtual file system of the kernel.
pub fn mount_kernel(kind: &str, at: &str) -> Result<()> {
    fs::create_dir_all(at)?;
    mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>).with_context(|| format!("cannot mount {at}"))
}

/// Loads the boot modules from the initramfs, as the agent does.
pub fn load_modules() -> Result<()> {
    let modules = fs::read_to_string("/modules.boot").context("cannot read the module list")?;
    for name in modules.lines().filter_map(|line| line.split_whitespace().next()) {
        let file = File::open(Path::new("/modules").join(name))?;
        match finit_module(&file, c"", ModuleInitFlags::empty()) {
            // Built in, or for absent hardware.
            Ok(()) | Err(Errno::EEXIST | Errno::ENODEV) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot load {name}")),
        }
    }
    Ok(())
}
