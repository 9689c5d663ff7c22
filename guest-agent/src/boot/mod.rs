//! From the kernel's first process to a root with everything mounted. All of it runs in this order on one thread and
//! starts no process, because nothing here waits long enough to be worth a second one.
//!
//! 1. `/proc`, `/sys`, `/dev`, and the console.
//! 2. The modules of `/modules.boot`, if the kernel has its drivers as modules. The disks are named by serial; a virtio
//!    console takes the log over.
//! 3. The root image becomes `/`, and the initramfs is emptied.
//! 4. Writable folders, control groups, sysctls, hostname, loopback, the network card.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

mod command_line;
mod disks;
mod kernel_settings;
mod modules;
mod mounts;
mod network;
mod steps;

pub(crate) use command_line::{CommandLine, NetworkSettings};
pub(crate) use modules::load_list as load_modules;
pub(crate) use mounts::{PORT_PROXY, bind};
pub(crate) use steps::BootSteps;

use crate::log;

/// What the boot found.
pub(crate) struct Booted {
    /// Name of the machine.
    pub(crate) machine: String,
    /// Node of the data disk, if one is attached.
    pub(crate) data_disk: Option<PathBuf>,
    /// The machine's network.
    pub(crate) network: NetworkSettings,
}

/// Boots. The log works from the first step on; its filter is set as soon as the command line can be read.
pub(crate) fn boot(steps: &BootSteps) -> Result<Booted> {
    mounts::kernel_file_systems()?;
    log::open_console()?;
    let command_line = std::fs::read_to_string("/proc/cmdline").context("cannot read /proc/cmdline")?;
    let command_line = CommandLine::parse(&command_line);
    log::set_filter(&command_line.log);

    let uevents = disks::Uevents::subscribe().context("cannot listen for the kernel's devices")?;
    modules::load_list(Path::new("/modules.boot"), Path::new("/modules"));
    log::move_to_virtio_console();
    steps.ended("kernel");

    let disks = disks::find(&["root", "data"], &uevents).context("cannot wait for the disks")?;
    let root = disks.get("root").ok_or_else(|| {
        let found: Vec<&str> = disks.keys().map(String::as_str).collect();
        anyhow!(
            "no virtio disk with the serial `root` is attached (found: {found:?}); the machine needs the guest image \
             as its first disk"
        )
    })?;
    disks::limit_read_ahead(&disks);
    mounts::enter_root(root)?;
    steps.ended("root");

    mounts::system_file_systems(&command_line.machine)?;
    kernel_settings::apply();
    kernel_settings::name_and_loopback(&command_line.machine)?;
    network::set_up(&command_line.network);
    steps.ended("network");
    let CommandLine { machine, network, .. } = command_line;
    Ok(Booted { machine, data_disk: disks.get("data").cloned(), network })
}
