//! The devices of a machine: made from its configuration, each known to the machine and given to its guest.

use std::sync::Arc;

use rorqual_vmm_protocol::{Config, Failure};

use super::card::Card;
use crate::attachment::notice::ConfigurationNotice;
use crate::console::GuestConsole;
use crate::devices::VirtioDevice;
use crate::devices::balloon::{BalloonDevice, BalloonSize};
use crate::devices::block::{BlockDevice, Disk, MAX_QUEUES};
use crate::devices::console::ConsoleDevice;
use crate::devices::counters::Counters;
use crate::devices::rng::RngDevice;
use crate::devices::vsock::VsockDevice;
use crate::guest::{Capabilities, GuestDevice};

/// A device as the machine knows it.
pub(crate) struct Device {
    /// Identity: a disk's `id`, else the kind.
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) counters: Arc<dyn Counters>,
    pub(super) disk: Option<Arc<Disk>>,
    pub(super) balloon: Option<Arc<BalloonSize>>,
    pub(super) notice: Arc<ConfigurationNotice>,
}

/// The devices of one machine, in the order the guest finds them.
#[derive(Default)]
pub(crate) struct Devices {
    /// For the machine.
    pub(crate) known: Vec<Device>,
    /// For the guest.
    pub(crate) attached: Vec<GuestDevice>,
}

impl Devices {
    /// Makes the devices of `config`; its network card is `card`.
    pub(crate) fn make(
        config: &Config,
        capabilities: Capabilities,
        console: &GuestConsole,
        card: Option<Card>,
    ) -> Result<Self, Failure> {
        let mut devices = Self::default();
        for block in &config.block {
            let disk = Arc::new(Disk::open(&block.path, block.read_only)?);
            let device = BlockDevice::new(disk.clone(), &block.id);
            let device = if capabilities.concurrent_devices {
                device.at_once(config.cpus.try_into().unwrap_or(MAX_QUEUES))
            } else {
                device
            };
            let known = devices.add(&block.id, "block", disk.clone(), device);
            known.disk = Some(disk);
        }
        if let Some(vsock) = &config.vsock {
            let device = VsockDevice::new(vsock.guest_cid.into(), &vsock.socket)?;
            devices.add("vsock", "vsock", device.statistics(), device);
        }
        if capabilities.virtio_basics {
            let failed = |action: &'static str| move |error| Failure::internal(action, error);
            let device = RngDevice::new().map_err(failed("create the entropy device"))?;
            devices.add("rng", "rng", device.statistics(), device);
            let device = ConsoleDevice::new(Box::new(console.writer()), None);
            let device = device.map_err(failed("create the console device"))?;
            devices.add("console", "console", device.statistics(), device);
        }
        // Another process could take huge pages that were given back, and the guest might not get them again.
        if !config.huge_pages {
            let device = BalloonDevice::new();
            let size = device.size();
            let known = devices.add("balloon", "balloon", size.clone(), device);
            known.balloon = Some(size);
        }
        if let Some(Card { device, .. }) = card {
            devices.add("net", "net", device.statistics(), device);
        }
        Ok(devices)
    }

    /// Adds a device; returns it as the machine knows it.
    fn add(
        &mut self,
        id: &str,
        kind: &'static str,
        counters: Arc<dyn Counters>,
        device: impl VirtioDevice + 'static,
    ) -> &mut Device {
        let notice = Arc::new(ConfigurationNotice::default());
        self.attached.push(GuestDevice { id: id.to_owned(), device: Box::new(device), notice: notice.clone() });
        let known = Device { id: id.to_owned(), kind, counters, disk: None, balloon: None, notice };
        self.known.push_mut(known)
    }
}
