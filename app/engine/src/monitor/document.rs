//! The document a monitor starts from, `vmm.json` (docs/contracts.md, "vmm.json").

use std::path::PathBuf;

use rorqual_vmm_protocol as vmm;
use vmm::Accelerator;

use crate::{
    config::{Config, MachineConfig},
    home::{MachineName, MachinePaths},
    image::{Image, ImageError},
};

/// Context identifier of the guest on its vsock. Each machine has its own device, so all use the same one.
const GUEST_CID: u32 = 3;

/// The document of a machine that runs `image`, resumed from the directory `restore` if there is one.
///
/// # Errors
///
/// The image has no kernel for the accelerator.
pub(crate) fn document(
    name: &MachineName,
    paths: &MachinePaths,
    image: &Image,
    accelerator: Accelerator,
    config: &Config,
    settings: &MachineConfig,
    restore: Option<PathBuf>,
) -> Result<vmm::Config, ImageError> {
    let (kernel, initramfs) = image.kernel(accelerator)?;
    let block = |id: &str, path, read_only| vmm::Block { id: id.to_owned(), path, read_only };
    Ok(vmm::Config {
        version: vmm::VERSION,
        name: name.to_string(),
        accelerator,
        kernel: vmm::Kernel {
            path: kernel,
            initramfs,
            command_line: format!("rorqual.machine={name} rorqual.log=info"),
        },
        cpus: match accelerator {
            // The kernel of User Mode Linux has one processor.
            Accelerator::Uml => 1,
            Accelerator::Kvm => settings.cpus,
        },
        memory_mib: settings.memory_mib.into(),
        huge_pages: false,
        block: vec![block("root", image.root(), true), block("data", paths.data_disk(), false)],
        vsock: Some(vmm::Vsock { guest_cid: GUEST_CID, socket: paths.vsock_socket() }),
        restore,
        net: Some(vmm::Net {
            subnet: config.network.subnet.clone(),
            host_access: config.network.host_access,
            block_link_local: config.network.block_link_local,
        }),
        console_log: paths.console_log(),
        confinement: vmm::Confinement::default(),
        control_socket: paths.control_socket(),
    })
}
